"""The states of an account's tokens (Absent, Pending, Fresh, Stale, Revoked) and the table of moves; pure functions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never, overload

from bridge.advice.diagnosis import Diagnosis
from bridge.errors import GrantRevoked, ProviderRefused, ProviderUnavailable, StoreUnavailable
from bridge.model import SESSION_SHARE, AccessToken, Account, TokenSet
from bridge.tokens.vault import Entry

CLOCK_TOLERANCE = 300.0
"""Seconds by which a token's issue time may lie in the future; beyond that, the clock was set back, and the token's
remaining life is unknown."""

FORCED_EVERY = 60.0
"""Seconds. If a token younger than this is refused, the token is not the problem and another one will not help. Without
this limit, a mailbox with IMAP switched off would cost a refresh for every attempt of its mail client."""

SPARE = 60.0
"""Seconds of life that make a stale token worth using while the provider cannot give a new one."""


# --- states: what an account's record amounts to, today ---------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Absent:
    """Nobody has signed in yet."""


@dataclass(frozen=True, slots=True)
class Revoked:
    """The stored grant gives no more tokens: the provider has ended it, or the configuration asks for something
    else."""

    reason: str
    diagnosis: Diagnosis | None
    """The reason, to be told in any language; None if a provider's adapter had words of its own."""

    @classmethod
    def because(cls, key: str, **arguments: str) -> Revoked:
        """With the reason from a row of the table of advice."""
        diagnosis = Diagnosis.of(key, **arguments)
        return cls(diagnosis.told(), diagnosis)


@dataclass(frozen=True, slots=True)
class Fresh:
    """The access token has enough life left for a session."""

    token: AccessToken
    is_new: bool
    """So young that, if it is refused, another one would be refused as well."""


@dataclass(frozen=True, slots=True)
class Stale:
    """A new access token is due, and the provider gives it without a person."""

    token: AccessToken | None
    """The old token if it is still alive: to be used while the provider cannot be reached."""


@dataclass(frozen=True, slots=True)
class Pending:
    """The provider has been asked."""

    version: int
    """Version of the record that the answer replaces. If another one is stored by then, the answer is late."""
    fallback: AccessToken | None
    """As Stale.token."""
    is_attended: bool = True
    """False if the program gets tokens itself, so that there is no person to ask for a sign-in."""


Settled = Absent | Revoked | Fresh | Stale
State = Settled | Pending


# --- events -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Wanted:
    """A mail program, or the background renewal, wants a token."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The upstream has just rejected this token; another one is wanted."""

    token: AccessToken


@dataclass(frozen=True, slots=True)
class Answered:
    """The provider has given new tokens."""

    tokens: TokenSet


@dataclass(frozen=True, slots=True)
class Away:
    """There is no answer now: the network, the provider, our registration or the store is in trouble."""

    problem: ProviderUnavailable | StoreUnavailable


@dataclass(frozen=True, slots=True)
class Ended:
    """The provider will not renew the grant: invalid_grant and its kin."""

    problem: GrantRevoked


Request = Wanted | Refused
Answer = Answered | Away | Ended
Event = Request | Answer


# --- moves: what to do ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Use:
    """Hand out this token."""

    token: AccessToken


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask the provider: the account becomes Pending."""

    fallback: AccessToken | None


@dataclass(frozen=True, slots=True)
class SignIn:
    """Only a person can help."""

    reason: str
    diagnosis: Diagnosis | None
    """As Revoked.diagnosis."""


@dataclass(frozen=True, slots=True)
class Join:
    """Wait for the answer to the refresh under way."""


@dataclass(frozen=True, slots=True)
class Save:
    """Store the tokens in place of this version, and only then hand them out."""

    tokens: TokenSet
    version: int


@dataclass(frozen=True, slots=True)
class End:
    """Replace this version by a record that says that the grant has ended; the grant stays in it."""

    problem: GrantRevoked
    version: int


@dataclass(frozen=True, slots=True)
class Later:
    """Tell the caller that it may work later; the stored record stays as it is."""

    problem: ProviderUnavailable | StoreUnavailable


@dataclass(frozen=True, slots=True)
class Drop:
    """Drop the answer, which came too late: somebody has signed in or out meanwhile, and that counts more."""


Move = Use | Ask | SignIn | Join | Save | End | Later | Drop


def state_of(
    entry: Entry | None,
    account: Account,
    fingerprint: str,
    now: float,
    *,
    share: float = SESSION_SHARE,
    is_attended: bool = True,
) -> Settled:
    """The state that a stored record amounts to.

    Args: entry, what the vault holds; fingerprint, the provider's current one; now, seconds since the epoch; share, how
    much of a token's life must be left; is_attended, False if the program gets tokens itself: a missing or unsuitable
    record is then only a reason to ask for a new token.
    """
    obstacle = _obstacle(entry, account, fingerprint)
    if entry is None or obstacle is not None:
        return (obstacle or Absent()) if is_attended else Stale(None)
    token = entry.tokens.access
    if token.obtained_at > now + CLOCK_TOLERANCE:
        return Stale(None)
    if token.is_fresh(now, share):
        return Fresh(token, is_new=now - token.obtained_at < FORCED_EVERY)
    return Stale(token if token.remaining(now) > SPARE else None)


@overload
def next_move(state: Absent | Revoked, event: Request) -> SignIn: ...
@overload
def next_move(state: Settled, event: Request) -> Use | Ask | SignIn: ...
@overload
def next_move(state: Settled, event: Answer) -> Drop: ...
@overload
def next_move(state: Pending, event: Request) -> Join: ...
@overload
def next_move(state: Pending, event: Away) -> Use | Later: ...
@overload
def next_move(state: Pending, event: Answered | Ended) -> Save | End | Later: ...
@overload
def next_move(state: State, event: Answered | Ended) -> Save | End | Later | Drop: ...
def next_move(state: State, event: Event) -> Move:
    """The table of moves; docs/architecture.md, "One token", shows it."""
    match event:
        case Wanted() | Refused():
            return _on_request(state, event.token if isinstance(event, Refused) else None)
        case Answered() | Away() | Ended():
            return _on_answer(state, event) if isinstance(state, Pending) else Drop()
        case _:
            assert_never(event)


def _on_request(state: State, refused: AccessToken | None) -> Use | Ask | SignIn | Join:
    match state:
        case Absent():
            first = Diagnosis.of("sign_in.first")
            return SignIn(first.told(), first)
        case Revoked(reason, diagnosis):
            return SignIn(reason, diagnosis)
        case Fresh(token, is_new):
            return Use(token) if is_new or not _is_same(token, refused) else Ask(None)
        case Stale(token):
            return Ask(None if _is_same(token, refused) else token)
        case Pending():
            return Join()
        case _:
            assert_never(state)


def _on_answer(pending: Pending, answer: Answer) -> Save | End | Use | Later:
    match answer:
        case Answered(tokens):
            return Save(tokens, pending.version)
        case Away(problem):
            return Later(problem) if pending.fallback is None else Use(pending.fallback)
        case Ended(problem) if pending.is_attended:
            return End(problem, pending.version)
        case Ended(problem):  # a program that gets tokens itself has lost its rights: an admin must act
            return Later(ProviderRefused(str(problem), diagnosis=problem.diagnosis))
        case _:
            assert_never(answer)


def _obstacle(entry: Entry | None, account: Account, fingerprint: str) -> Absent | Revoked | None:
    if entry is None:
        return Absent()
    if entry.ended:
        return Revoked(entry.ended, entry.diagnosis)
    if entry.fingerprint != fingerprint:  # the fingerprint counts, not the provider's name
        return Revoked.because("sign_in.settings_changed")
    if not belongs(entry, account):
        return Revoked.because("sign_in.other_person", person=account.subject)
    return None


def _is_same(token: AccessToken | None, refused: AccessToken | None) -> bool:
    return token is not None and refused is not None and token.value == refused.value


def belongs(entry: Entry, account: Account) -> bool:
    """True if the person who signed in is the one that the account asks for."""
    if entry.signed_in_as == account.subject:
        return True
    subject = entry.tokens.subject
    return subject is not None and subject.is_named(account.subject)
