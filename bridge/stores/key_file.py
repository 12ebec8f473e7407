"""The store's key in a file that the administrator names: read if the file is private, made if the store is empty."""

from __future__ import annotations

import base64
import errno
import os
import secrets
import stat
import time
from contextlib import suppress
from pathlib import Path

from bridge.advice.said import Said, said
from bridge.advice.system import system_reason
from bridge.errors import KeyFileUnusable, StoreCorrupt, StoreUnavailable
from bridge.files.drafts import check_directory, draft_of
from bridge.files.replacing import rename
from bridge.secret import Secret
from bridge.shortage import may_pass
from bridge.stores.sealed import KEY_BYTES

LONGEST_KEY_FILE = 1024
"""Bytes read of a key file; 45 are enough, but the path may name any file."""

OTHERS = 0o077
"""The bits of a mode that let anybody but the owner do something."""

_MOVING_SECONDS = (0.02, 0.1, 0.4) if os.name == "nt" else ()
"""Pauses between attempts. While another process renames a file, Windows refuses to open it with "permission
denied"."""


def key_from_file(path: str, has_records: bool) -> Secret[bytes]:
    """The key in the file, or a new one if the store is empty. Raises: KeyFileUnusable; StoreUnavailable for what may
    pass; StoreCorrupt if the file holds no key, or if the store has records and there is no file."""
    file = _absolute(path)
    if (key := _present(file)) is not None:
        return key
    if has_records:
        raise StoreCorrupt(
            said(
                "the store has records, but their key file {file} does not exist; put it back. To give up the records, "
                "move the store away",
                file=file,
            )
        )
    try:
        with suppress(FileExistsError):  # another process was quicker: its key counts
            _create(file)
        return _read(file)
    except OSError as error:
        raise _not_created(file, error) from error


def check_key_file(path: str, made_first: Path | None) -> None:
    """Check that the key in the file can be used or, if there is none, that one can be made. Its directory may also be
    in `made_first`, which will be made before.

    Raises: as key_from_file().
    """
    file = _absolute(path)
    if _present(file) is not None:
        return
    directory = file.parent
    if directory.is_dir():
        try:
            check_directory(directory)
        except OSError as error:
            raise _not_created(file, error) from error
    elif made_first is None or not made_first.is_relative_to(directory):
        raise _not_created(file, FileNotFoundError(errno.ENOENT, ""))


def _absolute(path: str) -> Path:
    file = Path(path).expanduser()
    if not file.is_absolute():
        raise KeyFileUnusable(said("key_file must be an absolute path, not {file}", file=file))
    return file


def _present(file: Path) -> Secret[bytes] | None:
    """The key in this file; None if there is no file."""
    try:
        return _read(file)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unusable(error)(
            said("the key file {file} cannot be read: {reason}", file=file, reason=system_reason(error))
        ) from error


def _unusable(error: OSError) -> type[StoreUnavailable]:
    """The kind of error: a full disk or a lack of descriptors may pass without anybody acting; all else does not."""
    return StoreUnavailable if may_pass(error) else KeyFileUnusable


def _not_created(file: Path, error: OSError) -> StoreUnavailable:
    return _unusable(error)(
        said(
            "the key file {file} cannot be created: {reason}; make its directory, or the file itself: {command}",
            file=file,
            reason=system_reason(error),
            command=f'mkdir "{file.parent}"'
            if os.name == "nt"
            else f"openssl rand -base64 32 > '{file}' && chmod 600 '{file}'",
        )
    )


def _read(file: Path) -> Secret[bytes]:
    handle = _opened(file)
    try:
        mode = os.fstat(handle).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, "", str(file))
        if os.name == "posix" and mode & OTHERS and not _is_credential(file):
            _check_disk(file)
            raise KeyFileUnusable(
                said(
                    "the key file {file} can be read by other users; run: {command}",
                    file=file,
                    command=f"chmod 600 '{file}'",
                )
            )
        content = os.read(handle, LONGEST_KEY_FILE)
    finally:
        os.close(handle)
    return decoded_key(content, said("the key file {file}", file=file))


def _check_disk(file: Path) -> None:
    """Check, by making a file beside it, that this disk keeps permissions. Raises: KeyFileUnusable; nothing if no file
    can be made there."""
    with suppress(OSError):
        handle, draft = draft_of(file)
        try:
            _check_kept(handle, file)
        finally:
            os.close(handle)
            draft.unlink()


def _check_kept(handle: int, file: Path) -> None:
    """Check that a new file, beside this one or to become it, got the private mode that we asked for. Raises:
    KeyFileUnusable."""
    if os.name == "posix" and os.fstat(handle).st_mode & OTHERS:
        raise KeyFileUnusable(
            said(
                "the disk of the key file {file} keeps no permissions (FAT, exFAT, a drive of Windows in WSL), so that "
                "every user can read what is on it; keep the key on another disk",
                file=file,
            )
        )


def _opened(file: Path) -> int:
    # Non-blocking: opening a named pipe without a writer would hang. Binary: in text mode, Windows stops at a byte 26.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    for seconds in _MOVING_SECONDS:
        try:
            return os.open(file, flags)
        except PermissionError:
            if file.is_dir():
                raise IsADirectoryError(errno.EISDIR, "", str(file)) from None
            time.sleep(seconds)
    return os.open(file, flags)


def _is_credential(file: Path) -> bool:
    """True for systemd's credentials: their directory makes them private, although an ACL for the service's user shows
    as a group permission."""
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    return bool(directory) and file.is_relative_to(Path(directory or ""))


def _create(file: Path) -> None:
    """Write a new key to a new file, synced to disk before it is used. Raises: FileExistsError if another process was
    quicker.

    It is written to a draft beside the file and moved into place as a whole, so that nobody ever sees half a key, not
    even after a crash.
    """
    draft = file.with_name(f"{file.name}.{secrets.token_hex(8)}.new")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
    try:
        try:
            _check_kept(handle, file)
            os.write(handle, base64.b64encode(secrets.token_bytes(KEY_BYTES)) + b"\n")
            os.fsync(handle)
        finally:
            os.close(handle)
        if os.name == "nt":
            rename(draft, file)  # on Windows this fails if the file exists
        else:
            os.link(draft, file)  # os.rename would replace the file
    finally:
        with suppress(OSError):  # moved; or a virus scanner still has it open, which must not hide how the key went
            draft.unlink()
    if os.name == "posix":
        with suppress(OSError):  # not every file system can sync a directory
            _sync_directory(file.parent)


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def decoded_key(content: bytes, place: Said) -> Secret[bytes]:
    """The key from 32 raw bytes, or from their base64 with or without a line end (`openssl rand -base64 32`).

    Raises: StoreCorrupt that names `place`.
    """
    key = content
    if len(content) != KEY_BYTES:
        with suppress(ValueError):
            key = base64.b64decode(content.strip(), validate=True)
    if len(key) != KEY_BYTES:
        raise StoreCorrupt(
            said(
                "{place} holds {found} bytes; a key has {wanted} bytes, raw or in base64",
                place=place,
                found=len(key),
                wanted=KEY_BYTES,
            )
        )
    return Secret(key)
