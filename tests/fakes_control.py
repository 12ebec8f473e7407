"""A bridge in memory that keeps the control contract: accounts, sign-ins (each with its state), passwords, notices."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Mapping
from urllib.parse import parse_qs, urlencode, urlsplit

from bridge.advice.base import Turn
from bridge.advice.diagnosis import Diagnosis
from bridge.clock import Clock, SystemClock
from bridge.control.contract import (
    AccountState,
    AccountStatus,
    Finding,
    Leftover,
    ListenerStatus,
    Outcome,
    ProtocolCheck,
    SignInStarted,
    SignOut,
    StartPage,
    Status,
)
from bridge.errors import AuthorizationFailed, BridgeError, LoginRefused
from bridge.notices import AuthorizationEnded, Authorized, Forgotten, Notice, NoticeBus, ServersChecked
from bridge.secret import Secret

LIFE = 600.0
SHORTEST = 12


class FakeControl:
    """Knows the addresses that it is given, and everybody at @pattern.example."""

    def __init__(self, *addresses: str, clock: Clock | None = None) -> None:
        self.states = dict.fromkeys(addresses, AccountState.SIGN_IN)
        self.details: dict[str, str] = {}
        self.diagnoses: dict[str, Diagnosis] = {}
        self.checks: dict[str, tuple[ProtocolCheck, ...]] = {}
        self.checks_found: dict[str, tuple[ProtocolCheck, ...]] = {}
        """What check_account() finds; the status shows it from then on."""
        self.passwords: dict[str, Secret[str]] = {}
        self.stopped_at_once: bool | None = None
        """What the last change of a password did with the old one."""
        self.listeners: tuple[ListenerStatus, ...] = (
            ListenerStatus("imap", "127.0.0.1:1143", "", 2),
            ListenerStatus("smtp", "[::1]:1587", "starttls", 0),
        )
        self.warnings: tuple[Diagnosis, ...] = ()
        self.leftovers: tuple[Leftover, ...] = ()
        self.sign_out = SignOut()
        self.findings: tuple[Finding, ...] = (
            Finding("ports", "127.0.0.1:1143", Outcome.OK, "open"),
            Finding("clock", "", Outcome.FAILED, "off by {seconds} s", (("seconds", "900"),), Turn.APP_ADMIN),
        )
        self.diagnoses_made = 0
        self.diagnose_began = asyncio.Event()
        self.diagnosing = asyncio.Event()
        """diagnose() returns once this is set; it is set unless a test replaces it."""
        self.diagnosing.set()
        self.bus = NoticeBus()
        self.problem: BridgeError | None = None
        """Raised by the next call of any method, before anything changes."""
        self.goes_on = False
        """If true, the next completion that raises `problem` leaves the sign-in under way."""
        self.bug: Exception | None = None
        """Raised by status(), as a bug of mail-bridge would be."""
        self.gate = asyncio.Event()
        """A completion goes on once this is set; it is set unless a test clears it."""
        self.gate.set()
        self.askers: list[str] = []
        """For whom sign-ins were begun: numbers of OS users."""
        self.completions: list[dict[str, str]] = []
        """The parameters of each attempt to complete, right or wrong."""
        self.notices_end: BridgeError | None = None
        """Raised by notices() in place of the next notice."""
        self.following = asyncio.Event()
        """Set once somebody reads the notices."""
        self.abandoned = asyncio.Event()
        """Set once a reader of the notices has stopped reading."""
        self.user_code = ""
        """If not empty, sign-ins go by device code, and completed_elsewhere() ends them."""
        self.is_code_in_link = True
        """False for a provider that gives no URL with the code in it, such as Microsoft."""
        self.attempt = ""
        """Names the next sign-in by device code; somebody else's sign-in has another name."""
        self.authorization_url = "https://login.provider.example/authorize"
        self._clock = clock or SystemClock()
        self._pending: dict[str, tuple[str, float]] = {}

    async def status(self) -> Status:
        self._fail()
        if self.bug is not None:
            raise self.bug
        accounts = tuple(self._status_of(address) for address in self.states)
        patterns = ("*@pattern.example",)
        file = "/etc/mail-bridge/config.yaml"
        return Status("9.8.7", file, False, accounts, self.listeners, patterns, self.warnings, self.leftovers)

    async def start_page(self) -> StartPage:
        status = await self.status()
        return StartPage(status.is_demo, status.listeners)

    async def begin_authorization(self, address: str, asker: str = "") -> SignInStarted:
        self._fail()
        self.askers.append(asker)
        address = self._known(address)
        for state, (owner, expires_at) in self._pending.items():
            if owner == address and expires_at > self._clock.now():
                return self._started(address, state, expires_at)
        state = secrets.token_urlsafe(32)
        self._pending[state] = (address, self._clock.now() + LIFE)
        self.states[address] = AccountState.PENDING
        return self._started(address, state, self._pending[state][1])

    async def complete_authorization(self, parameters: Mapping[str, str]) -> str:
        self.completions.append(dict(parameters))
        address, expires_at = self._pending.get(parameters.get("state", ""), ("", 0.0))
        if not address or expires_at <= self._clock.now():
            raise AuthorizationFailed("This answer belongs to no sign-in.", code="unknown_state")
        del self._pending[parameters["state"]]
        await self.gate.wait()
        try:
            self._fail()
            if "error" in parameters:
                raise AuthorizationFailed(f"The sign-in was declined: {parameters['error']}", code="denied")
        except BridgeError as problem:
            if self.goes_on:
                self.goes_on, self._pending[parameters["state"]] = False, (address, expires_at)
                raise
            self.states[address] = AccountState.SIGN_IN
            self.bus.publish(AuthorizationEnded(address, "denied", str(problem)))
            raise
        self.states[address] = AccountState.READY
        self.bus.publish(Authorized(address, address))
        return address

    async def cancel_authorization(self, address: str) -> None:
        self._fail()
        address = self._known(address)
        self._pending = {state: entry for state, entry in self._pending.items() if entry[0] != address}
        self.states[address] = AccountState.SIGN_IN

    async def forget(self, address: str) -> SignOut:
        self._fail()
        others = tuple(left for left in self.leftovers if left.address != address)
        if others != self.leftovers:
            self.leftovers = others
            return self.sign_out
        address = self._known(address)
        if address.endswith("@pattern.example"):
            del self.states[address]  # comes from a pattern, and has no entry of its own
        else:
            self.states[address] = AccountState.SIGN_IN
        self.bus.publish(Forgotten(address))
        return self.sign_out

    async def adopt(self, address: str, refresh_token: Secret[str]) -> AccountStatus:
        self._fail()
        address = self._known(address)
        if refresh_token.reveal() != "CANARY-refresh":
            raise AuthorizationFailed("The provider does not take it.", code="no_grant")
        self.states[address] = AccountState.READY
        return self._status_of(address)

    async def check_account(self, address: str) -> AccountStatus:
        self._fail()
        address = self._known(address)
        self.checks |= {address: self.checks_found[address]} if address in self.checks_found else {}
        return self._status_of(address)

    async def diagnose(self) -> tuple[Finding, ...]:
        self._fail()
        self.diagnoses_made += 1
        self.diagnose_began.set()
        await self.diagnosing.wait()
        return self.findings

    async def local_password(self, address: str) -> Secret[str]:
        self._fail()
        return self.passwords.setdefault(self._known(address), Secret("CANARY-" + secrets.token_hex(8)))

    async def rotate_local_password(self, address: str, *, at_once: bool = False) -> Secret[str]:
        self._fail()
        self.stopped_at_once = at_once
        self.passwords[self._known(address)] = Secret("CANARY-" + secrets.token_hex(8))
        return self.passwords[self._known(address)]

    async def set_local_password(self, address: str, password: Secret[str], *, at_once: bool = False) -> None:
        self._fail()
        self.stopped_at_once = at_once
        if len(password.reveal()) < SHORTEST:
            raise ValueError(f"a local password has at least {SHORTEST} characters")
        self.passwords[self._known(address)] = password

    async def notices(self) -> AsyncGenerator[Notice, None]:
        with self.bus.subscription() as queue:
            self.following.set()
            try:
                while True:
                    notice = await queue.get()
                    if self.notices_end is not None:
                        raise self.notices_end
                    yield notice
            finally:
                self.abandoned.set()

    def _started(self, address: str, state: str, expires_at: float) -> SignInStarted:
        url = f"{self.authorization_url}?{urlencode({'client_id': 'a', 'state': state})}"
        if self.user_code:
            page = "https://login.provider.example/device"
            direct = f"{page}?c={self.user_code}" if self.is_code_in_link else ""
            return SignInStarted(address, page, expires_at, self.user_code, direct, attempt=self.attempt)
        return SignInStarted(address, url, expires_at)

    def completed_elsewhere(self, address: str, code: str = "") -> None:
        """What follows once the person has typed the code; or, with `code`, once the sign-in failed for that reason."""
        self._pending = {state: entry for state, entry in self._pending.items() if entry[0] != address}
        self.states[address] = AccountState.SIGN_IN if code else AccountState.READY
        if code:
            self.bus.publish(AuthorizationEnded(address, code, f"It ended: {code}."))
        else:
            self.bus.publish(Authorized(address, address))
            self.bus.publish(ServersChecked(address, ""))

    def _status_of(self, address: str) -> AccountStatus:
        state = self.states[address]
        expires_at = 1_800_000_000.5 if state is AccountState.READY else None
        return AccountStatus(
            address,
            "acme",
            address,
            state,
            self.details.get(address, ""),
            expires_at,
            "javascript:alert(1)",
            self.checks.get(address, ()),
            self.diagnoses.get(address),
        )

    def _known(self, address: str) -> str:
        address = address.lower()
        if address.endswith("@pattern.example"):
            self.states.setdefault(address, AccountState.SIGN_IN)
        if address not in self.states:
            raise LoginRefused(f"{address} is not in the configuration")
        return address

    def _fail(self) -> None:
        problem, self.problem = self.problem, None
        if problem is not None:
            raise problem


def state_of(url: str) -> str:
    """The state in a provider's URL."""
    return parse_qs(urlsplit(url).query)["state"][0]
