"""Contract values and errors as JSON and back; strict on input. Shared by the API and control.remote."""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import json
import types
import typing
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any, TypeVar

from bridge import errors
from bridge.advice.diagnosis import Diagnosis
from bridge.advice.said import Said, said
from bridge.control.contract import Finding
from bridge.errors import AuthorizationFailed, AuthorizationRequired, BridgeError, ConfigError, UpstreamRefused
from bridge.notices import Notice
from bridge.secret import Secret

T = TypeVar("T")

KEEP_ALIVE = 15.0
"""Seconds between empty lines in the stream of notices, by which both sides notice a peer that is gone."""

_NOTICES: Mapping[str, type[Any]] = {kind.__name__: kind for kind in typing.get_args(Notice)}

_ERRORS: Mapping[str, type[BridgeError]] = {
    name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, BridgeError)
}

_PROOF = b"mail-bridge control\0"
"""Domain separation: keeps the answer to a nonce apart from anything else that the token may ever sign."""


class WireError(BridgeError):
    """What arrived is not what this version expects: most often the two programs are of different versions."""

    def __init__(self, what: str) -> None:
        super().__init__(
            said("the control interface was misunderstood: {what}; restart mail-bridge after an update", what=what)
        )


def dumps(value: object) -> str:
    """JSON on one line."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def dumped(value: Any) -> Iterator[str]:
    """dumps(encode(value)) of a contract value, in pieces: one for each item of its lists."""
    before = "{"
    for field in dataclasses.fields(value):
        content = getattr(value, field.name)
        yield f"{before}{dumps(field.name)}:"
        if isinstance(content, tuple):
            yield "["
            yield from (f"{',' if number else ''}{dumps(encode(item))}" for number, item in enumerate(content))
            yield "]"
        else:
            yield dumps(encode(content))
        before = ","
    yield "}"


def loads(text: str | bytes) -> dict[str, Any]:
    """A JSON object. Raises: WireError; its text repeats nothing of the input, which may hold a secret."""
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise WireError("no JSON") from None
    if not isinstance(value, dict):
        raise WireError("no JSON object")
    return value


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def encode(value: Any) -> Any:
    """Turn a contract value into what json takes. A Secret is refused, so that a sender must reveal it on purpose."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: encode(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Enum):
        return encode(value.value)
    if isinstance(value, tuple):
        return [encode(item) for item in value]
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise TypeError(f"{type(value).__name__} has no form on the wire")


def decode(kind: type[T], data: object) -> T:
    """Turn the result of encode() back into a `kind`: exactly its fields, each of exactly its type.

    Raises: WireError naming the place.
    """
    return typing.cast(T, _decode(kind, data, kind.__name__))


def _decode(kind: Any, data: object, place: str) -> Any:
    if dataclasses.is_dataclass(kind):
        return _decode_fields(kind, data, place)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple and isinstance(data, list):
        kinds = arguments if arguments[-1] is not Ellipsis else arguments[:1] * len(data)
        if len(kinds) != len(data):
            raise WireError(f"{place} is of another length")
        pairs = enumerate(zip(kinds, data, strict=True))
        return tuple(_decode(item_kind, item, f"{place}[{index}]") for index, (item_kind, item) in pairs)
    if origin is types.UnionType:  # `float | None`, `str | Said`: the contract has no other kind of union
        if arguments[1] is types.NoneType:
            return None if data is None else _decode(arguments[0], data, place)
        return _decode(arguments[0] if isinstance(data, str) else arguments[1], data, place)
    if isinstance(kind, type) and issubclass(kind, Enum):
        try:
            return kind(data)
        except ValueError:
            raise WireError(f"{place} has an unknown value") from None
    if kind is float and type(data) is int and abs(data) < 2**53:
        return float(data)
    if isinstance(kind, type) and type(data) is kind:  # not isinstance: True is an int
        return data
    raise WireError(f"{place} is of another type")


def _decode_fields(kind: Any, data: object, place: str) -> Any:
    hints = typing.get_type_hints(kind)
    if not isinstance(data, dict):
        raise WireError(f"{place} is no object")
    names = {field.name for field in dataclasses.fields(kind)}
    if names != data.keys():
        raise WireError(f"{place} has other fields: {', '.join(sorted(map(str, names ^ data.keys())))[:200]}")
    values = {name: _decode(hints[name], data[name], f"{place}.{name}") for name in names}
    try:
        return kind(**values)
    except ValueError as problem:  # a Diagnosis without a row, a Said without its arguments; it quotes no input
        raise WireError(f"{place} has {problem}") from None


def decode_findings(data: Mapping[str, Any]) -> tuple[Finding, ...]:
    """The inverse of encode_findings(). Raises: WireError, also for arguments that do not fit their sentence."""
    findings: tuple[Finding, ...] = _decode(tuple[Finding, ...], data.get("findings"), "findings")
    for finding in findings:
        try:
            finding.told()
        except (KeyError, ValueError, IndexError, AttributeError):
            raise WireError("a finding whose sentence does not fit its arguments") from None
    return findings


def encode_findings(findings: tuple[Finding, ...]) -> dict[str, Any]:
    """As an object: an answer is never a bare list."""
    return {"findings": encode(findings)}


def decode_notice(line: str | bytes) -> Notice:
    """One line of the stream. Raises: WireError."""
    data = loads(line)
    kind = _NOTICES.get(str(data.pop("notice", "")))
    if kind is None:
        raise WireError("a notice of an unknown kind")
    notice: Notice = decode(kind, data)
    return notice


def encode_notice(notice: Notice) -> str:
    """One line of the stream, with its end."""
    return dumps({"notice": type(notice).__name__, **encode(notice)}) + "\n"


def take_text(data: Mapping[str, Any], name: str) -> str:
    """A field that must be there and be a text. Raises: WireError."""
    value = data.get(name)
    if not isinstance(value, str):
        raise WireError(f"{name} is missing or no text")
    return value


def take_switch(data: Mapping[str, Any], name: str) -> bool:
    """A field that is true or false; false if it is not there. Raises: WireError."""
    value = data.get(name, False)
    if not isinstance(value, bool):
        raise WireError(f"{name} is neither true nor false")
    return value


def take_texts(data: Mapping[str, Any], name: str) -> dict[str, str]:
    """A field that must be an object of texts. Raises: WireError."""
    value = data.get(name)
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise WireError(f"{name} is missing or no object of texts")
    return value


def encode_error(problem: BridgeError | ValueError) -> dict[str, Any]:
    """Class name, text and fields. A class that the other side cannot know goes as its nearest known base."""
    name = next((kind.__name__ for kind in type(problem).__mro__ if kind.__name__ in _ERRORS), "ValueError")
    fields: dict[str, Any] = {}
    match problem:
        case AuthorizationRequired():
            fields = {"address": problem.address, "url": problem.url, "reason": problem.reason}
        case AuthorizationFailed():
            fields = {"code": problem.code}
        case UpstreamRefused():
            fields = {"text": problem.text}
        case ConfigError():
            fields = {"sentences": encode(problem.sentences)}
    diagnosis = encode(problem.diagnosis) if isinstance(problem, BridgeError) else None
    sentence = encode(problem.said) if isinstance(problem, BridgeError) else None
    return {"error": name, "text": str(problem), "said": sentence, "fields": fields, "diagnosis": diagnosis}


def decode_error(data: Mapping[str, Any]) -> BridgeError | ValueError:
    """The exception that encode_error() was given, or a WireError that says why not."""
    try:
        return _decode_error(data)
    except WireError as error:
        return error


def _decode_error(data: Mapping[str, Any]) -> BridgeError | ValueError:
    name, text, fields = take_text(data, "error"), take_text(data, "text"), data.get("fields")
    if not isinstance(fields, dict) or "diagnosis" not in data or "said" not in data:
        raise WireError("an error without fields")
    diagnosis: Diagnosis | None = _decode(Diagnosis | None, data["diagnosis"], "diagnosis")
    told: Said | None = _decode(Said | None, data["said"], "said")
    if name == "ValueError":
        return ValueError(text)
    kind = _ERRORS.get(name)
    if kind is None:
        raise WireError("an error of an unknown class")
    if issubclass(kind, AuthorizationRequired):
        return kind(
            take_text(fields, "address"), take_text(fields, "url"), take_text(fields, "reason"), diagnosis=diagnosis
        )
    if issubclass(kind, AuthorizationFailed):
        return kind(told or text, code=take_text(fields, "code"), diagnosis=diagnosis)
    if issubclass(kind, UpstreamRefused):
        return kind(told or text, text=take_text(fields, "text"), diagnosis=diagnosis)
    if issubclass(kind, ConfigError):
        return kind(_decode(tuple[Said, ...], fields.get("sentences"), "sentences"))
    return kind(told or text, diagnosis=diagnosis)


def proof(token: Secret[str], nonce: str) -> str:
    """The answer to a nonce that only a holder of the token can give; a caller asks for it before sending the token."""
    return hmac.new(token.reveal().encode(), _PROOF + nonce.encode(), hashlib.sha256).hexdigest()
