"""An upstream that dials a scripted server, and how the attempt ends."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace

import pytest

from bridge.errors import UpstreamRefused, UpstreamUnavailable
from bridge.model import AccessToken, Account, Endpoint, Protocol, TlsMode
from bridge.relay.authorities import UpstreamContexts
from bridge.relay.dialer import Dialer
from bridge.relay.upstream import Opened, Upstream
from bridge.secret import Secret
from tests.relay.scripted import (
    Script,
    Trust,
    scripted,
)

ADDRESS = "alice@example.com"
TOKEN = AccessToken(Secret("CANARY-access-token"), 2e9, 1e9)
BLOB = base64.b64encode(f"user={ADDRESS}\x01auth=Bearer {TOKEN.value.reveal()}\x01\x01".encode())

PROTOCOLS = list(Protocol)
MODES = list(TlsMode)
IMPLICIT, STARTTLS = TlsMode.IMPLICIT, TlsMode.STARTTLS


def account_at(protocol: Protocol, endpoint: Endpoint) -> Account:
    return Account(ADDRESS, "own", ADDRESS, {protocol: endpoint})


@contextmanager
def upstream_of(
    protocol: Protocol, *, dialer: Dialer | None = None, contexts: UpstreamContexts | None = None, seconds: float = 60.0
) -> Iterator[Upstream]:
    """`seconds` is the time limit for the login up to the token, and again for the server's answer."""
    dialer, contexts = dialer or Dialer(), contexts or UpstreamContexts()
    yield Upstream(protocol, dialer, contexts, login_seconds=seconds, answer_seconds=seconds)


@asynccontextmanager
async def opened(
    upstream: Upstream, protocol: Protocol, endpoint: Endpoint, token: AccessToken = TOKEN
) -> AsyncIterator[Opened]:
    connection = await upstream.open(account_at(protocol, endpoint), token, "crm.example")
    try:
        yield connection
    finally:
        connection.channel.close()


async def failure(
    protocol: Protocol, script: Script, trust: Trust, mode: TlsMode, *, seconds: float = 60.0, token: str = ""
) -> tuple[UpstreamUnavailable | UpstreamRefused, bytes]:
    """The error, and what the server heard. Leaving scripted() checks that the connection has been closed."""
    with (
        scripted(script) as server,
        upstream_of(protocol, seconds=seconds) as upstream,
        pytest.raises((UpstreamUnavailable, UpstreamRefused)) as caught,
    ):
        shown = replace(TOKEN, value=Secret(token)) if token else TOKEN
        async with opened(upstream, protocol, trust.endpoint(server.port, mode), shown):
            pass
    problem = caught.value
    assert isinstance(problem, UpstreamUnavailable | UpstreamRefused)
    assert "CANARY" not in f"{problem} {problem.__cause__} {problem.public}"
    return problem, server.heard[0].text
