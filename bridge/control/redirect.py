"""What a provider's redirect may carry: from a query, from a form, or from an address that a person has copied."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import parse_qsl

PARAMETERS = frozenset(
    {
        *("code", "state", "error", "error_description", "error_uri"),  # RFC 6749 sections 4.1.2 and 4.1.2.1
        "iss",  # RFC 9207
        "session_state",  # OpenID Connect Session Management
        *("client_info", "error_subcode"),  # Microsoft
        *("scope", "authuser", "hd", "prompt"),  # Google
    }
)
"""The parameters that are passed on; all others are dropped."""

VALUE_LIMIT = 16 * 1024
"""Characters. Microsoft's codes have 1,000 to 2,000; as a form they may grow with the person's groups."""

FIELDS = 50
"""A provider's answer has about five."""

NO_ANSWER = (
    "This is not the address at which the browser ended: that one begins with the redirect URI "
    "(http://localhost:3017/?…) and contains code= and state=. Copy all of it from the browser's address bar, even if "
    "the page shows an error."
)


def fields_of(text: str) -> list[tuple[str, str]] | None:
    """The fields of a query or a form's body; None if there are too many or they are not UTF-8."""
    try:
        return parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=FIELDS)
    except ValueError:
        return None


def accepted(fields: list[tuple[str, str]] | None) -> Mapping[str, str] | None:
    """OAuth's parameters, each once (RFC 6749 section 3.1) and bounded; None if this is no answer of a provider."""
    found: dict[str, str] = {}
    for name, value in fields or []:
        if name not in PARAMETERS:
            continue
        if name in found or len(value) > VALUE_LIMIT:
            return None
        found[name] = value
    return found if found.get("state") and ("code" in found or "error" in found) else None


def pasted(text: str) -> Mapping[str, str]:
    """The parameters in an address that was copied from a browser, where the redirect could not reach us.

    Quotes around it do not matter, nor line breaks, which mail programs and terminals put in; what is in front of the
    question mark does not either: the state tells which sign-in is meant. Raises: ValueError with a sentence.
    """
    line = re.sub(r"\s+", "", text).strip("\"'<>«»")
    found = accepted(fields_of(line.partition("?")[2].partition("#")[0]))
    if found is None:
        raise ValueError(NO_ANSWER)
    return found
