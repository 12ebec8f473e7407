"""pydantic's errors to plain English: what is wrong, and what would be right."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Any

from pydantic_core import ErrorDetails

from bridge.config.schema import Config
from bridge.config.values import BadValue

LONGEST_SHOWN = 80
"""Characters of a value in an error."""


def sentence(error: ErrorDetails, written: str | None, *, has_references: bool) -> str:
    """One sentence.

    Args: written, the value as it stands in the file, with references not resolved, None where it is no text;
        has_references, True if the value or one below it has any: then nothing of the resolved value may be quoted.
    """
    kind, context = error["type"], error.get("ctx", {})
    shown = quoted(written) if written is not None else ""
    if kind == "value_error":
        problem = context["error"]
        return problem.general if has_references and isinstance(problem, BadValue) else str(problem)
    if kind in {"literal_error", "enum", "union_tag_invalid"}:
        choices = _choices(error)
        guess = did_you_mean(written or "", choices) if not has_references else ""
        return f"must be {_either(choices)}" + (f", not {shown}" if shown else "") + guess
    if kind.startswith(("int_", "bool_")):
        what = "a whole number" if kind.startswith("int_") else "true or false"
        return f"must be {what}" + (f", not {shown}" if shown else "")
    return _PLAIN.get(kind, "this value cannot be used here").format(**context)


_PLAIN = {
    "missing": "is missing",
    "union_tag_not_found": "kind is missing: google, microsoft or oauth2",
    "string_type": "must be a text",
    "string_too_short": "must not be empty",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "tuple_type": "must be a list: each entry on a line of its own after a dash, or [one, two]",
    "dict_type": "must be a section: each key on a line of its own, indented",
    "model_type": "must be a section: each key on a line of its own, indented",
    "model_attributes_type": "must be a section: each key on a line of its own, indented",
    "too_short": "must not be empty",
}


def unknown_key(loc: Sequence[str | int]) -> tuple[str, str | None]:
    """For a key that the model at `loc[:-1]` does not have: the sentence, and the key that is meant by it."""
    known = known_keys(loc[:-1])
    meant = _closest(str(loc[-1]), known)
    if meant is None:
        return f"unknown key; possible here: {', '.join(known)}", None
    return f"unknown key (did you mean {quoted(meant)}?)", meant


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """` (did you mean 'office365'?)`, or nothing."""
    meant = _closest(word, known)
    return f" (did you mean {quoted(meant)}?)" if meant is not None else ""


def _closest(word: str, known: Iterable[str]) -> str | None:
    by_shape = {_shape(name): name for name in known}
    found = difflib.get_close_matches(_shape(word), by_shape, n=1, cutoff=0.6)
    return by_shape[found[0]] if found else None


def quoted(text: str) -> str:
    """In quotes, on one line, and not longer than a person reads."""
    return repr(text if len(text) <= LONGEST_SHOWN else text[:LONGEST_SHOWN] + "…")


def known_keys(loc: Sequence[str | int]) -> list[str]:
    """The keys that are possible at this location of pydantic's, unions' tags included."""
    parts = [_schema()]
    for step in loc:
        parts = list(_below(parts, step))
    return list(dict.fromkeys(key for part in _flat(parts) for key in part.get("properties", {})))


def _below(parts: list[dict[str, Any]], step: str | int) -> Iterator[dict[str, Any]]:
    flat = list(_flat(parts))
    tagged = [part for part in flat if part.get("properties", {}).get("kind", {}).get("const") == step]
    if tagged:
        yield from tagged
        return
    for part in flat:
        if isinstance(step, int):
            yield part.get("items", {})
        elif step in part.get("properties", {}):
            yield part["properties"][step]
        elif isinstance(part.get("additionalProperties"), dict):
            yield part["additionalProperties"]


def _flat(parts: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """References followed, alternatives side by side."""
    for part in parts:
        if "$ref" in part:
            yield from _flat([_schema()["$defs"][part["$ref"].rpartition("/")[2]]])
        elif "properties" not in part and (alternatives := part.get("anyOf") or part.get("oneOf")):
            yield from _flat(alternatives)
        else:
            yield part


@cache
def _schema() -> dict[str, Any]:
    return Config.model_json_schema()


def _choices(error: ErrorDetails) -> list[str]:
    """`'a', 'b' or 'c'`, as pydantic writes it."""
    context = error.get("ctx", {})
    text: str = context.get("expected") or context.get("expected_tags") or ""
    return [word.strip(" '") for word in text.replace(" or ", ", ").split(",") if word.strip()]


def _either(choices: Sequence[str]) -> str:
    return " or ".join([", ".join(choices[:-1]), choices[-1]] if len(choices) > 1 else choices)


def _shape(text: str) -> str:
    return text.casefold().replace("-", "_").replace(" ", "_")
