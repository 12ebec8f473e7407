"""Which capabilities our greeting may promise: those that programs look for and every upstream offers after login."""

from __future__ import annotations

from collections.abc import Iterable

LOOKED_FOR = frozenset({"CHILDREN", "ENABLE", "IDLE", "MOVE", "NAMESPACE", "UIDPLUS", "UNSELECT"})
"""Capabilities that are of use only after login, but that Gmail or Exchange announce before it. Python's imaplib, among
others, does not look again: without IDLE in the greeting, its idle() says that the server has none. All other clients
find the upstream's own list after login."""


def promises(upstreams: Iterable[frozenset[str] | None]) -> tuple[str, ...]:
    """Capabilities that hold for all of `upstreams`, sorted; none if one of them is not known yet (None)."""
    known = [upstream or frozenset() for upstream in upstreams]
    return tuple(sorted(LOOKED_FOR.intersection(*known))) if known else ()
