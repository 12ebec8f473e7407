"""access_token(account): single flight; invalidate after an upstream "no"."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace

from bridge.clock import Clock
from bridge.errors import (
    AuthorizationFailed,
    AuthorizationRequired,
    BridgeError,
    GrantRevoked,
    ProviderUnavailable,
    StoreUnavailable,
    VersionConflict,
)
from bridge.model import AccessToken, Account, TokenSet
from bridge.notices import AuthorizationNeeded, Authorized, Forgotten, NoticeBus, Refreshed, RefreshFailed
from bridge.oauth.base import Provider
from bridge.observe.logs import detail, event, trouble
from bridge.secret import Secret
from bridge.tokens.lifecycle import ENOUGH, Refresh, SignIn, Use, next_move
from bridge.tokens.vault import Entry, Stored, Vault

RETRY_AFTER = 5.0
"""Seconds after a failed refresh in which nobody asks the provider again: a CRM opens many connections at once."""
LEASE_SECONDS = 10.0
"""Extended while a refresh runs; a process that dies holds the others up no longer than this, and a mail program waits
for 30 s."""
LEASE_BEAT = 3.0
"""Seconds between two extensions; a slow disk may miss two of them."""
LEASE_PATIENCE = 30.0
"""Seconds to wait for another process's refresh."""
LEASE_POLL = 0.2
"""Seconds between two looks at it."""
REMIND_EVERY = 600.0
"""Seconds between two notices for one account: a CRM tries every minute, a person wants to hear it once."""
ROUNDS = 10
"""Compare-and-swap attempts; each lost one means that somebody else's change went in."""

Verify = Callable[[Account, AccessToken], Awaitable[None]]
"""Logs in to the mailbox. Raises: UpstreamRefused, UpstreamUnavailable."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How an account is doing, from memory and the vault; nobody is asked."""

    is_signed_in: bool
    detail: str
    """Why a sign-in is needed, or what went wrong last; empty when all is well."""
    expires_at: float | None
    signed_in_as: str


@dataclass(slots=True)
class _Memory:
    """What this process knows of an account."""

    stored: Stored | None = None
    unsaved: Stored | None = None
    """A refreshed entry that the store did not take, and the version it replaces: saved first of all the next time, and
    used by nobody until then."""
    failure: BridgeError | None = None
    failed_at: float = 0.0
    """Monotonic."""
    reminded_at: float | None = None
    """Monotonic."""
    used_at: float | None = None
    """Monotonic; when a mail program last wanted a token."""


class TokenService:
    """Tokens for all accounts. Enter it before use: refreshes run as tasks of its own."""

    def __init__(
        self,
        vault: Vault,
        providers: Mapping[str, Provider],
        clock: Clock,
        bus: NoticeBus,
        sign_in_url: Callable[[str], str],
        verify: Verify,
    ) -> None:
        self._vault = vault
        self._providers = providers
        self._clock = clock
        self._bus = bus
        self._sign_in_url = sign_in_url
        self._verify = verify
        self._holder = secrets.token_hex(8)
        self._memory: dict[str, _Memory] = {}
        self._flights: dict[str, asyncio.Task[AccessToken | BaseException]] = {}
        self._group: asyncio.TaskGroup | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Refreshes may run inside; leaving waits for those under way, so that what they got is saved."""
        problem: BaseException | None = None
        async with asyncio.TaskGroup() as group:
            self._group = group
            try:
                yield
            except BaseException as error:  # noqa: BLE001  raised again below: in here it would end in a group
                problem = error
            finally:
                self._group = None
        if problem is not None:
            raise problem

    async def access_token(self, account: Account, *, refused: AccessToken | None = None) -> AccessToken:
        """A token with at least half its life left, if the provider can be reached.

        One refresh at a time for each account, however many wait; a waiter that is cancelled cancels only itself.
        Args: refused, a token that the upstream has just rejected: another one is fetched, if that can help.
        Raises: AuthorizationRequired, ProviderUnavailable, StoreUnavailable, StoreCorrupt.
        """
        memory = self._memory.setdefault(account.address, _Memory())
        memory.used_at = self._clock.monotonic()
        return await self._token(account, memory, refused, ENOUGH)

    async def renew(self, account: Account, share: float) -> AccessToken:
        """As access_token(), for somebody who can wait: the token has at least `share` of its life left."""
        return await self._token(account, self._memory.setdefault(account.address, _Memory()), None, share)

    def used_within(self, seconds: float) -> list[str]:
        """Addresses that a mail program has wanted a token for lately."""
        since = self._clock.monotonic() - seconds
        used = ((address, memory.used_at) for address, memory in self._memory.items())
        return [address for address, used_at in used if used_at is not None and used_at > since]

    async def _token(self, account: Account, memory: _Memory, refused: AccessToken | None, share: float) -> AccessToken:
        if memory.stored is not None and memory.unsaved is None:
            move = self._move(memory.stored, account, refused, share)
            if isinstance(move, Use):
                return move.token
        flight = self._flights.get(account.address)
        if flight is not None and refused is not None:
            await asyncio.shield(flight)  # begun before the upstream said no: it may bring the very same token
            flight = self._flights.get(account.address)
        outcome = await asyncio.shield(flight or self._take_off(account, refused, share))
        if isinstance(outcome, BaseException):
            raise outcome.with_traceback(None)  # many may raise it: each with its own traceback
        return outcome

    async def keep(self, account: Account, tokens: TokenSet) -> str:
        """Check who signed in, then store, then tell.

        Returns: who signed in. Raises: AuthorizationFailed (wrong_person) and nothing is stored; UpstreamRefused or
        UpstreamUnavailable where only the mail server can tell; StoreUnavailable.
        """
        who = await self._checked_subject(account, tokens)
        entry = Entry(account.provider, self._provider(account).fingerprint, account.subject, tokens)
        for _ in range(ROUNDS):
            try:
                before = await self._vault.load(account.address)
                version = await self._vault.save(account.address, entry, expected=before.version)
            except VersionConflict:
                continue  # a refresh of the old grant went in between; the new sign-in counts
            self._memory[account.address] = _Memory(Stored(entry, version))
            event("sign_in.stored", account=account.address, subject=who)
            self._bus.publish(Authorized(account.address, who))
            return who
        raise StoreUnavailable(f"the sign-in of {account.address} is being changed by somebody else; try again")

    async def adopt(self, account: Account, refresh_token: Secret[str]) -> str:
        """Try a refresh token obtained elsewhere and keep what it gives. Returns and raises: as keep().

        Besides: AuthorizationFailed (no_grant) if the provider does not take it; ProviderUnavailable.
        """
        try:
            tokens = await self._provider(account).adopt(refresh_token)
        except GrantRevoked as problem:
            raise AuthorizationFailed(f"the provider does not take this token: {problem}", code="no_grant") from problem
        return await self.keep(account, tokens)

    async def forget(self, account: Account) -> None:
        """Revoke where the provider can, and remove the record in any case. Raises: StoreUnavailable."""
        for _ in range(ROUNDS):
            stored = await self._vault.load(account.address)
            if stored.entry is None:
                break
            try:
                await self._vault.remove(account.address, expected=stored.version)
            except VersionConflict:
                continue
            await self._revoke(account, stored.entry)
            break
        self._memory.pop(account.address, None)
        self._bus.publish(Forgotten(account.address))

    async def standing(self, account: Account) -> Standing:
        """For people who look. Raises: nothing; the store's trouble is part of the answer."""
        memory = self._memory.setdefault(account.address, _Memory())
        try:
            stored = await self._vault.load(account.address)
        except BridgeError as problem:
            return Standing(False, str(problem), None, "")
        memory.stored = stored if memory.stored is None or stored.version > memory.stored.version else memory.stored
        move = self._move(stored, account, None)
        entry = stored.entry
        if isinstance(move, SignIn) or entry is None:
            reason = move.reason if isinstance(move, SignIn) else ""
            return Standing(False, reason, None, "")
        subject = entry.tokens.subject
        failure = str(memory.failure) if memory.failure is not None else ""
        who = subject.address if subject is not None else entry.signed_in_as
        return Standing(True, failure, entry.tokens.access.expires_at, who)

    # --- one flight ---------------------------------------------------------------------------------------------

    def _take_off(
        self, account: Account, refused: AccessToken | None, share: float
    ) -> asyncio.Task[AccessToken | BaseException]:
        if self._group is None:
            raise StoreUnavailable("mail-bridge is stopping")
        flight = self._group.create_task(self._flight(account, refused, share), name=f"token {account.address}")
        self._flights[account.address] = flight
        return flight

    async def _flight(self, account: Account, refused: AccessToken | None, share: float) -> AccessToken | BaseException:
        """A task must not raise, or its group would end with it: the outcome goes to those who wait."""
        try:
            return await self._fetch(account, refused, share)
        except BridgeError as problem:
            return problem
        except Exception as bug:  # noqa: BLE001  raised again by each waiter; its session's supervisor logs it
            return bug
        finally:
            del self._flights[account.address]

    async def _fetch(self, account: Account, refused: AccessToken | None, share: float) -> AccessToken:
        memory = self._memory.setdefault(account.address, _Memory())
        await self._save_unsaved(account, memory)
        memory.stored = await self._vault.load(account.address)
        match self._move(memory.stored, account, refused, share):
            case Use(token):
                return token
            case SignIn(reason):
                raise self._required(account, memory, reason)
            case Refresh(fallback):
                return await self._refreshed_or(account, memory, refused, share, fallback)

    async def _refreshed_or(
        self,
        account: Account,
        memory: _Memory,
        refused: AccessToken | None,
        share: float,
        fallback: AccessToken | None,
    ) -> AccessToken:
        """Refresh; while the provider is not there, a token that is only stale will do."""
        try:
            if memory.failure is not None and self._clock.monotonic() - memory.failed_at < RETRY_AFTER:
                raise memory.failure.with_traceback(None)
            return await self._refresh_under_lease(account, memory, refused, share)
        except ProviderUnavailable as problem:
            if problem is not memory.failure:
                memory.failure, memory.failed_at = problem, self._clock.monotonic()
                trouble("refresh.failed", account=account.address, reason=str(problem))
                self._bus.publish(RefreshFailed(account.address, str(problem), temporary=True))
            if fallback is None:
                raise
            detail("refresh.postponed", account=account.address)
            return fallback

    async def _refresh_under_lease(
        self, account: Account, memory: _Memory, refused: AccessToken | None, share: float
    ) -> AccessToken:
        async with self._lease(account.address):
            memory.stored = await self._vault.load(account.address)  # the other one may have done it
            match self._move(memory.stored, account, refused, share):
                case Use(token):
                    return token
                case SignIn(reason):
                    raise self._required(account, memory, reason)
                case Refresh():
                    return await self._refresh(account, memory, memory.stored)

    @asynccontextmanager
    async def _lease(self, address: str) -> AsyncIterator[None]:
        """The right to refresh this account, among all who share the store. Raises: ProviderUnavailable."""
        deadline = self._clock.monotonic() + LEASE_PATIENCE
        while not await self._vault.acquire_lease(address, self._holder, LEASE_SECONDS):
            if self._clock.monotonic() > deadline:
                raise ProviderUnavailable(f"another mail-bridge has been refreshing {address} for too long")
            await self._clock.sleep_until(self._clock.now() + LEASE_POLL)
        problem: BridgeError | None = None
        async with asyncio.TaskGroup() as group:
            beating = group.create_task(self._beat(address))
            try:
                yield
            except BridgeError as error:  # raised again below: in here it would end in a group
                problem = error
            finally:
                beating.cancel()
        with suppress(StoreUnavailable):  # it ends by itself
            await self._vault.release_lease(address, self._holder)
        if problem is not None:
            raise problem

    async def _beat(self, address: str) -> None:
        """Keep the lease; trouble with that is no reason to drop an answer that the provider is about to give."""
        while True:
            await asyncio.sleep(LEASE_BEAT)
            with suppress(StoreUnavailable):
                await self._vault.acquire_lease(address, self._holder, LEASE_SECONDS)

    async def _refresh(self, account: Account, memory: _Memory, stored: Stored) -> AccessToken:
        """Ask, save, and only then hand out: refresh tokens rotate, and an unsaved one is lost."""
        assert stored.entry is not None  # noqa: S101  Refresh is only for what exists
        try:
            tokens = await self._provider(account).refresh(stored.entry.tokens.grant, subject=account.subject)
        except GrantRevoked as problem:
            await self._end(account, memory, stored, stored.entry, str(problem))
            raise self._required(account, memory, str(problem)) from problem
        if tokens.subject is None:
            tokens = replace(tokens, subject=stored.entry.tokens.subject)
        memory.unsaved = Stored(replace(stored.entry, tokens=tokens), stored.version)
        await self._save_unsaved(account, memory)
        memory.failure = None
        if memory.stored is None or memory.stored.entry is None:
            raise self._required(account, memory, "the sign-in was removed")
        token = memory.stored.entry.tokens.access
        event("token.refreshed", account=account.address, seconds=round(token.remaining(self._clock.now())))
        self._bus.publish(Refreshed(account.address, token.expires_at))
        return token

    async def _save_unsaved(self, account: Account, memory: _Memory) -> None:
        """Write what a refresh gave. Raises: StoreUnavailable, and it stays in memory for the next attempt."""
        if memory.unsaved is None or memory.unsaved.entry is None:
            return
        entry = memory.unsaved.entry
        try:
            version = await self._vault.save(account.address, entry, expected=memory.unsaved.version)
            memory.stored = Stored(entry, version)
        except VersionConflict:
            # Somebody signed in, or removed the sign-in, while we were asking: theirs is newer, ours is dropped.
            memory.stored = await self._vault.load(account.address)
        memory.unsaved = None

    async def _end(self, account: Account, memory: _Memory, stored: Stored, entry: Entry, reason: str) -> None:
        """Note that the provider has ended the grant, so that nobody asks again, also after a restart."""
        ended = replace(entry, ended=reason)
        try:
            memory.stored = Stored(ended, await self._vault.save(account.address, ended, expected=stored.version))
        except VersionConflict:
            memory.stored = await self._vault.load(account.address)
        self._bus.publish(RefreshFailed(account.address, reason, temporary=False))

    # --- small things -------------------------------------------------------------------------------------------

    def _move(
        self, stored: Stored, account: Account, refused: AccessToken | None, share: float = ENOUGH
    ) -> Use | Refresh | SignIn:
        fingerprint = self._provider(account).fingerprint
        return next_move(stored.entry, account, fingerprint, self._clock.now(), refused, share=share)

    def _provider(self, account: Account) -> Provider:
        try:
            return self._providers[account.provider]
        except KeyError:  # a session that began before the configuration changed
            raise ProviderUnavailable(f"the provider {account.provider} is no longer configured") from None

    def _required(self, account: Account, memory: _Memory, reason: str) -> AuthorizationRequired:
        """The error for the mail client, and a notice for the person, the latter not too often."""
        url = self._sign_in_url(account.address)
        now = self._clock.monotonic()
        if memory.reminded_at is None or now - memory.reminded_at >= REMIND_EVERY:
            memory.reminded_at = now
            self._bus.publish(AuthorizationNeeded(account.address, url, reason))
        return AuthorizationRequired(account.address, url, reason)

    async def _checked_subject(self, account: Account, tokens: TokenSet) -> str:
        subject = tokens.subject
        if subject is None:
            # No id_token, no evidence: the mail server decides whose mailbox this token opens.
            await self._verify(account, tokens.access)
            return account.subject
        if not subject.is_named(account.subject):
            raise AuthorizationFailed(
                f"{subject.address} has signed in, but {account.subject} was asked to. Nothing was stored. "
                f"Sign in again as {account.subject}; a private browser window lets you choose the account.",
                code="wrong_person",
            )
        return subject.address

    async def _revoke(self, account: Account, entry: Entry) -> None:
        """The record is gone already; a provider that cannot be reached does not bring it back."""
        if entry.ended:
            return
        try:
            revoked = await self._provider(account).revoke(entry.tokens.grant)
        except BridgeError as problem:
            trouble("revocation.failed", account=account.address, reason=str(problem))
        else:
            event("grant.forgotten", account=account.address, revoked_at_provider=revoked)
