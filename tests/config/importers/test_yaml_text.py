"""Our loader's reader and PyYAML both read back exactly what was written."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from bridge.config.importers.yaml_text import Reference, Scalar, comment, entry, scalar
from bridge.config.nodes import Section, Text, read

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
LINES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=30)
"""Without control characters, which our loader rejects in a value wherever they come from."""

WORDS = st.sampled_from(
    [
        "off",
        "No",
        "011",
        "12:30",
        "1e3",
        "~",
        "null",
        "*@x.com",
        "a: b",
        "a #b",
        "- a",
        "$${",
        "2026-01-01",
        "a:",
        "\ufeff",
    ]
)
VALUES = st.one_of(LINES, WORDS, st.integers(1, 65535), st.booleans())
SCALARS = st.one_of(TEXTS, VALUES)


def text_of(value: Scalar) -> str:
    """The value as a configuration file has it: all scalars are texts, and a literal `${` is written `$${`."""
    return str(value).lower() if isinstance(value, bool) else str(value).replace("${", "$${")


@given(key=st.from_regex(r"[a-z0-9-]{1,20}", fullmatch=True) | st.sampled_from(["off", "011"]), value=VALUES)
def test_a_scalar_is_read_back(key: str, value: Scalar) -> None:
    root, problems = read("\n".join(entry(key, value)))
    assert not problems
    ((name, node),) = root.entries.items()
    assert name == key
    assert isinstance(node, Text)
    assert node.written == text_of(value)


@given(
    value=st.one_of(SCALARS, st.lists(TEXTS, min_size=1), st.dictionaries(st.sampled_from("abc"), SCALARS, min_size=1))
)
def test_pyyaml_reads_the_same(value: Scalar | list[str] | dict[str, Scalar]) -> None:
    read_back = yaml.safe_load("a:\n" + "\n".join(entry("b", value, 2)))["a"]["b"]
    if isinstance(value, list):
        assert read_back == [item.replace("${", "$${") for item in value]
    elif isinstance(value, dict):
        assert {key: text_of(item) for key, item in read_back.items()} == {
            key: text_of(item).replace("$${", "$$${") if isinstance(item, str) else text_of(item)
            for key, item in value.items()
        }
    else:
        assert read_back == (value.replace("${", "$${") if isinstance(value, str) else value)


@given(texts=st.lists(TEXTS), indent=st.integers(0, 8), bullet=st.booleans())
def test_a_comment_is_nothing_but_a_comment(texts: list[str], indent: int, bullet: bool) -> None:
    lines = comment(texts, indent, bullet=bullet)
    root, problems = read("\n".join([*lines, "a: b", *lines]))
    assert not problems
    assert list(root.entries) == ["a"]
    assert isinstance(root, Section)


@pytest.mark.parametrize("length", range(90, 115))
def test_no_line_of_a_comment_begins_with_a_french_colon(length: int) -> None:
    lines = comment([f"{'x' * 40} {'y' * (length - 41)}\u00a0: z"])
    assert not any(line.startswith("# :") for line in lines)
    assert "y\u00a0:" in "\n".join(lines)


def test_of_a_list_each_item_has_its_sign_and_its_lines_are_below_each_other() -> None:
    first, second, *rest = comment(["a", "b " * 100], 2, bullet=True)
    assert (first, second[:7], {line[:7] for line in rest}) == ("  # - a", "  # - b", {"  #   b"})
    assert comment(["a"], 2) == ["  # a"]


def test_a_reference_stays_one_and_a_text_does_not_become_one() -> None:
    assert scalar(Reference("${file:secrets/gmail.txt}")) == "${file:secrets/gmail.txt}"
    assert scalar("${HOME}") == '"$${HOME}"'
    assert entry("a", {"b": Reference("${X}")}) == ['a: {b: "${X}"}']
