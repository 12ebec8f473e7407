"""The bridge as a service of the whole machine, run by the system's own service manager."""

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
"""For one system program; it may wait for the service's start."""

Address = tuple[str, int]
"""Host and port at which the bridge listens, as configured."""

Told = Callable[[Said], None]
"""Called for each step that has changed something."""


class ServiceTrouble(BridgeError):
    """There is no service now, or not the one that was wanted; the text says who must do what."""


class SystemService(Protocol):
    """What can be done with the service. The last two need an administrator's rights, and raise ServiceTrouble."""

    def definition(self) -> str:
        """The definition that the system is given."""

    def install(self, told: Told) -> None:
        """Install and start the service, which from then on starts with the machine; an earlier one is replaced."""

    def remove(self, told: Told) -> None:
        """Stop the service, and do not start it again; configuration and store stay."""


@contextmanager
def looking() -> Iterator[None]:
    """Around reading files, which a disk or a network drive may fail to give just now. Raises: ServiceTrouble."""
    try:
        yield
    except OSError as problem:
        raise ServiceTrouble(
            said("{file} cannot be read: {reason}", file=problem.filename, reason=system_reason(problem))
        ) from problem


@contextmanager
def changing(place: str | Path) -> Iterator[None]:
    """Around changing files. Raises: ServiceTrouble; it names `place` where Python's error names only a descriptor, or
    nothing."""
    try:
        yield
    except OSError as problem:
        named = problem.filename if isinstance(problem.filename, str) else place
        raise ServiceTrouble(
            said("{file} cannot be changed: {reason}", file=named, reason=system_reason(problem))
        ) from problem


def system_service(config: Path, addresses: Sequence[Address] = ()) -> SystemService:
    """This system's, for this program and the machine's configuration, which opens these addresses.

    Raises: ServiceTrouble.
    """
    if sys.platform == "linux":
        from bridge.host.systemd import Systemd

        return Systemd(service_command(), config, addresses)
    if sys.platform == "win32":
        from bridge.host.task_scheduler import TaskScheduler

        return TaskScheduler(service_command(), config, addresses)
    raise ServiceTrouble(
        said(
            "a service can only be made with systemd and on Windows; docs/guides/en/terminal-server.md says what a "
            "service must run"
        )
    )


@looking()
def service_command() -> list[str]:
    """The command that the system starts: the program's own script, where one is installed. Raises: ServiceTrouble."""
    script = Path(sys.executable).with_name(f"{NAME}.exe" if sys.platform == "win32" else NAME)
    return [str(script), "run"] if script.exists() else program(["run"])


@looking()
def parts_of_program() -> tuple[Path, ...]:
    """The files and directories that make up the program: whoever may change one of them changes what the service does.

    Raises: ServiceTrouble.
    """
    import bridge

    interpreter, library = Path(sys.executable).resolve(), Path(os.__file__).parent
    packages = filter(Path.exists, map(Path, site.getsitepackages()))
    started = Path(service_command()[0]), Path(sys.executable)  # by this name the script starts the interpreter
    parts = (interpreter, library, Path(sys.prefix), Path(bridge.__file__).parent, *packages, *started)
    return tuple(dict.fromkeys(parts))


def ask_system(*command: str) -> str:
    """Run a system program. Returns: its output. Raises: ServiceTrouble, in the program's words."""
    try:
        # A file, not a pipe: a process that the program leaves in the background may keep a pipe open.
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
        # An error from tempfile, which has tried each directory, has the number of a missing file. (Windows names no
        # file either when it cannot start a program, but has a number of its own for that.)
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
    """The error for somebody without the rights."""
    if os.name == "nt":
        return ServiceTrouble(
            said("this needs an administrator's rights: use a command prompt that was opened as administrator")
        )
    return ServiceTrouble(said("this needs an administrator's rights: run it with sudo"))
