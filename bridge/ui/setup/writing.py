"""Writes a configuration and the secrets that it names to the disk: for their owner alone, all of them or none."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Collection, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path

from bridge.advice.said import said
from bridge.advice.system import system_reason
from bridge.errors import BridgeError
from bridge.files.directories import make_private
from bridge.files.drafts import staged, try_directory
from bridge.files.existing import above, is_directory
from bridge.files.replacing import replace
from bridge.host.files import take_free_name
from bridge.host.paths import ensure_private


def is_taken(path: Path) -> bool:
    """True if there is a file. Raises: BridgeError for a directory, and where we may not even look: nothing can be
    written there either, and to learn that only at the end would make all answers useless."""
    try:
        found = path.stat()
        if stat.S_ISDIR(found.st_mode):
            raise _is_a_directory(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise _unwritable(path, error) from error
    return True


def check_writable(path: Path) -> None:
    """Check that a file, and the directories above it, can be made there; leaves nothing behind. Called before the
    first question. Raises: BridgeError."""
    try:
        place = above(path.absolute())
        if not is_directory(place):  # Windows calls it a directory that is not there
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(place))
        try_directory(place, is_above=place != path.absolute().parent)
    except OSError as error:
        raise _unwritable(path, error) from error


def write_configuration(files: Mapping[Path, str], replaceable: Collection[Path] = ()) -> None:
    """Write each file; the configuration comes last, so that it never names a file that is not there yet.

    All are on the disk, beside their places, before the first one is renamed: a full disk or Ctrl-C changes nothing.
    Args: replaceable, existing files that may be replaced; any other file that has appeared meanwhile is left alone.
    Raises: BridgeError.
    """
    output = list(files)[-1]
    path = output
    made: list[Path] = []
    try:
        make_private(output.parent)
        with ExitStack() as stack:
            drafts: dict[Path, Path] = {}
            for path, text in files.items():
                if path != output:
                    ensure_private(path.parent, directory=True)
                if path.is_dir():  # a rename would find this out too late
                    raise _is_a_directory(path)
                drafts[path] = stack.enter_context(staged(path, text))
            for path, draft in drafts.items():
                is_new = not path.exists()
                (replace if path in replaceable else take_free_name)(draft, path)
                made += [path] * is_new
        made.clear()
    except OSError as error:
        problem = _unwritable(path, error)
    else:
        return
    finally:
        for left in made:
            with suppress(OSError):  # a disk that fails is read-only from then on; why it has failed is what counts
                left.unlink(missing_ok=True)
    raise problem


def _is_a_directory(path: Path) -> IsADirectoryError:
    return IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))


def _unwritable(path: Path, error: OSError) -> BridgeError:
    return BridgeError(said("{file} cannot be written: {reason}", file=path, reason=system_reason(error)))
