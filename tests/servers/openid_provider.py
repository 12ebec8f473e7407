"""An OpenID provider that is not ours: node's oidc-provider, certified and strict, in a separate process."""

from __future__ import annotations

import json
import ssl
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.servers import daemons
from tests.servers.ca import Authority
from tests.servers.packages import needs, openid_provider, program

SCRIPT = Path(__file__).with_suffix(".mjs")
CLIENT, SECRET = "mail-bridge", "CANARY-of-the-openid-provider-for-mail-bridge"


@dataclass(frozen=True, slots=True)
class OpenIDProvider:
    """A running provider."""

    issuer: str
    discovered: dict[str, Any]
    """Its discovery document (OpenID Connect Discovery section 3)."""
    _plain: str

    @property
    def introspection_url(self) -> str:
        """For mail servers (RFC 7662)."""
        return f"{self._plain}/introspect"

    @contextmanager
    def stale(self) -> Iterator[None]:
        """Access tokens issued meanwhile claim to be at their end, so that each login needs another one."""
        _answer(f"{self._plain}/stale")
        try:
            yield
        finally:
            _answer(f"{self._plain}/fresh")

    def refreshes(self) -> int:
        """How many refreshes it has granted."""
        return int(_answer(self._plain)["grants"].count("refresh_token"))

    def refresh_tokens(self) -> int:
        """How many refresh tokens are valid."""
        return int(_answer(self._plain)["refresh"])


@contextmanager
def running(directory: Path, authority: Authority, redirect_uri: str, *, tells_email: bool) -> Iterator[OpenIDProvider]:
    """A provider with one client, CLIENT. Args: tells_email, whether its id_tokens have the `email` claim."""
    needs("npm")
    module = openid_provider()
    directory.mkdir(exist_ok=True)
    certificate, key = authority.write_pair(directory)

    def start() -> tuple[daemons.Daemon, int, int]:
        port, plain_port = daemons.free_ports(2)
        client = {"client_id": CLIENT, "client_secret": SECRET, "redirect_uris": [redirect_uri]}
        client |= {"grant_types": ["authorization_code", "refresh_token"]}
        settings = {"module": str(module), "issuer": f"https://localhost:{port}", "port": port} | {
            "certificate": str(certificate),
            "clients": [client | {"token_endpoint_auth_method": "client_secret_post"}],
            "key": str(key),
            "plain_port": plain_port,
            "tells_email": tells_email,
        }
        (directory / "settings.json").write_text(json.dumps(settings))
        daemon = daemons.Daemon([program("node") or "node", SCRIPT, directory / "settings.json"], directory)
        daemon.wait_until(lambda: "ready" in daemon.output().splitlines(), lambda: "")
        return daemon, port, plain_port

    daemon, port, plain_port = daemons.attempts(start)
    try:
        issuer = f"https://localhost:{port}"
        discovered = _answer(f"{issuer}/.well-known/openid-configuration", authority.client_context())
        yield OpenIDProvider(issuer, discovered, f"http://127.0.0.1:{plain_port}")
    finally:
        daemon.kill()


def _answer(url: str, context: ssl.SSLContext | None = None) -> dict[str, Any]:
    ways = [urllib.request.HTTPSHandler(context=context)] if context is not None else []
    with urllib.request.build_opener(urllib.request.ProxyHandler({}), *ways).open(url, timeout=30) as answer:
        found: dict[str, Any] = json.load(answer)
    return found
