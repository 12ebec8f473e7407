"""pure: what to do for an account that wants a token, from what is stored, the time and the configuration."""

from __future__ import annotations

from dataclasses import dataclass

from bridge.model import AccessToken, Account
from bridge.tokens.vault import Entry

CLOCK_TOLERANCE = 300.0
"""Seconds that a token may come from the future; beyond, the clock was set back and says nothing of its life."""

FORCED_EVERY = 60.0
"""Seconds. A token that is refused although it is younger than this is not the trouble, and another one will not help:
without the limit a mailbox with IMAP switched off would cost a refresh for every attempt of its mail client."""

ENOUGH = 0.5
"""Share of a token's life with which a session may start: it ends with the token."""

SPARE = 60.0
"""Seconds of life that make a stale token worth using while the provider cannot give a new one."""


@dataclass(frozen=True, slots=True)
class Use:
    """The stored access token is good."""

    token: AccessToken


@dataclass(frozen=True, slots=True)
class Refresh:
    """Ask the provider for a new one."""

    fallback: AccessToken | None
    """Still alive: to be used if the provider is not there to be asked."""


@dataclass(frozen=True, slots=True)
class SignIn:
    """Only a person can help."""

    reason: str


Move = Use | Refresh | SignIn


def next_move(
    entry: Entry | None,
    account: Account,
    fingerprint: str,
    now: float,
    refused: AccessToken | None = None,
    *,
    share: float = ENOUGH,
) -> Move:
    """Decide.

    Args: entry, what the vault holds; fingerprint, the provider's of today; now, seconds since the epoch; refused, an
    access token that the upstream has just rejected; share, how much of a token's life must be left.
    """
    if entry is None:
        return SignIn("nobody has signed in yet")
    if entry.ended:
        return SignIn(entry.ended)
    if (entry.provider, entry.fingerprint) != (account.provider, fingerprint):
        return SignIn("the provider's settings have changed since the last sign-in")
    if not belongs(entry, account):
        return SignIn(f"the configuration now wants {account.subject} to sign in")
    token = entry.tokens.access
    is_from_future = token.obtained_at > now + CLOCK_TOLERANCE
    if refused is not None and refused.value == token.value:
        is_new = not is_from_future and now - token.obtained_at < FORCED_EVERY
        return Use(token) if is_new else Refresh(None)
    if token.is_fresh(now, share) and not is_from_future:
        return Use(token)
    return Refresh(token if token.remaining(now) > SPARE and not is_from_future else None)


def belongs(entry: Entry, account: Account) -> bool:
    """True if the person who signed in is the one that the account asks for."""
    if entry.signed_in_as == account.subject:
        return True
    subject = entry.tokens.subject
    return subject is not None and subject.is_named(account.subject)
