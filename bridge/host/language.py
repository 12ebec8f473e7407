"""The language that the user's system speaks."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

_LOCALES: Final = ("LC_ALL", "LC_MESSAGES", "LANG")

_AT_START: Final = {name: os.environ.get(name, "") for name in (*_LOCALES, "LANGUAGE")}
"""The values before we set LANGUAGE ourselves, for the libraries."""


def system_language(environment: Mapping[str, str] = _AT_START) -> str:
    """A locale's name such as `fr_CA.UTF-8`, or several with commas between; empty if the system has no preference.

    Sources: POSIX, Base Definitions section 8.2: the first of the three that is set and not empty counts. GNU gettext's
    manual, section 2.3: LANGUAGE, a list, wins over them, except over the locale C. Windows has none of them, unless
    somebody sets them on purpose; nor has a Mac, except in its Terminal.
    """
    wishes = environment.get("LANGUAGE", "").replace(":", ",")
    for name in _LOCALES:
        if value := environment.get(name):
            return "" if value.partition(".")[0] in {"C", "POSIX"} else wishes or value
    return wishes or _of_desktop()


def have_gettext_speak(language: str) -> None:
    """Set the language of this process by LANGUAGE, which wins over LANG and the like, also on Windows, and which
    Python's gettext reads from os.environ. Programs that we start inherit LANGUAGE as we got it: the browser is no part
    of us, and may know more languages than we do (Chromium and GTK ask LANGUAGE before all else)."""
    os.environ["LANGUAGE"] = language
    if given := _AT_START["LANGUAGE"]:
        os.putenv("LANGUAGE", given)
    else:
        os.unsetenv("LANGUAGE")


def languages_of_mac(preferences: bytes) -> str:
    """`AppleLanguages` of .GlobalPreferences.plist, in the order of System Settings, such as `fr-FR,en-US`."""
    import plistlib  # only needed on a Mac
    from xml.parsers.expat import ExpatError

    try:
        found = plistlib.loads(preferences).get("AppleLanguages", [])
    except (ValueError, AttributeError, ExpatError):
        return ""
    return ",".join(map(str, found)) if isinstance(found, list) else ""


if sys.platform == "win32":

    def _of_desktop() -> str:
        """The language of the user's menus; locale.getlocale() has that of numbers and dates instead."""
        import ctypes
        import locale

        return locale.windows_locale.get(ctypes.windll.kernel32.GetUserDefaultUILanguage(), "")

elif sys.platform == "darwin":

    def _of_desktop() -> str:
        """The person's languages; programs started by launchd, at login or as a service, have no LANG."""
        try:
            return languages_of_mac((Path.home() / "Library/Preferences/.GlobalPreferences.plist").read_bytes())
        except (OSError, RuntimeError):  # a service may have no home
            return ""

else:

    def _of_desktop() -> str:
        return ""
