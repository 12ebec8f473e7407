"""Sign-ins under way: begin, complete, cancel; one per account and OS user, and each expires."""

from __future__ import annotations

import asyncio
import hmac
import math
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Container, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit
from weakref import WeakValueDictionary

from bridge.advice.base import Turn
from bridge.advice.diagnosis import Diagnosis
from bridge.advice.said import said
from bridge.clock import Clock
from bridge.errors import (
    AuthorizationFailed,
    BridgeError,
    ProviderNotAsked,
    ProviderRefused,
    ProviderUnavailable,
    SignInUnsaved,
    StoreUnavailable,
    UpstreamRefused,
)
from bridge.model import Account, TokenSet
from bridge.notices import AuthorizationEnded, NoticeBus
from bridge.oauth.base import (
    AuthorizationRequest,
    BrowserProvider,
    DevicePending,
    DeviceProvider,
    DeviceRequest,
    Provider,
)
from bridge.observe.logs import detail, event, fault, report
from bridge.tasks import task_group
from bridge.tokens.sign_in_limits import SignInLimits

LIFE = 600.0
"""Seconds from begin to the browser's return: enough for a second factor, too short for yesterday's tab."""
ENOUGH = 0.5
"""Share of a sign-in's life that must be left for it to be given again to a person who presses the button again: half a
minute is too short for a second factor."""
SLOWER = 5.0
"""Seconds by which `slow_down` makes all further pauses between two polls longer (RFC 8628 section 3.5)."""
SLOWEST = 60.0
"""Seconds between two polls while the provider cannot be reached: doubled from poll to poll up to this. Also where a
provider asks for a longer pause than its code lives: for 5000, if it means milliseconds."""

Key = tuple[str, str]
"""Address and asker."""
Keep = Callable[[Account, TokenSet], Awaitable[str]]
"""Checks who signed in, stores the tokens, and returns who it was."""
TryStore = Callable[[str], Awaitable[None]]
"""Finds out whether the store could save something for this address. Raises: StoreUnavailable."""


@dataclass(frozen=True, slots=True)
class Pending:
    """A sign-in under way."""

    account: Account
    request: AuthorizationRequest | DeviceRequest
    life: float
    """Seconds from its beginning to its expiry."""
    expires_at: float
    """Seconds since the epoch; for people."""
    deadline: float
    """The same by the monotonic clock, because the wall clock may jump between begin and complete."""
    fingerprint: str
    """The fingerprint of the provider that was asked."""
    asker: str = ""
    """Who has begun it: see Control.begin_authorization."""
    asks_who: bool = False
    """The provider was told to ask who signs in even if somebody is signed in to the browser. True for a device code,
    where there is no such choice."""
    attempt: str = field(default_factory=lambda: secrets.token_hex(8))
    """Distinguishes its end from that of another sign-in for the same account; no secret."""

    @property
    def key(self) -> Key:
        """For each key there is one sign-in that is given again, and at most two before it: one that is nearly over,
        and one that began before a mistake."""
        return self.account.address, self.asker

    @property
    def state(self) -> str:
        """The state of the browser flow; empty in the device flow, where no browser comes back."""
        return self.request.state if isinstance(self.request, AuthorizationRequest) else ""


class Authorizations:
    """All sign-ins under way, in this process's memory only: after a restart the person has to click once more.

    Anybody on this machine may begin a sign-in, and can end it, too, with the state in its URL. So each OS user has
    their own for an account; the first one that succeeds ends the others. A sign-in that is nearly over goes on beside
    a new one, because the person may be about to finish in the first tab.

    Enter running() before use: sign-ins by device code are followed by tasks of its own.
    """

    def __init__(
        self,
        providers: Mapping[str, Provider],
        redirect_uris: Mapping[str, str],
        clock: Clock,
        bus: NoticeBus,
        keep: Keep,
        find: Callable[[str], Account | None],
        try_store: TryStore,
    ) -> None:
        """`redirect_uris`: by provider name, as registered. `find`: the account as it is configured now."""
        self._providers = providers
        self._redirect_uris = redirect_uris
        self._clock = clock
        self._bus = bus
        self._keep = keep
        self._find = find
        self._try_store = try_store
        self._pending: dict[str, Pending] = {}
        """By attempt, the oldest first."""
        self._limits = SignInLimits(clock)
        self._redeeming: dict[str, Pending] = {}
        """By attempt, while the code is on its way to the provider. If the code does not get there, the sign-in is
        under way again, unless the account's sign-ins have ended meanwhile."""
        self._mistaken: set[Key] = set()
        """Whose latest sign-in was somebody else's. Many providers take whoever is signed in to the browser, and would
        do so again each time."""
        self._polls: dict[str, asyncio.Task[None]] = {}
        """By attempt."""
        self._beginning: WeakValueDictionary[Key, asyncio.Lock] = WeakValueDictionary()
        """Each lock lives as long as a task holds it or waits for it."""
        self._group: asyncio.TaskGroup | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """In the body, sign-ins by device code may begin; leaving ends those under way."""
        async with task_group() as group:
            self._group = group
            try:
                yield
            finally:
                self._group = None
                for poll in self._polls.values():
                    poll.cancel()

    async def begin(self, account: Account, asker: str = "") -> Pending:
        """Start a sign-in, or return the asker's own if one is under way, not nearly over, and not of the kind by which
        somebody else has just been taken for this person.

        Raises: StoreUnavailable if the store could not save its result; ProviderUnavailable, ProviderRefused,
        LimitReached; AuthorizationFailed(unattended) for a provider where nobody signs in,
        AuthorizationFailed(provider) if the configuration changes meanwhile.
        """
        self._drop_expired()
        key = account.address, asker
        lock = self._beginning.setdefault(key, asyncio.Lock())
        async with lock:
            known = next((one for one in reversed(self._pending.values()) if one.key == key), None)
            if known is not None and _is_same(known.account, account) and self._is_good(known):
                return known
            with self._limits.for_one_more(asker, len(self._pending)):  # before the store is tried: that uses the disk
                await self._try_store(account.address)
                return await self._begin(account, asker)

    def _is_good(self, pending: Pending) -> bool:
        """True if it has time left, and need not ask who signs in, or does."""
        has_time = pending.deadline - self._clock.monotonic() >= ENOUGH * pending.life
        return has_time and (pending.asks_who or pending.key not in self._mistaken)

    async def _begin(self, account: Account, asker: str) -> Pending:
        provider = self._provider(account)
        fingerprint = provider.fingerprint
        match provider:
            case BrowserProvider():
                redirect_uri = self._redirect_uris[account.provider]
                asks_who = (account.address, asker) in self._mistaken
                with _told_to_a_person(goes_on=False):
                    request = await provider.begin(
                        login_hint=account.subject, redirect_uri=redirect_uri, asks_who=asks_who
                    )
                self._check_still_configured(account, fingerprint)
                return self._note(account, request, LIFE, fingerprint, asker, asks_who)
            case DeviceProvider():
                with _told_to_a_person(goes_on=False):
                    asked = await provider.begin_device()
                if self._group is None:
                    raise StoreUnavailable(said("mail-bridge is stopping"))
                self._check_still_configured(account, fingerprint)
                pending = self._note(account, asked, asked.lifetime, fingerprint, asker, asks_who=True)
                name = f"device {account.address}"
                self._polls[pending.attempt] = self._group.create_task(
                    self._follow(pending, asked, provider), name=name
                )
                return pending
            case _:
                nobody = Diagnosis.of("sign_in.unattended", mailbox=account.address, provider=account.provider)
                raise AuthorizationFailed(code="unattended", diagnosis=nobody)

    def _note(
        self,
        account: Account,
        request: AuthorizationRequest | DeviceRequest,
        life: float,
        fingerprint: str,
        asker: str,
        asks_who: bool,
    ) -> Pending:
        expires_at, deadline = self._clock.now() + life, self._clock.monotonic() + life
        pending = Pending(account, request, life, expires_at, deadline, fingerprint, asker, asks_who)
        self._pending[pending.attempt] = pending
        self._limits.noted(asker)
        event("sign_in.begun", account=account.address, provider=account.provider)
        return pending

    def find(self, address: str, askers: Container[str] | None = None) -> Pending | None:
        """A sign-in under way for this account; if `askers` is given, only one that one of them began."""
        self._drop_expired()
        found = _for(address, self._pending)
        return next((pending for pending in found if askers is None or pending.asker in askers), None)

    async def complete(self, parameters: Mapping[str, str]) -> str:
        """Finish the sign-in that these callback parameters belong to; a state works once.

        Returns: the account's address, once it is saved. Raises: AuthorizationFailed, ProviderUnavailable,
        ProviderRefused, StoreUnavailable, and what `keep` raises; an unknown state changes nothing, and no notice is
        sent. ProviderNotAsked if nothing has reached the provider: the sign-in goes on, and may be completed once more.
        """
        pending, request = self._take(parameters.get("state", ""))
        account = pending.account
        with self._telling(pending):
            tokens = await self._redeemed(pending, request, parameters)
            await self._keep_tokens(pending, tokens)
        return account.address

    async def _redeemed(
        self, pending: Pending, request: AuthorizationRequest, parameters: Mapping[str, str]
    ) -> TokenSet:
        account = pending.account
        try:
            self._check_still_configured(account, pending.fingerprint)
            provider = self._provider(account)
            if not isinstance(provider, BrowserProvider):
                raise _configuration_changed()
            self._check_issuer(provider, parameters.get("iss", ""))
            with _told_to_a_person(goes_on=True):
                return await provider.redeem(request, parameters)
        except ProviderNotAsked as problem:
            self._check_still_configured(account, pending.fingerprint)
            wait = math.ceil(problem.wait)
            if pending.attempt not in self._redeeming or self._clock.monotonic() + wait >= pending.deadline:
                raise _start_again(problem) from problem
            self._pending = {pending.attempt: pending, **self._pending}  # before those that began meanwhile
            later = Diagnosis.of("sign_in.not_asked", problem.words, seconds=f"{wait}")
            raise ProviderNotAsked(diagnosis=later, wait=wait) from problem
        finally:
            self._redeeming.pop(pending.attempt, None)

    async def _keep_tokens(self, pending: Pending, tokens: TokenSet) -> None:
        """Save them, and end all other sign-ins for this account."""
        account = self._check_still_configured(pending.account, pending.fingerprint)
        try:
            await self._keep(account, tokens)
        except (AuthorizationFailed, UpstreamRefused):
            self._mistaken.add(pending.key)
            raise
        self._mistaken.discard(pending.key)
        self._limits.gone_well(pending.asker)
        for other in _for(pending.account.address, self._pending):
            self._forget(other)
        self._let_none_come_back(pending.account.address)

    def _provider(self, account: Account) -> Provider:
        """The account's provider. Raises: AuthorizationFailed if a new configuration no longer has it."""
        provider = self._providers.get(account.provider)
        if provider is None:
            raise _configuration_changed()
        return provider

    def _check_issuer(self, asked: BrowserProvider, issuer: str) -> None:
        """A provider that was asked could have sent the browser on to another one, with our client's id there, and
        would be given the other's code now: the mix-up attack of RFC 9700 section 4.4. So a server may say whose answer
        it is (RFC 9207). The configuration has no issuers to compare it with, and an issuer's host need not be the
        one that the browser sees; but it is never that of another configured provider.

        Raises: AuthorizationFailed.
        """
        try:
            host = urlsplit(issuer).hostname
        except ValueError:
            host = None
        others = (one.sign_in_host for one in self._providers.values() if isinstance(one, BrowserProvider))
        if host and host != asked.sign_in_host and host in others:
            raise AuthorizationFailed(code="provider", diagnosis=Diagnosis.of("oauth.other_sign_in"))

    def _check_still_configured(self, account: Account, fingerprint: str) -> Account:
        """A reload ends the sign-ins that wait for a person. This check is for those that wait for the provider during
        the reload: their tokens could be stored under a different provider or person.

        Returns: the account as it is now. Raises: AuthorizationFailed.
        """
        found = self._find(account.address)
        if found is None or not _is_same(found, account) or self._provider(found).fingerprint != fingerprint:
            raise _configuration_changed()
        return found

    @contextmanager
    def _telling(self, pending: Pending) -> Iterator[None]:
        """Announce a sign-in that fails in the body, even by a bug; the error is raised on."""
        address = pending.account.address
        try:
            yield
        except ProviderNotAsked as problem:  # the sign-in goes on
            detail("sign_in.not_asked", account=address, reason=str(problem))
            raise
        except BridgeError as problem:
            code = _code(problem)
            if code not in {"cancelled", "expired"}:
                report("sign_in.failed", problem, account=address, code=code)
            self._bus.publish(AuthorizationEnded(address, code, str(problem), problem.diagnosis, pending.attempt))
            raise
        except Exception:
            self._end(pending, "bug", Diagnosis.of("sign_in.bug"))
            raise

    async def _follow(self, pending: Pending, request: DeviceRequest, provider: DeviceProvider) -> None:
        """Poll until the person has finished or the code has expired; then go on as if a browser had come back."""
        try:
            with suppress(BridgeError), self._telling(pending):  # suppressed, because _telling has announced it
                await self._finish(pending, request, provider)
        except Exception as bug:  # noqa: BLE001  a supervisor: one sign-in ends, not the bridge
            fault("sign_in.bug", account=pending.account.address, error=bug)

    async def _finish(self, pending: Pending, request: DeviceRequest, provider: DeviceProvider) -> None:
        try:
            tokens = await self._poll(pending, request, provider)
        finally:
            self._forget(pending)
        if tokens is not None:
            await self._keep_tokens(pending, tokens)

    async def _poll(self, pending: Pending, request: DeviceRequest, provider: DeviceProvider) -> TokenSet | None:
        """Poll as in RFC 8628 section 3.5; None once the sign-in has ended here. Raises: what else ends it."""
        interval = pause = request.interval if request.interval < request.lifetime else SLOWEST
        while True:
            await self._clock.pause(pause)
            self._drop_expired()
            if pending.attempt not in self._pending:
                return None
            try:
                answer = await provider.poll(request)
            except ProviderRefused:
                raise
            except ProviderUnavailable as problem:
                detail("device.poll_failed", account=pending.account.address, reason=str(problem))
                pause = min(max(2 * pause, 1.0), SLOWEST)
                continue
            if not isinstance(answer, DevicePending):
                return answer
            interval += SLOWER if answer.slow_down else 0.0
            pause = interval

    def cancel(self, address: str) -> None:
        """End the sign-ins under way, if any."""
        for pending in _for(address, self._pending):
            self._cancel(pending)
        self._let_none_come_back(address)

    def _cancel(self, pending: Pending) -> None:
        self._forget(pending)
        self._end(pending, "cancelled", Diagnosis.of("sign_in.cancelled"))

    def drop_changed(self) -> None:
        """End the sign-ins of accounts that a new configuration has changed or removed: their answer would not fit."""
        for pending in list(self._pending.values()):
            found = self._find(pending.account.address)
            if found is None or not _is_same(found, pending.account):
                self._cancel(pending)

    def drop_provider(self, name: str) -> None:
        """End the sign-ins at this provider, whose configuration has changed: their answer would be for the old one."""
        for pending in list(self._pending.values()):
            if pending.account.provider == name:
                self._cancel(pending)

    def _let_none_come_back(self, address: str) -> None:
        """No sign-in of this account whose code is on the way to the provider may be completed once more."""
        for pending in _for(address, self._redeeming):
            del self._redeeming[pending.attempt]

    def _take(self, state: str) -> tuple[Pending, AuthorizationRequest]:
        """The sign-in with this state, which is then used up."""
        self._drop_expired()
        found = None
        for pending in self._pending.values():  # compare all, each in constant time: a state is a secret
            is_it = hmac.compare_digest(pending.state.encode(), state.encode("utf-8", "surrogatepass"))
            if isinstance(pending.request, AuthorizationRequest) and is_it:
                found = pending, pending.request
        if found is None:
            raise AuthorizationFailed(code="unknown_state", diagnosis=Diagnosis.of("sign_in.unknown_state"))
        self._redeeming[found[0].attempt] = found[0]
        self._forget(found[0])
        return found

    def _forget(self, pending: Pending) -> None:
        """Take it out of those under way. A poll that is about to end by itself is not cancelled."""
        self._pending.pop(pending.attempt, None)
        poll = self._polls.pop(pending.attempt, None)
        if poll is not None and poll is not asyncio.current_task():
            poll.cancel()

    def _end(self, pending: Pending, code: str, diagnosis: Diagnosis) -> None:
        told = diagnosis.told()
        self._bus.publish(AuthorizationEnded(pending.account.address, code, told, diagnosis, pending.attempt))

    def _drop_expired(self) -> None:
        now = self._clock.monotonic()
        for pending in [pending for pending in self._pending.values() if pending.deadline <= now]:
            self._forget(pending)
            # If another attempt is under way, the person is busy with that one and needs no notice.
            goes_on = any(other.key == pending.key for other in self._pending.values())
            self._end(pending, "cancelled" if goes_on else "expired", Diagnosis.of("sign_in.expired"))


def _for(address: str, sign_ins: Mapping[str, Pending]) -> list[Pending]:
    """Those for this account."""
    return [pending for pending in sign_ins.values() if pending.account.address == address]


def _is_same(one: Account, other: Account) -> bool:
    """True if a sign-in for one is good for the other, too: it does not depend on mail servers or OS users."""
    return (one.address, one.provider, one.subject) == (other.address, other.provider, other.subject)


@contextmanager
def _told_to_a_person(*, goes_on: bool) -> Iterator[None]:
    """Where a mail program would come again by itself, it is nobody's turn; here a person is told to start again.
    ProviderNotAsked stays as it is where the sign-in goes on."""
    try:
        yield
    except ProviderUnavailable as problem:
        if goes_on and isinstance(problem, ProviderNotAsked):
            raise
        if problem.diagnosis is None or problem.diagnosis.advice.turn is not Turn.NOBODY:
            raise
        raise _start_again(problem) from problem


def _start_again(problem: ProviderUnavailable) -> ProviderUnavailable:
    words = problem.diagnosis.words if problem.diagnosis is not None else ""
    return ProviderUnavailable(diagnosis=Diagnosis.of("sign_in.unreachable", words))


def _code(problem: BridgeError) -> str:
    """The code of AuthorizationEnded."""
    if isinstance(problem, AuthorizationFailed):
        return problem.code
    return "unsaved" if isinstance(problem, SignInUnsaved) else "provider"


def _configuration_changed() -> AuthorizationFailed:
    return AuthorizationFailed(code="provider", diagnosis=Diagnosis.of("sign_in.configuration_changed"))
