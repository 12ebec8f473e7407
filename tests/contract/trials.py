"""A provider's adapter with a sign-in by browser, at the tests' own authorization server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from bridge.clock import SystemClock
from bridge.config.providers import ProviderConfig
from bridge.model import TokenSet
from bridge.oauth import registry
from bridge.oauth.base import AuthorizationRequest, BrowserProvider
from bridge.oauth.limits import Limits
from tests.servers.authorization import AuthorizationServer
from tests.servers.authorization_controls import PUBLIC_CLIENT, REDIRECT, Fault

ALICE = "alice@example.com"
KINDS = ["google", "microsoft", "microsoft public", "microsoft certificate", "oauth2"]
QUICK = Limits(connect=2.0, read=1.0, overall=4.0, answer=1.0)
"""For tests in which the server is silent and the time limits have to expire. A server that answers may take more than
a second on a busy machine."""


def section(server: AuthorizationServer, kind: str, **changes: Any) -> dict[str, Any]:
    made = {
        "google": server.google_config,
        "microsoft": server.microsoft_config,
        "microsoft public": lambda: server.microsoft_config(PUBLIC_CLIENT),
        "microsoft certificate": server.certified_config,
        "oauth2": server.generic_config,
    }[kind]()
    found = {**made, **changes}
    return {name: value for name, value in found.items() if value is not None}


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


def limits_for(fault: Fault) -> Limits | None:
    return QUICK if fault is Fault.SLOW else None


@asynccontextmanager
async def adapter(
    server: AuthorizationServer, kind: str, limits: Limits | None = None, /, **changes: Any
) -> AsyncIterator[Trial]:
    config: ProviderConfig = TypeAdapter(ProviderConfig).validate_python(section(server, kind, **changes))
    provider = registry.create("trial", config, SystemClock(), limits=limits)
    assert isinstance(provider, BrowserProvider)
    try:
        yield Trial(server, provider, kind)
    finally:
        await provider.close()
