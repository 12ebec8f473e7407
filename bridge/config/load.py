"""YAML to Config; every error with file:line:column; environment, file and keyring references.

All errors of a file are reported at once. It is checked in this order: syntax (an error there ends it), references, the
models, then rules about two parts. No error quotes what a reference resolved to.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from bridge.advice.said import Said, said
from bridge.advice.system import system_reason
from bridge.config import checks, sentences
from bridge.config.console import console_url
from bridge.config.exposure import MODES, Readers, changed_by_everybody, exposed_secrets
from bridge.config.lint import doubtful
from bridge.config.nodes import Keys, Place, Problem, Unreadable, at, in_order, read
from bridge.config.references import ReadKeyring, References
from bridge.config.schema import Config
from bridge.config.source import Source
from bridge.errors import ConfigError
from bridge.shortage import may_pass

LARGEST = 1024 * 1024
"""Bytes of a file: some twenty thousand accounts, which take about four seconds; nothing we read takes over ten."""

_REFERENCE = {"type": "string", "pattern": r"\$\{.+\}"}


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """A valid configuration."""

    config: Config
    path: Path | None
    """None for a text that is in no file."""
    name: str
    """The file as errors show it, by the path by which it was named or found."""
    warnings: tuple[Said, ...] = ()
    """What works and should be changed all the same; each with its place."""


def load_config(
    path: Path,
    *,
    environ: Mapping[str, str] = os.environ,
    read_keyring: ReadKeyring | None = None,
    refuse: Callable[[int], None] = lambda handle: None,
    readers: Readers = MODES,
) -> LoadedConfig:
    """Read and check a file. May wait for the keyring. Raises: ConfigError with all problems.

    Args: refuse, called with the open file before it is read; raises a ConfigError if it must not be read.
        readers, asked whether everybody can read a secret.
    """
    try:
        with path.open("rb") as file:
            refuse(file.fileno())
            content = file.read(LARGEST + 1)
    except FileNotFoundError:
        raise ConfigError([at(str(path), said("there is no such file"))]) from None
    except OSError as error:
        if os.path.isdir(path):  # which Windows calls "permission denied"
            raise ConfigError([at(str(path), said("this is a directory, not a file"))]) from None
        problem = said("this file cannot be read: {reason}", reason=system_reason(error))
        raise ConfigError([at(str(path), problem)], may_pass=may_pass(error)) from error
    text = _decoded(content, str(path))
    return _loaded(text, str(path), path, path.absolute().parent, environ, read_keyring, readers)


def parse_config(
    text: str,
    *,
    name: str = "config.yaml",
    directory: Path,
    environ: Mapping[str, str] = os.environ,
    read_keyring: ReadKeyring | None = None,
) -> LoadedConfig:
    """Check a text as if it were the file `name` in `directory`. Raises: ConfigError with all problems."""
    if len(text.encode("utf-8", "surrogatepass")) > LARGEST:
        raise ConfigError([at(name, _TOO_LARGE)])
    return _loaded(text, name, None, directory.absolute(), environ, read_keyring, MODES)


_TOO_LARGE = said("the file is larger than 1 MiB; it is hardly a configuration")


def _decoded(content: bytes, name: str) -> str:
    if len(content) > LARGEST:
        raise ConfigError([at(name, _TOO_LARGE)])
    if content.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in content[:2]:  # NUL: UTF-16 without a mark
        raise ConfigError([Problem(Place(1, 1), "", said("the file is UTF-16; save it as UTF-8")).told_of(name)])
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        before = content[: error.start].decode("utf-8")
    place = Place(before.count("\n") + 1, len(before) - before.rfind("\n"))
    odd = Problem(place, "", said("there is a byte here that is not UTF-8; save the file as UTF-8"))
    raise ConfigError([odd.told_of(name)])


def _loaded(
    text: str,
    name: str,
    path: Path | None,
    directory: Path,
    environ: Mapping[str, str],
    read_keyring: ReadKeyring | None,
    readers: Readers,
) -> LoadedConfig:
    try:
        root, found = read(text)
    except Unreadable as error:
        unreadable = error.problem
    else:
        source = Source(root, References(directory, environ, read_keyring))
        config = _checked(source, {"directory": directory})
        problems = in_order([*found, *source.problems])
        if config is not None and not problems:
            odd = in_order([*exposed_secrets(source, path, directory, readers), *doubtful(source, config)])
            changed = [] if path is None else [at(name, told) for told in changed_by_everybody(path, readers)]
            return LoadedConfig(config, path, name, (*changed, *(problem.told_of(name) for problem in odd)))
        passes = all(problem.may_pass for problem in problems)
        is_locked = any(problem.is_locked for problem in problems)
        raise ConfigError((problem.told_of(name) for problem in problems), may_pass=passes, is_locked=is_locked)
    raise ConfigError([unreadable.told_of(name)])


def _checked(source: Source, context: Mapping[str, Any]) -> Config | None:
    """The Config, or None; problems are reported to `source`."""
    config = None
    try:
        config = Config.model_validate(source.values, context=dict(context))
    except ValidationError as error:
        details = error.errors(include_url=False)
        _report(source, details)
        _report(source, _beyond(source.values, details, context))
    # Outside the handler: the ValidationError, which keeps the values, must never become an exception's context.
    checks.check(source, checks.Parts.of(source.values, context))
    return config and _with_default_redirects(config)


_STAND_INS: Mapping[str, Mapping[str, object]] = {
    "google": {"client_id": "x", "client_secret": "x"},
    "microsoft": {"client_id": "x", "client_secret": "x", "tenant": "example.com"},
    "oauth2": {"client_id": "x", "client_secret": "x", "token_url": "https://example.com/", "scopes": ["x"]},
}
"""By kind: valid values for the keys that rules about several keys look at; those rules only ask if a key is there."""

_APART = frozenset({"imap", "pop3", "smtp", "ca_file", "proxy", "redirect_uri", "client_secret_expires"})
"""Keys of any provider that no such rule is about."""


def _beyond(
    values: Mapping[str, Any], details: Sequence[ErrorDetails], context: Mapping[str, Any]
) -> list[ErrorDetails]:
    """What is wrong with providers besides single values.

    pydantic runs no rule about several keys (what is missing, what does not go together) as long as one value is bad or
    a key is misspelt: whoever had corrected that would meet the next error. So the rules are run with the bad values
    replaced, if they cannot tell the difference.
    """
    wrong: dict[tuple[str, str], set[str]] = {}
    for detail in details:
        match detail["loc"]:
            case ("providers", str(name), str(kind), str(key), *_):
                meant = sentences.unknown_key(detail["loc"])[1] if detail["type"] == "extra_forbidden" else None
                wrong.setdefault((name, kind), set()).update({key, meant or key})
    mended: dict[str, Any] = {}
    for (name, kind), keys in wrong.items():
        known, good = set(sentences.known_keys(("providers", name, kind))), _STAND_INS[kind]
        if keys & known <= good.keys() | _APART:
            rest = {key: value for key, value in values["providers"][name].items() if key not in keys}
            mended[name] = {**rest, **{key: good[key] for key in keys & good.keys()}}
    try:
        Config.model_validate({"providers": mended}, context=dict(context))
    except ValidationError as error:
        return [detail for detail in error.errors(include_url=False) if detail["loc"][1:]]
    return []


def _report(source: Source, details: Sequence[ErrorDetails]) -> None:
    meant: set[Keys] = set()
    """Keys that are there, misspelt: they are not missing as well."""
    for detail in details:
        if detail["type"] == "extra_forbidden":
            keys = source.located(detail["loc"])
            words, key = sentences.unknown_key(detail["loc"])
            source.report(keys, words)
            if key is not None:
                meant.add((*keys[:-1], key))
    for detail in details:
        loc, kind = detail["loc"], detail["type"]
        keys = source.located(loc)
        if kind == "missing":
            keys = (*source.located(loc[:-1]), loc[-1])
        elif kind == "union_tag_invalid":
            keys = (*keys, "kind")
        elif kind == "too_short" and source.has((*keys, 0)):
            continue  # pydantic counts valid items only; the invalid ones have errors of their own
        if kind == "extra_forbidden" or keys in meant or source.is_settled(keys):
            continue
        has_references = source.has_references(keys)
        source.report(keys, sentences.sentence(detail, source.written(keys), has_references=has_references))


def _with_default_redirects(config: Config) -> Config:
    """Where no redirect_uri is configured, the browser comes back to the console, wherever that listens."""
    if config.console.port == 0:
        return config  # port 0: the real one is known only once it is bound
    url = console_url(config.console.port)
    providers = {
        name: provider
        if "redirect_uri" in provider.model_fields_set
        else provider.model_copy(update={"redirect_uri": url})
        for name, provider in config.providers.items()
    }
    return config.model_copy(update={"providers": providers})


def json_schema() -> dict[str, Any]:
    """The JSON Schema of the file, for editors that complete and check it; from the same models."""
    schema: dict[str, Any] = _with_references(Config.model_json_schema())
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "mail-bridge configuration",
        "description": "Local IMAP, POP3 and SMTP ports that lead to OAuth 2.0 mail providers.",
        **{key: value for key, value in schema.items() if key not in {"title", "description"}},
    }


def _with_references(part: Any) -> Any:
    """Numbers, truth values and choices may also come from a reference; a text may anyway."""
    if isinstance(part, list):
        return [_with_references(item) for item in part]
    if not isinstance(part, dict):
        return part
    if part.get("type") in {"integer", "boolean"} or "enum" in part:
        about = {key: part[key] for key in ("title", "description", "default") if key in part}
        value = {key: item for key, item in part.items() if key not in about}
        return {**about, "anyOf": [value, _REFERENCE]}
    return {key: _with_references(item) for key, item in part.items()}
