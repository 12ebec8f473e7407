"""Said: an English sentence with {placeholders} and what stands in them, to be told later in any language.

For what has no row in the table: mistakes in a configuration file, trouble with a store, a port that is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from bridge.advice.base import placeholders

Translate = Callable[[str], str]
"""Translates an English sentence into the reader's language and leaves its {placeholders} untouched."""


@dataclass(frozen=True, slots=True)
class Said:
    """A sentence for people; `str()` is English, for the log."""

    sentence: str
    """The msgid of the catalogues."""
    arguments: tuple[tuple[str, str | Said], ...] = ()
    """Name and value for each placeholder; a value that is a sentence of its own is told in the same language."""

    def __post_init__(self) -> None:
        """Raises: ValueError for arguments that do not fit the sentence."""
        names = {name for name, _ in self.arguments}
        if names != placeholders(self.sentence) or not all(name.isidentifier() for name in names):
            raise ValueError("arguments that do not fit the sentence")

    def told(self, translate: Translate = str) -> str:
        """The whole sentence, in that language."""
        return filled(translate(self.sentence), self.arguments, translate)

    def __str__(self) -> str:
        return self.told()


def said(sentence: str, /, **arguments: object) -> Said:
    """Mark a sentence for scripts/translate.py, which needs it as one literal. Raises: ValueError, see Said."""
    return Said(sentence, tuple((name, as_argument(value)) for name, value in arguments.items()))


def as_said(text: str | Said) -> Said:
    """A text that is not ours, or English for whatever reason, as a sentence that is never translated."""
    return text if isinstance(text, Said) else Said("{text}", (("text", text),))


def quoted(text: str) -> Said:
    """The system's or a library's own words, for which there is no sentence of ours: in the quotes of the language."""
    return said('"{text}"', text=text)


def as_argument(value: object) -> str | Said:
    """The value as it may fill a placeholder."""
    return value if isinstance(value, Said) else str(value)


def filled(sentence: str, arguments: Iterable[tuple[str, str | Said]], translate: Translate) -> str:
    """A translated sentence with its arguments in their places, those that are sentences translated likewise."""
    return sentence.format_map(
        {name: value.told(translate) if isinstance(value, Said) else value for name, value in arguments}
    )
