"""Who may change the program that a systemd service runs, and whether the service's user can read it."""

from __future__ import annotations

import contextlib
import os
import shlex
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

from bridge.advice.said import said
from bridge.host.system_service import NAME, ServiceTrouble, looking, needs_administrator, parts_of_program

UNSEEN = (Path("/home"), Path("/root"), Path("/run/user"))
"""Directories that ProtectHome= hides."""


@looking()
def check_roots_alone() -> None:
    """Check that nobody but root can change what the service runs, and that the service can see it at all.

    Raises: ServiceTrouble.
    """
    for part in dict.fromkeys(led_to for named in parts_of_program() for led_to in _led_to(named)):
        if any(part.is_relative_to(place) for place in UNSEEN):
            raise ServiceTrouble(
                said(
                    "the program is in {place}, which a system service does not see. Install it in /opt/mail-bridge, "
                    "as docs/guides/en/terminal-server.md shows",
                    place=part,
                )
            )
        for place in (part, *part.parents):
            if not _is_roots_alone(place):
                raise ServiceTrouble(
                    said(
                        "{place} does not belong to root alone: others could change what the service runs. Install "
                        "mail-bridge as root in /opt/mail-bridge, as docs/guides/en/terminal-server.md shows",
                        place=place,
                    )
                )


@looking()
def check_open_to(number: int, group: int) -> None:
    """Check that the service's user can read all of the program, because root may have installed it, or updated a part
    of it, with a umask of 077, and most of it is loaded late. Raises: ServiceTrouble, with the command that opens
    it."""
    parts = parts_of_program()
    with _as_user(number, group):
        closed = next((place for part in parts for place in _closed(part)), None)
    if closed is not None:
        ours = (Path(__file__).parents[2], *parts)
        is_ours = len(closed.parts) > 2 and any(map(closed.is_relative_to, ours))  # /opt has other programs, too
        command = f"chmod {'-R ' if is_ours else ''}go+rX {shlex.quote(str(closed))}"
        raise ServiceTrouble(
            said(
                "the service's user {user} may not read {place}, perhaps because of a umask of 077, so the service "
                "could not start. Run `{command}`, then run this command again",
                place=closed,
                user=NAME,
                command=command,
            )
        )


@contextlib.contextmanager
def _as_user(number: int, group: int) -> Iterator[None]:
    """Take on this user's rights meanwhile, so that the system lets us do what it lets them do."""
    if sys.platform == "win32":
        raise needs_administrator()
    groups, own_group = os.getgroups(), os.getegid()
    os.setgroups(os.getgrouplist(NAME, group))
    os.setegid(group)
    os.seteuid(number)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(own_group)
        os.setgroups(groups)


def _closed(part: Path) -> Iterator[Path]:
    """The paths that the current effective user may not read: the directories above the part, the part itself and, for
    Python's packages, everything in it except for files that Python generates."""
    yield from (above for above in reversed(part.parents) if not _may(above, os.X_OK))
    whole = os.R_OK | os.X_OK
    if not _may(part, whole if part.is_dir() else os.R_OK):
        yield part
    if part.name not in {"bridge", "site-packages"}:
        return
    for root, directories, files in os.walk(part):
        directories[:] = [name for name in directories if name != "__pycache__"]
        yield from (Path(root, name) for name in directories if not _may(Path(root, name), whole))
        yield from (Path(root, name) for name in files if not _may(Path(root, name), os.R_OK))


def _may(place: Path, do: int) -> bool:
    """True, too, for a path that does not exist: a dangling link is an editor's lock."""
    try:
        os.stat(place)
    except OSError as problem:
        return isinstance(problem, FileNotFoundError)
    return os.access(place, do, effective_ids=True)


def _led_to(place: Path) -> Iterator[Path]:
    """The path, and the target of each link on the way, one after the other: whoever controls the place of a link can
    replace it."""
    while True:
        yield place
        link = next((above for above in (*reversed(place.parents), place) if above.is_symlink()), None)
        if link is None:
            return
        place = Path(os.path.normpath(link.parent / os.readlink(link))) / place.relative_to(link)


def _is_roots_alone(place: Path) -> bool:
    found = place.stat()
    is_groups_root = found.st_gid == 0 and not _has_access_list(place)
    others = stat.S_IWOTH if is_groups_root else stat.S_IWOTH | stat.S_IWGRP  # as "staff" has Debian's /usr/local
    return found.st_uid == 0 and not found.st_mode & others


def _has_access_list(place: Path) -> bool:
    """True if there is an access list: then the group's mode bits are its mask, the most that any entry may grant
    (acl(5), Correspondence)."""
    if sys.platform != "linux":
        return False
    try:
        return bool(os.getxattr(place, "system.posix_acl_access"))
    except OSError:  # no access list, or a file system without them
        return False
