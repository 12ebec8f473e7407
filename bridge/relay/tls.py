"""SSL contexts for listeners and upstreams."""

from __future__ import annotations

import ssl

from bridge.errors import UpstreamUnavailable
from bridge.model import Endpoint


class UpstreamContexts:
    """One context for each CA file for the life of the process: sessions can only be resumed within their context."""

    def __init__(self) -> None:
        self._contexts: dict[str | None, ssl.SSLContext] = {}
        self._sessions: dict[tuple[str, int, str | None], ssl.SSLSession] = {}

    def context(self, endpoint: Endpoint) -> ssl.SSLContext:
        """TLS 1.2 or better, certificate and name verified: always. Raises: UpstreamUnavailable for a bad CA file."""
        if endpoint.ca_file not in self._contexts:
            try:
                context = ssl.create_default_context(cafile=endpoint.ca_file)
            except (OSError, ssl.SSLError) as problem:
                raise UpstreamUnavailable(f"ca_file {endpoint.ca_file}: {problem}") from problem
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            self._contexts[endpoint.ca_file] = context
        return self._contexts[endpoint.ca_file]

    def session(self, endpoint: Endpoint) -> ssl.SSLSession | None:
        """The last session with this server: resuming it halves the CPU of a login."""
        return self._sessions.get(_session_key(endpoint))

    def keep_session(self, endpoint: Endpoint, tls: ssl.SSLSocket | ssl.SSLObject | None) -> None:
        """Call after the first bytes have arrived: TLS 1.3 tickets come behind the handshake."""
        if tls is not None and (session := tls.session) is not None:
            self._sessions[_session_key(endpoint)] = session


def _session_key(endpoint: Endpoint) -> tuple[str, int, str | None]:
    """With the CA file: a session is not accepted in another context, and must not stand in for another CA's trust."""
    return endpoint.host, endpoint.port, endpoint.ca_file


def listener_context(certificate: str, key: str) -> ssl.SSLContext:
    """TLS 1.2 or better for mail clients. Raises: OSError, ssl.SSLError for files that cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # An empty password callback: an encrypted key is an error at start, not a prompt on the console.
    context.load_cert_chain(certificate, key, password=lambda: b"")
    return context
