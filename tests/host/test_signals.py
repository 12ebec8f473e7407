"""Signals for an event loop that does not run in the main thread."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from bridge.host.signals import Relay
from bridge.threads import NoThread
from tests.silent import no_thread

pytestmark = pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals")

PROGRAM = """
import asyncio, ctypes, os, signal, sys, threading
from bridge.host.signals import Relay

relay = Relay()
before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]

async def work():
    stop, reload = asyncio.Event(), asyncio.Event()
    with relay.heard(stop.set, reload.set):
        print("ready", flush=True)
        await reload.wait()
        print("reload", flush=True)
        await stop.wait()
        print("stop", flush=True)

def run():
    asyncio.run(work())
    if sys.argv[1] == "toolkit":
        os._exit(0)

def toolkit():
    "A loop in C that never lets Python run: a mutex that its own thread has locked already."
    mutex = ctypes.create_string_buffer(256)
    lock = ctypes.CDLL(None).pthread_mutex_lock
    lock(mutex)
    lock(mutex)

thread = threading.Thread(target=run)
with relay.caught():
    if sys.argv[1] == "early":
        os.kill(os.getpid(), signal.SIGHUP)
    thread.start()
    toolkit() if sys.argv[1] == "toolkit" else thread.join()
assert before == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
print("put back", flush=True)
"""


def lines(how: str, *numbers: int) -> list[str]:
    """What the program prints on these signals; each is sent after the answer to the previous one."""
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, how], stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout is not None
        said = [process.stdout.readline().strip()]
        for number in numbers:
            process.send_signal(number)
            said.append(process.stdout.readline().strip())
        said += process.stdout.read().split("\n")
        assert process.wait(60) == 0
    return [line for line in said if line]


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_they_arrive_while_a_toolkit_lets_no_python_run(ending: int) -> None:
    assert lines("toolkit", signal.SIGHUP, ending) == ["ready", "reload", "stop"]


def test_one_that_comes_before_anybody_listens_is_kept_and_handlers_are_put_back() -> None:
    assert lines("early", signal.SIGTERM)[0:2] == ["ready", "reload"]
    assert lines("plain", signal.SIGHUP, signal.SIGINT) == ["ready", "reload", "stop", "put back"]


HUNG_UP = """
import asyncio, signal
from bridge.host.signals import outlives_terminal, reload_on_signal

async def work():
    heard = asyncio.Event()
    with reload_on_signal(heard.set):
        signal.raise_signal(signal.SIGHUP)
        await heard.wait()

print(outlives_terminal(), flush=True)
asyncio.run(work())
print(outlives_terminal(), flush=True)
signal.raise_signal(signal.SIGHUP)
print("alive")
"""


def test_what_nohup_promises_holds_again_once_nobody_listens_any_more() -> None:
    """A bridge takes seconds to end. The loop would leave the system's default action, with which SIGHUP kills the
    bridge in the middle."""
    program = [sys.executable, "-c", HUNG_UP]
    plain = subprocess.run(program, capture_output=True, text=True, timeout=60, check=False)
    assert (plain.returncode, plain.stdout.split()) == (-signal.SIGHUP, ["False", "False"])
    disowned = subprocess.run(["nohup", *program], capture_output=True, text=True, timeout=60, check=False)
    assert (disowned.returncode, disowned.stdout.split()) == (0, ["True", "True", "alive"])


INTERRUPTED = """
import asyncio, os, signal
from bridge.host.signals import run_until_interrupted

async def work():
    os.kill(os.getpid(), signal.SIGINT)  # its handler has run when this returns
    print(asyncio.current_task().cancelling(), flush=True)
    try:
        await asyncio.Event().wait()
    finally:
        print(asyncio.current_task().cancelling(), flush=True)

try:
    with asyncio.Runner() as runner:
        run_until_interrupted(runner, work())
except KeyboardInterrupt:
    print(signal.getsignal(signal.SIGINT) is signal.default_int_handler, flush=True)
"""


def test_ctrl_c_cancels_between_two_turns_of_the_loop_and_not_within_one() -> None:
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["0", "1", "True"]


def test_without_a_thread_that_is_told_and_signals_are_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    monkeypatch.setattr(threading.Thread, "start", no_thread)
    with pytest.raises(NoThread), Relay().caught():
        pytest.fail("nothing would be heard of a signal")
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    unset = signal.set_wakeup_fd(-1)
    assert unset == -1
