"""Every sentence of the tray is translated, as a whole and not in pieces."""

from __future__ import annotations

import asyncio
import io
import re
import sys
from functools import cache
from pathlib import Path

import pytest
from babel.messages.pofile import read_po

from bridge.advice.diagnosis import Diagnosis
from bridge.control.contract import AccountState
from bridge.ui import i18n
from bridge.ui.tray import icon
from bridge.ui.tray.view import PASSWORDS, SHOWN, Action, CopyPassword, Entry, OpenPage, Quit, SetAutostart, view
from tests.ui.tray.test_tray import ALICE, SECONDS, FakeBridge, World
from tests.ui.tray.test_view import status


@cache
def french() -> re.Pattern[str]:
    """Matches each French sentence of the tray, with anything in its places."""
    strings: list[str] = []
    with (i18n.LOCALE / "fr" / "LC_MESSAGES" / f"{i18n.DOMAIN}.po").open("rb") as stream:
        for message in read_po(stream):
            if message.id and any(file.startswith("bridge/ui/tray/") for file, _ in message.locations):
                strings += [message.string] if isinstance(message.string, str) else [*(message.string or ())]
    assert len(strings) > 20
    return re.compile("|".join(re.sub(r"\\\{\w+\\\}", ".+", re.escape(string)) for string in strings))


def labels(entries: tuple[Entry, ...]) -> list[str]:
    """What is to be read in a menu and those below it, apart from the addresses alone."""
    return [
        label
        for entry in entries
        for label in (entry.label, *labels(entry.children))
        if label and not re.fullmatch(r"\S+@example\.com", label)
    ]


@pytest.mark.parametrize("is_own", [False, True])
@pytest.mark.parametrize("is_alone", [False, True])
def test_the_menu(is_alone: bool, is_own: bool) -> None:
    ready, troubled = AccountState.READY, AccountState.TROUBLE
    found = [
        None,
        status(),
        status(*AccountState, warnings=(Diagnosis.of("setup.first"),)),
        *(status(*[state] * number) for state in AccountState for number in (1, 2, SHOWN + 1, PASSWORDS + 1)),
        status(*[ready] * SHOWN, *[troubled] * (SHOWN + 2)),
    ]
    i18n.speak("fr")
    try:
        views = [view(one, starts_at_login=False, is_alone=is_alone, is_own=is_own) for one in found]
    finally:
        i18n.speak("en")
    for text in [text for seen in views for text in (seen.line, *labels(seen.menu))]:
        assert french().fullmatch(text), text


async def test_the_notifications(log: io.StringIO) -> None:
    i18n.speak("fr")
    many, one = World(), World()
    one.bridge = FakeBridge(ALICE, clock=one.clock)
    chosen: list[tuple[Exception | None, Action]] = [
        (None, OpenPage("http://evil.example/")),
        (None, CopyPassword(ALICE)),
        (OSError(13, "Permission denied"), CopyPassword(ALICE)),
        (OSError(13, "Permission denied"), SetAutostart(True)),
        (ValueError("a bug of ours"), SetAutostart(True)),
    ]
    async with asyncio.timeout(SECONDS), asyncio.TaskGroup() as group:
        for world in (many, one):
            group.create_task(world.tray.run(world.connect))
            await world.person.until(lambda: bool(world.person.told))  # noqa: B023  waits within the round
        for number, (problem, action) in enumerate(chosen, start=2):
            one.person.problem = problem
            await one.choose(action)
            await one.person.until(lambda: len(one.person.told) == number)  # noqa: B023  the same
        for world in (many, one):
            world.tray.choose(Quit())
    told = [*many.person.told, *one.person.told]
    assert len({said.title for said in told}) == 2 + len(chosen)
    for text in [text for said in told for text in (said.title, said.text, said.button) if text]:
        assert french().fullmatch(text), text


def refused() -> str:
    """The French sentence for why there can be no icon."""
    i18n.speak("fr")
    try:
        with pytest.raises(icon.NoTray) as caught:
            icon.Icon()
    finally:
        i18n.speak("en")
    return str(caught.value)


def test_what_is_missing_is_installed_by_a_command_of_this_system(monkeypatch: pytest.MonkeyPatch) -> None:
    """On Windows `python3` opens the Microsoft Store, whose Python we cannot use."""
    monkeypatch.setenv("PYSTRAY_BACKEND", "dummy")
    monkeypatch.setitem(sys.modules, "pystray", None)
    command = r"py scripts\run.py tray" if sys.platform == "win32" else "python3 scripts/run.py tray"
    assert f"`{command}`" in refused()
    assert french().fullmatch(refused())


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the toolkit is part of the system")
def test_a_toolkit_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYSTRAY_BACKEND", raising=False)
    monkeypatch.setitem(sys.modules, "gi", None)
    assert "apt install python3-gi" in refused()
    assert french().fullmatch(refused())


def test_a_toolkit_that_does_not_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As pystray says it where there is no desktop."""
    (tmp_path / "pystray.py").write_text("raise ImportError('no display')\n")
    monkeypatch.setenv("PYSTRAY_BACKEND", "dummy")
    monkeypatch.delitem(sys.modules, "pystray", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "mail-bridge run" in refused()
    assert french().fullmatch(refused())
