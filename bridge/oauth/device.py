"""What all device sign-ins have in common (RFC 8628): how long a code lives, how often it is asked about."""

from __future__ import annotations

from bridge.errors import AuthorizationFailed
from bridge.oauth.failures import not_signed_in

LONGEST_LIFE = 900.0
"""Seconds. A user code that somebody was talked into typing signs a stranger in, so whatever an answer says, none is
good for longer here (RFC 8628 section 5.4)."""

SHORTEST_INTERVAL = 0.2
"""Seconds between two polls: an answer of 0 must not become a loop without a pause."""


def expired() -> AuthorizationFailed:
    """Nobody has typed the code in time: by our own clock, or by the provider's word (`expired_token`)."""
    return not_signed_in("device.expired", "expired")


def is_link(url: object) -> bool:
    """It is shown to people as a link, so it must be one."""
    return isinstance(url, str) and url.startswith("https://") and url.isprintable() and " " not in url
