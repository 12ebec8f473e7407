"""A loop for Linux with less work between the kernel and a session's bytes.

asyncio makes a Handle for each descriptor that it watches, queues it when the kernel reports something, and later runs
it in a context of its own. A session needs none of that for "there is something to read": here the selector runs its
callback at once. Everything else in asyncio is unchanged and works as before.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import select
import selectors
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

assert sys.platform == "linux"  # noqa: S101  for mypy, which otherwise misses epoll on other systems

MOST_EVENTS = 256
"""Events fetched from the kernel at once; the standard library allocates room for one per descriptor each time."""
_READ = select.EPOLLIN
_WRITE = select.EPOLLOUT


class DirectSelector(selectors.BaseSelector):
    """A selector for asyncio by epoll, level-triggered, with additional callbacks that select() itself runs.

    A callback may read, write and watch, but must not close a descriptor: if its number were reused at once, the new
    owner would be told of the old one's events.
    """

    def __init__(self, fault: Callable[[Exception], None]) -> None:
        """`fault` is called with what a callback has raised; no other session is affected."""
        self._epoll = select.epoll()
        self._fault = fault
        self._keys: dict[int, selectors.SelectorKey] = {}
        self._callbacks: dict[int, Callable[[], None] | None] = {}
        """Descriptors that the kernel watches for a callback; None while the callback rests, see rest()."""
        self._masks: dict[int, int] = {}
        """The events that the kernel has been told to watch for."""
        self._map = _Keys(self._keys)

    # --- callbacks --------------------------------------------------------------------------------------------

    def watch(self, descriptor: int, callback: Callable[[], None]) -> None:
        """Run the callback whenever there is something to read, or the end. Raises: OSError, as _tell_kernel() does."""
        is_known = descriptor in self._callbacks
        self._callbacks[descriptor] = callback
        if not is_known:
            try:
                self._tell_kernel(descriptor)
            except OSError:  # otherwise the next socket with this number would seem to be watched, and never be told
                del self._callbacks[descriptor]
                raise

    def rest(self, descriptor: int) -> None:
        """Do not run the callback for now; most likely watch() follows. The kernel is told only if an event comes
        first."""
        if descriptor in self._callbacks:
            self._callbacks[descriptor] = None

    def unwatch(self, descriptor: int) -> None:
        """Do not run the callback any more."""
        if descriptor in self._callbacks:
            del self._callbacks[descriptor]
            self._tell_kernel(descriptor)

    # --- what asyncio wants -----------------------------------------------------------------------------------

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """See selectors. Raises: ValueError, KeyError, OSError."""
        descriptor = _number(fileobj)
        if descriptor in self._keys:
            raise KeyError(f"{fileobj!r} is registered already")
        try:
            return self._keep(selectors.SelectorKey(fileobj, descriptor, events, data))
        except OSError:
            del self._keys[descriptor]
            raise

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        """See selectors. Raises: KeyError."""
        key = self._map[fileobj]
        del self._keys[key.fd]
        self._tell_kernel(key.fd)
        return key

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """See selectors. Raises: KeyError."""
        return self._keep(self._map[fileobj]._replace(events=events, data=data))

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        """See selectors."""
        return self._map

    def get_key(self, fileobj: Any) -> selectors.SelectorKey:
        """See selectors. Raises: KeyError."""
        return self._map[fileobj]

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Run the callbacks, and return the events for asyncio. `timeout` in seconds."""
        # Rounded up to whole milliseconds, as epoll counts, so as never to return too early.
        seconds = -1.0 if timeout is None else math.ceil(max(timeout, 0.0) * 1e3) * 1e-3
        try:
            events = self._epoll.poll(seconds, MOST_EVENTS)
        except InterruptedError:
            return []
        told = []
        for descriptor, event in events:
            if event & ~_WRITE and descriptor in self._callbacks:
                self._run(descriptor)
        for descriptor, event in events:  # after the callbacks, which may have unregistered what asyncio watched
            if (key := self._keys.get(descriptor)) is not None:
                mask = (event & ~_WRITE and selectors.EVENT_READ) | (event & ~_READ and selectors.EVENT_WRITE)
                if mask := mask & key.events:
                    told.append((key, mask))
        return told

    def close(self) -> None:
        """See selectors."""
        self._epoll.close()
        self._keys.clear()
        self._callbacks.clear()
        self._masks.clear()

    def _run(self, descriptor: int) -> None:
        callback = self._callbacks[descriptor]
        if callback is None:
            return self.unwatch(descriptor)
        try:
            callback()
        except Exception as problem:  # noqa: BLE001  told to whoever listens, as asyncio does with a Handle's
            self._fault(problem)
        return None

    def _keep(self, key: selectors.SelectorKey) -> selectors.SelectorKey:
        self._keys[key.fd] = key
        self._tell_kernel(key.fd)
        return key

    def _tell_kernel(self, descriptor: int) -> None:
        """Tell the kernel which events of this descriptor are wanted. It may have been closed, and its number reused.

        Raises: OSError, where the kernel has no room for one more (ENOMEM; ENOSPC at fs.epoll.max_user_watches).
        """
        key = self._keys.get(descriptor)
        wanted = _READ if descriptor in self._callbacks else 0
        if key is not None:
            wanted |= _READ if key.events & selectors.EVENT_READ else 0
            wanted |= _WRITE if key.events & selectors.EVENT_WRITE else 0
        had = self._masks.pop(descriptor, 0)
        if not wanted:
            with contextlib.suppress(OSError):  # the kernel forgets a closed one by itself
                self._epoll.unregister(descriptor)
            return
        try:
            if had:
                self._epoll.modify(descriptor, wanted)
            else:
                self._epoll.register(descriptor, wanted)
        except FileNotFoundError:
            self._epoll.register(descriptor, wanted)
        except FileExistsError:
            self._epoll.modify(descriptor, wanted)
        self._masks[descriptor] = wanted


class _Keys(Mapping[Any, selectors.SelectorKey]):
    """Keys by descriptor, or by an object that has one, even after it was closed."""

    def __init__(self, keys: dict[int, selectors.SelectorKey]) -> None:
        self._keys = keys

    def __getitem__(self, fileobj: Any) -> selectors.SelectorKey:
        try:
            return self._keys[fileobj if isinstance(fileobj, int) else _number(fileobj)]
        except ValueError:
            for key in self._keys.values():
                if key.fileobj is fileobj:
                    return key
            raise KeyError(f"{fileobj!r} is not registered") from None

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._keys)


class DirectLoop(asyncio.SelectorEventLoop):
    """asyncio's loop on a DirectSelector."""

    def __init__(self) -> None:
        """Raises: OSError if one of the three descriptors that it needs cannot be had, or cannot be watched."""
        self._is_made = False
        self.watching = DirectSelector(self._tell_fault)
        """For code that knows of it (bridge.relay.watching)."""
        try:
            super().__init__(self.watching)
        except OSError:
            self.watching.close()
            raise
        self._is_made = True

    def is_closed(self) -> bool:
        """True also if the loop could not be made: asyncio's __del__ closes loops left open, and would fail at this
        one."""
        return not self._is_made or super().is_closed()

    async def shutdown_default_executor(self, *arguments: Any) -> None:
        """See asyncio, which waits for the threads in one more; if that cannot start, the process's exit waits for
        them."""
        with contextlib.suppress(RuntimeError):
            await super().shutdown_default_executor(*arguments)

    def _add_reader(self, fd: int, callback: Callable[..., object], *args: Any, **besides: Any) -> Any:
        """See asyncio, whose transports ask for it from callbacks of theirs. Of a connection that the kernel has no
        room to watch nothing would be heard, not even its end: so this is its end, here and for whoever waits for it.

        Args: besides, what asyncio says to itself; `context`, since Python 3.15.
        """
        watch = getattr(super(), "_add_reader")  # noqa: B009  asyncio's own, which its types do not know
        try:
            return watch(fd, callback, *args, **besides)
        except OSError as problem:
            transport = getattr(callback, "__self__", None)
            if not isinstance(transport, asyncio.Transport):
                raise
            logging.getLogger("asyncio").warning("a connection cannot be watched: %s", problem)
            transport.abort()
            return None

    def _tell_fault(self, problem: Exception) -> None:
        self.call_exception_handler({"message": "Exception in a callback", "exception": problem})


def _number(fileobj: Any) -> int:
    descriptor: int = fileobj if isinstance(fileobj, int) else fileobj.fileno()
    if descriptor < 0:
        raise ValueError(f"{fileobj!r} is closed")
    return descriptor
