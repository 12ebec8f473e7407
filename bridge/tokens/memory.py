"""What this process knows of an account's tokens: what the store held last, what it has not taken, what went wrong."""

from __future__ import annotations

from dataclasses import dataclass

from bridge.errors import ProviderUnavailable, StoreUnavailable
from bridge.oauth.base import Provider
from bridge.tokens.vault import Entry, Stored


@dataclass(frozen=True, slots=True)
class Failure:
    """A provider that gave no answer is left alone for a moment."""

    problem: ProviderUnavailable
    until: float
    """Monotonic."""
    provider: Provider | None
    """A changed configuration brings another one, and that one has not failed yet."""


@dataclass(frozen=True, slots=True)
class Unsaved:
    """An entry that the store has not taken yet."""

    entry: Entry
    version: int
    """Of the record that it replaces."""
    before: Entry | None
    """What was in that one."""
    signed_in: str = ""
    """Who has signed in; empty where it is the provider's answer to a refresh."""

    def outlives(self, stored: Stored) -> bool:
        """True if all that somebody else has stored is that the grant has ended of which ours is the successor: to
        another node, which could not know of it, a provider that rotates strictly has said so. Or if the store went
        back meanwhile. To a sign-in all counts less that is older: the store may not have told what it held."""
        theirs = stored.entry
        if self.signed_in and theirs is not None and _is_older(theirs, self.entry):
            return True
        if theirs is not None and theirs.ended and self.before and theirs.tokens.grant == self.before.tokens.grant:
            return True
        return _is_from_before(stored, self.entry, self.version)


@dataclass(slots=True)
class Memory:
    """What this process knows of an account."""

    stored: Stored | None = None
    unsaved: Unsaved | None = None
    """Saved first of all the next time, and used by nobody until then."""
    failure: Failure | None = None
    store_problem: StoreUnavailable | None = None
    """Why the last refresh could not be done or saved; unlike the provider the store is tried each time."""
    reminded_at: float | None = None
    """Monotonic; when the person was told."""
    used_at: float | None = None
    """Monotonic; when a mail program last wanted a token."""

    def learn(self, stored: Stored) -> None:
        """What the store holds now. If somebody else has written it, the trouble that we had is over for them."""
        if self.stored is not None and stored.version != self.stored.version:
            self.failure = self.store_problem = None
        self.stored = stored

    def newer_than(self, stored: Stored) -> Entry | None:
        """What the store held later than what it holds now: it was brought back from a backup, or a standby server has
        taken over that had not heard of the last commits. A sign-in or a sign-out since then counts more."""
        known = self.stored
        if known is None or known.entry is None or known.entry.ended:
            return None
        return known.entry if _is_from_before(stored, known.entry, known.version) else None

    @property
    def has_entry(self) -> bool:
        """True if there was a sign-in when the store was read last."""
        return self.stored is not None and self.stored.entry is not None

    def trouble(self, provider: Provider) -> ProviderUnavailable | StoreUnavailable | None:
        """Why the last refresh came to nothing; a failure at an earlier adapter of this provider does not count."""
        if self.failure is not None and self.failure.provider is provider:
            return self.failure.problem
        return self.store_problem

    def replace_stored(self, stored: Stored | None) -> None:
        """Somebody has signed in or out: what was known of the record before is past."""
        self.stored, self.unsaved, self.failure, self.store_problem = stored, None, None, None
        self.reminded_at = None


def _is_from_before(stored: Stored, entry: Entry, version: int) -> bool:
    """True if the store holds what was there before this entry, though it has had this version since: by its version,
    or because another node has tried what came back, and was told that it has ended."""
    if stored.entry is None:
        return False
    is_back = stored.version <= version or bool(stored.entry.ended)
    return is_back and _is_older(stored.entry, entry)


def _is_older(one: Entry, other: Entry) -> bool:
    return one.tokens.access.obtained_at < other.tokens.access.obtained_at
