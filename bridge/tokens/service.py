"""access_token(account): one refresh at a time for each account; a new token after an upstream's "no"."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from bridge.advice.diagnosis import Diagnosis
from bridge.advice.said import Said, as_said, said
from bridge.clock import Clock
from bridge.errors import (
    AuthorizationFailed,
    BridgeError,
    GrantInDoubt,
    GrantRevoked,
    ProviderUnavailable,
    SignInUnsaved,
    StoreUnavailable,
    VersionConflict,
)
from bridge.model import SESSION_SHARE, AccessToken, Account, TokenSet
from bridge.notices import Forgotten, NoticeBus
from bridge.oauth.base import Provider
from bridge.observe.logs import detail, event, fault, report
from bridge.secret import Secret
from bridge.stores.base import NEW
from bridge.tasks import task_group
from bridge.tokens.lifecycle import Absent, Later, Refused, Request, Revoked, Use, Wanted, next_move
from bridge.tokens.memory import Memory, Unsaved
from bridge.tokens.refresh import Refresher
from bridge.tokens.vault import Entry, Stored, Vault

ROUNDS = 10
"""Compare-and-swap attempts; each lost one means that somebody else's change went in."""

PATIENCE = 15.0
"""Seconds that a login waits for its provider: a mail program gives up after 30 s and must get an answer before that;
the lease of a bridge that has died lasts 10 s. The refresh itself goes on, because its answer may hold the only copy of
a new refresh token."""
STOP_SECONDS = 20.0
"""How long a stop waits for refreshes under way; service managers wait for 30 to 90 s."""

Verify = Callable[[Account, AccessToken], Awaitable[None]]
"""Logs in to the mailbox. Raises: UpstreamRefused, UpstreamUnavailable."""


@dataclass(frozen=True, slots=True)
class _Flight:
    """A refresh under way."""

    account: Account
    """As it was configured when the refresh began."""
    request: Request
    task: asyncio.Task[AccessToken | BaseException]

    def serves(self, account: Account, request: Request) -> bool:
        """False if the token that it brings may not do for this request: a refresh from before a reload may bring a
        token of another provider, and one that was not begun for this refused token may bring that very token.
        """
        return self.account == account and (isinstance(request, Wanted) or self.request == request)


@dataclass(frozen=True, slots=True)
class GrantStatus:
    """How an account is doing, from memory and the vault; the provider is not asked."""

    is_signed_in: bool
    detail: str
    """Why a sign-in is needed, or what went wrong last; empty when all is well."""
    expires_at: float | None
    signed_in_as: str
    diagnosis: Diagnosis | None = None
    """`detail`, to be told in any language."""
    is_readable: bool = True
    """False while the store cannot be read: a new sign-in would not help then."""
    away: StoreUnavailable | None = None
    """Why the store cannot be read for any account; None if it can."""

    @classmethod
    def untold(cls, problem: BridgeError) -> GrantStatus:
        """The status of an account whose record cannot be read."""
        away = problem if isinstance(problem, StoreUnavailable) else None
        return cls(False, str(problem), None, "", problem.diagnosis, is_readable=False, away=away)


class TokenService:
    """Tokens for all accounts. Enter running() before use: refreshes run as tasks of its own."""

    def __init__(
        self,
        vault: Vault,
        providers: Mapping[str, Provider],
        clock: Clock,
        bus: NoticeBus,
        sign_in_url: Callable[[str], str],
        verify: Verify,
        *,
        patience: float = PATIENCE,
    ) -> None:
        """`patience`: seconds that a login waits for its provider."""
        self._vault = vault
        self._clock = clock
        self._bus = bus
        self._verify = verify
        self._patience = patience
        self._refresher = Refresher(vault, providers, clock, bus, sign_in_url)
        self._memory: dict[str, Memory] = {}
        self._flights: dict[str, _Flight] = {}
        self._revocations: set[asyncio.Task[None]] = set()
        """Revocations under way, of grants that a sign-in with another provider has replaced."""
        self._group: asyncio.TaskGroup | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Refreshes can run in the body. Leaving it waits a while for refreshes under way, so that their tokens are
        saved, and for revocations; then it tries once more to save what the store did not take."""
        async with task_group() as group:
            self._group = group
            try:
                yield
            finally:
                self._group = None
                tasks = [*(flight.task for flight in self._flights.values()), *self._revocations]
                if tasks:
                    _, late = await asyncio.wait(tasks, timeout=STOP_SECONDS)
                    for task in late:
                        task.cancel()
        await self.save_unsaved()

    async def access_token(self, account: Account, *, refused: AccessToken | None = None) -> AccessToken:
        """A token with at least half its life left, if the provider can be reached.

        One refresh at a time for each account, however many wait; a waiter that is cancelled cancels only itself.
        Args: refused, a token that the upstream has just rejected: another one is fetched, if that can help.
        Raises: AuthorizationRequired, ProviderUnavailable, StoreUnavailable, StoreCorrupt.
        """
        self._known(account.address).used_at = self._clock.monotonic()
        return await self._token(account, Wanted() if refused is None else Refused(refused), SESSION_SHARE)

    async def renew(self, account: Account, share: float) -> AccessToken:
        """As access_token(), for the background renewal: the token has at least `share` of its life left."""
        return await self._token(account, Wanted(), share)

    async def save_unsaved(self) -> None:
        """Try again to save what the store did not take. Raises: nothing; what still cannot be saved is reported."""
        for address, memory in list(self._memory.items()):
            try:
                await self._refresher.save_unsaved(address, memory)
            except BridgeError as problem:
                report("grant.unsaved", problem, account=address)

    async def save(self, address: str) -> None:
        """The same for one account. Raises: StoreUnavailable while the store cannot save it; StoreCorrupt."""
        await self._refresher.save_unsaved(address, self._known(address))

    async def notice_removals(self) -> None:
        """Give up the tokens of sign-ins that another process has removed from the store. Raises: nothing."""
        known = {address: memory.stored for address, memory in self._memory.items() if memory.has_entry}
        if not known:
            return
        try:
            stored = set(await self._vault.addresses())
        except BridgeError as problem:  # that the store is in trouble is no reason to give up tokens
            detail("store.not_compared", reason=str(problem))
            return
        for address, before in known.items():
            memory = self._memory[address]
            if address not in stored and memory.stored is before and memory.unsaved is None:
                event("sign_in.removed_elsewhere", account=address)
                memory.replace_stored(None)
                self._bus.publish(Forgotten(address))

    def used_within(self, seconds: float) -> list[str]:
        """Addresses for which a mail program has recently wanted a token."""
        since = self._clock.monotonic() - seconds
        used = ((address, memory.used_at) for address, memory in self._memory.items())
        return [address for address, used_at in used if used_at is not None and used_at > since]

    async def keep(self, account: Account, tokens: TokenSet) -> str:
        """Check who signed in, then store, then tell.

        Returns: who signed in. Raises: AuthorizationFailed (wrong_person), and nothing is stored; UpstreamRefused or
        UpstreamUnavailable if only the mail server can tell who signed in; SignInUnsaved, and the sign-in is stored and
        announced once the store takes it; StoreUnavailable.
        """
        return await self._keep(account, tokens, self._refresher.provider(account))

    async def _keep(self, account: Account, tokens: TokenSet, provider: Provider) -> str:
        """`provider`: the one that gave the tokens; a reload may put another one of that name in its place
        meanwhile."""
        who = await self._checked_subject(account, tokens)
        entry = Entry(account.provider, provider.fingerprint, account.subject, tokens, client=provider.client)
        memory, before = self._known(account.address), Stored(None, NEW)
        for _ in range(ROUNDS):
            try:
                before = await self._vault.load_any(account.address)
                version = await self._vault.save(account.address, entry, expected=before.version)
            except VersionConflict:
                continue  # a refresh of the old grant was saved in between; the new sign-in counts more
            except StoreUnavailable as problem:
                # The code is used up, and so may be the person's patience: keep the sign-in in memory, like the answer
                # to a refresh.
                memory.unsaved, memory.store_problem = Unsaved(entry, before.version, None, who), problem
                raise SignInUnsaved(problem.words) from problem
            unsaved = memory.unsaved.entry if memory.unsaved is not None else None  # newer than the stored one
            self._refresher.stored(account.address, memory, Stored(entry, version), who)
            self._give_up(account, (before.entry, unsaved), provider)
            return who
        raise _changing(account.address)

    async def adopt(self, account: Account, refresh_token: Secret[str]) -> str:
        """Try a refresh token obtained elsewhere and keep what it gives. Returns and raises: as keep().

        Also raises: AuthorizationFailed (no_grant) if the provider does not accept the token; ProviderUnavailable.
        """
        provider = self._refresher.provider(account)
        if provider.is_unattended:
            raise AuthorizationFailed(
                said(
                    "Nobody signs in for {address}: the provider {provider} gives its tokens to mail-bridge itself, "
                    "and there is no refresh token to adopt.",
                    address=account.address,
                    provider=account.provider,
                ),
                code="no_grant",
            )
        try:
            tokens = await provider.adopt(refresh_token)
        except GrantRevoked as problem:
            sentence = f"the provider does not take this token: {problem}"
            theirs = problem.diagnosis.words if problem.diagnosis is not None else str(problem)
            diagnosis = Diagnosis.of("sign_in.not_adopted", theirs)
            raise AuthorizationFailed(sentence, code="no_grant", diagnosis=diagnosis) from problem
        return await self._keep(account, tokens, provider)

    async def forget(self, account: Account) -> tuple[Diagnosis, ...]:
        """Remove the record in any case, and revoke the grant if the provider can. Returns: for each grant that may
        still be valid there, why. Raises: StoreUnavailable, StoreCorrupt."""
        return await self.forget_address(account.address)

    async def forget_address(self, address: str) -> tuple[Diagnosis, ...]:
        """The same, also for an address that is no longer in the configuration."""
        removed = await self._removed(address)
        memory, entry = self._known(address), removed.entry
        if entry is None and memory.stored is not None:
            entry = memory.stored.entry  # an earlier attempt removed it but lost the answer, or the record was damaged
        unsaved = memory.unsaved.entry if memory.unsaved is not None else None  # newer than the stored one
        # Before the provider is asked, which may take a minute: meanwhile a login would still get the token, and the
        # person may sign in again.
        memory.replace_stored(None)
        self._bus.publish(Forgotten(address))
        is_unreadable = entry is None and removed.version != NEW
        outcomes = [_unrevoked(said("the stored sign-in could not be read"))] if is_unreadable else []
        for one in (entry, unsaved):
            if one is not None and (outcome := await self._revoke(address, one)) is not None:
                outcomes.append(outcome)
        return tuple(outcomes)

    async def _removed(self, address: str) -> Stored:
        """Remove the record, readable or not. Returns: what was there. Raises: StoreUnavailable, StoreCorrupt."""
        for _ in range(ROUNDS):
            stored = await self._vault.load_any(address)
            if stored.version == NEW:
                return stored
            try:
                await self._vault.remove(address, expected=stored.version)
            except VersionConflict:
                continue  # a refresh was saved in between: its grant is the one to revoke
            return stored
        raise _changing(address)

    async def grant_status(self, account: Account) -> GrantStatus:
        """The status of its grant, to be shown. Raises: nothing; the store's trouble is part of the answer."""
        memory = self._known(account.address)
        try:
            stored = await self._vault.load(account.address)
            state = self._refresher.state(account, stored)
        except BridgeError as problem:
            return GrantStatus.untold(problem)
        is_later = memory.stored is None or stored.version > memory.stored.version
        # A newer grant may be known to this process alone, or on its way in an answer to what was stored before.
        if is_later and memory.newer_than(stored) is None and account.address not in self._flights:
            memory.learn(stored)
        if isinstance(state, Absent | Revoked):
            if memory.unsaved is not None and (why := memory.store_problem) is not None:
                # The person has signed in, and need not do so again: only the store has not taken it.
                return GrantStatus(False, str(why), None, "", why.diagnosis, is_readable=False)
            move = next_move(state, Wanted())
            return GrantStatus(False, move.reason, None, "", move.diagnosis)
        trouble = memory.trouble(self._refresher.provider(account))
        failure, diagnosis = (str(trouble), trouble.diagnosis) if trouble is not None else ("", None)
        if isinstance(trouble, GrantInDoubt):
            return GrantStatus(False, failure, None, "", diagnosis)
        if stored.entry is None:  # an unattended provider, and no mail program has wanted a token yet
            return GrantStatus(True, failure, None, account.subject, diagnosis)
        subject = stored.entry.tokens.subject
        who = subject.address if subject is not None else stored.entry.signed_in_as
        return GrantStatus(True, failure, stored.entry.tokens.access.expires_at, who, diagnosis)

    # --- one flight for each account ----------------------------------------------------------------------------

    async def _token(self, account: Account, request: Request, share: float) -> AccessToken:
        memory = self._known(account.address)
        if memory.stored is not None and memory.unsaved is None:
            move = next_move(self._refresher.state(account, memory.stored, share), request)
            if isinstance(move, Use):
                return move.token
        try:
            async with asyncio.timeout(self._patience):
                while (flight := self._flights.get(account.address)) and not flight.serves(account, request):
                    await asyncio.shield(flight.task)
                flight = flight or self._begin_refresh(account, memory, request, share)
                outcome = await asyncio.shield(flight.task)
        except TimeoutError:
            return self._instead(account, memory, request, share)
        if isinstance(outcome, BaseException):
            raise outcome.with_traceback(None)  # several tasks may raise it, and each adds its own traceback
        return outcome

    def _instead(self, account: Account, memory: Memory, request: Request, share: float) -> AccessToken:
        """A stale token, because the provider has not answered in time. Raises: ProviderUnavailable if there is
        none."""
        problem = ProviderUnavailable(
            said(
                "The provider {provider} has not answered within {seconds} seconds; mail-bridge is still waiting for "
                "its answer.",
                provider=account.provider,
                seconds=f"{self._patience:g}",
            )
        )
        match self._refresher.meanwhile(account, memory, request, share, problem):
            case Use(token):
                return token
            case Later():
                raise problem

    def _begin_refresh(self, account: Account, memory: Memory, request: Request, share: float) -> _Flight:
        if self._group is None:
            raise StoreUnavailable(said("mail-bridge is stopping"))
        task = self._group.create_task(self._flight(account, memory, request, share), name=f"token {account.address}")
        flight = self._flights[account.address] = _Flight(account, request, task)
        return flight

    async def _flight(
        self, account: Account, memory: Memory, request: Request, share: float
    ) -> AccessToken | BaseException:
        """The task's result is the token or the error: a task that raises would end its group, and with it the
        bridge."""
        try:
            return await self._refresher.fetch(account, memory, request, share)
        except Exception as problem:  # noqa: BLE001  raised again by each waiter; a bug is for its session's supervisor
            return problem
        finally:
            del self._flights[account.address]

    # --- small things -------------------------------------------------------------------------------------------

    def _known(self, address: str) -> Memory:
        return self._memory.setdefault(address, Memory())

    async def _checked_subject(self, account: Account, tokens: TokenSet) -> str:
        subject = tokens.subject
        if subject is None:
            # Without an id_token there is no evidence of who signed in: let the mail server say whose mailbox it opens.
            await self._verify(account, tokens.access)
            return account.subject
        if not subject.is_named(account.subject):
            found = Diagnosis.of("sign_in.wrong_person", somebody=subject.address, person=account.subject)
            raise AuthorizationFailed(code="wrong_person", diagnosis=found)
        return subject.address

    def _give_up(self, account: Account, replaced: Iterable[Entry | None], provider: Provider) -> None:
        """Revoke replaced grants that another provider or client gave: the new record has taken their place, so nobody
        could revoke them later. The new sign-in does not wait for this. A grant of the same consent is left alone,
        because revoking it would end the new grant, too."""
        for entry in replaced:
            if self._group is not None and entry is not None and self._is_elsewhere(entry, provider):
                address = account.address
                task = self._group.create_task(self._revoke_aside(address, entry), name=f"revoke {address}")
                self._revocations.add(task)
                task.add_done_callback(self._revocations.discard)

    def _is_elsewhere(self, entry: Entry, provider: Provider) -> bool:
        giver = self._refresher.giver(entry)
        return giver.consent != provider.consent if giver is not None else entry.client not in {"", provider.client}

    async def _revoke_aside(self, address: str, entry: Entry) -> None:
        """Raises nothing, because a task that raises would end its group."""
        try:
            await self._revoke(address, entry)
        except Exception as bug:  # noqa: BLE001  a supervisor: the bridge does not end with it
            fault("revocation.bug", account=address, error=bug)

    async def _revoke(self, address: str, entry: Entry) -> Diagnosis | None:
        """Revoke the grant of a record that is removed already, whatever comes of this.

        The grant goes only to the provider that gave it: it is the key to a mailbox, and the account may belong to
        another provider by now. Returns: why the grant may still be valid there; None if it is not.
        """
        if entry.ended or not entry.tokens.grant:
            return None
        provider = self._refresher.giver(entry)
        try:
            revoked = provider is not None and await provider.revoke(entry.tokens.grant)
        except BridgeError as problem:
            report("revocation.failed", problem, account=address)
            return _unrevoked(as_said(problem.words))
        event("grant.forgotten", account=address, revoked_at_provider=revoked)
        if revoked:
            return None
        if provider is None:
            return _unrevoked(said("the provider {provider} is no longer configured", provider=entry.provider))
        return _unrevoked(said("the provider {provider} does not let programs end a sign-in", provider=entry.provider))


def _changing(address: str) -> StoreUnavailable:
    return StoreUnavailable(
        said("the sign-in of {address} is being changed by somebody else; try again", address=address)
    )


def _unrevoked(reason: Said) -> Diagnosis:
    return Diagnosis.of("sign_out.unrevoked", reason)
