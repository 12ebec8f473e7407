"""Secrets that every user of this machine can read: in the configuration file, or in a file that it names."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from bridge.advice.said import Said, said
from bridge.config.nodes import Keys, Problem, path_of
from bridge.config.source import Source

_FILE_REFERENCE = re.compile(r"(?<!\$)\$\{file:([^}]+)\}")
_SECRET_KEYS = frozenset({"client_secret", "webhook"})
"""Chat services put the key into a webhook's path."""
_PRIVATE_FILES = frozenset({"key", "client_certificate_key", "service_account_file"})
"""Keys that name a file with a private key. `store.key_file` is refused where others can read it."""


def exposed_secrets(source: Source, path: Path | None, directory: Path) -> Iterator[Problem]:
    """Each with its place. Windows' access lists are not looked at."""
    if os.name != "posix":
        return
    open_file = path if path is not None and _is_for_all(path) else None
    for keys in source.places:
        for sentence in _exposed(source, keys, directory, open_file):
            yield Problem(source.place(keys), path_of(keys), sentence)


def _exposed(source: Source, keys: Keys, directory: Path, open_file: Path | None) -> Iterator[Said]:
    """`open_file`: the configuration file, if everybody can read it."""
    written = source.written(keys)
    if written is None:
        return
    if _is_secret(keys, written):
        if open_file is not None and not source.has_references(keys):
            yield said(
                "every user of this machine can read this secret; run: {command} (or write ${{ENV}}, ${{file:path}} or "
                "${{keyring:name}} in its place)",
                command=f"chmod 600 {open_file}",
            )
        for reference in _FILE_REFERENCE.findall(written):
            yield from _of_file(directory, reference.strip())
    elif _is_private_file(source, keys) and not source.has_references(keys):
        yield from _of_file(directory, written)


def _is_secret(keys: Keys, written: str) -> bool:
    if keys == ("store", "url"):
        return "@" in written or "${" in written  # postgresql://user:password@host, or all of it from elsewhere
    return keys[-1] in _SECRET_KEYS


def _is_private_file(source: Source, keys: Keys) -> bool:
    if keys[-1] == "client_certificate":  # its key is in the same file, unless it has one of its own
        return source.written((*keys[:-1], "client_certificate_key")) is None
    return keys[-1] in _PRIVATE_FILES


def _of_file(directory: Path, written: str) -> Iterator[Said]:
    path = directory / Path(written).expanduser()
    if _is_for_all(path):
        yield said(
            "every user of this machine can read the secret in {path}; run: {command}",
            path=path,
            command=f"chmod 600 {path}",
        )


def _is_for_all(path: Path) -> bool:
    """True if others than owner and group may read it; the directories above are not asked."""
    try:
        return bool(path.stat().st_mode & stat.S_IROTH)
    except OSError:
        return False
