"""The programs that the system brings: where they are, and the encoding of what they say."""

from __future__ import annotations

import os
import sys
from pathlib import Path

ENCODING = "oem" if sys.platform == "win32" else "utf-8"
"""Windows' own write a file or a pipe in the code page of its consoles: in French 850, and not the 1252 of the rest."""


def whole_name(program: str) -> str:
    """By which one of them is started. A bare name Windows looks for in the current directory first, which may be
    everybody's: whoever puts a `schtasks.exe` there would be run by the next administrator who stands in it."""
    if sys.platform != "win32" or os.path.basename(program) != program:
        return program
    return str(Path(os.environ.get("SYSTEMROOT", r"C:\Windows"), "System32", f"{program}.exe"))
