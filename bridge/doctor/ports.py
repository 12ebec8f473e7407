"""The local ports: free, ours, or held by whom."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from socket import socket

from bridge.advice.said import Said
from bridge.config.addresses import LocalAddress
from bridge.config.diff import configured_listeners
from bridge.config.schema import Config
from bridge.control.contract import Finding, Outcome
from bridge.doctor.findings import VERBATIM, failed, ok, problem_text, warning
from bridge.doctor.machine import Holder, Machine
from bridge.errors import BridgeError

Bind = Callable[[str, int, str], list[socket]]
"""Opens listening sockets, given host, port and purpose. Raises: BridgeError naming the remedy."""

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
CONSOLE_HELD = (
    "in use by {program} (process {pid}). If that is the mail-bridge of another user, such as a service's, let it run, "
    "and run mail-bridge's commands as docs/guides/en/terminal-server.md shows: on Linux with sudo. Otherwise stop it, "
    "or choose another port under `console` in the configuration"
)
CONSOLE_HELD_BY_USER = (
    "in use by a program of the user {user}. If that is a mail-bridge, such as a service's, let it run, and run "
    "mail-bridge's commands as docs/guides/en/terminal-server.md shows: on Linux with sudo. Otherwise stop it, or "
    "choose another port under `console` in the configuration"
)
HELD_WITH_CONSOLE = (
    "in use by {program} (process {pid}), which has the console's port as well: see there for what to do"
)
HELD_WITH_CONSOLE_BY_USER = (
    "in use by a program of the user {user}, who has the console's port as well: see there for what to do"
)
EXCLUDED = (
    "Windows reserves the ports {first} to {last} for itself (`netsh int ipv4 show excludedportrange tcp`): choose "
    "another port under `listeners` or `console` in the configuration"
)
BESIDE = (
    "another program listens at {place}: a mail program that is told `localhost` may try that address first, and tell "
    "it the local password. Write localhost:{port} in place of {address} under `listeners`"
)
NO_WORKERS = (
    "only Linux and macOS can have more than one worker: leave `workers` out of the configuration, or set it to 1"
)


OTHER_HALF = {"127.0.0.1": "::1", "::1": "127.0.0.1"}
"""For each address that `localhost` means, the other one."""


@dataclass(frozen=True, slots=True)
class Words:
    """The sentences for a port that somebody else holds."""

    of_program: str
    of_user: str
    """For a program of which only its user is known."""


WordsFor = Callable[[Holder], Words]

_ALONE = Words(HELD, HELD_BY_USER)
_CONSOLE = Words(CONSOLE_HELD, CONSOLE_HELD_BY_USER)
_WITH_CONSOLE = Words(HELD_WITH_CONSOLE, HELD_WITH_CONSOLE_BY_USER)


def port_findings(
    config: Config, bind: Bind, machine: Machine, *, held: str = "", taken: Collection[tuple[str, int]] | None = None
) -> tuple[Finding, ...]:
    """One for each configured port: opened and closed again, or, if we hold it, the sentence `held` (OURS, RUNNING).

    Args: taken, protocol (or `console`) and port of those that are held; None for all. A configured port may not be
    among them: if it was refused to the running bridge, that goes on with the configuration before; and its console
    stays where it is until a restart.

    Where no bridge is known to run, the program on the console's port may be a bridge that this user cannot ask: nobody
    is told to stop it, since it may be a service that everybody's mail goes through.

    Also warns of another program that gets some of the connections to `localhost`, and reports workers where this
    system cannot have them. May block for some seconds to find out who holds a port.
    """

    def row(what: str, place: LocalAddress, words_for: WordsFor) -> Finding:
        if held and (taken is None or (what, place.port) in taken):
            return ok("port", _subject(what, place), held)
        return _tried(what, place, bind, machine, words_for)

    console = row("console", config.console, lambda holder: _ALONE if held else _CONSOLE)
    is_strangers = not held and console.outcome is Outcome.FAILED
    stranger = machine.holder_of(config.console.port) if is_strangers else None

    def words_beside(holder: Holder) -> Words:
        return _WITH_CONSOLE if holder == stranger else _ALONE

    places = [(listener.protocol.value, listener.address) for listener in configured_listeners(config)]
    ports = [*(row(what, place, words_beside) for what, place in places), console]
    ports += _beside(places, machine)
    if config.workers > 1 and machine.platform == "win32":
        ports.append(failed("workers", "", NO_WORKERS))
    return tuple(ports)


def _beside(places: Collection[tuple[str, LocalAddress]], machine: Machine) -> Iterator[Finding]:
    """For ports at one address of localhost, while another program has the port at the other one: on a shared machine
    anybody may listen there."""
    ours = {(place.host, place.port) for _, place in places}
    for what, place in places:
        other, port = OTHER_HALF.get(place.host, ""), place.port
        if other and not ours & {(other, port), ("::", port), ("0.0.0.0", port)} and machine.answers(other, port):
            where = f"[{other}]:{port}" if ":" in other else f"{other}:{port}"
            yield warning("port", _subject(what, place), BESIDE, place=where, port=port, address=place.address)


def _subject(what: str, place: LocalAddress) -> str:
    return f"{what} {place.address}"


def _tried(what: str, place: LocalAddress, bind: Bind, machine: Machine, words_for: WordsFor) -> Finding:
    # The console takes both 127.0.0.1 and ::1, as a browser may look for localhost at either.
    host = "localhost" if what == "console" else place.host
    subject = _subject(what, place)
    try:
        for sock in bind(host, place.port, what):
            sock.close()
    except BridgeError as problem:
        return _refused(subject, place.port, machine, problem_text(problem), words_for)
    return ok("port", subject, FREE)


def _refused(subject: str, port: int, machine: Machine, problem: str | Said, words_for: WordsFor) -> Finding:
    match machine.holder_of(port):
        case Holder(name=name, pid=int(pid)) as holder:
            return failed("port", subject, words_for(holder).of_program, program=name or "?", pid=pid)
        case Holder(user=user) as holder if user:
            return failed("port", subject, words_for(holder).of_user, user=user)
    for one in machine.excluded_ports():
        if port in one:
            return failed("port", subject, EXCLUDED, first=one.start, last=one.stop - 1)
    return failed("port", subject, VERBATIM, problem=problem)
