"""Who has how much in a table that is full: whoever has the most loses the oldest, found without counting anew."""

from __future__ import annotations

from collections import OrderedDict


class Shares:
    """The keys of a table, in turn of age, by who has caused them. One flood costs one look at each of its entries."""

    def __init__(self) -> None:
        self._owners: dict[str, OrderedDict[str, None]] = {}
        self._levels: dict[int, OrderedDict[str, None]] = {}
        """By number of keys: the owners who have so many, whoever has added something last at the end."""
        self._most = 0

    def add(self, owner: str, key: str) -> None:
        """The owner's newest, also if it is known. The same key of somebody else is another one."""
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
        """Who has the most, and the oldest of these. Of several who have as many, who has added nothing for longest."""
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
            self._most = after  # counts change by one: where the last leaves the top level, the next lower is the top
