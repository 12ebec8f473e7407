"""One file's tree with its references resolved: the values for the models, the places and words for the errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bridge.advice.said import Said
from bridge.config.nodes import (
    Broken,
    Items,
    Keys,
    Node,
    Nothing,
    Place,
    Problem,
    Section,
    Text,
    in_order,
    path_of,
    walk,
)
from bridge.config.references import References, Unresolved
from bridge.config.sentences import quoted


class Source:
    """What the checks know of the file; collects what they find."""

    def __init__(self, root: Section, references: References) -> None:
        self._nodes: dict[Keys, Node] = dict(walk(root))
        self._referring: set[Keys] = set()
        self._settled: set[Keys] = set()
        """Places with a problem, and all above them: a further problem there could be a mere consequence."""
        self._texts: dict[Keys, str] = {}
        self._problems: dict[Problem, None] = {}
        for keys, node in self._nodes.items():
            self._take(keys, node, references)
        self.values: dict[str, Any] = _plain(root, (), self._texts)
        """Texts, lists and dicts. Where a problem is reported already, a placeholder that keeps the rest in place."""

    def _take(self, keys: Keys, node: Node, references: References) -> None:
        if isinstance(node, Broken):
            self._settle(keys)
        if not isinstance(node, Text):
            return
        self._texts[keys] = node.written
        if "${" not in node.written:
            return
        self._referring.update(keys[:length] for length in range(len(keys) + 1))
        try:
            self._texts[keys] = references.resolve(node.written)
        except Unresolved as problem:
            self.report(keys, problem.said, may_pass=problem.may_pass, is_locked=problem.is_locked)
            self._settle(keys)

    def _settle(self, keys: Keys) -> None:
        self._settled.update(keys[:length] for length in range(len(keys) + 1))

    @property
    def places(self) -> dict[Keys, Place]:
        """The place of everything in the file."""
        return {keys: node.place for keys, node in self._nodes.items()}

    def has(self, keys: Keys) -> bool:
        """True if the file has a value here."""
        node = self._nodes.get(keys)
        return node is not None and not (isinstance(node, Nothing) and node.is_empty)

    def is_section(self, keys: Keys) -> bool:
        """True if the file has a mapping here."""
        return isinstance(self._nodes.get(keys), Section)

    def is_settled(self, keys: Keys) -> bool:
        """True if here, or below, something is reported already that comes first."""
        return keys in self._settled

    def has_references(self, keys: Keys) -> bool:
        """True if this value, or one below it, has a reference: then no error may quote it."""
        return keys in self._referring

    def written(self, keys: Keys) -> str | None:
        """The text as it stands in the file; None for what is no text."""
        node = self._nodes.get(keys)
        return node.written if isinstance(node, Text) else None

    def shown(self, keys: Keys, value: str) -> str:
        """For an error: the text in the file, or `value` where it has none (a default)."""
        written = self.written(keys)
        return quoted(value if written is None else written)

    def place(self, keys: Keys) -> Place:
        """The place of these keys, or of the nearest node above them that is in the file."""
        while keys not in self._nodes:
            keys = keys[:-1]
        return self._nodes[keys].place

    def report(self, keys: Keys, sentence: Said, *, may_pass: bool = False, is_locked: bool = False) -> None:
        """Say this of the value at `keys`, once."""
        self._problems[Problem(self.place(keys), path_of(keys), sentence, may_pass, is_locked)] = None

    @property
    def problems(self) -> list[Problem]:
        """What was reported, in the order of the file."""
        return in_order(self._problems)

    def located(self, loc: Sequence[str | int]) -> Keys:
        """pydantic's location to ours: without unions' tags, and without what a short form leaves out."""
        keys: Keys = ()
        for step in loc:
            if (*keys, step) in self._nodes:
                keys = (*keys, step)
        return keys


def _plain(node: Node, keys: Keys, texts: dict[Keys, str]) -> Any:
    if isinstance(node, Text):
        return texts[keys]
    if isinstance(node, Items):
        return [_plain(item, (*keys, index), texts) for index, item in enumerate(node.items)]
    if isinstance(node, Section):
        # A key with nothing behind it is as good as none: its settings may all be commented out.
        return {
            key: _plain(child, (*keys, key), texts)
            for key, child in node.entries.items()
            if not (isinstance(child, Nothing) and child.is_empty)
        }
    return None
