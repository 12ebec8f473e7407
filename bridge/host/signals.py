"""Turns SIGTERM, SIGHUP and Ctrl-C into stop and reload."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar, cast

from bridge.threads import no_thread

R = TypeVar("R")
Order = Callable[[], None]

if sys.platform == "win32":
    _STOP, _RELOAD = {signal.SIGINT, signal.SIGTERM, signal.SIGBREAK}, set[signal.Signals]()
else:
    _STOP, _RELOAD = {signal.SIGINT, signal.SIGTERM}, {signal.SIGHUP}


def outlives_terminal() -> bool:
    """True if SIGHUP is ignored, as with `nohup`: whoever started us wants that. Call before SIGHUP gets a handler."""
    return any(signal.getsignal(number) is signal.SIG_IGN for number in _RELOAD)


@contextlib.contextmanager
def reload_on_signal(reload: Callable[[], None]) -> Iterator[None]:
    """Call `reload` on the running loop for SIGHUP, where the system has it."""
    if sys.platform == "win32":
        yield
        return
    loop = asyncio.get_running_loop()
    before = signal.getsignal(signal.SIGHUP)
    loop.add_signal_handler(signal.SIGHUP, reload)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)
        signal.signal(signal.SIGHUP, before)  # the loop leaves the system's default, also where it was ignored


@contextlib.contextmanager
def stop_on_signal(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` on the running loop each time that SIGTERM, Ctrl-C or (Windows) Ctrl-Break comes."""
    loop = asyncio.get_running_loop()
    if sys.platform == "win32":
        # The Proactor loop has no add_signal_handler; the loop may be asleep in a system call, so it is woken too.
        order = _on_loop(stop)
        before = {n: signal.signal(n, lambda *_: order()) for n in _STOP}
        try:
            with _told_by_windows(order):
                yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
    else:
        for number in _STOP:
            loop.add_signal_handler(number, stop)
        try:
            yield
        finally:
            for number in _STOP:
                loop.remove_signal_handler(number)


if sys.platform == "win32":
    import ctypes
    from ctypes import wintypes

    CTRL_CLOSE_EVENT, CTRL_LOGOFF_EVENT, CTRL_SHUTDOWN_EVENT = 2, 5, 6
    LONGEST_STOP_SECONDS = 60.0
    """More than Windows waits: five seconds when a window is closed, twenty for a service's program."""
    _kept: list[object] = []
    """Handlers that Windows may still call."""

    @contextlib.contextmanager
    def _told_by_windows(stop: Order) -> Iterator[None]:
        """Handle the closing of a console window, and a shutdown. Windows allows some seconds for it: as soon as the
        handler returns, or after that time, it ends the process, wherever it is. So the handler waits until we end.

        A service's program is told of every user's logoff, too, which is no reason to end; but Python's C library turns
        everything but Ctrl-C into SIGBREAK. If its own session ends, Windows ends the process in any case.

        Source: HandlerRoutine, SetConsoleCtrlHandler; Microsoft's article 149901.
        """
        is_ending = threading.Event()

        def told(event: int) -> bool:  # in a thread of Windows' own
            if event in {CTRL_CLOSE_EVENT, CTRL_SHUTDOWN_EVENT}:
                is_ending.set()
                stop()
                threading.Event().wait(LONGEST_STOP_SECONDS)
            return event in {CTRL_CLOSE_EVENT, CTRL_LOGOFF_EVENT, CTRL_SHUTDOWN_EVENT}

        handler = ctypes.WINFUNCTYPE(wintypes.BOOL, wintypes.DWORD)(told)
        set_handler = ctypes.WinDLL("kernel32").SetConsoleCtrlHandler
        set_handler(handler, True)  # Windows asks the handler that was added last first
        try:
            yield
        finally:
            if is_ending.is_set():  # the handler cannot be removed before it has returned
                _kept.append(handler)
            else:
                set_handler(handler, False)

else:

    @contextlib.contextmanager
    def _told_by_windows(stop: Order) -> Iterator[None]:
        yield


def run_until_interrupted(runner: asyncio.Runner, main: Coroutine[Any, Any, R]) -> R:
    """`runner.run(main)`, but Ctrl-C cancels in a turn of the loop of its own; a second one ends at once.

    Runner's own handler cancels in the middle of whatever runs; if that is asyncio taking over a thread's result, it
    logs "invalid state" with a traceback. Raises: KeyboardInterrupt.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:  # ignored: `nohup … &`
        return runner.run(main)
    loop = runner.get_loop()
    interrupts: list[int] = []
    tasks: list[asyncio.Task[R]] = []

    def interrupt(number: int, frame: object) -> None:
        interrupts.append(number)
        if len(interrupts) > 1 or not tasks:
            raise KeyboardInterrupt
        loop.call_soon_threadsafe(tasks[0].cancel)

    async def known() -> R:
        tasks.append(cast("asyncio.Task[R]", asyncio.current_task()))
        return await main

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        return runner.run(known())
    except asyncio.CancelledError:
        if interrupts:
            raise KeyboardInterrupt from None
        raise
    finally:
        signal.signal(signal.SIGINT, before)


class Relay:
    """The same for a loop in another thread, while the main thread runs a toolkit's own loop.

    Python runs a signal's handler in the main thread, between two bytecode instructions, and a toolkit written in C may
    execute none for hours. The octet that Python's C code writes at once (signal.set_wakeup_fd) arrives in any case.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a second signal's handler may interrupt that of the first
        self._orders: tuple[Order, Order] | None = None
        self._missed: list[int] = []

    @contextlib.contextmanager
    def caught(self) -> Iterator[None]:
        """In the main thread: around the toolkit's loop. Raises: NoThread."""
        before = {number: signal.getsignal(number) for number in _STOP | _RELOAD}
        receiving, sending = socket.socketpair()
        with receiving, sending:
            sending.setblocking(False)
            old = signal.set_wakeup_fd(sending.fileno(), warn_on_full_buffer=False)
            reader = threading.Thread(target=self._read, args=(receiving,), name="signals", daemon=True)
            try:
                reader.start()
            except RuntimeError as problem:
                signal.set_wakeup_fd(old)
                raise no_thread(problem) from problem
            self.rearm()
            try:
                yield
            finally:
                signal.set_wakeup_fd(old)
                for number, handler in before.items():
                    signal.signal(number, handler)
                sending.shutdown(socket.SHUT_WR)
                reader.join()

    def rearm(self) -> None:
        """In the main thread: after the toolkit has set handlers of its own."""
        for number in _STOP | _RELOAD:
            signal.signal(number, lambda number, frame: self._pass_on(number))

    @contextlib.contextmanager
    def heard(self, stop: Order, reload: Order) -> Iterator[None]:
        """Entered on the loop in the other thread; signals that came before count, too."""
        orders = _on_loop(stop), _on_loop(reload)
        with self._lock:
            self._orders = orders
            missed, self._missed = self._missed, []
        for number in missed:
            self._pass_on(number)
        try:
            with _told_by_windows(orders[0]):
                yield
        finally:
            with self._lock:
                self._orders = None

    def _read(self, receiving: socket.socket) -> None:
        while octets := receiving.recv(64):
            for number in octets:
                self._pass_on(number)

    def _pass_on(self, number: int) -> None:
        """Pass on a signal. May be called twice for one, if the handler runs too; both orders only set an event."""
        if number not in _STOP | _RELOAD:
            return
        with self._lock:
            orders = self._orders
            if orders is None:
                self._missed.append(number)
                return
        stop, reload = orders
        (reload if number in _RELOAD else stop)()


def _on_loop(order: Order) -> Order:
    """The order as a function that any thread may call; it runs on the current loop."""
    loop = asyncio.get_running_loop()

    def call() -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(order)

    return call
