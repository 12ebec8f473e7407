"""What an upstream's "no" means to a machine; and our own "no", as one line that every client can show."""

from __future__ import annotations

from bridge.advice import mail
from bridge.errors import BridgeError
from bridge.protocols.base import RefusalKind


def kind_of_refusal(text: str) -> RefusalKind:
    """Classify a final "no" to a token. Gmail challenges a bad token and a full house alike: only these words tell."""
    case = mail.recognized(text)
    if case is None or case.blames_token:
        return RefusalKind.TOKEN
    return RefusalKind.BUSY if case.advice.is_temporary else RefusalKind.POLICY


def judged(text: str, trouble: str) -> tuple[RefusalKind, str]:
    """The same behind an error challenge, whose status counts more where it tells of `trouble` (sasl.trouble_in): then
    the answer says "authentication failed" all the same. Returns: kind and words, the status among them."""
    kind = kind_of_refusal(text)
    if kind is RefusalKind.TOKEN and trouble:
        return RefusalKind.BUSY, f"{text} (status {trouble})"
    return kind, text


def readable(words: str) -> str:
    """A server's own words for a person: with nothing in them that a terminal obeys, or writes from right to left.
    Before STARTTLS anybody on the way may say them in its place."""
    return "".join(character if character.isprintable() else " " for character in words)


def public_line(problem: BridgeError) -> str:
    """The sentence for the person behind the mail client: printable ASCII on one line, at most 400 characters."""
    return "".join(c if " " <= c <= "~" else "?" for c in problem.public)[:400]
