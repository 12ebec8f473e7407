"""Every sentence is translated as a whole, not in pieces."""

from __future__ import annotations

import inspect
import sys

from bridge.ui.tray.words import Notification, Words

ARGUMENTS = {
    "address": "alice@example.com",
    "url": "http://localhost:3017/sign-in/alice@example.com",
    "count": 7,
    "reason": "Permission denied",
}


def test_every_sentence_can_be_translated_and_its_places_are_filled() -> None:
    asked: list[str] = []

    def say(sentence: str) -> str:
        asked.append(sentence)
        return f"«{sentence}»"

    words = Words(say, lambda one, many, number: say(many))
    names = [name for name, _ in inspect.getmembers(Words, inspect.isfunction) if not name.startswith("_")]
    assert len(names) > 20
    for name in names:
        method = getattr(words, name)
        asked.clear()
        said = method(**{parameter: ARGUMENTS[parameter] for parameter in inspect.signature(method).parameters})
        texts = (
            [text for text in (said.title, said.text, said.button) if text]
            if isinstance(said, Notification)
            else [said]
        )
        for text in texts:
            assert "{" not in text, name
            assert (text.startswith("«") and text.endswith("»") and text.count("«") == 1) or text == "Permission denied"
        assert len(asked) == sum(text.startswith("«") for text in texts), "a sentence in pieces"


def test_what_is_missing_is_installed_by_a_command_of_this_system() -> None:
    """On Windows `python3` opens the Microsoft Store, whose Python we cannot use."""
    command = r"py scripts\run.py tray" if sys.platform == "win32" else "python3 scripts/run.py tray"
    assert f"`{command}`" in Words().no_extra()
