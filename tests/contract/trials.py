"""A provider's adapter with a sign-in by browser, at the tests' own authorization server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from bridge.clock import Clock, SystemClock
from bridge.config.providers import PROVIDER
from bridge.model import TokenSet
from bridge.oauth import registry
from bridge.oauth.base import AuthorizationRequest, BrowserProvider, Provider
from bridge.oauth.limits import Limits
from tests.servers.authorization import AuthorizationServer
from tests.servers.authorization_controls import PUBLIC_CLIENT, REDIRECT, Fault

ALICE = "alice@example.com"
KINDS = ["google", "microsoft", "microsoft public", "microsoft certificate", "oauth2"]
QUICK = Limits(connect=2.0, read=1.0, overall=4.0, answer=1.0)
"""For tests in which the server is silent and the time limits have to expire. A server that answers may take more than
a second on a busy machine."""


def section(server: AuthorizationServer, kind: str) -> dict[str, Any]:
    made: dict[str, Any] = {
        "google": server.google_config,
        "microsoft": server.microsoft_config,
        "microsoft public": lambda: server.microsoft_config(PUBLIC_CLIENT),
        "microsoft certificate": server.certified_config,
        "oauth2": server.generic_config,
    }[kind]()
    return made


@asynccontextmanager
async def opened(
    section: Mapping[str, Any], clock: Clock | None = None, limits: Limits | None = None
) -> AsyncIterator[Provider]:
    """The adapter for a provider's section of the configuration, of any flow; a key with None is left out."""
    config = PROVIDER.validate_python({name: value for name, value in section.items() if value is not None})
    provider = registry.create("trial", config, clock or SystemClock(), limits=limits)
    try:
        yield provider
    finally:
        await provider.close()


@dataclass
class Trial:
    """One adapter and the server that it talks to."""

    server: AuthorizationServer
    provider: BrowserProvider
    kind: str

    async def begin(self, hint: str = ALICE) -> AuthorizationRequest:
        return await self.provider.begin(login_hint=hint, redirect_uri=REDIRECT)

    async def sign_in(self, person: str = ALICE) -> TokenSet:
        request = await self.begin(person)
        return await self.provider.redeem(request, self.server.consent(request.url, person))


def limits_for(fault: Fault | None) -> Limits | None:
    return QUICK if fault is Fault.SLOW else None


@asynccontextmanager
async def adapter(
    server: AuthorizationServer, kind: str, limits: Limits | None = None, /, **changes: Any
) -> AsyncIterator[Trial]:
    async with opened(section(server, kind) | changes, limits=limits) as provider:
        assert isinstance(provider, BrowserProvider)
        yield Trial(server, provider, kind)
