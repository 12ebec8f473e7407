"""Windows: files that every user of the machine may read or change, and the command that closes them."""

from __future__ import annotations

import os
from pathlib import Path

from bridge.host.callers_windows import user_id
from bridge.host.owners import ADMINISTRATORS, SYSTEM
from bridge.host.security_descriptors import EVERYONE, GENERIC_ALL, allowed_at

EVERYBODY = frozenset({EVERYONE, "S-1-5-4", "S-1-5-11", "S-1-5-32-545"})
"""Also Interactive, Authenticated Users, and Users, who inherit rights from C:\\ and ProgramData."""
READING = 0x8000_0001 | GENERIC_ALL
"""GENERIC_READ, FILE_READ_DATA."""
CHANGING = 0x400D_0002 | GENERIC_ALL
"""GENERIC_WRITE; WRITE_OWNER, WRITE_DAC, DELETE; FILE_WRITE_DATA."""


class AccessLists:
    """Judges by each file's own access list: Windows lets everybody pass through directories that are closed to
    them."""

    refuses_open_key_files = False

    def everybody_reads(self, path: Path) -> bool:
        """True if its access list lets everybody read it, or what is in it; False, too, where the list is not told."""
        return any(rights & READING and sid in EVERYBODY for sid, rights in allowed_at(path))

    def closing(self, path: Path) -> str:
        """The command that closes it; the user who runs us can still read it."""
        return closing(path, user_id(os.getpid()))

    def everybody_changes(self, file: Path) -> Path | None:
        """By the file's list alone: new files inherit from C:\\ that all users may change them, but few directories let
        users remove what is in them."""
        is_open = any(rights & CHANGING and sid in EVERYBODY for sid, rights in allowed_at(file))
        return file if is_open else None

    def keeping(self, place: Path) -> str:
        """See Readers."""
        return self.closing(place)


def closing(path: Path, *others: str) -> str:
    """The command that closes a file or a directory to all but SYSTEM, administrators, and these SIDs.

    SIDs are used because the names differ in each language. Explicit entries for everybody, as after "convert inherited
    permissions", stay unless they are removed by name.
    """
    rights = "(OI)(CI)F" if path.is_dir() else "F"
    readers = dict.fromkeys(sid for sid in (SYSTEM, ADMINISTRATORS, *others) if sid)
    granted = " ".join(f'"*{sid}:{rights}"' for sid in readers)
    removed = " ".join(f'"*{sid}"' for sid in sorted(EVERYBODY))
    return f'icacls "{path}" /inheritance:r /grant {granted} /remove:g {removed}'
