"""access_token(account): single flight; invalidate after an upstream "no"."""

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
"""Seconds that a login waits for its provider: a mail program gives up after 30 and has to be told before, and the
lease of a bridge that has died lasts for 10. The refresh goes on: its answer may hold a refresh token that is nowhere
else."""
STOP_SECONDS = 20.0
"""For refreshes under way when the bridge stops; service managers wait for 30 to 90 s."""

Verify = Callable[[Account, AccessToken], Awaitable[None]]
"""Logs in to the mailbox. Raises: UpstreamRefused, UpstreamUnavailable."""


@dataclass(frozen=True, slots=True)
class _Flight:
    """A refresh under way."""

    account: Account
    """As it was configured then."""
    request: Request
    task: asyncio.Task[AccessToken | BaseException]

    def serves(self, account: Account, request: Request) -> bool:
        """False if what it brings may not do: begun before a reload, a token of another provider, whom this mail
        server is not; or the very one that the upstream has just refused, where another one will do for who began it.
        """
        return self.account == account and (isinstance(request, Wanted) or self.request == request)


@dataclass(frozen=True, slots=True)
class Standing:
    """How an account is doing, from memory and the vault; nobody is asked."""

    is_signed_in: bool
    detail: str
    """Why a sign-in is needed, or what went wrong last; empty when all is well."""
    expires_at: float | None
    signed_in_as: str
    diagnosis: Diagnosis | None = None
    """`detail`, to be told in any language."""
    is_readable: bool = True
    """False while the store does not say: a new sign-in would not help then."""
    away: StoreUnavailable | None = None
    """Why the store says nothing, of any account."""

    @classmethod
    def untold(cls, problem: BridgeError) -> Standing:
        """What is known where the store does not say."""
        away = problem if isinstance(problem, StoreUnavailable) else None
        return cls(False, str(problem), None, "", problem.diagnosis, is_readable=False, away=away)


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
        """Of grants that a sign-in elsewhere has replaced."""
        self._group: asyncio.TaskGroup | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Refreshes may run inside; leaving waits a while for those under way, so that what they get is saved, and for
        revocations, and tries once more to save what the store did not take."""
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
        """As access_token(), for somebody who can wait: the token has at least `share` of its life left."""
        return await self._token(account, Wanted(), share)

    async def save_unsaved(self) -> None:
        """Try again to save what the store did not take. Raises: nothing; what it still does not take is told of."""
        for address, memory in list(self._memory.items()):
            try:
                await self._refresher.save_unsaved(address, memory)
            except BridgeError as problem:
                report("grant.unsaved", problem, account=address)

    async def save(self, address: str) -> None:
        """The same for one account. Raises: StoreUnavailable while the store does not take it; StoreCorrupt."""
        await self._refresher.save_unsaved(address, self._known(address))

    async def notice_removals(self) -> None:
        """Give up the tokens of sign-ins that another process has removed from the store. Raises: nothing."""
        known = {address: memory.stored for address, memory in self._memory.items() if memory.has_entry}
        if not known:
            return
        try:
            stored = set(await self._vault.addresses())
        except BridgeError as problem:  # a store in trouble takes nobody's token away
            detail("store.not_compared", reason=str(problem))
            return
        for address, before in known.items():
            memory = self._memory[address]
            if address not in stored and memory.stored is before and memory.unsaved is None:
                event("sign_in.removed_elsewhere", account=address)
                memory.replace_stored(None)
                self._bus.publish(Forgotten(address))

    def used_within(self, seconds: float) -> list[str]:
        """Addresses that a mail program has wanted a token for lately."""
        since = self._clock.monotonic() - seconds
        used = ((address, memory.used_at) for address, memory in self._memory.items())
        return [address for address, used_at in used if used_at is not None and used_at > since]

    async def keep(self, account: Account, tokens: TokenSet) -> str:
        """Check who signed in, then store, then tell.

        Returns: who signed in. Raises: AuthorizationFailed (wrong_person) and nothing is stored; UpstreamRefused or
        UpstreamUnavailable where only the mail server can tell; SignInUnsaved, and it is stored and told once the store
        takes it; StoreUnavailable.
        """
        return await self._keep(account, tokens, self._refresher.provider(account))

    async def _keep(self, account: Account, tokens: TokenSet, provider: Provider) -> str:
        """Of the provider that has given them: a reload may bring another one of this name meanwhile."""
        who = await self._checked_subject(account, tokens)
        entry = Entry(account.provider, provider.fingerprint, account.subject, tokens, client=provider.client)
        memory, before = self._known(account.address), Stored(None, NEW)
        for _ in range(ROUNDS):
            try:
                before = await self._vault.load_any(account.address)
                version = await self._vault.save(account.address, entry, expected=before.version)
            except VersionConflict:
                continue  # a refresh of the old grant went in between; the new sign-in counts
            except StoreUnavailable as problem:
                # The code is used up, and so may be the person's patience: kept as a refresh's answer is.
                memory.unsaved, memory.store_problem = Unsaved(entry, before.version, None, who), problem
                raise SignInUnsaved(problem.said or str(problem)) from problem
            unsaved = memory.unsaved.entry if memory.unsaved is not None else None  # newer than the stored one
            self._refresher.stored(account.address, memory, Stored(entry, version), who)
            self._give_up(account, (before.entry, unsaved), provider)
            return who
        raise _changing(account.address)

    async def adopt(self, account: Account, refresh_token: Secret[str]) -> str:
        """Try a refresh token obtained elsewhere and keep what it gives. Returns and raises: as keep().

        Besides: AuthorizationFailed (no_grant) if the provider does not take it; ProviderUnavailable.
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
        """Remove the record in any case, and revoke where the provider can. Returns: of each grant that may still be
        good there, why. Raises: StoreUnavailable, StoreCorrupt."""
        return await self.forget_address(account.address)

    async def forget_address(self, address: str) -> tuple[Diagnosis, ...]:
        """The same, also for one that is in no account any more."""
        removed = await self._removed(address)
        memory, entry = self._known(address), removed.entry
        if entry is None and memory.stored is not None:
            entry = memory.stored.entry  # the answer to an earlier attempt was lost, or the record was damaged
        unsaved = memory.unsaved.entry if memory.unsaved is not None else None  # newer than the stored one
        # Before the provider is asked, which may take a minute: until then a login would still get the token, and
        # somebody may sign in again.
        memory.replace_stored(None)
        self._bus.publish(Forgotten(address))
        is_unreadable = entry is None and removed.version != NEW
        outcomes = [_unrevoked(said("the stored sign-in could not be read"))] if is_unreadable else []
        for one in (entry, unsaved):
            if one is not None and (outcome := await self._revoke(address, one)) is not None:
                outcomes.append(outcome)
        return tuple(outcomes)

    async def _removed(self, address: str) -> Stored:
        """Remove the record, be it readable or not. Returns: what was there. Raises: StoreUnavailable, StoreCorrupt."""
        for _ in range(ROUNDS):
            stored = await self._vault.load_any(address)
            if stored.version == NEW:
                return stored
            try:
                await self._vault.remove(address, expected=stored.version)
            except VersionConflict:
                continue  # a refresh went in between: its grant is the one to revoke
            return stored
        raise _changing(address)

    async def standing(self, account: Account) -> Standing:
        """For people who look. Raises: nothing; the store's trouble is part of the answer."""
        memory = self._known(account.address)
        try:
            stored = await self._vault.load(account.address)
            state = self._refresher.state(account, stored)
        except BridgeError as problem:
            return Standing.untold(problem)
        if memory.stored is None or stored.version > memory.stored.version:
            memory.learn(stored)
        if isinstance(state, Absent | Revoked):
            if memory.unsaved is not None and (why := memory.store_problem) is not None:
                # Somebody has signed in, and need not again.
                return Standing(False, str(why), None, "", why.diagnosis, is_readable=False)
            move = next_move(state, Wanted())
            return Standing(False, move.reason, None, "", move.diagnosis)
        trouble = memory.trouble(self._refresher.provider(account))
        failure, diagnosis = (str(trouble), trouble.diagnosis) if trouble is not None else ("", None)
        if isinstance(trouble, GrantInDoubt):
            return Standing(False, failure, None, "", diagnosis)
        if stored.entry is None:  # nobody signs in there, and no mail program has come yet
            return Standing(True, failure, None, account.subject, diagnosis)
        subject = stored.entry.tokens.subject
        who = subject.address if subject is not None else stored.entry.signed_in_as
        return Standing(True, failure, stored.entry.tokens.access.expires_at, who, diagnosis)

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
            raise outcome.with_traceback(None)  # several tasks may raise it, each with a traceback of its own
        return outcome

    def _instead(self, account: Account, memory: Memory, request: Request, share: float) -> AccessToken:
        """A token that is only stale, while the answer is still waited for. Raises: ProviderUnavailable."""
        problem = ProviderUnavailable(
            said(
                "The provider {provider} has not answered within {seconds} seconds; its answer is waited for.",
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
        """A task must not raise, or its group would end with it: the outcome goes to those who wait."""
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
            # No id_token, no evidence: the mail server decides whose mailbox this token opens.
            await self._verify(account, tokens.access)
            return account.subject
        if not subject.is_named(account.subject):
            found = Diagnosis.of("sign_in.wrong_person", somebody=subject.address, person=account.subject)
            raise AuthorizationFailed(found.told(), code="wrong_person", diagnosis=found)
        return subject.address

    def _give_up(self, account: Account, replaced: Iterable[Entry | None], provider: Provider) -> None:
        """End what was given elsewhere: the new record is in its place, and nobody could do so later. The new sign-in
        does not wait for it. What is of the same consent stays, since both would end."""
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
        """A task must not raise, or its group would end with it."""
        try:
            await self._revoke(address, entry)
        except Exception as bug:  # noqa: BLE001  a supervisor: the bridge does not end with it
            fault("revocation.bug", account=address, error=bug)

    async def _revoke(self, address: str, entry: Entry) -> Diagnosis | None:
        """The record is gone already; a provider that cannot be reached does not bring it back.

        Who gave the grant is asked, and nobody else: it is the key to a mailbox, and the account may be another
        provider's by now. Returns: why it may still be good there; None if it is not.
        """
        if entry.ended or not entry.tokens.grant:
            return None
        provider = self._refresher.giver(entry)
        try:
            revoked = provider is not None and await provider.revoke(entry.tokens.grant)
        except BridgeError as problem:
            report("revocation.failed", problem, account=address)
            return _unrevoked(as_said(problem.said or str(problem)))
        event("grant.forgotten", account=address, revoked_at_provider=revoked)
        if revoked:
            return None
        if provider is None:
            return _unrevoked(said("the provider {provider} is no longer configured", provider=entry.provider))
        return _unrevoked(said("the provider {provider} lets no program do that", provider=entry.provider))


def _changing(address: str) -> StoreUnavailable:
    return StoreUnavailable(
        said("the sign-in of {address} is being changed by somebody else; try again", address=address)
    )


def _unrevoked(reason: Said) -> Diagnosis:
    return Diagnosis.of("sign_out.unrevoked", reason)
