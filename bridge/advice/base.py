"""What a row of the table says: Advice, and whose Turn it is."""

from __future__ import annotations

import string
from dataclasses import dataclass
from enum import Enum
from typing import Literal

Level = Literal["info", "warning", "error"]
"""The level of the log line: info passes by itself or was a person's wish, warning stops one account, error many."""


class Turn(str, Enum):
    """Who can fix the problem."""

    NOBODY = "nobody"
    """Waiting helps."""
    USER = "user"
    """The person whose mailbox it is, or their mail program's settings."""
    APP_ADMIN = "app-admin"
    """Whoever manages the app registration at the provider and our YAML file."""
    TENANT_ADMIN = "tenant-admin"
    """Whoever manages the organization's Exchange, Entra or Google Workspace, or the mail server."""


@dataclass(frozen=True, slots=True)
class Advice:
    """A kind of problem, and who must do what about it."""

    key: str
    """Its name, for the wire and the log; never shown to a person."""
    turn: Turn
    is_temporary: bool
    """True if the same attempt may succeed later without anybody changing anything."""
    level: Level
    sentence: str
    """English, for people: what has happened, whose turn it is, what to do. The msgid of the catalogues."""

    @property
    def placeholders(self) -> frozenset[str]:
        """Names in braces in the sentence."""
        return placeholders(self.sentence)


def placeholders(sentence: str) -> frozenset[str]:
    """Names in braces, in a sentence or its translation. Raises: ValueError for an unmatched brace."""
    return frozenset(name for _, name, _, _ in string.Formatter().parse(sentence) if name is not None)
