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
from bridge.model import Concern, Ends, Wish
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
    """The grant is kept, but the last refresh, or a mail program's last log-in, failed."""


@dataclass(frozen=True, slots=True)
class ProtocolCheck:
    """How one of the account's mail servers took the last log-in: a mail program's, or one on trial, after a sign-in or
    on request."""

    protocol: str
    is_ok: bool
    turn: Turn = Turn.NOBODY
    """Who can mend it."""
    sentence: str = ""
    """What happened and who must do what, in English; empty when all is well."""
    diagnosis: Diagnosis | None = None
    """The same, to be told in any language."""
    failed_at: float | None = None
    """When it did not open, seconds since the epoch; None when all is well."""


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
    """While the bridge remembers; empty if nothing was tried since the start."""
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
    """What is stored of an address that is in no account of the configuration: of somebody who has left, perhaps."""

    address: str
    is_signed_in: bool
    """A grant is stored, which may be good at its provider."""
    has_password: bool
    """A local password; it opens nothing without an account."""


@dataclass(frozen=True, slots=True)
class SignOut:
    """How a sign-in was removed."""

    unrevoked: tuple[Diagnosis, ...] = ()
    """Of each grant that may still be good at its provider: why, and where a person can end it."""
    was_left: bool = False
    """It was a Leftover: all that was stored of the address is removed."""
    was_signed_in: bool = True
    """False if there was nothing to remove: a typing error, below a pattern, is an address without a sign-in."""


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
    """By address."""


@dataclass(frozen=True, slots=True)
class Entrance:
    """What anybody may know."""

    is_demo: bool
    listeners: tuple[ListenerStatus, ...]


@dataclass(frozen=True, slots=True)
class SignInStarted:
    """A sign-in on its way."""

    address: str
    url: str
    """The provider's page: open it in the person's own browser."""
    expires_at: float
    """Seconds since the epoch."""
    user_code: str = ""
    """Sign-in by device code: what the person types at `url`, in any browser anywhere. Empty where a browser comes back
    to us."""
    direct_url: str = ""
    """The same page with the code in it, for a link; empty where the provider has none."""
    attempt: str = ""
    """Which one of those for this account."""


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
    """One line of the doctor's."""

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
    """What the console asks about the person in front of it: in the bridge's own process, where the connections are."""

    async def wishes(self, address: str, browser: Ends | None) -> tuple[Wish, ...]:
        """The programs that want this mailbox, as far as this browser's user may know, the latest first.

        Raises: StoreUnavailable, StoreCorrupt.
        """
        ...

    async def keep(self, address: str, name: str) -> None:
        """The password of this wish becomes the account's local one.

        Only for whoever has just signed in. Raises: LoginRefused, StoreUnavailable, StoreCorrupt.
        """
        ...

    async def why_none(self, address: str) -> Said:
        """Why no wish is left to choose from, where there were some. Raises: StoreUnavailable, StoreCorrupt."""
        ...


class Attendants(Protocol):
    """What a person's tray may know without the administrator's token: in the bridge's own process, too."""

    async def user_of(self, ends: Ends | None) -> str:
        """Whose program is at the other end of this connection, as the system numbers users; empty if not known."""
        ...

    def change_of(self, user_id: str) -> asyncio.Event:
        """Set as soon as concerns() may say something else; ask for it before, and anew after it was set."""
        ...

    async def concerns(self, user_id: str) -> tuple[Concern, ...]:
        """The accounts for which this user's own programs have asked, and somebody must sign in; no others."""
        ...


class Control(Protocol):
    """The running bridge, in this process or over loopback HTTP. Methods raise BridgeErrors, and what they name."""

    async def status(self) -> Status:
        """Everything at a glance; no secrets in it. Each account is looked up in the store."""
        ...

    async def begin_authorization(self, address: str, asker: str = "") -> SignInStarted:
        """Start a sign-in, or return the one under way; one by device code completes by itself.

        Each asker has one of their own for an account: nobody can end another's. `asker` is the OS user in whose
        browser it begins, where that is known; empty for whoever holds the admin token.

        Raises: LoginRefused for an address the configuration does not know; StoreUnavailable, StoreCorrupt where it
        could not be kept; ProviderUnavailable, ProviderRefused; LimitReached after too many that came to nothing;
        AuthorizationFailed(unattended) where nobody signs in.
        """
        ...

    async def complete_authorization(self, parameters: Mapping[str, str]) -> str:
        """Finish the sign-in that these callback parameters belong to.

        Returns: the account's address, saved and ready.
        Raises: AuthorizationFailed, ProviderUnavailable, ProviderRefused, StoreUnavailable; UpstreamRefused and
        UpstreamUnavailable where only the mail server tells who has signed in.
        """
        ...

    async def cancel_authorization(self, address: str) -> None:
        """End the sign-ins under way, if any."""
        ...

    async def forget(self, address: str) -> SignOut:
        """Remove the account's grant, and revoke it where its provider can; its local password stays. Of a Leftover
        everything is removed.

        Raises: LoginRefused, StoreUnavailable, StoreCorrupt.
        """
        ...

    async def adopt(self, address: str, refresh_token: Secret[str]) -> AccountStatus:
        """Try a refresh token that was obtained elsewhere and store what it gives.

        Raises: LoginRefused, AuthorizationFailed, ProviderUnavailable, ProviderRefused, StoreUnavailable.
        """
        ...

    async def check_account(self, address: str) -> AccountStatus:
        """Log in to each of the account's mail servers now; the status holds how it went.

        Raises: LoginRefused; AuthorizationRequired, ProviderUnavailable, StoreUnavailable where there is no token.
        """
        ...

    async def diagnose(self) -> tuple[Finding, ...]:
        """Look at everything that can be wrong, from the ports to each account's mail servers: within a minute.

        It asks nobody to sign in. Raises: nothing; what goes wrong is a finding.
        """
        ...

    async def local_password(self, address: str) -> Secret[str]:
        """The password that the mail client types; made on first request.

        Raises: LoginRefused, StoreUnavailable; PasswordUnknown where it is, or will be, the mail program's own.
        """
        ...

    async def rotate_local_password(self, address: str, *, at_once: bool = False) -> Secret[str]:
        """Make a new one; the old one works for PASSWORD_OVERLAP longer, or stops `at_once`: somebody else knows it."""
        ...

    async def set_local_password(self, address: str, password: Secret[str], *, at_once: bool = False) -> None:
        """Use this one; the old one as in rotate_local_password(). Raises: ValueError if it is too short."""
        ...

    def notices(self) -> AsyncGenerator[Notice, None]:
        """Facts as they happen. Close it (contextlib.aclosing): what it holds lasts until then."""
        ...


class InProcess(Control, Protocol):
    """Control of a bridge in the console's own process; no other may ask what everybody asks of the console."""

    async def entrance(self) -> Entrance:
        """What the start page tells of it, for which no account is looked up: anybody may ask, again and again."""
        ...
