"""Diagnosis: a row of the table, what it is about in this case, and the other side's own words."""

from __future__ import annotations

from dataclasses import dataclass

from bridge.advice.base import Advice
from bridge.advice.said import Said, Translate, filled
from bridge.advice.table import ADVICE


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One case of a problem; every user interface can tell it in the reader's language."""

    key: str
    """Of the row of advice.table."""
    arguments: tuple[tuple[str, str | Said], ...] = ()
    """Name and value for each placeholder of the sentence, by name."""
    words: str | Said = ""
    """The provider's or the mail server's own words, without secrets: for forwarding, and all that we know of an
    unknown code. A Said where they are our own: about a file that cannot be read, or a network that is not there."""

    def __post_init__(self) -> None:
        """Raises: ValueError for an unknown key, or arguments that do not fit its sentence."""
        if self.key not in ADVICE:
            raise ValueError("unknown advice")
        names = [name for name, _ in self.arguments]
        if names != sorted(self.advice.placeholders):
            raise ValueError("arguments that do not fit the advice")

    @classmethod
    def of(cls, key: str, words: str | Said = "", **known: str | Said) -> Diagnosis:
        """Make one with those of the known arguments that the sentence needs. Raises: ValueError if one is missing."""
        wanted = sorted(ADVICE[key].placeholders)
        return cls(key, tuple((name, known[name]) for name in wanted if name in known), words)

    @property
    def advice(self) -> Advice:
        """The row of the table."""
        return ADVICE[self.key]

    def sentence(self, translate: Translate = str) -> str:
        """Our sentence alone."""
        return filled(translate(self.advice.sentence), self.arguments, translate)

    def told(self, translate: Translate = str) -> str:
        """Our sentence, then the other side's own words in brackets."""
        words = self.words.told(translate) if isinstance(self.words, Said) else self.words
        return f"{self.sentence(translate)} ({words})" if words else self.sentence(translate)
