"""Programs that the administrator configures, really started."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from bridge.hooks.delivery import HookFailed
from bridge.host.programs import OUTPUT_LIMIT, run_program
from tests.silent import no_thread

SHOW = "import os; print(*sorted(os.environ)); print(os.environ['MAIL_BRIDGE_EVENT'])"
HANG = 'sleep 600 & echo $!; echo $! > "$1"; sleep 600'
LEAVE = 'sleep 600 & echo $! > "$1"'


def python(code: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", code, *arguments]


def shell(code: str, file: Path) -> list[str]:
    """A shell, not Python: two Python processes might not start before the time limit."""
    return ["/bin/sh", "-c", code, "sh", str(file)]


async def test_it_gets_a_small_environment_and_no_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GMAIL_CLIENT_SECRET", "CANARY")
    ended = await run_program(python(SHOW), {"MAIL_BRIDGE_EVENT": "refresh-failed"}, 10)
    assert ended.code == 0
    assert ended.output.endswith(" refresh-failed")
    assert "PATH" in ended.output
    assert "GMAIL_CLIENT_SECRET" not in ended.output
    silent = await run_program(python("import sys; print(repr(sys.stdin.read()))"), {}, 60)
    assert silent.output == "''"


async def test_arguments_are_no_shells() -> None:
    ended = await run_program(python("import sys; print(sys.argv[1])", "$(id); `id` | x"), {}, 60)
    assert ended.output == "$(id); `id` | x"


async def test_its_code_and_the_beginning_of_its_output_are_kept() -> None:
    ended = await run_program(
        python("import sys; print('x' * 1_000_000); sys.stderr.write('end'); sys.exit(3)"), {}, 10
    )
    assert ended.code == 3
    assert len(ended.output) == OUTPUT_LIMIT


@pytest.mark.parametrize("encoding", ["utf-8", "cp850"])
async def test_a_french_windows_own_words_are_kept_too(monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    """Windows' programs and cmd write in the console's code page, other programs in UTF-8."""
    monkeypatch.setattr("bridge.host.programs.ENCODING", "cp850")
    words = f"import sys; sys.stdout.buffer.write('Accès refusé.'.encode({encoding!r}))"
    assert (await run_program(python(words), {}, 60)).output == "Accès refusé."
    many = "import sys; sys.stdout.buffer.write(b'x' + 'é'.encode() * 5000)"
    assert set((await run_program(python(many), {}, 60)).output) == {"x", "é"}, "though it is cut within a letter"


@pytest.mark.parametrize("command", [["/nowhere/program"], [str(Path(__file__))], ["nul\0"]])
async def test_what_cannot_be_started_is_said_so(command: list[str]) -> None:
    with pytest.raises(HookFailed, match="cannot be started") as failed:
        await run_program(command, {}, 60)
    assert not failed.value.is_worth_another_try


@pytest.mark.skipif(sys.platform != "linux", reason="Linux does not start a program that is being written")
async def test_a_program_that_is_being_replaced_is_worth_another_try(tmp_path: Path) -> None:
    program = tmp_path / "tell"
    shutil.copy("/bin/true", program)
    with program.open("ab"), pytest.raises(HookFailed, match="cannot be started") as failed:
        await run_program([str(program)], {}, 60)
    assert failed.value.is_worth_another_try
    assert (await run_program([str(program)], {}, 60)).code == 0


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENOMEM])
async def test_what_cannot_be_started_for_want_of_anything_is_worth_another_try(
    monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """No more processes are allowed, or there is no memory for one."""
    with monkeypatch.context() as patch, pytest.raises(HookFailed, match=os.strerror(number)) as failed:
        patch.setattr(asyncio, "create_subprocess_exec", _raising(OSError(number, os.strerror(number))))
        await run_program(python("pass"), {}, 60)
    assert failed.value.is_worth_another_try


def _raising(problem: OSError) -> Callable[..., Awaitable[None]]:
    async def start(*_: object, **__: object) -> None:
        raise problem

    return start


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def gone(pid: int) -> bool:
    deadline = time.monotonic() + 30
    while is_alive(pid) and time.monotonic() < deadline:
        await asyncio.to_thread(threading.Event().wait, 0.01)
    return not is_alive(pid)


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
@pytest.mark.parametrize("code", [HANG, LEAVE])
async def test_one_that_is_late_is_killed_with_all_that_it_started(code: str, tmp_path: Path) -> None:
    file = tmp_path / "pid"
    started = time.monotonic()
    with pytest.raises(HookFailed, match="has not ended within"):
        await run_program(shell(code, file), {}, 1.5)
    assert time.monotonic() - started < 30
    assert await gone(int(file.read_text()))


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
async def test_a_cancelled_one_is_killed_too(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    async with asyncio.TaskGroup() as group:
        task = group.create_task(run_program(shell(HANG, file), {}, 60))
        await written(file)
        task.cancel()
    assert await gone(int(file.read_text()))


async def written(file: Path) -> None:
    """Wait until the file has content; by then the program's child runs too."""
    while not file.exists() or not file.read_text():
        await asyncio.to_thread(threading.Event().wait, 0.01)


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
async def test_one_that_is_cancelled_before_we_know_that_it_runs_is_killed_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This can happen at a stop: some milliseconds pass between a program's first command and the end of its start."""
    file, is_known, start = tmp_path / "pid", asyncio.Event(), asyncio.create_subprocess_exec

    async def start_slowly(*command: str, **options: Any) -> asyncio.subprocess.Process:
        process = await start(*command, **options)
        await is_known.wait()
        return process

    monkeypatch.setattr(asyncio, "create_subprocess_exec", start_slowly)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(run_program(shell(HANG, file), {}, 60))
        await written(file)
        task.cancel()
        await asyncio.sleep(0)
        is_known.set()
    assert await gone(int(file.read_text()))


@pytest.mark.skipif(sys.version_info >= (3, 12) or sys.platform == "win32", reason="asyncio waits without a thread")
async def test_without_a_thread_to_wait_for_its_end_it_is_not_started(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        with pytest.raises(HookFailed, match=r"cannot be started: .*start new thread") as failed:
            await run_program(python("pass"), {}, 60)
    assert failed.value.is_worth_another_try
    assert (await run_program(python("pass"), {}, 60)).code == 0
