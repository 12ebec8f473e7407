"""The last resort: removes what looks like a secret from everything that is logged. A Secret itself prints nothing."""

from __future__ import annotations

import re
from typing import Any

_SUSPICIOUS = re.compile(
    r"(?i)(?P<name>\b(?:auth=bearer|bearer|access_token|refresh_token|id_token|client_secret|code_verifier|code|password|passwd|assertion)"
    r"[\"']?(?:\s*+[=:]\s*+|(?=[^\S ]*+ )\s++)[\"']?)(?P<value>[^\s\"'&,;}]{6,})"
    r"|(?P<jwt>\beyJ[\w-]{8,}+\.[\w-]{8,}+\.[\w-]*)"
    r"|(?P<google>\b(?:ya29\.|1//|GOCSPX-)[\w.-]{8,})"
    r"|(?P<sasl>\b(?:dXNlcj|bixhP)[\w+/=]{24,})"
)
"""What a secret looks like when a library prints it: a named value, a JWT, Google's tokens, an XOAUTH2 or
OAUTHBEARER response (`user=…`, `n,a=…` in base64). The separator of a name and its value (signs, or whitespace with a
space in it) is matched without backtracking (`++`): a user name of 8,000 spaces held up everybody for nine seconds."""

_SHORTEST = 11
"""Characters of the shortest text that _SUSPICIOUS finds anything in."""
_OURS = frozenset({"timestamp", "level", "conn", "protocol", "client", "upstream", "ended_by"})
"""Fields whose values we make ourselves; they hold nobody else's words and nobody's name."""


def scrub(fields: dict[str, Any]) -> dict[str, Any]:
    """Replace what looks like a secret, in every text of the event."""
    for key, value in fields.items():
        if isinstance(value, str) and len(value) >= _SHORTEST and key not in _OURS:
            fields[key] = scrubbed(value)
    return fields


def scrubbed(text: str) -> str:
    """The text without what looks like a secret."""
    return _SUSPICIOUS.sub(lambda m: (m["name"] or "") + "…", text)
