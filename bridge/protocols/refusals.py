"""What kind of refusal an upstream's "no" is; and our own "no", as one line that every client can show."""

from __future__ import annotations

from bridge.advice import mail
from bridge.errors import BridgeError
from bridge.protocols.base import RefusalKind

WORDS_LIMIT = 1000
"""Characters of a server's words that are told: Gmail's longest refusal has 300. Each login that is refused would log
up to 32 KB otherwise."""


def kind_of_refusal(text: str) -> RefusalKind:
    """Classify a final "no" to a token by its words: Gmail sends the same error challenge for a bad token and for too
    many connections."""
    case = mail.recognized(text)
    if case is None or case.blames_token:
        return RefusalKind.TOKEN
    return RefusalKind.BUSY if case.advice.is_temporary else RefusalKind.POLICY


def judged(text: str, trouble: str) -> tuple[RefusalKind, str]:
    """The same after an error challenge. A status in it that tells of `trouble` at the server (sasl.trouble_in) counts
    more than the final answer, which says "authentication failed" even then. Returns: kind and words, with the
    status."""
    kind = kind_of_refusal(text)
    if kind is RefusalKind.TOKEN and trouble:
        return RefusalKind.BUSY, f"{text} (status {trouble})"
    return kind, text


def readable(words: str) -> str:
    """A server's own words, made safe to show: without terminal control sequences and right-to-left marks, and no
    more than anybody reads. Before STARTTLS anybody on the network path may have written them."""
    return "".join(character if character.isprintable() else " " for character in words[:WORDS_LIMIT])


def public_line(problem: BridgeError) -> str:
    """The sentence for the person behind the mail client: printable ASCII on one line, at most 400 characters."""
    return "".join(c if " " <= c <= "~" else "?" for c in problem.public)[:400]
