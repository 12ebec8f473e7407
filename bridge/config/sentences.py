"""pydantic's errors to plain English: what is wrong, and what would be right."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Any

from pydantic_core import ErrorDetails

from bridge.advice.said import Said, said
from bridge.config.provider import EndpointOverride
from bridge.config.schema import Config
from bridge.config.values import BadValue, either, is_host

LONGEST_SHOWN = 80
"""Characters of a value in an error."""


def sentence(error: ErrorDetails, written: str | None, *, has_references: bool) -> Said:
    """One sentence.

    Args: written, the value as it stands in the file, with references not resolved, None where it is no text;
        has_references, True if the value or one below it has any: then nothing of the resolved value may be quoted.
    """
    kind, context = error["type"], error.get("ctx", {})
    shown = quoted(written) if written is not None else ""
    if kind == "value_error":
        problem = context["error"]
        if not isinstance(problem, BadValue):
            return _UNUSABLE  # not a library's own text, which might quote the value
        return problem.general if has_references else problem.quoting
    if kind in {"literal_error", "enum", "union_tag_invalid"}:
        choices = _choices(error)
        guess = closest(written or "", choices) if not has_references else None
        return _not_a_choice(either(choices), shown, guess)
    if kind.startswith("int_"):
        return said("must be a whole number, not {written}", written=shown) if shown else said("must be a whole number")
    if kind.startswith("bool_"):
        return said("must be true or false, not {written}", written=shown) if shown else said("must be true or false")
    if kind == "greater_than_equal":
        return said("must be at least {least}", least=context["ge"])
    if kind == "less_than_equal":
        return said("must be at most {most}", most=context["le"])
    if context.get("class_name") == EndpointOverride.__name__ and written and "." in written and is_host(written):
        return said("must be a section, such as `{{host: {host}}}`", host=written)
    return _PLAIN.get(kind, _UNUSABLE)


_UNUSABLE = said("this value cannot be used here")
_SECTION = said("must be a section: each key on a line of its own, indented")

_PLAIN = {
    "missing": said("is missing"),
    "union_tag_not_found": said("kind is missing: google, microsoft or oauth2"),
    "string_type": said("must be a text"),
    "string_too_short": said("must not be empty"),
    "tuple_type": said("must be a list: each entry on a line of its own after a dash and a space, or [one, two]"),
    "dict_type": _SECTION,
    "model_type": _SECTION,
    "model_attributes_type": _SECTION,
    "too_short": said("must not be empty"),
}


def _not_a_choice(choices: Said, shown: str, guess: str | None) -> Said:
    if not shown:
        return said("must be {choices}", choices=choices)
    if guess is None:
        return said("must be {choices}, not {written}", choices=choices, written=shown)
    return said(
        "must be {choices}, not {written} (did you mean {guess}?)",
        choices=choices,
        written=shown,
        guess=quoted(guess),
    )


def unknown_key(loc: Sequence[str | int]) -> tuple[Said, str | None]:
    """For a key that the model at `loc[:-1]` does not have: the sentence, and the key that is meant by it."""
    known = known_keys(loc[:-1])
    meant = closest(str(loc[-1]), known)
    if meant is None:
        return said("unknown key; possible here: {keys}", keys=", ".join(known)), None
    return said("unknown key (did you mean {guess}?)", guess=quoted(meant)), meant


def unknown_provider(shown: str, guess: str | None) -> Said:
    """For an account's `provider` that does not exist. Args: guess, the name that may be meant."""
    if guess is None:
        return said("no provider named {name}", name=shown)
    return said("no provider named {name} (did you mean {guess}?)", name=shown, guess=quoted(guess))


def closest(word: str, known: Iterable[str]) -> str | None:
    """What is most like the word; None if nothing is."""
    import difflib  # late: only a misspelt name needs it

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


def _shape(text: str) -> str:
    return text.casefold().replace("-", "_").replace(" ", "_")
