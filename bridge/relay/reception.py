"""Serves mail clients in one process: puts upstreams, frontends and sessions together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from bridge.model import Endpoint, Protocol
from bridge.protocols.imap.promises import promises
from bridge.protocols.registry import server_machine
from bridge.protocols.smtp.extensions import offered_extensions
from bridge.relay.authorities import UpstreamContexts
from bridge.relay.channel import Channel
from bridge.relay.dialer import Dialer
from bridge.relay.frontend import Frontend, MachineFrontend
from bridge.relay.session import Services, Session
from bridge.relay.smtp_frontend import SmtpFrontend
from bridge.relay.upstream import Upstream
from bridge.relay.welcome import Context, Serve


class Reception:
    """One for each process, so that its upstreams can resume each other's TLS sessions."""

    def __init__(self, endpoints: Callable[[Protocol], Iterable[Endpoint]]) -> None:
        """`endpoints`: every mail server of a protocol in the configuration, as it is at the moment."""
        dialer, contexts = Dialer(), UpstreamContexts()
        self._endpoints = endpoints
        self.upstreams: Mapping[Protocol, Upstream] = {
            protocol: Upstream(protocol, dialer, contexts) for protocol in Protocol
        }

    def serving(self, protocol: Protocol, starttls: Context | None, services: Services) -> Serve:
        """How the mail clients of a port are served, with STARTTLS if there is a context."""

        def frontend(client: Channel) -> Frontend:
            context = starttls() if starttls is not None else None
            if protocol is Protocol.SMTP:
                return SmtpFrontend(client, extensions=self._extensions, context=context)
            promised = promises(self._known(protocol)) if protocol is Protocol.IMAP else ()
            machine = server_machine(
                protocol, starttls=context is not None, is_tls=client.tls is not None, promised=promised
            )
            return MachineFrontend(client, machine, context)

        async def serve(conn: str, client: Channel) -> None:
            await Session(conn, protocol, client, frontend, self.upstreams[protocol], services).run()

        return serve

    def _extensions(self) -> tuple[str, ...]:
        """The EHLO lines that every SMTP server of the configuration is known to honour."""
        return offered_extensions(self._known(Protocol.SMTP))

    def _known(self, protocol: Protocol) -> Iterable[frozenset[str] | None]:
        return map(self.upstreams[protocol].learned_extensions, self._endpoints(protocol))
