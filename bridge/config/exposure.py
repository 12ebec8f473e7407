"""What is open to every user of this machine: secrets that all can read, a configuration that all can change."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from bridge.advice.said import Said, said
from bridge.config.nodes import Keys, Problem, path_of
from bridge.config.source import Source

_FILE_REFERENCE = re.compile(r"(?<!\$)\$\{file:([^}]+)\}")
_SECRET_KEYS = frozenset({"client_secret", "webhook"})
"""Chat services put the key into a webhook's path."""
_PRIVATE_FILES = frozenset({"key", "client_certificate_key", "service_account_file"})
"""Keys that name a file with a private key."""
_KEY_FILE = ("store", "key_file")


class Readers(Protocol):
    """Whom the system lets read or change a file."""

    refuses_open_key_files: bool
    """Whether the store itself refuses a key file that others can read, so that nothing need be said of it here."""

    def everybody_reads(self, path: Path) -> bool:
        """True if every user of this machine may; False where that is not known."""

    def closing(self, path: Path) -> str:
        """The command that restricts the file to the user who runs the bridge."""

    def everybody_changes(self, file: Path) -> Path | None:
        """The file or its directory, if every user of this machine may change the file, or put another in its place;
        None if not, or where that is not known."""

    def keeping(self, place: Path) -> str:
        """The command that ends this."""


class Modes:
    """By the file's POSIX permissions; parent directories are not checked. Always False on Windows, where modes say
    nothing."""

    refuses_open_key_files = True

    def everybody_reads(self, path: Path) -> bool:
        """True if the mode lets others than owner and group read it."""
        try:
            return os.name == "posix" and bool(path.stat().st_mode & stat.S_IROTH)
        except OSError:
            return False

    def closing(self, path: Path) -> str:
        """See Readers."""
        return f"chmod 600 {path}"

    def everybody_changes(self, file: Path) -> Path | None:
        """By the modes of both: in a directory that others may write to, they replace files, unless it is sticky, as
        /tmp is. A read-only mount, such as a container's, lets nobody change anything, whatever its modes. For a link
        to the file, both directories count."""
        places = (file, file.parent, Path(os.path.realpath(file)).parent)
        return next((place for place in places if _is_everybodys(place)), None)

    def keeping(self, place: Path) -> str:
        """See Readers."""
        return f"chmod o-w {place}"


def _is_everybodys(place: Path) -> bool:
    try:
        mode = place.stat().st_mode if os.name == "posix" else 0
    except OSError:
        return False
    is_sticky = stat.S_ISDIR(mode) and mode & stat.S_ISVTX
    return bool(mode & stat.S_IWOTH) and not is_sticky and os.access(place, os.W_OK)


MODES = Modes()


def changed_by_everybody(file: Path, readers: Readers) -> Iterator[Said]:
    """The sentence for a configuration that every user can change; a running bridge reloads it by itself."""
    if (place := readers.everybody_changes(file)) is not None:
        yield said(
            "every user of this machine can change {place}, and with it what mail-bridge does: which programs it "
            "starts, and where it sends sign-ins; run: {command}",
            place=place,
            command=readers.keeping(place),
        )


def exposed_secrets(source: Source, path: Path | None, directory: Path, readers: Readers) -> Iterator[Problem]:
    """Each exposed secret with its place; those in the configuration file itself together, since one command closes
    it."""
    texts = [(keys, written) for keys in source.places if (written := source.written(keys)) is not None]
    here = [keys for keys, written in texts if _is_secret(keys, written) and not source.has_references(keys)]
    if here and path is not None and readers.everybody_reads(path):
        yield Problem(source.place(here[0]), ", ".join(map(path_of, here)), _here(len(here), readers.closing(path)))
    for keys, written in texts:
        for sentence in _in_files(source, keys, written, directory, readers):
            yield Problem(source.place(keys), path_of(keys), sentence)


def _here(count: int, command: str) -> Said:
    if count == 1:
        return said(
            "every user of this machine can read this secret; run: {command} (or write ${{ENV}}, ${{file:path}} or "
            "${{keyring:name}} in its place)",
            command=command,
        )
    return said(
        "every user of this machine can read these secrets; run: {command} (or write ${{ENV}}, ${{file:path}} or "
        "${{keyring:name}} in their place)",
        command=command,
    )


def _in_files(source: Source, keys: Keys, written: str, directory: Path, readers: Readers) -> Iterator[Said]:
    if _is_secret(keys, written):
        for reference in _FILE_REFERENCE.findall(written):
            yield from _of_file(directory, reference.strip(), readers)
    elif source.has_references(keys):
        return
    elif _is_private_file(source, keys):
        yield from _of_file(directory, written, readers)
    elif keys == _KEY_FILE and not readers.refuses_open_key_files:
        file = directory / Path(written).expanduser()
        is_made = os.path.exists(file)  # Path.exists() raises where one may not look, before Python 3.14
        yield from _of_file(directory, str(file if is_made else file.parent), readers)


def _is_secret(keys: Keys, written: str) -> bool:
    if keys == ("store", "url"):
        return "@" in written or "${" in written  # postgresql://user:password@host, or all of it from elsewhere
    return keys[-1] in _SECRET_KEYS


def _is_private_file(source: Source, keys: Keys) -> bool:
    if keys[-1] == "client_certificate":  # its key is in the same file, unless it has one of its own
        return source.written((*keys[:-1], "client_certificate_key")) is None
    return keys[-1] in _PRIVATE_FILES


def _of_file(directory: Path, written: str, readers: Readers) -> Iterator[Said]:
    path = directory / Path(written).expanduser()
    if readers.everybody_reads(path):
        yield said(
            "every user of this machine can read the secret in {path}; run: {command}",
            path=path,
            command=readers.closing(path),
        )
