"""This machine, for the doctor: open files, browser, ports."""

from __future__ import annotations

import sys
import webbrowser

from bridge.doctor.machine import Machine
from bridge.host.holders import excluded_ports, holder_of


def this_machine() -> Machine:
    """What there is to ask of the operating system."""
    return Machine(holder_of, excluded_ports, descriptor_limit, browser)


def descriptor_limit() -> int | None:
    """RLIMIT_NOFILE of this process; None on Windows, whose sockets have no such limit."""
    if sys.platform == "win32":
        return None
    import resource  # not on Windows

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft


def browser() -> str | None:
    """The default browser's name; None if there is none to start, as in a service."""
    try:
        found = webbrowser.get()
    except webbrowser.Error:
        return None
    return str(getattr(found, "name", "")) or type(found).__name__
