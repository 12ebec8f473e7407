"""Maps our errors to reply codes and enhanced status codes (RFC 4954 section 6, RFC 3463)."""

from __future__ import annotations

from bridge.errors import BridgeError, BridgeStops, LimitReached, StoreCorrupt
from bridge.protocols.refusals import public_line


def refusal_reply(problem: BridgeError) -> str:
    """The reply to AUTH, without its line end."""
    match problem:
        case BridgeStops():
            code = "421 4.3.2"  # RFC 3463 section 3.4: a shutdown
        case LimitReached():
            code = "421 4.7.0"
        case StoreCorrupt():
            code = "454 4.7.0"  # temporary, so that the mail stays in the client's outbox until the admin has mended it
        case _:
            code = "454 4.7.0" if problem.temporary else "535 5.7.8"
    return f"{code} {public_line(problem)}"
