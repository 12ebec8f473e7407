"""Whether a file of the whole machine belongs to administrators: in Windows' ProgramData anybody may create files."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from bridge.host.callers_windows import user_id
from bridge.host.security_descriptors import owner_of

SYSTEM, ADMINISTRATORS = "S-1-5-18", "S-1-5-32-544"
"""Files made "as administrator" belong to the group of all administrators."""
TRUSTED_INSTALLER = "S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464"
"""Windows itself, which owns C:\\ and System32, in which an administrator's prompt opens."""


def is_trusted(file: Path) -> bool:
    """True if the file and its directory belong to administrators or to the user we run as: the directory's owner may
    put another file in its place."""
    trusted = {"", SYSTEM, ADMINISTRATORS, TRUSTED_INSTALLER, user_id(os.getpid())}
    return all(owner_of(path) in trusted for path in (file, file.parent))


def is_strangers(file: Path, handle: int | None = None) -> bool:
    """True if the file belongs to somebody other than us and the administrators. In a shared directory, anybody may
    plant a file for those whose current directory it is, and replace it the next moment. Or they may plant a link to a
    file of those people: what that file names is then looked for beside the link.

    Args: handle, of the open file; without it, the file that has this name now. Windows can only go by the name.
    Raises: OSError.
    """
    if sys.platform == "win32":
        return not is_trusted(file)
    found = os.stat(file if handle is None else handle), os.lstat(file)
    return any(one.st_uid not in {0, os.geteuid()} for one in found)
