"""What an upstream's "no" means, by its words; and our own "no", as one line that every client can show."""

from __future__ import annotations

import re

from bridge.errors import BridgeError
from bridge.protocols.base import RefusalKind

_BUSY = re.compile(
    r"\[(?:UNAVAILABLE|LIMIT|INUSE|SERVERBUG|OVERQUOTA|THROTTLED|SYS/TEMP|IN-USE|LOGIN-DELAY)[ \]]"
    r"|too many|throttl|temporar|try again|backoff|concurrent connections|system error|server busy|shutting down",
    re.IGNORECASE,
)
"""Gmail: "[ALERT] Too many simultaneous connections"; Exchange: "Request is throttled. Suggested Backoff Time"."""

_POLICY = re.compile(
    r"\[(?:AUTHORIZATIONFAILED|CONTACTADMIN|NOPERM|PRIVACYREQUIRED|EXPIRED|CANNOT|SYS/PERM|WEBALERT)[ \]]"
    r"|5\.7\.139|5\.7\.30\b|SmtpClientAuthentication is disabled|(?:is|are|been) (?:disabled|blocked)|not enabled"
    r"|authenticated but not connected|security defaults|conditional access|via your web browser|web login required",
    re.IGNORECASE,
)
"""A setting of the mailbox, the tenant or the domain; a new token would meet the same answer."""


def kind_of_refusal(text: str) -> RefusalKind:
    """Classify a final "no" to a token. Gmail challenges a bad token and a full house alike: only these words tell."""
    if _POLICY.search(text):
        return RefusalKind.POLICY
    if _BUSY.search(text):
        return RefusalKind.BUSY
    return RefusalKind.TOKEN


def public_line(problem: BridgeError) -> str:
    """The sentence for the person behind the mail client: printable ASCII on one line, at most 400 characters."""
    return "".join(c if " " <= c <= "~" else "?" for c in problem.public)[:400]
