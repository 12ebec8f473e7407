"""Where the store's 32-byte key lives: the OS keyring, or a file that the admin names; never a silent fallback.

An empty store may be given a new key; a store with records never is, since that key could open nothing.
"""

from __future__ import annotations

import base64
import binascii
import errno
import functools
import os
import secrets
import stat
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from bridge.advice.said import Said, as_said, said
from bridge.advice.system import system_reason, too_little
from bridge.config.schema import StoreConfig
from bridge.errors import KeyFileUnusable, StoreCorrupt, StoreUnavailable
from bridge.secret import Secret
from bridge.shortage import may_pass
from bridge.stores.sealed import KEY_BYTES
from bridge.threads import NoThread, in_thread, no_thread

if TYPE_CHECKING:
    from bridge.stores.oskeyring import OsKeyring

KEY_SERVICE = "mail-bridge store key"
"""Not the service of named secrets: on Windows a second user name under one service rewrites the first entry."""

KEY_USER = "mail-bridge"

NAMED_SERVICE = "mail-bridge"
"""Service of `${keyring:name}`; the name is the user name: `keyring set mail-bridge office365`."""

ANSWER_LIMIT = 10.0
"""Seconds for a keyring. It answers in 30 ms, or shows a prompt that waits for a person for ever; the call goes on
behind our back, makes no key any more, and a later one finds the keyring unlocked."""

DESCRIPTORS = 8
"""That must be free before the keyring is asked; D-Bus needs two. The library looks for keyrings once, and takes one
that it could not reach just then for missing until the process ends."""

LONGEST_KEY_FILE = 1024
"""Bytes read of a key file; 45 are enough, and the path may name anything."""

_MOVING_SECONDS = (0.02, 0.1, 0.4) if os.name == "nt" else ()
"""Between attempts. Windows keeps a file from everybody for the moment in which another process gives it its name, and
calls that "permission denied"."""

_KEY_REMEDY = said("A file may hold the key instead: `store: {{key_file: …}}`")
_NAMED_REMEDY = said("Or use ${{file:…}} or an environment variable in place of ${{keyring:…}}")

R = TypeVar("R")


async def open_key(config: StoreConfig, *, has_records: bool, limit: float = ANSWER_LIMIT) -> Secret[bytes]:
    """Find the key, or make one if the store is empty.

    Raises: StoreUnavailable, temporary, when the key's home does not answer; its kinds KeyringMissing and
    KeyFileUnusable where waiting does not help; StoreCorrupt when the store has records and the key is gone, or what is
    there is no key. The text names the remedy.
    """
    if config.key_file is not None:
        return await _beside(functools.partial(_from_file, config.key_file, has_records))

    is_given_up = threading.Event()

    def from_keyring() -> Secret[bytes]:
        return _from_keyring(has_records, is_given_up)

    try:
        return await _beside(functools.partial(_answered, from_keyring, limit, _KEY_REMEDY))
    finally:
        is_given_up.set()


async def check_key_home(config: StoreConfig, *, limit: float = ANSWER_LIMIT, made_first: Path | None = None) -> Said:
    """Try where a first key would go, without making one.

    Args: made_first, a directory that will be there by then, though it is not yet.
    Returns: the place, in words. Raises: as open_key().
    """
    if config.key_file is not None:
        await _beside(functools.partial(_check_file, config.key_file, made_first))
        return said("the file {file}", file=config.key_file)

    def probe() -> Said:
        home = _open_keyring()
        home.probe()
        return as_said(home.name)

    return await _beside(functools.partial(_answered, probe, limit, _KEY_REMEDY))


async def _beside(work: Callable[[], R]) -> R:
    """In a thread. Raises: StoreUnavailable without one; what `work` raises."""
    try:
        return await in_thread(work)
    except NoThread as problem:
        raise StoreUnavailable(problem.said) from problem


def read_named_secret(name: str, *, limit: float = ANSWER_LIMIT) -> str | None:
    """The keyring's entry for `${keyring:name}`, or None. Blocks up to `limit` seconds. Raises: StoreUnavailable."""

    def read() -> str | None:
        return _open_keyring().read(NAMED_SERVICE, name)

    return _answered(read, limit, _NAMED_REMEDY)


def check_named_secrets(*, limit: float = ANSWER_LIMIT) -> str:
    """Try whether the keyring takes and gives back what it is given. Returns: its name. Raises: StoreUnavailable."""

    def probe() -> str:
        home = _open_keyring()
        home.probe()
        return home.name

    return _answered(probe, limit)


def write_named_secret(name: str, value: Secret[str], *, limit: float = ANSWER_LIMIT) -> None:
    """Store the entry that `${keyring:name}` reads, in place of one that is there. Raises: StoreUnavailable."""

    def write() -> None:
        _open_keyring().write(NAMED_SERVICE, name, value.reveal())

    _answered(write, limit, _NAMED_REMEDY)


class _OneAtATime:
    """Calls into the keyring, each in a daemon thread: one that hangs is left behind, also by the process's exit."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: Future[Any] | None = None

    def call(self, work: Callable[[], R], limit: float) -> R:
        """Carry out `work`. Raises: TimeoutError beyond the limit, at once while an earlier call still hangs;
        StoreUnavailable without a thread; what `work` raises."""
        if not self._lock.acquire(timeout=limit):
            raise TimeoutError
        try:
            # Its answer, not its thread: that one lives on for a moment after it has answered.
            if self._last is not None and not self._last.done():
                raise TimeoutError
            answer: Future[R] = Future()
            try:
                threading.Thread(target=_answer, args=(work, answer), name="keyring", daemon=True).start()
            except RuntimeError as problem:
                raise StoreUnavailable(no_thread(problem).said) from problem
            self._last = answer
            return answer.result(limit)
        finally:
            self._lock.release()


_keyring = _OneAtATime()  # of the process, as the keyring is


def _answer(work: Callable[[], R], answer: Future[R]) -> None:
    try:
        answer.set_result(work())
    except BaseException as error:  # noqa: BLE001  handed to the thread that waits
        answer.set_exception(error)


def _answered(work: Callable[[], R], limit: float, remedy: Said | None = None) -> R:
    """Ask the keyring within the limit; its troubles get the remedy that fits what was asked for."""
    try:
        return _keyring.call(work, limit)
    except TimeoutError as error:
        raise StoreUnavailable(_with(said("the OS keyring does not answer; unlock it"), remedy)) from error
    except StoreUnavailable as error:
        raise type(error)(_with(error.said or as_said(str(error)), remedy)) from error


def _with(problem: Said, remedy: Said | None) -> Said:
    if remedy is None:
        return problem
    return Said("{problem}. {remedy}", (("problem", problem), ("remedy", remedy)))


def _open_keyring() -> OsKeyring:
    """Raises: StoreUnavailable, see oskeyring; also without descriptors for it."""
    opened: list[int] = []
    try:
        for _ in range(DESCRIPTORS):
            opened.append(os.open(os.devnull, os.O_RDONLY))
    except OSError as problem:
        raise StoreUnavailable(too_little(problem)) from problem
    finally:
        for number in opened:
            os.close(number)
    from bridge.stores import oskeyring  # a second of imports, of no use to whoever has a key file

    return oskeyring.open_keyring()


def _from_keyring(has_records: bool, is_given_up: threading.Event) -> Secret[bytes]:
    home = _open_keyring()
    text = home.read(KEY_SERVICE, KEY_USER)
    if text is None:
        if has_records:
            raise StoreCorrupt(
                said(
                    "the store has records, but the {keyring} has no key for them (entry '{entry}'): it was removed, "
                    "or this is another user or machine. Bring the entry back, or name the file that holds the key: "
                    "`store: {{key_file: …}}`. To give the records up, move the store away",
                    keyring=home.name,
                    entry=KEY_SERVICE,
                )
            )
        home.probe()
        if is_given_up.is_set():  # our turn to set up the store is over: another process may have made its key
            raise StoreUnavailable(said("the OS keyring does not answer; unlock it"))
        key = secrets.token_bytes(KEY_BYTES)
        home.write(KEY_SERVICE, KEY_USER, base64.b64encode(key).decode())
        return Secret(key)
    place = said("the entry '{entry}' in the {keyring}", entry=KEY_SERVICE, keyring=home.name)
    return _decoded(text.encode(), place)


def _from_file(path: str, has_records: bool) -> Secret[bytes]:
    file = _absolute(path)
    if (key := _present(file)) is not None:
        return key
    if has_records:
        raise StoreCorrupt(
            said(
                "the store has records, but their key file {file} does not exist; put it back. To give the records "
                "up, move the store away",
                file=file,
            )
        )
    try:
        with suppress(FileExistsError):  # another process was quicker: its key it is
            _create(file)
        return _read(file)
    except OSError as error:
        raise _not_created(file, error) from error


def _check_file(path: str, made_first: Path | None) -> None:
    """The key that is there can be used, or one can be made."""
    file = _absolute(path)
    if _present(file) is not None:
        return
    directory = file.parent
    if directory.is_dir():
        if not os.access(directory, os.W_OK | os.X_OK):
            raise _not_created(file, PermissionError(errno.EACCES, ""))
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
    """For what keeps us from the file: a full disk or a want of descriptors passes, and nobody has to act first."""
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
        if os.name == "posix" and mode & 0o077 and not _is_credential(file):
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
    return _decoded(content, said("the key file {file}", file=file))


def _opened(file: Path) -> int:
    # Not blocking: a named pipe without a writer would wait for ever. Binary: Windows would end at a byte 26.
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
    """systemd's credentials: private by their directory; an ACL for the service's user shows as a group's right."""
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    return bool(directory) and file.is_relative_to(Path(directory or ""))


def _create(file: Path) -> None:
    """A new key in a new file, on the disk before it is used. Raises: FileExistsError if somebody was quicker.

    Written beside its place and moved there whole: another process, or we after a crash, never see half a key.
    """
    draft = file.with_name(f"{file.name}.{secrets.token_hex(8)}.new")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
    try:
        try:
            os.write(handle, base64.b64encode(secrets.token_bytes(KEY_BYTES)) + b"\n")
            os.fsync(handle)
        finally:
            os.close(handle)
        if os.name == "nt":
            os.rename(draft, file)  # fails there if the file exists
        else:
            os.link(draft, file)  # os.rename would replace the file
    finally:
        draft.unlink(missing_ok=True)
    if os.name == "posix":
        with suppress(OSError):  # not every file system can sync a directory
            _sync_directory(file.parent)


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _decoded(content: bytes, place: Said) -> Secret[bytes]:
    """32 raw bytes, or their base64 with or without a line end (`openssl rand -base64 32`)."""
    key = content
    if len(content) != KEY_BYTES:
        try:
            key = base64.b64decode(content.strip(), validate=True)
        except (binascii.Error, ValueError):
            key = content
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
