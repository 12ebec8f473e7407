"""Command lines of ours that are printed to be copied."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

CMDS_SPECIAL = frozenset(" &()[]{}^=;!'+,`~")
"""Characters that need quotes, by Windows' `cmd /?`; PowerShell has fewer."""


def own_program() -> str:
    """How to call this program: by its name where a shell finds it, otherwise by its whole path."""
    script = Path(sys.executable).with_name("mail-bridge.exe" if os.name == "nt" else "mail-bridge")
    if shutil.which(script.stem) is not None or not script.exists():
        return script.stem
    return _quoted(script)


def administrators_program() -> str:
    """The same with an administrator's rights: by its whole path, since sudo has a PATH of its own. On Windows the
    whole command prompt has these rights."""
    if os.name == "nt":
        return own_program()
    script = Path(sys.executable).with_name("mail-bridge")
    return f"sudo {_quoted(script) if script.exists() else script.name}"


def with_config(program: str, config: Path | None) -> str:
    """The program with the configuration that somebody has named; None where it finds it by itself."""
    return program if config is None else f"{program} --config {_quoted(config)}"


def _quoted(path: Path) -> str:
    """As one word of a shell."""
    if os.name == "nt":
        return f'"{path}"' if CMDS_SPECIAL & set(str(path)) else str(path)
    return shlex.quote(str(path))
