"""What this process knows of an account's tokens: the last stored record, what is not saved yet, what went wrong."""

from __future__ import annotations

from dataclasses import dataclass

from bridge.errors import ProviderUnavailable, StoreUnavailable
from bridge.oauth.base import Provider
from bridge.tokens.vault import Entry, Stored


@dataclass(frozen=True, slots=True)
class Failure:
    """A provider's failure, and how long the provider is left alone after it."""

    problem: ProviderUnavailable
    until: float
    """Monotonic."""
    provider: Provider | None
    """The adapter that failed; a changed configuration brings a new adapter, which has not failed yet."""


@dataclass(frozen=True, slots=True)
class Unsaved:
    """An entry that the store has not taken yet."""

    entry: Entry
    version: int
    """Version of the record that it replaces."""
    before: Entry | None
    """The entry in that record."""
    signed_in: str = ""
    """Who has signed in; empty if the entry is the provider's answer to a refresh."""

    def outlives(self, stored: Stored) -> bool:
        """True if this entry counts more than the one that another process has stored meanwhile.

        A sign-in counts more than anything older, since the store may have been unable to say what it held. An answer
        to a refresh counts more if the other process noted only that its predecessor has ended: a provider that rotates
        strictly says so to a node that does not know the successor. Either counts more if the store went back in time.
        """
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
    """Saved before anything else at the next request; not used until then."""
    failure: Failure | None = None
    store_problem: StoreUnavailable | None = None
    """Why the last refresh could not be done or saved; unlike the provider, the store is tried again each time."""
    reminded_at: float | None = None
    """Monotonic; when the person was last told to sign in."""
    used_at: float | None = None
    """Monotonic; when a mail program last wanted a token."""

    def learn(self, stored: Stored) -> None:
        """Note what the store holds now. If another process has written it, the trouble that we had is over."""
        if self.stored is not None and stored.version != self.stored.version:
            self.failure = self.store_problem = None
        self.stored = stored

    def newer_than(self, stored: Stored) -> Entry | None:
        """The entry that the store held before, if it is newer than what the store holds now: the store was restored
        from a backup, or a standby server without the last commits has taken over. A sign-in or a sign-out since then
        counts more."""
        known = self.stored
        if known is None or known.entry is None or known.entry.ended:
            return None
        return known.entry if _is_from_before(stored, known.entry, known.version) else None

    @property
    def has_entry(self) -> bool:
        """True if the store held a sign-in when it was last read."""
        return self.stored is not None and self.stored.entry is not None

    def trouble(self, provider: Provider) -> ProviderUnavailable | StoreUnavailable | None:
        """Why the last refresh came to nothing; a failure at an earlier adapter of this provider does not count."""
        if self.failure is not None and self.failure.provider is provider:
            return self.failure.problem
        return self.store_problem

    def replace_stored(self, stored: Stored | None) -> None:
        """Somebody has signed in or out: forget what was known of the record before."""
        self.stored, self.unsaved, self.failure, self.store_problem = stored, None, None, None
        self.reminded_at = None


def _is_from_before(stored: Stored, entry: Entry, version: int) -> bool:
    """True if the store has gone back to a state from before this entry. Either its version shows that, or another node
    has tried the old grant that came back, and noted that it has ended."""
    if stored.entry is None:
        return False
    is_back = stored.version <= version or bool(stored.entry.ended)
    return is_back and _is_older(stored.entry, entry)


def _is_older(one: Entry, other: Entry) -> bool:
    return one.tokens.access.obtained_at < other.tokens.access.obtained_at
