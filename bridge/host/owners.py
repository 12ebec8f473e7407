"""Whether a file of the whole machine is the administrators'. Below Windows' ProgramData all may put some."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from bridge.host.callers_windows import user_id
from bridge.host.security_descriptors import owner_of

SYSTEM, ADMINISTRATORS = "S-1-5-18", "S-1-5-32-544"
"""Whoever runs "as administrator" makes files that belong to all administrators."""
TRUSTED_INSTALLER = "S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464"
"""Windows itself: C:\\ and System32, in which an administrator's prompt opens, are its own."""


def is_trusted(file: Path) -> bool:
    """True if it belongs to administrators, or to whoever we run as, and so does its directory: the directory's owner
    may put another file in its place."""
    trusted = {"", SYSTEM, ADMINISTRATORS, TRUSTED_INSTALLER, user_id(os.getpid())}
    return all(owner_of(path) in trusted for path in (file, file.parent))


def is_strangers(file: Path, handle: int | None = None) -> bool:
    """True if it belongs to another user than us and the administrators: whoever may write into a directory that people
    share puts a file there for those who stand in it, and another one in its place the next moment. Or a link to a file
    of theirs: what that one names is then looked for beside the link.

    Args: handle, of the open file; without, what has the name now. Windows tells by the name alone. Raises: OSError.
    """
    if sys.platform == "win32":
        return not is_trusted(file)
    found = os.stat(file if handle is None else handle), os.lstat(file)
    return any(one.st_uid not in {0, os.geteuid()} for one in found)
