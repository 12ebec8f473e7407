"""What pystray ignores on Windows: a taskbar that is too busy to answer, and the end of a session."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any, Final

RETRY_SECONDS: Final = 2.0
"""Between two attempts to become visible."""
END_SECONDS: Final = 4.0
"""For a stop at the end of a session. Windows ends whoever has not answered after five (HungAppTimeout)."""

NIM_ADD: Final = 0
NIM_MODIFY: Final = 1
"""The taskbar accepts this order for an icon that it has, and refuses it for any other."""
NIM_DELETE: Final = 2
WM_CLOSE: Final = 0x0010
"""What a program is asked to end by: `taskkill` without /F, and a task that is to stop."""
WM_QUERYENDSESSION: Final = 0x0011
WM_ENDSESSION: Final = 0x0016

Call = Callable[[], object]


class Taskbar:
    """Calls the taskbar from one thread: at login, or when somebody returns to a session, each call may take four
    seconds and then fail (Shell_NotifyIcon), which must not hold up the loop that serves mail."""

    def __init__(self, order: Any) -> None:
        """Args: order, pystray's Shell_NotifyIcon, whose answers are heard from now on."""
        self._calls: queue.SimpleQueue[Call | None] = queue.SimpleQueue()
        self._is_refused = False
        self._is_over = threading.Event()
        order.errcheck = self._answered

    def tell(self, call: Call) -> None:
        """Soon, in that thread; from any."""
        self._calls.put(call)

    def listen(self, appear: Call, ready: Callable[[], None]) -> None:
        """That thread, until leave(). Args: appear, which orders the whole icon, as often as it takes to be there;
        ready, called once that has been tried."""
        self._do(appear)
        ready()
        while True:
            try:
                call = self._calls.get(timeout=RETRY_SECONDS if self._is_refused else None)
            except queue.Empty:
                self._is_refused = False
                call = appear
            if call is None or self._is_over.is_set():  # each call left may take four seconds, and nobody looks
                return
            self._do(call)

    def _do(self, call: Call) -> None:
        try:
            call()
        except OSError:  # no room for the file that Windows takes a picture from
            self._is_refused = True

    def leave(self) -> None:
        """Let listen() return; from any thread."""
        self._is_over.set()
        self._calls.put(None)

    def endings(self, stop: Call) -> dict[int, Callable[[int, int], int]]:
        """Handlers for pystray's hidden window. By itself it would answer "no" to the end of a session: Windows then
        ends a program without a visible window before it asks the others, although the person may choose to stay. Nor
        would it close on WM_CLOSE, while pystray's second window, the menu's, does. Args: stop, of the program, which
        calls leave().

        Source: Shutdown Changes for Windows Vista; WM_QUERYENDSESSION, WM_ENDSESSION.
        """

        def end(is_ending: int, _: int) -> int:
            if is_ending:  # once this returns, Windows ends the process
                stop()
                self._is_over.wait(END_SECONDS)
            return 0

        def close(*_: int) -> int:
            stop()
            return 0

        return {WM_QUERYENDSESSION: lambda *_: 1, WM_ENDSESSION: end, WM_CLOSE: close}

    def _answered(self, is_done: int, function: Callable[..., int], arguments: tuple[Any, ...]) -> int:
        """See ctypes, errcheck."""
        order, icon = arguments
        if is_done or order == NIM_DELETE:
            return is_done
        if order == NIM_ADD:  # an ADD that was not answered in time may have worked, and is refused a second time
            return function(NIM_MODIFY, icon)
        if not self._is_refused:
            self._is_refused = True
            self._calls.put(lambda: None)  # listen() may wait without a limit
        return is_done
