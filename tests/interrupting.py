"""Ctrl-C for a program that the tests have started, as whoever sits at its terminal presses it.

Windows' Popen.send_signal() refuses SIGINT, and the Ctrl-C of os.kill() goes to all that share a console, the tests
among them. So the program gets a console of its own, and a helper that is in none joins it, and presses there. (wine
does that, too; of Ctrl-Break it says, in such a console as in none, "invalid handle".)
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
    """`creationflags` of a program that is to be interrupted: it does have a console, which nobody sees."""

    _PRESS = """
import ctypes, signal, sys
kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
kernel32.SetConsoleCtrlHandler(None, True)  # it is not for us
if not kernel32.AttachConsole(int(sys.argv[1])) or not kernel32.GenerateConsoleCtrlEvent(signal.CTRL_C_EVENT, 0):
    raise ctypes.WinError(ctypes.get_last_error())
"""

    def interrupt(process: Process) -> None:
        """For one that was started with OWN_TERMINAL."""
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
        """SIGINT."""
        process.send_signal(signal.SIGINT)


def interrupted(program: str) -> tuple[str, int]:
    """Run a Python text until it has said READY, and press. Returns: what it says then, and its exit code."""
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
