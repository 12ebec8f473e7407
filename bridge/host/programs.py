"""Runs the administrator's programs: few environment variables, no input, bounded output; killed whole when late."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import errno
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence

from bridge.hooks.delivery import Ended, HookFailed
from bridge.host.environment import environment_of_programs
from bridge.host.system_programs import ENCODING, whole_name
from bridge.shortage import may_pass

OUTPUT_LIMIT = 4 * 1024
"""Octets of output that are kept; the rest is read and thrown away, so that the program does not wait for us."""
KILL_SECONDS = 5.0
"""For taskkill; the kernel ends a killed POSIX process within milliseconds."""


async def run_program(command: Sequence[str], environment: Mapping[str, str], seconds: float) -> Ended:
    """See hooks.delivery.RunProgram. A background process that it starts must close its output; otherwise the program
    counts as still running."""
    process = await _started(command, environment)
    try:
        async with asyncio.timeout(seconds):
            output = await _read(process)
            code = await process.wait()
    except TimeoutError:
        raise HookFailed(f"it has not ended within {seconds:g} s and was stopped", temporary=False) from None
    finally:
        # Also where the program has ended, but something that it started still holds the pipe.
        if process.returncode is None or (process.stdout is not None and not process.stdout.at_eof()):
            await _kill_whole(process)
    return Ended(code, " ".join("".join(c if c.isprintable() else " " for c in _text(output)).split()))


async def _started(command: Sequence[str], environment: Mapping[str, str]) -> asyncio.subprocess.Process:
    # The program runs before we are told so: cancelled here, asyncio would kill it alone, and not what it has started.
    starting = asyncio.ensure_future(_start(command, environment))  # noqa: TID251  awaited here in any case
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        with contextlib.suppress(HookFailed):
            await _kill_whole(await starting)
        raise


async def _start(command: Sequence[str], environment: Mapping[str, str]) -> asyncio.subprocess.Process:
    try:
        return await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**environment_of_programs(), **environment},
            start_new_session=os.name == "posix",  # a process group of its own, to be killed as a whole
            creationflags=_new_group(),
        )
    except (OSError, ValueError, RuntimeError) as problem:  # RuntimeError: no thread to wait for its end
        reason = f"{command[0]} cannot be started: {_reason(problem)}"
        raise HookFailed(reason, temporary=_may_pass(problem)) from problem


def _may_pass(problem: Exception) -> bool:
    """True if no thread, process or memory is left just now, or an update is writing the program at this moment."""
    is_now = isinstance(problem, OSError) and problem.errno in {errno.EAGAIN, errno.ETXTBSY}
    return isinstance(problem, RuntimeError) or is_now or may_pass(problem)


def _reason(problem: Exception) -> str:
    if isinstance(problem, RuntimeError):
        return str(problem)
    return problem.strerror if isinstance(problem, OSError) and problem.strerror else type(problem).__name__


def _new_group() -> int:
    if sys.platform == "win32":
        return subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
    return 0


async def _read(process: asyncio.subprocess.Process) -> bytes:
    assert process.stdout is not None  # noqa: S101  PIPE above
    kept = bytearray()
    while data := await process.stdout.read(OUTPUT_LIMIT):
        kept += data[: OUTPUT_LIMIT - len(kept)]
    return bytes(kept)


def _text(output: bytes) -> str:
    """Decode as UTF-8, which may be cut within a character; otherwise in the encoding of the system's own programs."""
    try:
        return codecs.getincrementaldecoder("utf-8")().decode(output)
    except UnicodeDecodeError:
        return output.decode(ENCODING, "replace")


async def _kill_whole(process: asyncio.subprocess.Process) -> None:
    """Kill the program and all that it started, and wait until it is gone."""
    if sys.platform == "win32":
        await asyncio.to_thread(_taskkill, process.pid)
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    else:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    await process.wait()
    if process.stdout is not None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(KILL_SECONDS):
                await _read(process)


def _taskkill(pid: int) -> None:
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        subprocess.run(  # noqa: S603  a number, no shell
            [whole_name("taskkill"), "/T", "/F", "/PID", str(pid)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=KILL_SECONDS,
            check=False,
            creationflags=_new_group(),
        )
