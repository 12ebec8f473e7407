"""The encoding between the bridge and its workers: values to JSON and back, secrets included.

Only for the Unix socket between two processes of ours, never for the network or the disk: control.wire, for all other
uses, refuses secrets. Not pickle: a mail client or server may have taken over a worker, and must get no further.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, TypeVar

from bridge.errors import BridgeError
from bridge.model import Endpoint, Protocol, TlsMode
from bridge.secret import Secret

T = TypeVar("T")

Convert = Callable[[Any], Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Port:
    """How the mail clients of one local port are to be served."""

    number: int
    """Our own number for it, not the TCP port; a changed port gets a new one."""
    protocol: Protocol
    tls: TlsMode | None
    certificate: str
    key: str
    """Certificate and key are file names, empty without TLS."""


@dataclasses.dataclass(frozen=True, slots=True)
class WorkerSettings:
    """What all workers have to know of the configuration."""

    log_level: str
    log_format: str
    log_file: str
    """Empty for standard error."""
    endpoints: Mapping[Protocol, tuple[Endpoint, ...]]
    """Every mail server of the configuration: mail programs are offered what all servers of a protocol honour."""


class Misunderstood(BridgeError):
    """The other process sends something unknown: it is of another version, because its files were replaced while we
    ran."""


def pack(value: Any) -> Any:
    """Convert a value of the model to what json can encode."""
    return _packer(typing.cast(Any, type(value)))(value)


def unpack(kind: type[T], data: Any) -> T:
    """Convert what pack() made of a `kind` back. Raises: Misunderstood; its text quotes nothing of the input."""
    try:
        return typing.cast(T, _unpacker(typing.cast(Any, kind))(data))
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        raise Misunderstood(f"no {kind.__name__}: {type(problem).__name__}") from None


@functools.cache
def _packer(kind: Any) -> Convert:
    if dataclasses.is_dataclass(kind):
        names = [field.name for field in dataclasses.fields(kind)]
        return lambda value: [pack(getattr(value, name)) for name in names]
    if issubclass(kind, Secret):
        return lambda value: _plain(value.reveal())
    if issubclass(kind, Enum):
        return lambda value: value.value
    if issubclass(kind, tuple | frozenset):
        return lambda value: [pack(item) for item in value]
    if issubclass(kind, dict):
        return lambda value: [[pack(key), pack(item)] for key, item in value.items()]
    if issubclass(kind, str | int | float | types.NoneType):
        return lambda value: value
    raise TypeError(f"{kind.__name__} has no form between workers")


def _plain(content: str | bytes) -> str:
    return content.decode("latin-1") if isinstance(content, bytes) else content


@functools.cache
def _unpacker(kind: Any) -> Convert:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is types.UnionType:  # `X | None`: the model has no other kind of union
        inner = _unpacker(arguments[0])
        return lambda data: None if data is None else inner(data)
    if origin is Secret:
        inner = _unpacker(arguments[0])
        return lambda data: Secret(inner(data))
    if origin in (tuple, frozenset):  # of any length: the model has no other tuple
        inner = _unpacker(arguments[0])
        return lambda data: origin(map(inner, data))
    if origin is not None and issubclass(origin, Mapping):
        key, item = map(_unpacker, arguments)
        return lambda data: {key(one): item(other) for one, other in data}
    if dataclasses.is_dataclass(kind):
        return _fields(kind)
    if issubclass(kind, Enum):
        return typing.cast(Convert, kind)
    if kind is bytes:
        return lambda data: data.encode("latin-1")
    return lambda data: _exactly(kind, data)


def _fields(kind: Any) -> Convert:
    hints = typing.get_type_hints(kind)
    fields = [_unpacker(hints[field.name]) for field in dataclasses.fields(kind)]
    return lambda data: kind(*(field(one) for field, one in zip(fields, data, strict=True)))


def _exactly(kind: type[Any], data: Any) -> Any:
    if type(data) is kind or (kind is float and type(data) is int):
        return data
    raise TypeError("of another type")
