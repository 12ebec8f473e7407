"""YAML text to a tree of plain nodes, each with the place where a person would look for it.

PyYAML's own construction is not used: it turns `on`, `011` and `12:30` into other things, forgets where a value stood
and lets the second of two equal keys win in silence. Here every scalar stays the text that was written.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn

import yaml

from bridge.advice.said import Said, said

DEEPEST = 32
"""Levels of nesting; our models have 5. Bounds recursion, here and in PyYAML."""

MOST_NODES = 100_000
"""Values in a file, those that an alias repeats counted again: a few lines of aliases can stand for billions."""

Keys = tuple[str | int, ...]
"""Where in the tree: `("accounts", 1, "provider")`."""

_CORE = "tag:yaml.org,2002:"
_KNOWN_TAGS = frozenset(
    _CORE + name for name in ("str", "int", "float", "bool", "null", "timestamp", "merge", "value", "map", "seq")
)
_PLAIN_KEY = re.compile(r"[\w-]+")


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Line and column as editors count them: from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Text:
    """A scalar as it was written, before references; it may be a secret, so that it has no repr."""

    place: Place
    written: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Nothing:
    """`null`, `~`, or no value at all."""

    place: Place
    is_empty: bool


@dataclass(frozen=True, slots=True)
class Items:
    """A list."""

    place: Place
    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Section:
    """A mapping. The place of each node in it is that of its key."""

    place: Place
    entries: dict[str, Node]


@dataclass(frozen=True, slots=True)
class Broken:
    """Stands where a value has a problem that is already reported; nothing more is said of it."""

    place: Place


Node = Text | Nothing | Items | Section | Broken


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to change."""

    place: Place
    path: str
    sentence: Said
    may_pass: bool = False
    """The problem may pass by itself, such as a keyring that is locked just now."""
    is_locked: bool = False
    """The problem is such a keyring: somebody must unlock it first."""

    def told_of(self, name: str) -> Said:
        """The sentence with its place in the file of this name: `config.yaml:14:5: accounts[1].provider: …`"""
        where = f"{name}:{self.place.line}:{self.place.column}" + (f": {self.path}" if self.path else "")
        return at(where, self.sentence)


def at(where: str, sentence: Said) -> Said:
    """`where: sentence`, as compilers write it in every language."""
    return Said("{where}: {sentence}", (("where", where), ("sentence", sentence)))


def in_order(problems: Iterable[Problem]) -> list[Problem]:
    """In the order of the file."""
    return sorted(problems, key=lambda problem: (problem.place, problem.path, str(problem.sentence)))


class Unreadable(Exception):
    """The text is not YAML, or not YAML that we accept; nothing further can be checked."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem.sentence))
        self.problem = problem


def read(text: str) -> tuple[Section, list[Problem]]:
    """Parse one document.

    Returns: its root, and what is wrong with single keys and values (duplicates, odd tags).
    Raises: Unreadable.
    """
    root = _composed(text.removeprefix("\ufeff"))
    if root is None:
        _stop(
            Place(1, 1),
            said("the file is empty; it needs `providers` and `accounts` (config.example.yaml shows how)"),
        )
    reading = _Reading()
    node = reading.node(root, _place(root.start_mark), (), 0)
    if isinstance(node, Broken):
        raise Unreadable(reading.problems[0])
    if not isinstance(node, Section):
        _stop(_place(root.start_mark), said("the file must consist of keys such as `providers:` and `accounts:`"))
    return node, reading.problems


def path_of(keys: Keys) -> str:
    """`accounts[1].provider`"""
    parts: list[str] = []
    for key in keys:
        if isinstance(key, int):
            parts.append(f"[{key}]")
        elif _PLAIN_KEY.fullmatch(key):
            parts.append(f".{key}" if parts else key)
        else:
            parts.append(f"[{key!r}]")
    return "".join(parts)


def walk(node: Node, keys: Keys = ()) -> Iterator[tuple[Keys, Node]]:
    """This node and all below it, in the order of the file."""
    yield keys, node
    if isinstance(node, Section):
        for key, child in node.entries.items():
            yield from walk(child, (*keys, key))
    elif isinstance(node, Items):
        for index, child in enumerate(node.items):
            yield from walk(child, (*keys, index))


_TOO_DEEP = said("this is nested more than {levels} levels deep (or an alias contains itself)", levels=DEEPEST)
_CONTROL = said(
    "after \\ in \"…\" comes a letter that makes a control character; use '…' for Windows paths and user names"
)
_NO_BREAK = said("there is a no-break space here; type an ordinary one")
_TYPED_NO_BREAK = re.compile("[\u00a0\u202f]+")
"""What French keyboards and word processors put before a colon; YAML takes it for part of the key."""
_TAGS = said('tags (a word that begins with "!") are not supported; put a text in quotes')


class _Reading:
    """Turns PyYAML's nodes into ours, and collects the problems on the way."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self._count = 0

    def node(self, node: Any, place: Place, keys: Keys, depth: int) -> Node:
        """A node and all below it."""
        self._count += 1
        if self._count > MOST_NODES:
            _stop(
                place,
                said(
                    "the file has more than {most} values (those that aliases repeat count each time)", most=MOST_NODES
                ),
            )
        if depth > DEEPEST:
            _stop(place, _TOO_DEEP)
        if node.tag not in _KNOWN_TAGS:
            # The tag is not quoted, because it may be an unquoted secret that begins with an exclamation mark.
            self._problem(place, keys, _TAGS)
            return Broken(place)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, place, keys)
        if isinstance(node, yaml.SequenceNode):
            children = enumerate(node.value)
            return Items(
                place,
                tuple(self.node(item, _place(item.start_mark), (*keys, index), depth + 1) for index, item in children),
            )
        return Section(place, self._entries(node, keys, depth))

    def _scalar(self, node: Any, place: Place, keys: Keys) -> Node:
        text: str = node.value
        if node.style is None and node.tag == _CORE + "null":
            return Nothing(place, is_empty=text == "")
        if any((c < " " and c not in "\t\n\r") or c == "\x7f" for c in text):
            self._problem(place, keys, _CONTROL)
            return Broken(place)
        if any("\ud800" <= c <= "\udfff" for c in text):
            self._problem(place, keys, said("contains only half of a character that consists of two halves"))
            return Broken(place)
        return Text(place, text)

    def _entries(self, node: Any, keys: Keys, depth: int) -> dict[str, Node]:
        entries: dict[str, Node] = {}
        lines: dict[str, int] = {}
        merged: list[dict[str, Node]] = []
        for key_node, value_node in node.value:
            place = _place(key_node.start_mark)
            if key_node.tag == _CORE + "merge":
                merged += self._merged(value_node, place, keys, depth)
                continue
            key = self._key(key_node, place, keys)
            if key is None:
                continue
            if key in lines:
                before = said("this key was given before, in line {line}", line=lines[key])
                self._problem(place, (*keys, key), before)
                continue
            lines[key] = place.line
            entries[key] = self.node(value_node, place, (*keys, key), depth + 1)
        for section in merged:  # what is written here wins, then the first that is merged (YAML 1.1, merge key)
            for key, value in section.items():
                entries.setdefault(key, value)
        return entries

    def _key(self, node: Any, place: Place, keys: Keys) -> str | None:
        if not isinstance(node, yaml.ScalarNode) or node.tag not in _KNOWN_TAGS:
            self._problem(place, keys, said("a key must be a plain text"))
        elif found := _TYPED_NO_BREAK.search(node.value):
            column = place.column + (found.start() if node.style is None else 0)
            self._problem(Place(place.line, column), keys, _NO_BREAK)
            if found.start():  # at the beginning it stands for indentation, and the key belongs elsewhere
                return _TYPED_NO_BREAK.sub(" ", node.value).strip()  # as meant, so that it does not count as missing
        elif not node.value.strip() or not node.value.isprintable():
            self._problem(place, keys, said("a key is empty, or holds a control character"))
        elif "${" in node.value:
            self._problem(place, keys, said("a ${{…}} reference can stand in a value, not in a key"))
        else:
            return str(node.value)
        return None

    def _merged(self, node: Any, place: Place, keys: Keys, depth: int) -> list[dict[str, Node]]:
        parts = node.value if isinstance(node, yaml.SequenceNode) else [node]
        if not all(isinstance(part, yaml.MappingNode) for part in parts):
            self._problem(place, keys, said("after `<<:` must come an alias of a section, or a list of them"))
            return []
        if depth >= DEEPEST:
            _stop(place, _TOO_DEEP)
        self._count += len(parts)
        return [self._entries(part, keys, depth + 1) for part in parts]

    def _problem(self, place: Place, keys: Keys, sentence: Said) -> None:
        self.problems.append(Problem(place, path_of(keys), sentence))


class _Loader(yaml.SafeLoader):
    """Stops at a depth where PyYAML would run out of Python's stack."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """One node and those below it."""
        self._depth += 1
        if self._depth > DEEPEST + 1:
            event: Any = self.peek_event()  # type: ignore[no-untyped-call]
            _stop(_place(event.start_mark), _TOO_DEEP)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


def _composed(text: str) -> Any:
    try:
        return _Loader(text).get_single_node()
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        place = Place(before.count("\n") + 1, error.position - (before.rfind("\n") + 1) + 1)
        code = f"U+{error.character:04X}"
        problem = Problem(place, "", said("a character that YAML does not allow ({code})", code=code))
    except yaml.MarkedYAMLError as error:
        problem = _no_break_space(text, error) or _no_dash(text, error) or _in_words(error)
    except (ValueError, OverflowError, LookupError):
        # PyYAML raises these for "\UFFFFFFFF" and for a version number of five thousand digits.
        problem = Problem(
            Place(1, 1), "", said("a number or an escape sequence somewhere in this file is out of range")
        )
    raise Unreadable(problem)


_TAB = said("there is a tab here, but YAML indents with spaces")
_NO_BREAK_SPACE = re.compile(r"""[ -]*(?:["']?[\w*@.-]+["']?:)?[\u00a0\u202f]""")
_DASH = said("an entry of a list begins with a hyphen and a space: '- '")
_NO_DASH = re.compile(r" *(?:-(?=[^\s-])|[‐‑‒–—−•·](?=\s))")
"""A hyphen with no space behind it, or what a word processor makes of one."""
_QUOTE = said("a text that begins with this character must be put in quotes")

_WORDS: tuple[tuple[str, Said], ...] = (
    ("but found another document", said("the file holds a second document after `---`; only one is possible")),
    (
        "found undefined alias",
        said("a text that begins with * must be put in quotes (or: there is no anchor of this name)"),
    ),
    ("found duplicate anchor", said("this anchor was given before")),
    (
        "mapping values are not allowed",
        said("one ':' too many (put the text in quotes), wrong indentation, or no ': ' in the line above"),
    ),
    (
        "could not find expected ':'",
        said("this is neither 'key: value' nor '- item': is a ':' missing, or the space behind it?"),
    ),
    ("expected <block end>", said("this line does not fit the one above: check indentation, quotes and dashes")),
    ("sequence entries are not allowed", said("a list cannot begin here: put it on a line of its own")),
    ("mapping keys are not allowed", said("a key cannot begin here")),
    ("expected ',' or '}'", said("a ',' or the closing '}}' is missing; within {{…}}, put ${{…}} in quotes")),
    ("expected ',' or ']'", said("a ',' or the closing ']' is missing; within […], put ${{…}} in quotes")),
    (
        "found unknown escape character",
        said("after \\ in \"…\" comes a letter that means nothing; use '…' for Windows paths"),
    ),
    (
        "expected escape sequence",
        said("after \\x, \\u or \\U in \"…\" come hexadecimal digits; use '…' for Windows paths"),
    ),
    ("found undefined tag handle", _TAGS),
)
"""PyYAML's problems in plain words. Its own are never shown: some quote the text, which may be a secret."""


def _no_break_space(text: str, error: yaml.MarkedYAMLError) -> Problem | None:
    """A no-break space in place of an ordinary one that YAML needs: nobody can see the difference."""
    for number, line in _near(text, error):
        if found := _NO_BREAK_SPACE.match(line):
            return Problem(Place(number, found.end()), "", _NO_BREAK)
    return None


def _no_dash(text: str, error: yaml.MarkedYAMLError) -> Problem | None:
    """A list entry that begins with another dash, or has no space after its hyphen: YAML takes the line for a text, and
    reports the next line."""
    if not (error.problem or "").startswith("mapping values are not allowed"):
        return None
    for number, line in _near(text, error):
        if found := _NO_DASH.match(line):
            return Problem(Place(number, found.end()), "", _DASH)
    return None


def _near(text: str, error: yaml.MarkedYAMLError) -> list[tuple[int, str]]:
    """The line above the error and that of the error, each with its number."""
    mark: Any = error.problem_mark or error.context_mark
    lines = text.splitlines()[: mark.line + 1] if mark is not None else []
    return list(enumerate(lines, 1))[-2:]


def _in_words(error: yaml.MarkedYAMLError) -> Problem:
    problem, context = error.problem or "", error.context or ""
    mark: Any = error.problem_mark or error.context_mark
    if "quoted scalar" in context and "unexpected" in problem:
        return Problem(_place(error.context_mark), "", said("the quote that opens here is never closed"))
    if problem.startswith("could not find expected ':'"):
        mark = error.context_mark or mark
    if problem.startswith("expected chomping or indentation indicators"):
        return Problem(_place(error.context_mark), "", _QUOTE)
    if "cannot start any token" in problem:
        return Problem(_place(mark), "", _TAB if "'\\t'" in problem else _QUOTE)
    if "while scanning an alias" in context:
        quotes = said('put it in quotes: "*@example.com" (a bare * means an alias)')
        return Problem(_place(error.context_mark), "", quotes)
    sentence = next((words for start, words in _WORDS if problem.startswith(start)), said("this is not valid YAML"))
    return Problem(_place(mark), "", sentence)


def _place(mark: Any) -> Place:
    return Place(mark.line + 1, mark.column + 1) if mark is not None else Place(1, 1)


def _stop(place: Place, sentence: Said) -> NoReturn:
    raise Unreadable(Problem(place, "", sentence))
