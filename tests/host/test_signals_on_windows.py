"""Windows: Ctrl-C for an event loop that does not run in the main thread."""

from __future__ import annotations

import sys

import pytest

from tests.interrupting import interrupted

pytestmark = pytest.mark.skipif(sys.platform != "win32", reason="presses Ctrl-C in a console of Windows")

PROGRAM = """
import asyncio, ctypes, os, threading
from bridge.host.signals import Relay

async def work():
    stop = asyncio.Event()
    with relay.heard(stop.set, stop.clear):
        print("ready", flush=True)
        await stop.wait()
        print("stop", flush=True)

def run():
    asyncio.run(work())
    os._exit(0)

relay = Relay()
with relay.caught():
    threading.Thread(target=run).start()
    ctypes.WinDLL("kernel32").Sleep(0xFFFFFFFF)  # as a toolkit's own loop, which lets no Python run
"""


def test_it_arrives_while_a_toolkit_lets_no_python_run() -> None:
    assert interrupted(PROGRAM) == ("stop\n", 0)
