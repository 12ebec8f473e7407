"""Listening sockets: all that an address needs or none, exclusively ours, and a sentence for each way it can fail."""

from __future__ import annotations

import errno
import os
import socket
import sys

from bridge.advice.said import Said, said
from bridge.advice.system import system_reason
from bridge.errors import BridgeError

BACKLOG = 512
"""Connections that the kernel queues for us; at its start a mail program opens dozens at once, and shows a refusal."""

TRIES = 20
"""For `localhost` and port 0: how often a port that is free at 127.0.0.1 may turn out to be taken at ::1."""

ANSWER_SECONDS = 1.0
"""The kernel itself accepts for a listening program; Windows takes two seconds for a port on which nobody listens."""

LOWEST_FREE_PORT = 1024
"""Below it a port needs a privilege on most systems."""

_NO_IPV6 = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT}
"""What a machine without IPv6 says when asked for ::1; which one depends on how it was switched off."""


class PortInUse(BridgeError):
    """An address cannot be listened on: taken, forbidden, or not of this machine. The text names the remedy."""


def bind(address_host: str, port: int, *, what: str) -> list[socket.socket]:
    """Listen at the address; `localhost` means 127.0.0.1 and, where the machine has IPv6, ::1 at the same port.

    Args: what, for the error's text: "console", "imap listener". Port 0 takes a free port.
    Returns: non-blocking listening sockets, to be closed by the caller.
    Raises: PortInUse, with every socket bound so far closed again.
    """
    if address_host.lower() != "localhost":
        return [_listen(address_host, port, what)]
    for _ in range(TRIES):
        first = _listen("127.0.0.1", port, what)
        try:
            # The same port at ::1 as well, or another program there would get half of the connections to localhost.
            return [first, _listen("::1", first.getsockname()[1], what)]
        except PortInUse as error:
            cause = error.__cause__
            if isinstance(cause, OSError) and cause.errno in _NO_IPV6:
                return [first]
            first.close()
            if port != 0 or not (isinstance(cause, OSError) and cause.errno == errno.EADDRINUSE):
                raise
        except BaseException:
            first.close()
            raise
    raise PortInUse(
        said(
            "localhost ({what}): no port is free both at 127.0.0.1 and at ::1; name one in the configuration", what=what
        )
    )


def answers(host: str, port: int) -> bool:
    """True if a program listens at this address of the machine's own."""
    try:
        socket.create_connection((host, port), timeout=ANSWER_SECONDS).close()
    except OSError:
        return False
    return True


def _listen(host: str, port: int, what: str) -> socket.socket:
    try:
        family, address = _resolved(host, port)
        listening = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise PortInUse(explain(error, host, port, what=what)) from error
    try:
        _set_options(listening)
        listening.bind(address)
        listening.listen(BACKLOG)  # on Linux two sockets with SO_REUSEADDR may bind; only here the second one fails
        listening.setblocking(False)
    except OSError as error:
        listening.close()
        raise PortInUse(explain(error, host, port, what=what)) from error
    return listening


def _resolved(host: str, port: int) -> tuple[socket.AddressFamily, tuple[str, int] | tuple[str, int, int, int]]:
    """A literal address, or a name of this machine; only the first result, since a listener is one address."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except UnicodeError as error:  # such as a label over 63 characters, which does not get as far as the resolver
        raise socket.gaierror(socket.EAI_NONAME, str(error)) from error
    family, _, _, _, address = found[0]
    return family, address  # type: ignore[return-value]  # bytes only where Python was built without IPv6


def _set_options(listening: socket.socket) -> None:
    if sys.platform == "win32":
        # There SO_REUSEADDR lets any program take a port that we are listening on, and read the passwords.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
    else:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # otherwise a restart must wait for TIME_WAIT
    if listening.family == socket.AF_INET6:
        listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # `::` leaves 0.0.0.0 alone, on every system


def explain(error: OSError, host: str, port: int, *, what: str, is_windows: bool = os.name == "nt") -> Said:
    """One sentence for the admin: which address, what is the matter, what to change."""
    place = f"{f'[{host}]' if ':' in host else host}:{port} ({what})"
    if error.errno == errno.EADDRINUSE and what == "console":  # maybe a service that everybody's mail goes through
        return said(
            "{place} is in use by another program. If that is the mail-bridge of another user, such as a service's, "
            "let it run, and run mail-bridge's commands as docs/guides/en/terminal-server.md shows: on Linux with "
            "sudo. Otherwise stop it (a mail-bridge of your own?), or choose another port under `console` in the "
            "configuration",
            place=place,
        )
    if error.errno == errno.EADDRINUSE:
        return said(
            "{place} is in use by another program; stop it (another mail-bridge?), or choose another port under "
            "`listeners` or `console` in the configuration",
            place=place,
        )
    if error.errno == errno.EACCES and is_windows:
        # WSAEACCES (10013) stands for a reserved port and for one that another program holds exclusively.
        return said(
            "{place} is reserved by Windows or by another program (error 10013); `netsh int ipv4 show "
            "excludedportrange tcp` shows the ranges of Windows; choose another port under `listeners` or `console` in "
            "the configuration",
            place=place,
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return _forbidden(place, port)
    if isinstance(error, socket.gaierror):
        return said(
            "{place}: the name {host} has no address; write one such as 127.0.0.1 in the configuration",
            place=place,
            host=host,
        )
    if error.errno in _NO_IPV6:
        return said(
            "{place}: this machine has no such address; use 127.0.0.1, or one that it has, in the configuration",
            place=place,
        )
    return said("mail-bridge cannot listen on {place}: {reason}", place=place, reason=system_reason(error))


def _forbidden(place: str, port: int) -> Said:
    if port < LOWEST_FREE_PORT:
        return said(
            "{place} may not be used: a port below {lowest} needs a privilege; choose another port under `listeners` "
            "or `console` in the configuration",
            place=place,
            lowest=LOWEST_FREE_PORT,
        )
    return said(
        "{place} may not be used: the system forbids it; choose another port under `listeners` or `console` in the "
        "configuration",
        place=place,
    )
