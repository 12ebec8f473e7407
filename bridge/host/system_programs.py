"""The system's own programs: where they are, and the encoding of their output."""

from __future__ import annotations

import os
import sys
from pathlib import Path

ENCODING = "oem" if sys.platform == "win32" else "utf-8"
"""Windows' own programs write to files and pipes in the console's code page: in French 850, not the 1252 of others."""


def whole_name(program: str) -> str:
    """The path by which a system program is started. Windows looks for a bare name in the current directory first,
    where anybody may be able to write: the next administrator working there would run a planted `schtasks.exe`."""
    if sys.platform != "win32" or os.path.basename(program) != program:
        return program
    return str(Path(os.environ.get("SYSTEMROOT", r"C:\Windows"), "System32", f"{program}.exe"))
