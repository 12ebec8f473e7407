"""Sentences for people in their language: which language that is, and gettext's catalogues in ui/locale.

The language belongs to the context: the console sets it for each request, a command once. English is what stands in the
code; `say()` marks a sentence for scripts/translate.py, which gathers them, those of the table of advice too.
"""

from __future__ import annotations

import gettext
import re
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Final, Literal

from bridge.advice.base import Turn
from bridge.advice.diagnosis import Diagnosis
from bridge.advice.said import Translate
from bridge.errors import AuthorizationRequired, BridgeError, ConfigError

Language = Literal["en", "fr"]

DOMAIN: Final = "mail-bridge"
"""The catalogues' file name."""
LOCALE: Final = Path(__file__).with_name("locale")
"""Where they are, as gettext has it."""

RANGES: Final = 20
"""Languages of an Accept-Language header that are looked at; browsers send two to six."""

_spoken: ContextVar[Language] = ContextVar("language", default="en")

_RANGE: Final = re.compile(r"\s*([A-Za-z]{2,3})(?![A-Za-z])[^;]*(?:;\s*[qQ]=([01](?:\.\d{0,3})?)\s*)?")


def choose(configured: str, wanted: str) -> Language:
    """The language to speak.

    Args: configured, `language` of the configuration; wanted, where that is `auto`: an Accept-Language header (RFC 9110
    section 12.5.4) or a locale such as `fr_CA.UTF-8`.
    """
    if configured in ("en", "fr"):
        return "fr" if configured == "fr" else "en"
    best: Language = "en"
    weight = 0.0
    for part in wanted.split(",")[:RANGES]:
        found = _RANGE.fullmatch(part)
        if found is not None and found[1].lower() in ("en", "fr") and float(found[2] or 1) > weight:
            best, weight = ("fr" if found[1].lower() == "fr" else "en"), float(found[2] or 1)
    return best


def speak(language: Language) -> None:
    """From now on, in this context."""
    _spoken.set(language)


def spoken() -> Language:
    """The language of this context."""
    return _spoken.get()


def say(sentence: str) -> str:
    """The sentence in the language of this context, its placeholders untouched; without a translation as it is."""
    return _catalogue(_spoken.get()).gettext(sentence) if sentence else ""  # gettext has its header under ""


def translation(language: Language) -> Translate:
    """The translation for sentences that are told outside of any context: to the scripts of `notify`."""
    return lambda sentence: _catalogue(language).gettext(sentence) if sentence else ""


def say_number(one: str, many: str, number: int) -> str:
    """The same for a sentence with a number in it."""
    return _catalogue(_spoken.get()).ngettext(one, many, number)


def tell(english: str, diagnosis: Diagnosis | None) -> str:
    """The diagnosis in the language of this context; without one, the English text."""
    return diagnosis.told(say) if diagnosis is not None else english


def tell_problem(problem: BridgeError) -> str:
    """One of our errors in the language of this context."""
    if isinstance(problem, AuthorizationRequired) and problem.diagnosis is not None:
        reason = problem.diagnosis.told(say)
        return say("{address} must sign in: open {url} ({reason})").format(
            address=problem.address, url=problem.url, reason=reason
        )
    if isinstance(problem, ConfigError):
        return "\n".join(sentence.told(say) for sentence in problem.sentences)
    diagnosis, text = problem.diagnosis, problem.said
    if text is not None and (diagnosis is None or diagnosis.words is not text):
        return text.told(say)
    return tell(str(problem), diagnosis)  # the diagnosis, which says whose turn it is, with the text behind it


def forwarding(turn: Turn) -> str:
    """Whom to give a text to that the reader cannot act on; empty if they can, or if nobody has to act."""
    match turn:
        case Turn.APP_ADMIN:
            return say("Please forward this to the administrator of mail-bridge.")
        case Turn.TENANT_ADMIN:
            return say("Please forward this to your organization's mail administrator.")
        case Turn.USER | Turn.NOBODY:
            return ""


@cache
def _catalogue(language: Language) -> gettext.NullTranslations:
    if language == "en":
        return gettext.NullTranslations()
    with (LOCALE / language / "LC_MESSAGES" / f"{DOMAIN}.mo").open("rb") as stream:
        return gettext.GNUTranslations(stream)
