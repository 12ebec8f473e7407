"""One refresh: read, take the lease, read again, ask the provider, save, and only then hand out the token."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from bridge.advice.diagnosis import Diagnosis
from bridge.advice.said import said
from bridge.clock import Clock
from bridge.errors import (
    AuthorizationRequired,
    BridgeError,
    GrantInDoubt,
    GrantRevoked,
    ProviderRefused,
    ProviderUnavailable,
    StoreUnavailable,
    VersionConflict,
)
from bridge.model import SESSION_SHARE, AccessToken, Account, TokenSet
from bridge.notices import AuthorizationNeeded, Authorized, NoticeBus, Refreshed, RefreshFailed
from bridge.oauth.base import Provider
from bridge.observe.logs import detail, event, report
from bridge.secret import Secret
from bridge.stores.base import NEW
from bridge.tokens.leases import Leases
from bridge.tokens.lifecycle import (
    CLOCK_TOLERANCE,
    Absent,
    Answered,
    Ask,
    Away,
    Drop,
    End,
    Ended,
    Later,
    Pending,
    Request,
    Revoked,
    Save,
    Settled,
    SignIn,
    Use,
    Wanted,
    next_move,
    state_of,
)
from bridge.tokens.memory import Failure, Memory, Unsaved
from bridge.tokens.reminders import REMIND_EVERY, Reminders
from bridge.tokens.vault import Entry, Stored, Vault

RETRY_AFTER = 5.0
"""Seconds after a failed refresh in which the provider is not asked again: a CRM opens many connections at once."""
REFUSED_RETRY_AFTER = 15.0
"""The same if the provider refuses our registration. Only an admin can change that; a changed configuration takes
effect at once."""


class Refresher:
    """Carries out the moves of tokens.lifecycle. The caller makes sure that an account has only one refresh at a time
    in this process."""

    def __init__(
        self,
        vault: Vault,
        providers: Mapping[str, Provider],
        clock: Clock,
        bus: NoticeBus,
        sign_in_url: Callable[[str], str],
    ) -> None:
        self._vault = vault
        self._providers = providers
        self._clock = clock
        self._bus = bus
        self._sign_in_url = sign_in_url
        self._leases = Leases(vault, clock)
        self._reminders = Reminders(clock)

    async def fetch(self, account: Account, memory: Memory, request: Request, share: float) -> AccessToken:
        """A token with at least `share` of its life left; a stale one if no other can be had now.

        Raises: AuthorizationRequired, ProviderUnavailable, StoreUnavailable, StoreCorrupt.
        """
        match await self._settled(account, memory, request, share):
            case Use(token):
                return token
            case SignIn() as move:
                raise self._required(account, memory, move)
            case Later(GrantInDoubt() as problem):
                raise self._required(account, memory, SignIn(str(problem), problem.diagnosis))
            case Later(problem):
                raise problem.with_traceback(None)

    def state(self, account: Account, stored: Stored, share: float = SESSION_SHARE) -> Settled:
        """The state of what is stored. Raises: ProviderUnavailable if the provider was removed from the
        configuration."""
        provider = self.provider(account)
        return state_of(
            stored.entry,
            account,
            provider.fingerprint,
            self._clock.now(),
            share=share,
            is_attended=not provider.is_unattended,
        )

    def provider(self, account: Account) -> Provider:
        """The account's provider. Raises: ProviderUnavailable for a session from before the configuration changed."""
        try:
            return self._providers[account.provider]
        except KeyError:
            raise ProviderUnavailable(
                said("the provider {provider} is no longer configured", provider=account.provider)
            ) from None

    def giver(self, entry: Entry) -> Provider | None:
        """The provider that gave this grant, whatever its name is by now; None if the configuration no longer has it.
        Changed scopes do not make it another provider. If several entries of the configuration are the same client at
        the provider, the one with the recorded name is asked: a grant that one of them revokes is of no use to the
        others either."""
        found = (self._providers.get(entry.provider), *self._providers.values())
        return next((one for one in found if one is not None and _has_given(one, entry)), None)

    async def save_unsaved(self, address: str, memory: Memory) -> None:
        """Write what the store has not taken. Raises: StoreUnavailable, and it stays in memory for the next attempt."""
        unsaved = memory.unsaved
        if unsaved is None:
            return
        stored = await self._saved(address, unsaved)
        if memory.unsaved is not unsaved:
            memory.stored = stored  # the person has signed in meanwhile: that grant is saved the next time
            return
        # Compare grants, not versions: a database may have taken the record the first time, and lost only its answer.
        if unsaved.signed_in and stored.entry and stored.entry.tokens.grant == unsaved.entry.tokens.grant:
            self.stored(address, memory, stored, unsaved.signed_in)
            return
        memory.stored = stored
        memory.unsaved = memory.store_problem = None
        if not memory.has_entry:
            await self._revoke_successor(address, self.giver(unsaved.entry), unsaved.entry.tokens)

    def stored(self, address: str, memory: Memory, stored: Stored, who: str) -> None:
        """A sign-in is durable now: note it, log it, announce it."""
        memory.replace_stored(stored)
        event("sign_in.stored", account=address, subject=who)
        self._bus.publish(Authorized(address, who))

    async def _saved(self, address: str, unsaved: Unsaved) -> Stored:
        """Save it. Returns: what is stored then, which is this entry or one that counts more."""
        expected = unsaved.version
        while True:
            try:
                return Stored(unsaved.entry, await self._vault.save(address, unsaved.entry, expected=expected))
            except VersionConflict:
                stored = await self._vault.load(address)
            if not unsaved.outlives(stored):
                # Somebody signed in, or removed the sign-in, while we were asking: that is newer, so ours is dropped.
                detail("answer.late", account=address)
                return stored
            expected = stored.version

    async def _settled(self, account: Account, memory: Memory, request: Request, share: float) -> Use | SignIn | Later:
        """Do everything that can be done now. Returns: the move that is left to the caller."""
        try:
            await self.save_unsaved(account.address, memory)
            move = await self._look(account, memory, request, share)
            if isinstance(move, Ask):
                self._check_pause(account, memory)
                async with self._leases.held(account.address):
                    move = await self._look(account, memory, request, share)  # another process may have refreshed it
                    if isinstance(move, Ask):
                        move = await self._ask(account, memory)
        except (ProviderUnavailable, StoreUnavailable) as problem:
            return self._fall_back(account, memory, request, share, problem)
        else:
            memory.store_problem = None
            return move

    async def _look(self, account: Account, memory: Memory, request: Request, share: float) -> Use | Ask | SignIn:
        stored = await self._vault.load(account.address)
        if (newer := memory.newer_than(stored)) is not None:
            # The stored grant may have been used up to get the newer one that is only in memory. To refresh with the
            # stored one could end both, so save the newer one first.
            event("store.was_behind", account=account.address, version=stored.version)
            memory.unsaved = Unsaved(newer, stored.version, stored.entry)
            await self.save_unsaved(account.address, memory)
            stored = memory.stored or stored
        memory.learn(stored)
        return next_move(self.state(account, stored, share), request)

    def _check_pause(self, account: Account, memory: Memory) -> None:
        """Raises: the provider's last error, during the pause after it."""
        failure = memory.failure
        if failure is None or failure.provider is not self.provider(account):
            return
        if self._clock.monotonic() < failure.until:
            raise failure.problem.with_traceback(None)

    async def _ask(self, account: Account, memory: Memory) -> Use | SignIn:
        """Ask the provider, and apply its answer to what is stored by then."""
        before = memory.stored or Stored(None, NEW)
        provider = self.provider(account)
        answer: Answered | Ended
        try:
            grant = before.entry.tokens.grant if before.entry is not None else Secret("")
            answer = Answered(await provider.refresh(grant, subject=account.subject))
        except GrantRevoked as ended:
            answer = Ended(ended)
        except ProviderUnavailable as away:
            if memory.stored is None or memory.stored.version == before.version:
                self._remember(account, memory, away, provider)
                raise
            detail("answer.late", account=account.address)  # the error is about a grant that a new sign-in has replaced
            return await self._handed_out(account, memory)
        if memory.unsaved is not None:
            # The person has signed in meanwhile, and the store did not take that yet: the sign-in counts more.
            detail("answer.late", account=account.address)
            await self.save_unsaved(account.address, memory)
            return await self._handed_out(account, memory)
        stored = memory.stored or await self._vault.load(account.address)
        pending = Pending(before.version, None, is_attended=not provider.is_unattended)
        match next_move(pending if stored.version == before.version else self.state(account, stored), answer):
            case Save(tokens, version):
                renewed = _renewed(account, provider, before.entry, tokens)
                memory.unsaved = Unsaved(renewed, version, before.entry)
                await self.save_unsaved(account.address, memory)
                memory.failure = None
                self._reminders.begin_anew(account)
            case End(problem, version):
                await self._end(account, memory, before, problem, version)
            case Later(trouble):
                if isinstance(trouble, ProviderUnavailable):
                    self._remember(account, memory, trouble, provider)
                raise trouble
            case Drop():
                detail("answer.late", account=account.address)
                if isinstance(answer, Answered) and stored.entry is None:
                    await self._revoke_successor(account.address, provider, answer.tokens)
        return await self._handed_out(account, memory)

    async def _revoke_successor(self, address: str, provider: Provider | None, tokens: TokenSet) -> None:
        """Revoke a grant that was not stored because the person had signed out meanwhile: the sign-out revoked only the
        one before it."""
        if provider is None or not tokens.grant:
            return
        try:
            await provider.revoke(tokens.grant)
        except BridgeError as problem:
            report("revocation.failed", problem, account=address)

    async def _handed_out(self, account: Account, memory: Memory) -> Use | SignIn:
        """The token that is stored now: from our answer, or from what somebody else has stored meanwhile."""
        stored = memory.stored or await self._vault.load(account.address)
        state = self.state(account, stored)
        if isinstance(state, Absent | Revoked):
            return next_move(state, Wanted())
        if stored.entry is None:
            raise StoreUnavailable(
                said("the record of {address} was removed just now; try again", address=account.address)
            )
        token = stored.entry.tokens.access
        event("token.refreshed", account=account.address, seconds=round(token.remaining(self._clock.now())))
        self._bus.publish(Refreshed(account.address, token.expires_at))
        return Use(token)

    async def _end(self, account: Account, memory: Memory, before: Stored, problem: GrantRevoked, version: int) -> None:
        """Note that the provider has ended the grant, so that it is never asked again, even after a restart."""
        assert before.entry is not None  # noqa: S101  only a stored grant can end
        ended = _ended(before.entry, problem, self._clock.now())
        try:
            memory.stored = Stored(ended, await self._vault.save(account.address, ended, expected=version))
        except VersionConflict:  # the person has signed in or out: the end of the old grant no longer matters
            memory.stored = await self._vault.load(account.address)
            return
        self._bus.publish(RefreshFailed(account.address, ended.ended, False, ended.diagnosis))

    def _fall_back(
        self,
        account: Account,
        memory: Memory,
        request: Request,
        share: float,
        problem: ProviderUnavailable | StoreUnavailable,
    ) -> Use | Later:
        if isinstance(problem, ProviderUnavailable):
            self._remember(account, memory, problem, self._providers.get(account.provider))
        else:
            if memory.store_problem is None:
                self._tell(account, problem)
            memory.store_problem = problem
        return self.meanwhile(account, memory, request, share, problem)

    def meanwhile(
        self,
        account: Account,
        memory: Memory,
        request: Request,
        share: float,
        problem: ProviderUnavailable | StoreUnavailable,
    ) -> Use | Later:
        """What to do while no new token can be had: use a stale one, if there is one."""
        stored = memory.stored or Stored(None, NEW)
        due = next_move(self.state(account, stored, share), request)
        move = next_move(Pending(stored.version, due.fallback if isinstance(due, Ask) else None), Away(problem))
        if isinstance(move, Use):
            detail("refresh.postponed", account=account.address)
        return move

    def _remember(
        self, account: Account, memory: Memory, problem: ProviderUnavailable, provider: Provider | None
    ) -> None:
        """Leave the provider alone for a moment, and report its error once. `provider` is the adapter that was asked,
        not one that a reload has put in its place meanwhile."""
        if memory.failure is not None and memory.failure.problem is problem:
            return
        pause = REFUSED_RETRY_AFTER if isinstance(problem, ProviderRefused) else RETRY_AFTER
        memory.failure = Failure(problem, self._clock.monotonic() + pause, provider)
        is_news = isinstance(problem, ProviderRefused) and self._reminders.note(account, problem, provider)
        self._tell(account, problem, is_news=is_news)

    def _tell(
        self, account: Account, problem: ProviderUnavailable | StoreUnavailable, *, is_news: bool = False
    ) -> None:
        """`is_news`: True if scripts are to be notified."""
        report("refresh.failed", problem, account=account.address)
        self._bus.publish(RefreshFailed(account.address, str(problem), not is_news, problem.diagnosis))

    def _required(self, account: Account, memory: Memory, move: SignIn) -> AuthorizationRequired:
        """The error for the mail client; also sends the person a notice, though not too often."""
        url = self._sign_in_url(account.address)
        if self._is_due(memory.reminded_at):
            memory.reminded_at = self._clock.monotonic()
            self._bus.publish(AuthorizationNeeded(account.address, url, move.reason, move.diagnosis))
        return AuthorizationRequired(account.address, url, move.reason, diagnosis=move.diagnosis)

    def _is_due(self, told_at: float | None) -> bool:
        return told_at is None or self._clock.monotonic() - told_at >= REMIND_EVERY


def _renewed(account: Account, provider: Provider, before: Entry | None, tokens: TokenSet) -> Entry:
    """The record with the new tokens; who signed in is carried over, because a refresh rarely says so again."""
    if before is None or provider.is_unattended:
        return Entry(account.provider, provider.fingerprint, account.subject, tokens, client=provider.client)
    tokens = replace(tokens, subject=tokens.subject or before.tokens.subject, ends_at=before.tokens.ends_at)
    return replace(before, provider=account.provider, tokens=tokens, client=provider.client)


def _ended(entry: Entry, problem: GrantRevoked, now: float) -> Entry:
    """The record, with the reason why the grant has ended. The provider's own words leave several open; if the day has
    come that it named at the sign-in, that is the reason."""
    if entry.tokens.ends_at is None or now < entry.tokens.ends_at - CLOCK_TOLERANCE:
        return replace(entry, ended=str(problem), diagnosis=problem.diagnosis)
    found = Diagnosis.of("sign_in.ran_out", problem.diagnosis.words if problem.diagnosis is not None else "")
    return replace(entry, ended=found.told(), diagnosis=found)


def _has_given(provider: Provider, entry: Entry) -> bool:
    """Compares the client; in a record from before the client was noted, the fingerprint."""
    return entry.client == provider.client if entry.client else entry.fingerprint == provider.fingerprint
