"""What ends a start: something that a bridge needs is missing, for now or until somebody acts."""

from __future__ import annotations

import socket

from bridge.advice.said import said
from bridge.errors import BridgeError
from bridge.shortage import may_pass


class CannotStart(BridgeError):
    """Something the bridge needs at start is missing, and somebody must act first: the key, the store, a right."""


class NoIconAlone(CannotStart):
    """There can be no icon for a bridge that is another program, and does not need it."""


class CannotStartNow(CannotStart):
    """It may be there a while later, such as a port that another program has: a service manager shall try again."""


def refuse_if_incomplete() -> None:
    """Now, and not with the first refresh at night. Raises: CannotStart."""
    from bridge.host.packages import missing

    if lacking := missing():
        raise CannotStart(
            said(
                "mail-bridge is not installed completely: {packages} cannot be found. Install it again.",
                packages=", ".join(lacking),
            )
        )


def bind_or_stop(host: str, port: int, what: str) -> list[socket.socket]:
    """Listen there. Raises: CannotStart, which names the remedy."""
    from bridge.host.sockets import PortInUse, bind

    try:
        return bind(host, port, what=what)
    except PortInUse as problem:
        raise ends_the_start(problem) from problem


def ends_the_start(problem: BridgeError) -> CannotStart:
    """By its cause: for now, or until somebody has changed something."""
    kind = CannotStartNow if may_pass(problem.__cause__) else CannotStart
    return kind(problem.words)
