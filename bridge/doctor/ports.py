"""The local ports: free, ours, or held by whom."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from socket import socket

from bridge.advice.said import Said
from bridge.config.addresses import LocalAddress
from bridge.config.diff import configured_listeners
from bridge.config.schema import Config
from bridge.control.contract import Finding
from bridge.doctor.findings import failed, ok, problem_text
from bridge.doctor.machine import Holder, Machine
from bridge.errors import BridgeError

Bind = Callable[[str, int, str], list[socket]]
"""Host, port and what for, to listening sockets. Raises: BridgeError naming the remedy."""

OURS = "open: this bridge listens here"
RUNNING = "a bridge is running with this configuration and holds it"
FREE = "free"
HELD = (
    "in use by {program} (process {pid}): stop it, or choose another port under `listeners` or `console` in the "
    "configuration"
)
HELD_BY_USER = (
    "in use by a program of the user {user}: stop it (another mail-bridge?), or choose another port under `listeners` "
    "or `console` in the configuration"
)
EXCLUDED = (
    "Windows keeps the ports {first} to {last} for itself (`netsh int ipv4 show excludedportrange tcp`): choose "
    "another port under `listeners` or `console` in the configuration"
)
VERBATIM = "{problem}"
NO_WORKERS = (
    "only Linux and macOS can have more than one worker: leave `workers` out of the configuration, or set it to 1"
)


def port_findings(
    config: Config, bind: Bind, machine: Machine, *, held: str = "", taken: Collection[tuple[str, int]] | None = None
) -> tuple[Finding, ...]:
    """One for each configured port: opened and closed again, or `held` as the sentence says (OURS, RUNNING).

    Args: taken, protocol (or `console`) and port of those that are held; None for all. Another one may have been
    refused to the bridge that runs, which goes on with the configuration before; its console stays where it is until a
    restart.

    May block for some seconds to find out who holds one. Also for workers that this system cannot have.
    """
    ports = [
        ok("port", _subject(what, door), held)
        if held and (taken is None or (what, door.port) in taken)
        else _tried(what, door, bind, machine)
        for what, door in _doors(config)
    ]
    if config.workers > 1 and machine.platform == "win32":
        ports.append(failed("workers", "", NO_WORKERS))
    return tuple(ports)


def _doors(config: Config) -> Iterator[tuple[str, LocalAddress]]:
    for listener in configured_listeners(config):
        yield listener.protocol.value, listener.address
    yield "console", config.console


def _subject(what: str, door: LocalAddress) -> str:
    return f"{what} {door.address}"


def _tried(what: str, door: LocalAddress, bind: Bind, machine: Machine) -> Finding:
    # The console takes both 127.0.0.1 and ::1, as a browser may look for localhost at either.
    host = "localhost" if what == "console" and door.is_local else door.host
    subject = _subject(what, door)
    try:
        for sock in bind(host, door.port, what):
            sock.close()
    except BridgeError as problem:
        return _refused(subject, door.port, machine, problem_text(problem))
    return ok("port", subject, FREE)


def _refused(subject: str, port: int, machine: Machine, problem: str | Said) -> Finding:
    match machine.holder_of(port):
        case Holder(name=name, pid=int(pid)):
            return failed("port", subject, HELD, program=name or "?", pid=pid)
        case Holder(user=user) if user:
            return failed("port", subject, HELD_BY_USER, user=user)
    for one in machine.excluded_ports():
        if port in one:
            return failed("port", subject, EXCLUDED, first=one.start, last=one.stop - 1)
    return failed("port", subject, VERBATIM, problem=problem)
