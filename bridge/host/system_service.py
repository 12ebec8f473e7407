"""The bridge as the service of the whole machine, in the hands of what the system starts its services by."""

from __future__ import annotations

import errno
import os
import site
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from bridge.advice.said import Said, quoted, said
from bridge.advice.system import system_reason
from bridge.errors import BridgeError
from bridge.host.autostart import program
from bridge.host.system_programs import ENCODING, whole_name

NAME = "mail-bridge"
SECONDS = 180.0
"""For one program of the system's; a start is waited for."""

Address = tuple[str, int]
"""Host and port at which it listens, as configured."""

Told = Callable[[Said], None]
"""Hears of each step that has changed something."""


class ServiceTrouble(BridgeError):
    """There is no service now, or not as it was wanted; the text says who does what."""


class SystemService(Protocol):
    """What can be done about it. The last two need an administrator's rights, and raise ServiceTrouble."""

    def definition(self) -> str:
        """What the system is told of it."""
        ...

    def install(self, told: Told) -> None:
        """It runs once this returns, and starts with the machine; what is there of an earlier time is replaced."""
        ...

    def remove(self, told: Told) -> None:
        """It is stopped and does not start again; configuration and store stay."""
        ...


@contextmanager
def looking() -> Iterator[None]:
    """For a look at files that a disk or a network drive does not give just now. Raises: ServiceTrouble."""
    try:
        yield
    except OSError as problem:
        raise ServiceTrouble(
            said("{file} cannot be read: {reason}", file=problem.filename, reason=system_reason(problem))
        ) from problem


@contextmanager
def changing(place: str | Path) -> Iterator[None]:
    """Raises: ServiceTrouble. Of a descriptor Python gives the number, or nothing: then it is about `place`."""
    try:
        yield
    except OSError as problem:
        named = problem.filename if isinstance(problem.filename, str) else place
        raise ServiceTrouble(
            said("{file} cannot be changed: {reason}", file=named, reason=system_reason(problem))
        ) from problem


def system_service(config: Path, addresses: Sequence[Address] = ()) -> SystemService:
    """Of this system, for this program and the machine's configuration, which opens these. Raises: ServiceTrouble."""
    if sys.platform == "linux":
        from bridge.host.systemd import Systemd

        return Systemd(service_command(), config, addresses)
    if sys.platform == "win32":
        from bridge.host.task_scheduler import TaskScheduler

        return TaskScheduler(service_command(), config, addresses)
    raise ServiceTrouble(
        said(
            "services are made with systemd and on Windows only; docs/guides/en/terminal-server.md says what one must "
            "run"
        )
    )


@looking()
def service_command() -> list[str]:
    """What the system starts: the program by its own name, where it is installed with one. Raises: ServiceTrouble."""
    script = Path(sys.executable).with_name(f"{NAME}.exe" if sys.platform == "win32" else NAME)
    return [str(script), "run"] if script.exists() else program(["run"])


@looking()
def parts_of_program() -> tuple[Path, ...]:
    """Whoever may change one of them changes what the service does. Raises: ServiceTrouble."""
    import bridge

    interpreter, library = Path(sys.executable).resolve(), Path(os.__file__).parent
    packages = filter(Path.exists, map(Path, site.getsitepackages()))
    started = Path(service_command()[0]), Path(sys.executable)  # by this name the script starts the interpreter
    parts = (interpreter, library, Path(sys.prefix), Path(bridge.__file__).parent, *packages, *started)
    return tuple(dict.fromkeys(parts))


def ask_system(*command: str) -> str:
    """Run one of the system's programs. Returns: what it says. Raises: ServiceTrouble, in its words."""
    try:
        # A file, not a pipe: what the program leaves running in the background may keep that open.
        with tempfile.TemporaryFile() as output:
            done = subprocess.run(  # noqa: S603  the system's own; nothing secret is among its arguments
                [whole_name(command[0]), *command[1:]],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=SECONDS,
                check=False,
            )
            output.seek(0)
            said_by_it = "\n".join(output.read().decode(ENCODING, "replace").splitlines())
    except subprocess.TimeoutExpired:
        raise ServiceTrouble(said("`{command}` does not end", command=" ".join(command))) from None
    except OSError as problem:
        # Of tempfile, which has tried each directory: its number is that of a file that is not there. (Windows names no
        # file either when it starts a program, but has a number of its own for that.)
        is_of_system = problem.filename is not None or getattr(problem, "winerror", None) is not None
        is_without_room = not is_of_system and problem.errno == errno.ENOENT
        reason = quoted(problem.strerror or "") if is_without_room else system_reason(problem)
        raise ServiceTrouble(
            said("`{command}` cannot be run: {reason}", command=command[0], reason=reason)
        ) from problem
    if done.returncode != 0:
        words = " ".join(said_by_it.split()) or f"{done.returncode}"
        raise ServiceTrouble(said("`{command}` says: {words}", command=" ".join(command), words=quoted(words)))
    return said_by_it


def needs_administrator() -> ServiceTrouble:
    """For whoever has not the rights."""
    if os.name == "nt":
        return ServiceTrouble(
            said("this needs an administrator's rights: a command prompt that was opened as administrator")
        )
    return ServiceTrouble(said("this needs an administrator's rights: call it with sudo"))
