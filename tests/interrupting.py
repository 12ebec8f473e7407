"""Ctrl-C for a program that the tests have started, as whoever sits at its terminal presses it.

Windows' Popen.send_signal() refuses SIGINT, and the Ctrl-C of os.kill() reaches every process that shares a console,
the tests included. So the program gets a console of its own, and a helper without a console attaches to it and sends
the event there. (This works under wine, too; Ctrl-Break there fails with "invalid handle", with or without a console.)
"""

from __future__ import annotations

import signal
import subprocess
import sys

READY = "ready\n"
"""What a program of interrupted() says before it waits for Ctrl-C."""

Process = subprocess.Popen[bytes] | subprocess.Popen[str]

if sys.platform == "win32":
    OWN_TERMINAL = subprocess.CREATE_NO_WINDOW
    """`creationflags` of a program that is to be interrupted: it has a console, but an invisible one."""

    _PRESS = """
import ctypes, signal, sys
kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
kernel32.SetConsoleCtrlHandler(None, True)  # it is not for us
if not kernel32.AttachConsole(int(sys.argv[1])) or not kernel32.GenerateConsoleCtrlEvent(signal.CTRL_C_EVENT, 0):
    raise ctypes.WinError(ctypes.get_last_error())
"""

    def interrupt(process: Process) -> None:
        """Send Ctrl-C to a process that was started with OWN_TERMINAL."""
        done = subprocess.run(
            [sys.executable, "-c", _PRESS, str(process.pid)],
            creationflags=subprocess.DETACHED_PROCESS,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr

else:
    OWN_TERMINAL = 0

    def interrupt(process: Process) -> None:
        """Send SIGINT."""
        process.send_signal(signal.SIGINT)


def interrupted(program: str) -> tuple[str, int]:
    """Run a Python text until it has said READY, then press Ctrl-C. Returns: what it prints then, and its exit code."""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, creationflags=OWN_TERMINAL
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == READY
            interrupt(process)
            said, _ = process.communicate(timeout=60)
            return said, process.returncode
        finally:
            process.kill()
