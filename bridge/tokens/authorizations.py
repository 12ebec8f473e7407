"""begin, complete, cancel a sign-in; one per account, expires."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from bridge.clock import Clock
from bridge.errors import AuthorizationFailed, BridgeError, LimitReached
from bridge.model import Account, TokenSet
from bridge.notices import AuthorizationEnded, NoticeBus
from bridge.oauth.base import AuthorizationRequest, BrowserProvider, Provider
from bridge.observe.logs import event, trouble

LIFE = 600.0
"""Seconds from begin to the browser's return; time for a second factor, not for yesterday's tab."""
PENDING_LIMIT = 1000
"""Sign-ins under way; addresses below a `*@domain` pattern are without number, and anybody on this machine may ask."""

Keep = Callable[[Account, TokenSet], Awaitable[str]]
"""Checks who signed in, stores, and returns who it was."""


@dataclass(frozen=True, slots=True)
class Pending:
    """A sign-in on its way."""

    account: Account
    request: AuthorizationRequest
    expires_at: float
    """Seconds since the epoch."""


class Authorizations:
    """All sign-ins under way, in this process's memory: a restart means to click once more."""

    def __init__(
        self,
        providers: Mapping[str, Provider],
        redirect_uris: Mapping[str, str],
        clock: Clock,
        bus: NoticeBus,
        keep: Keep,
    ) -> None:
        """`redirect_uris`: by provider name, as registered."""
        self._providers = providers
        self._redirect_uris = redirect_uris
        self._clock = clock
        self._bus = bus
        self._keep = keep
        self._pending: dict[str, Pending] = {}
        self._deadlines: dict[str, float] = {}
        """Monotonic; the wall clock may jump between begin and complete."""
        self._beginning: dict[str, asyncio.Lock] = {}

    async def begin(self, account: Account) -> Pending:
        """Start a sign-in, or give the one under way. Raises: ProviderUnavailable, ProviderRefused, LimitReached."""
        self._drop_expired()
        lock = self._beginning.setdefault(account.address, asyncio.Lock())
        try:
            async with lock:
                if (known := self._pending.get(account.address)) is not None and known.account == account:
                    return known
                if len(self._pending) >= PENDING_LIMIT:
                    raise LimitReached(f"{PENDING_LIMIT} sign-ins are under way")
                request = await self._provider(account).begin(
                    login_hint=account.subject, redirect_uri=self._redirect_uris[account.provider]
                )
                pending = Pending(account, request, self._clock.now() + LIFE)
                self._pending[account.address] = pending
                self._deadlines[account.address] = self._clock.monotonic() + LIFE
                event("sign_in.begun", account=account.address, provider=account.provider)
                return pending
        finally:
            if not lock.locked():
                self._beginning.pop(account.address, None)

    def find(self, address: str) -> Pending | None:
        """The sign-in under way for this account."""
        self._drop_expired()
        return self._pending.get(address)

    async def complete(self, parameters: Mapping[str, str]) -> str:
        """Finish the sign-in that these callback parameters belong to; a state works once.

        Returns: the account's address, saved. Raises: AuthorizationFailed, ProviderUnavailable, ProviderRefused,
        StoreUnavailable; a state that is not ours changes nothing and tells nobody.
        """
        pending = self._take(parameters.get("state", ""))
        address = pending.account.address
        try:
            tokens = await self._provider(pending.account).redeem(pending.request, parameters)
            await self._keep(pending.account, tokens)
        except BridgeError as problem:
            code = problem.code if isinstance(problem, AuthorizationFailed) else "provider"
            trouble("sign_in.failed", account=address, code=code, reason=str(problem))
            self._bus.publish(AuthorizationEnded(address, code, str(problem)))
            raise
        return address

    def cancel(self, address: str) -> None:
        """End the sign-in under way, if any."""
        if self._pending.pop(address, None) is not None:
            del self._deadlines[address]
            self._bus.publish(AuthorizationEnded(address, "cancelled", "The sign-in was cancelled."))

    def drop_changed(self, find: Callable[[str], Account | None]) -> None:
        """End the sign-ins of accounts that a new configuration has changed or removed: their answer would not fit."""
        for address, pending in list(self._pending.items()):
            if find(address) != pending.account:
                self.cancel(address)

    def _provider(self, account: Account) -> BrowserProvider:
        provider = self._providers[account.provider]
        if not isinstance(provider, BrowserProvider):
            raise AuthorizationFailed(f"nobody signs in for {account.address} in a browser", code="provider")
        return provider

    def _take(self, state: str) -> Pending:
        """The sign-in with this state, which is then used up."""
        self._drop_expired()
        found = None
        for pending in self._pending.values():  # all of them, in constant time each: a state is a secret
            if hmac.compare_digest(pending.request.state.encode(), state.encode("utf-8", "surrogatepass")):
                found = pending
        if found is None:
            raise AuthorizationFailed(
                "This answer belongs to no sign-in that is under way: it was used already, or is too old. "
                "Start the sign-in again.",
                code="unknown_state",
            )
        del self._pending[found.account.address]
        del self._deadlines[found.account.address]
        return found

    def _drop_expired(self) -> None:
        now = self._clock.monotonic()
        for address in [address for address, deadline in self._deadlines.items() if deadline <= now]:
            del self._deadlines[address]
            del self._pending[address]
            self._bus.publish(AuthorizationEnded(address, "expired", "Nobody signed in within 10 minutes."))
