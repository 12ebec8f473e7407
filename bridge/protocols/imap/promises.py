"""Which capabilities our greeting may promise: what programs look for there, and every upstream has behind a login."""

from __future__ import annotations

from collections.abc import Iterable

LOOKED_FOR = frozenset({"CHILDREN", "ENABLE", "IDLE", "MOVE", "NAMESPACE", "UIDPLUS", "UNSELECT"})
"""What is of use behind the login alone, and Gmail or Exchange name before it. Python's imaplib, among others, does not
look again: without IDLE there its idle() says that the server has none. All others find the upstream's own list."""


def promises(upstreams: Iterable[frozenset[str] | None]) -> tuple[str, ...]:
    """Capabilities that hold for all of `upstreams`, sorted; none if one of them is not known yet (None)."""
    known = [upstream or frozenset() for upstream in upstreams]
    return tuple(sorted(LOOKED_FOR.intersection(*known))) if known else ()
