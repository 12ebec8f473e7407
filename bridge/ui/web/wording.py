"""What the console's pages call things, in the reader's language."""

from __future__ import annotations

import time
from dataclasses import dataclass

from bridge.advice.base import Turn
from bridge.control.contract import AccountState, AccountStatus, Finding, ListenerStatus, Outcome, ProtocolCheck
from bridge.ui.i18n import forwarding, say, say_number, tell

WILDCARDS = frozenset({"0.0.0.0", "[::]"})
"""A listener's hosts that cannot be entered in a mail program."""

SIGNED_IN = frozenset({AccountState.READY, AccountState.TROUBLE})
"""States in which the account's `subject` has signed in; in the others it is the person who must."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of what to type into a mail program."""

    protocol: str
    host: str
    is_name: bool
    """False where `host` is a description, and nothing to copy."""
    port: str
    security: str


@dataclass(frozen=True, slots=True)
class CheckLine:
    """How one of an account's mail servers answered the last login."""

    protocol: str
    is_ok: bool
    sentence: str
    forward: str
    """Whom to give the sentence to; empty where the reader can act, or nobody has to."""
    turn: str
    moment: str
    """When a login failed; empty otherwise."""


def state_word(state: AccountState) -> str:
    """The word beside the dot."""
    match state:
        case AccountState.READY:
            return say("Ready")
        case AccountState.SIGN_IN:
            return say("Sign-in needed")
        case AccountState.PENDING:
            return say("Sign-in under way")
        case AccountState.TROUBLE:
            return say("Trouble")


def state_count(state: AccountState, number: int) -> str:
    """How many accounts are in this state."""
    match state:
        case AccountState.READY:
            words = say_number("{number} ready", "{number} ready", number)
        case AccountState.SIGN_IN:
            words = say_number("{number} sign-in needed", "{number} sign-ins needed", number)
        case AccountState.PENDING:
            words = say_number("{number} sign-in under way", "{number} sign-ins under way", number)
        case AccountState.TROUBLE:
            words = say_number("{number} in trouble", "{number} in trouble", number)
    return words.format(number=number)


def state_sentence(account: AccountStatus) -> str:
    """What the state means to whoever looks after the account."""
    match account.state:
        case AccountState.READY if not all(check.is_ok for check in account.checks):
            return say(
                "Somebody has signed in, but not every mail server opened the mailbox when last tried: see below."
            )
        case AccountState.READY:
            return say("Mail programs get in with the local password.")
        case AccountState.SIGN_IN:
            return say("Mail programs are refused until somebody has signed in for this mailbox.")
        case AccountState.PENDING:
            return say("Somebody is signing in at the moment. Mail programs get in once that is finished.")
        case AccountState.TROUBLE:
            return say("Somebody has signed in, but the last attempt to use the mailbox has failed.")


def turn_word(turn: Turn) -> str:
    """Who can fix it."""
    match turn:
        case Turn.NOBODY:
            return say("nobody, it is enough to wait")
        case Turn.USER:
            return say("the person whose mailbox it is")
        case Turn.APP_ADMIN:
            return say("the administrator of mail-bridge")
        case Turn.TENANT_ADMIN:
            return say("your organization's mail administrator")


def setting(listener: ListenerStatus) -> Setting:
    """The setting for one open port."""
    host, _, port = listener.address.rpartition(":")
    is_name = host not in WILDCARDS
    return Setting(
        _protocol(listener.protocol),
        host if is_name else say("the name of this computer"),
        is_name,
        port,
        _security(listener.tls),
    )


def check_line(check: ProtocolCheck) -> CheckLine:
    """The line for one mail server."""
    return CheckLine(
        check.protocol.upper(),
        check.is_ok,
        tell(check.sentence, check.diagnosis),
        "" if check.is_ok else forwarding(check.turn),
        "" if check.is_ok else turn_word(check.turn),
        "" if check.failed_at is None else moment(check.failed_at),
    )


def must_act(finding: Finding) -> bool:
    """True if the line should say whose turn it is: where all is well, "wait" need not be said."""
    return finding.outcome is Outcome.FAILED or finding.turn is not Turn.NOBODY


def somebody_else(account: AccountStatus) -> str:
    """The person who has signed in, if the address does not name them, as for a shared mailbox; otherwise empty."""
    is_else = account.state in SIGNED_IN and account.subject.lower() != account.address.lower()
    return account.subject if is_else else ""


def moment(seconds: float) -> str:
    """A point in time as this computer's clock shows it."""
    local = time.localtime(seconds)
    return say("{year}-{month}-{day} at {clock}").format(
        year=local.tm_year,
        month=f"{local.tm_mon:02}",
        day=f"{local.tm_mday:02}",
        clock=f"{local.tm_hour:02}:{local.tm_min:02}",
    )


def _protocol(name: str) -> str:
    match name:
        case "imap":
            return say("IMAP (incoming)")
        case "pop3":
            return say("POP3 (incoming)")
        case "smtp":
            return say("SMTP (outgoing)")
    return name


def _security(tls: str) -> str:
    match tls:
        case "":
            return say("none")
        case "implicit":
            return "SSL/TLS"
        case "starttls":
            return "STARTTLS"
    return tls
