"""Fair eviction from a full table: the owner with the most entries loses their oldest, found without recounting."""

from __future__ import annotations

from collections import OrderedDict


class Shares:
    """The keys of a table by owner, oldest first. A flood costs constant time for each of its entries."""

    def __init__(self) -> None:
        self._owners: dict[str, OrderedDict[str, None]] = {}
        self._levels: dict[int, OrderedDict[str, None]] = {}
        """By number of keys, the owners with that many; the owner who added or removed last is at the end."""
        self._most = 0

    def add(self, owner: str, key: str) -> None:
        """Make this the owner's newest key, even if it is known. The same key of another owner counts separately."""
        keys = self._owners.setdefault(owner, OrderedDict())
        before = len(keys)
        keys[key] = None
        keys.move_to_end(key)
        self._move(owner, before, len(keys))

    def remove(self, owner: str, key: str) -> None:
        """The key is not in the table any more."""
        keys = self._owners[owner]
        del keys[key]
        self._move(owner, len(keys) + 1, len(keys))
        if not keys:
            del self._owners[owner]

    def next_to_go(self) -> tuple[str, str]:
        """The owner with the most keys, and the oldest of them. Among equals, the owner who has added or removed
        nothing for longest."""
        greedy = next(iter(self._levels[self._most]))
        return greedy, next(iter(self._owners[greedy]))

    def _move(self, owner: str, before: int, after: int) -> None:
        if before:
            level = self._levels[before]
            del level[owner]
            if not level:
                del self._levels[before]
        if after:
            self._levels.setdefault(after, OrderedDict())[owner] = None
        if after > self._most or self._most not in self._levels:
            self._most = after  # counts change by one: once the top level is empty, the next lower one is the top
