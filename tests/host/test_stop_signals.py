"""What ends the bridge: the signals of each system."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from tests.interrupting import OWN_TERMINAL, interrupted

PROGRAM = """
import asyncio, signal, sys, threading
from bridge.host.loop import new_event_loop
from bridge.host.signals import stop_on_signal

async def work():
    stop = asyncio.Event()
    with stop_on_signal(stop.set):
        print("ready", flush=True)
        if sys.argv[1:]:
            threading.Thread(target=signal.raise_signal, args=(signal.Signals[sys.argv[1]],)).start()
        await stop.wait()
    print("stopped")

with asyncio.Runner(loop_factory=new_event_loop) as runner:
    runner.run(work())
"""
NAMES = [name for name in ("SIGINT", "SIGTERM", "SIGBREAK") if hasattr(signal, name)]


def said_in_own_terminal(program: str, *arguments: str) -> str:
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.check_output(command, text=True, timeout=60, creationflags=OWN_TERMINAL)


@pytest.mark.parametrize("name", NAMES)
def test_it_stops_though_the_loop_is_asleep(name: str) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, name], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["ready", "stopped"]


def test_it_stops_for_whoever_presses_ctrl_c() -> None:
    assert interrupted(PROGRAM) == ("stopped\n", 0)


LOGOFF = """
import asyncio, ctypes, threading
from bridge.host.loop import new_event_loop
from bridge.host.signals import stop_on_signal

async def work():
    stop = asyncio.Event()
    with stop_on_signal(stop.set):
        await asyncio.to_thread(ctypes.WinDLL("kernelbase").CtrlRoutine, ctypes.c_void_p(5))
        await asyncio.sleep(0)
        print("stopped" if stop.is_set() else "serves on")

with asyncio.Runner(loop_factory=new_event_loop) as runner:
    runner.run(work())
"""
"""Calls the routine that Windows itself starts in each program of a console: 5 is CTRL_LOGOFF_EVENT."""


@pytest.mark.skipif(sys.platform != "win32", reason="elsewhere nobody is told")
def test_a_service_outlives_a_user_who_logs_off() -> None:
    assert said_in_own_terminal(LOGOFF) == "serves on\n"


CLOSE = """
import asyncio, contextlib, ctypes, sys, threading
from bridge.host.loop import new_event_loop
from bridge.host.signals import Relay, stop_on_signal

answered = threading.Event()

def close():
    ctypes.WinDLL("kernelbase").CtrlRoutine(ctypes.c_void_p(2))
    answered.set()

async def work(hearing):
    stop = asyncio.Event()
    with hearing(stop.set):
        threading.Thread(target=close, daemon=True).start()
        await stop.wait()
    print("cut short" if answered.wait(1) else "stopped")

with contextlib.ExitStack() as stack:
    hearing = stop_on_signal
    if sys.argv[1] == "icon":
        relay = Relay()
        stack.enter_context(relay.caught())
        hearing = lambda stop: relay.heard(stop, print)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(work(hearing))
"""
"""2 is CTRL_CLOSE_EVENT; Windows ends the process as soon as the handler returns."""


@pytest.mark.skipif(sys.platform != "win32", reason="elsewhere that is a signal")
@pytest.mark.parametrize("beside", ["nothing", "icon"])
def test_a_console_that_is_closed_is_answered_by_our_end(beside: str) -> None:
    assert said_in_own_terminal(CLOSE, beside) == "stopped\n"
