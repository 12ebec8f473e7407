"""All a UI may ask: status, accounts, begin/complete sign-in, sign out, passwords, notices."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from bridge.advice.base import Turn
from bridge.advice.diagnosis import Diagnosis
from bridge.advice.said import Said, Translate, filled
from bridge.model import Ends, SignInPrompt, WaitingProgram
from bridge.notices import Notice
from bridge.secret import Secret


class AccountState(str, Enum):
    """One word for an account; the dot's colour in every UI."""

    READY = "ready"
    """A usable grant is stored."""
    SIGN_IN = "sign-in"
    """A person must sign in."""
    PENDING = "pending"
    """A sign-in is under way."""
    TROUBLE = "trouble"
    """The grant is kept, but the last refresh, or a mail program's last login, failed."""


@dataclass(frozen=True, slots=True)
class ProtocolCheck:
    """How one of the account's mail servers answered the last login: a mail program's, or a trial login of the bridge
    after a sign-in or on request."""

    protocol: str
    is_ok: bool
    turn: Turn = Turn.NOBODY
    """Who can fix it."""
    sentence: str = ""
    """What happened and who must do what, in English; empty when all is well."""
    diagnosis: Diagnosis | None = None
    """The same, to be told in any language."""
    failed_at: float | None = None
    """When the login failed, seconds since the epoch; None when all is well."""


@dataclass(frozen=True, slots=True)
class AccountStatus:
    """One account as a person wants to see it."""

    address: str
    provider: str
    subject: str
    state: AccountState
    detail: str = ""
    """The last error in one English sentence, or empty."""
    expires_at: float | None = None
    """End of the access token's life, seconds since the epoch."""
    sign_in_url: str = ""
    """The local page that starts a sign-in."""
    checks: tuple[ProtocolCheck, ...] = ()
    """The last answer of each mail server, kept in memory only; empty if none was tried since the start."""
    diagnosis: Diagnosis | None = None
    """`detail`, to be told in any language, where the table of advice has a row for it."""


@dataclass(frozen=True, slots=True)
class ListenerStatus:
    """One local port."""

    protocol: str
    address: str
    tls: str
    """`implicit`, `starttls` or empty."""
    sessions: int


@dataclass(frozen=True, slots=True)
class Leftover:
    """What is stored for an address that is not in the configuration: perhaps of somebody who has left."""

    address: str
    is_signed_in: bool
    """A grant is stored, which may still be valid at its provider."""
    has_password: bool
    """A local password is stored; without an account it opens nothing."""


@dataclass(frozen=True, slots=True)
class SignOut:
    """How a sign-in was removed."""

    unrevoked: tuple[Diagnosis, ...] = ()
    """For each grant that may still be valid at its provider: why, and where a person can revoke it."""
    was_left: bool = False
    """The address was a Leftover: all that was stored for it is removed."""
    was_signed_in: bool = True
    """False if there was nothing to remove: below a pattern, a mistyped address is just one without a sign-in."""


@dataclass(frozen=True, slots=True)
class Status:
    """The whole bridge."""

    version: str
    config_file: str
    is_demo: bool
    accounts: tuple[AccountStatus, ...]
    listeners: tuple[ListenerStatus, ...]
    patterns: tuple[str, ...]
    """Domain patterns of the configuration; an account below one appears once somebody has signed in for it."""
    warnings: tuple[Diagnosis, ...] = ()
    """What the administrator must see to before it becomes trouble."""
    leftovers: tuple[Leftover, ...] = ()
    """Sorted by address."""


@dataclass(frozen=True, slots=True)
class StartPage:
    """What the start page shows to anybody."""

    is_demo: bool
    listeners: tuple[ListenerStatus, ...]


@dataclass(frozen=True, slots=True)
class SignInStarted:
    """A sign-in that has been started."""

    address: str
    url: str
    """The provider's page: open it in the person's own browser."""
    expires_at: float
    """Seconds since the epoch."""
    user_code: str = ""
    """Sign-in by device code: the code that the person types at `url`, in any browser anywhere. Empty where the browser
    comes back to us."""
    direct_url: str = ""
    """`url` with the code already in it, for a link; empty where the provider has none."""
    attempt: str = ""
    """Which of this account's sign-ins under way this is."""


class Outcome(str, Enum):
    """How one check went."""

    OK = "ok"
    WARNING = "warning"
    """It works today, and somebody should see to it."""
    FAILED = "failed"
    SKIPPED = "skipped"
    """Not tried; the sentence says why."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor's report."""

    check: str
    """What was looked at: configuration, ports, connection, clock…"""
    subject: str
    """Which one: a host and port, an account; empty where there is only one."""
    outcome: Outcome
    sentence: str
    """English, for people, with {placeholders}: what was found, and what to do. The msgid of the catalogues."""
    arguments: tuple[tuple[str, str | Said], ...] = ()
    """Name and value for each placeholder; no secrets."""
    turn: Turn = Turn.NOBODY
    """Whose turn it is."""

    @property
    def detail(self) -> str:
        """The sentence with its arguments, in English."""
        return self.told()

    def told(self, translate: Translate = str) -> str:
        """The same in the reader's language: `translate` gets the sentence with its placeholders."""
        return filled(translate(self.sentence), self.arguments, translate)


class Visitors(Protocol):
    """What the console asks about the person who uses it. Only in the bridge's own process: it has the mail programs'
    connections."""

    async def waiting_programs(self, address: str, browser: Ends | None) -> tuple[WaitingProgram, ...]:
        """The mail programs that want this mailbox and that this browser's user may know of, the latest first.

        Raises: StoreUnavailable, StoreCorrupt.
        """

    async def keep(self, address: str, key: str) -> None:
        """Make the password of this program the account's local password.

        Only for somebody who has just signed in. Raises: LoginRefused, StoreUnavailable, StoreCorrupt.
        """

    async def why_none(self, address: str) -> Said:
        """Why none of the earlier programs is left to choose from. Raises: StoreUnavailable, StoreCorrupt."""


class Attendants(Protocol):
    """What a person's tray may know without the administrator's token; this, too, only in the bridge's own process."""

    async def user_of(self, ends: Ends | None) -> str:
        """The system's id of the user whose program is at the other end of this connection; empty if not known."""

    def change_of(self, user_id: str) -> asyncio.Event:
        """An event that is set as soon as prompts() may answer differently; get it before you call prompts(), and get
        a new one once it was set."""

    async def prompts(self, user_id: str) -> tuple[SignInPrompt, ...]:
        """The accounts that this user's own programs have asked for and that need a sign-in; no others."""


class Control(Protocol):
    """The running bridge, in this process or over loopback HTTP. Any method may raise a BridgeError, besides the errors
    that it names."""

    async def status(self) -> Status:
        """Everything at a glance; no secrets in it. Each account is looked up in the store."""

    async def begin_authorization(self, address: str, asker: str = "") -> SignInStarted:
        """Start a sign-in, or return the one under way. A sign-in by device code completes by itself.

        Each asker has a sign-in of their own for an account, so that nobody can end another's. `asker` is the OS user
        in whose browser it begins, where that is known; empty for a holder of the admin token.

        Raises: LoginRefused for an address the configuration does not know; StoreUnavailable, StoreCorrupt where its
        grant could not be stored; ProviderUnavailable, ProviderRefused; LimitReached after too many that came to
        nothing; AuthorizationFailed(unattended) for a flow in which nobody signs in.
        """

    async def complete_authorization(self, parameters: Mapping[str, str]) -> str:
        """Finish the sign-in that these callback parameters belong to.

        Returns: the account's address, saved and ready.
        Raises: AuthorizationFailed, ProviderUnavailable, ProviderRefused, StoreUnavailable; UpstreamRefused and
        UpstreamUnavailable where only the mail server tells who has signed in.
        """

    async def cancel_authorization(self, address: str) -> None:
        """End the sign-ins under way, if any."""

    async def forget(self, address: str) -> SignOut:
        """Remove the account's grant, and revoke it where its provider can; its local password stays. For a Leftover,
        everything is removed.

        Raises: LoginRefused, StoreUnavailable, StoreCorrupt.
        """

    async def adopt(self, address: str, refresh_token: Secret[str]) -> AccountStatus:
        """Try a refresh token that was obtained elsewhere and store what it gives.

        Raises: LoginRefused, AuthorizationFailed, ProviderUnavailable, ProviderRefused, StoreUnavailable.
        """

    async def check_account(self, address: str) -> AccountStatus:
        """Log in to each of the account's mail servers now; the status holds how it went.

        Raises: LoginRefused; AuthorizationRequired, ProviderUnavailable, StoreUnavailable where there is no token.
        """

    async def diagnose(self) -> tuple[Finding, ...]:
        """Look at everything that can be wrong, from the ports to each account's mail servers: within a minute.

        It asks nobody to sign in. Raises: nothing; what goes wrong is a finding.
        """

    async def local_password(self, address: str) -> Secret[str]:
        """The password that the mail client types; made on first request.

        Raises: LoginRefused, StoreUnavailable; PasswordUnknown where it is, or will be, the mail program's own one.
        """

    async def rotate_local_password(self, address: str, *, at_once: bool = False) -> Secret[str]:
        """Make a new one. The old one works for PASSWORD_OVERLAP longer; with `at_once` it stops now, because somebody
        else knows it."""

    async def set_local_password(self, address: str, password: Secret[str], *, at_once: bool = False) -> None:
        """Use this password; the old one ends as in rotate_local_password(). Raises: ValueError if it is too short."""

    def notices(self) -> AsyncGenerator[Notice, None]:
        """Notices as they happen. Close the generator (contextlib.aclosing): it holds its resources until then."""


class InProcess(Control, Protocol):
    """Control of a bridge in the console's own process; start_page() is not offered to other processes."""

    async def start_page(self) -> StartPage:
        """What the start page shows. No account is looked up for it, because anybody may ask, again and again."""
