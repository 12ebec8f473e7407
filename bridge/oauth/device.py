"""What all device sign-ins have in common (RFC 8628): how long a code lives, how often we poll."""

from __future__ import annotations

from bridge.errors import AuthorizationFailed
from bridge.oauth.failures import not_signed_in

LONGEST_LIFE = 900.0
"""Seconds. Whoever talks a person into typing a user code gets signed in as that person, so here no code is valid for
longer than this, whatever the answer says (RFC 8628 section 5.4)."""

SHORTEST_INTERVAL = 0.2
"""Seconds between two polls: an interval of 0 in the answer must not make us poll without a pause."""


def expired() -> AuthorizationFailed:
    """Nobody has typed the code in time, by our own clock or because the provider says so (`expired_token`)."""
    return not_signed_in("device.expired", "expired")


def is_link(url: object) -> bool:
    """True for an https URL that can be shown to people as a link."""
    return isinstance(url, str) and url.startswith("https://") and url.isprintable() and " " not in url
