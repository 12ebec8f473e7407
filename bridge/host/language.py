"""The language that the user's system speaks."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping


def system_language(environment: Mapping[str, str] = os.environ) -> str:
    """A locale's name such as `fr_CA.UTF-8`; empty if the system has no wish.

    Source: POSIX, Base Definitions section 8.2: the first of the three that is set and not empty counts. Windows has
    none of them, unless somebody sets them on purpose.
    """
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        if value := environment.get(name):
            return "" if value.partition(".")[0] in {"C", "POSIX"} else value
    return _of_windows()


if sys.platform == "win32":

    def _of_windows() -> str:
        """The language of the user's menus, which is not the one of numbers and dates that locale.getlocale() has."""
        import ctypes
        import locale

        return locale.windows_locale.get(ctypes.windll.kernel32.GetUserDefaultUILanguage(), "")

else:

    def _of_windows() -> str:
        return ""
