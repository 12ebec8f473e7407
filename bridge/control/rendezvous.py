"""The file by which other programs of the same user find the running bridge: its URL and its admin token."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bridge.advice.said import said
from bridge.advice.system import system_reason, too_little
from bridge.errors import BridgeError, TooLittleLeft
from bridge.files.directories import make_private
from bridge.files.drafts import staged
from bridge.files.replacing import replace
from bridge.secret import Secret
from bridge.shortage import is_short

NAME = "control.json"
FORMAT = 1
SIZE_LIMIT = 4096
"""Octets; ours has some 150. A larger file was not written by us."""

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
"""Where the token may be sent; whatever a file says, it never leaves this machine."""


def publish(directory: Path, url: str, token: Secret[str], pid: int) -> None:
    """Write the file in `directory`, which is created if needed. Readers see the old file or the new one, never a part.

    Raises: BridgeError naming the file.
    """
    content = json.dumps({"format": FORMAT, "url": url, "token": token.reveal(), "pid": pid}) + "\n"
    try:
        make_private(directory)
        with staged(directory / NAME, content) as draft:
            replace(draft, directory / NAME)
    except OSError as error:
        raise BridgeError(
            said(
                "{file} cannot be written ({reason}); without it, the other commands do not find the running "
                "mail-bridge",
                file=directory / NAME,
                reason=system_reason(error),
            )
        ) from error


def withdraw(directory: Path, token: Secret[str]) -> None:
    """Remove the file if it is still the one with this token; never fails.

    During a restart the next bridge may have published already: its file stays. A process id does not tell the two
    apart: in containers that share a volume, both are number 1.
    """
    try:
        found = find(directory)
    except TooLittleLeft:
        return  # the file stays, which does no harm: see below
    if found is not None and token.matches(found[1]):
        try:
            (directory / NAME).unlink(missing_ok=True)
        except OSError:
            return  # a file left behind is ignored once nobody at its URL can prove to know the token


def find(directory: Path) -> tuple[str, Secret[str]] | None:
    """URL (without a slash at its end) and token of the bridge that published here.

    None if there is no file, or if it is malformed, readable by others, or owned by another user (POSIX; on Windows the
    directory's access list prevents that): its token would be no secret, or its URL a trap. Raises: TooLittleLeft
    where no descriptor is left to read it with.
    """
    return _read(directory / NAME)


def find_given(path: Path) -> tuple[str, Secret[str]] | None:
    """Like find(), for a file that the person has named, of a bridge that runs as another user.

    Its owner may be anybody and a group may read it: that is how an administrator hands it to some people only. All
    others must still not be able to read it, and nobody but the owner to write it.
    """
    return _read(path, shared=True)


def is_loopback_url(url: str) -> bool:
    """True for `http://` with a host and a port of this machine, and nothing after it."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    host = parts.hostname or ""
    written = f"[{host}]" if ":" in host else host
    return bool(port) and host in LOOPBACK and url == f"http://{written}:{port}"


def _read(path: Path, *, shared: bool = False) -> tuple[str, Secret[str]] | None:
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except OSError as error:
        if is_short(error):  # otherwise a running bridge would be reported as not running
            raise TooLittleLeft(too_little(error)) from error
        return None
    try:
        if not _is_private(os.fstat(handle), shared):
            return None
        content = json.loads(os.read(handle, SIZE_LIMIT))
    except (OSError, ValueError, RecursionError):
        return None
    finally:
        os.close(handle)
    return (content["url"], Secret(content["token"])) if _is_sound(content) else None


def _is_private(found: os.stat_result, shared: bool) -> bool:
    if not stat.S_ISREG(found.st_mode):
        return False
    if not hasattr(os, "geteuid"):
        return True  # Windows: st_mode and st_uid say nothing; the user's profile has an ACL of its own
    if shared:
        return not found.st_mode & 0o027
    return found.st_uid == os.geteuid() and not found.st_mode & 0o077


def _is_sound(content: Any) -> bool:
    return (
        isinstance(content, dict)
        and content.keys() == {"format", "url", "token", "pid"}
        and content["format"] == FORMAT
        and isinstance(content["url"], str)
        and is_loopback_url(content["url"])
        and isinstance(content["token"], str)
        and content["token"].isascii()
        and content["token"].isprintable()
        and content["token"] != ""
        and type(content["pid"]) is int
    )
