"""Messages, with sockets attached, between two processes of ours: a Unix socket on the running loop.

A message is a JSON array on a line of its own. All messages of one turn of the loop go out in one system call, and
sockets in as few as possible: each call wakes the other process, which costs it more than taking another socket.
"""

from __future__ import annotations

import asyncio
import errno
import json
import socket
from collections import deque
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any
from typing import Protocol as Interface

from bridge.observe.logs import trouble
from bridge.workers.wire import Misunderstood

Take = Callable[[list[Any], socket.socket | None], None]
"""Called with a message, and the socket that came with it. A `client` message has a socket, or None if this process had
no descriptor left for it."""

SOON_SECONDS, SOON_MESSAGES = 0.1, 32
"""News are not urgent: they are sent after this time, or as soon as there are so many. Waking an idle process costs
several times the work that it then does, because its memory has left the processor's caches."""

_LATER = {errno.ENOBUFS, errno.ENOMEM, errno.ETOOMANYREFS}
"""The system is short of something, but the other process is well. Linux limits the number of sockets in flight to a
process that does not receive them: that is ETOOMANYREFS."""

_ENCODE = json.JSONEncoder(separators=(",", ":")).encode
_DECODE = json.JSONDecoder().decode
"""Made once: json.dumps() makes an encoder for each message, and json.loads() guesses the encoding."""

HANDED = "client"
"""The message that sockets come with: an array of words for each socket, in the same order."""
HANDED_AT_ONCE = 16
"""The most sockets that go with one message. Linux would allow 253, which one process would then hold for another."""

_HANDED_BEGIN = f'["{HANDED}"'.encode()

News = Callable[[], Sequence[Any] | None]
"""Returns one message with all that has happened since the last one; None if nothing has."""


class Passage(Interface):
    """One end of a Unix socket through which sockets are passed; bridge.host implements it. Nothing blocks."""

    def fileno(self) -> int:
        """The descriptor, for the loop to watch."""

    def send(self, data: bytes, handed: Sequence[socket.socket]) -> int:
        """Send; returns how many octets the system took. `handed`, HANDED_AT_ONCE at most, go with the first. Raises:
        BlockingIOError, OSError."""

    def receive(self) -> tuple[bytes, list[socket.socket | None], bool]:
        """Octets, empty at the end; the sockets that came with them, None for a descriptor that is not a socket; and
        True if sockets were lost because this process had no descriptor left. Raises: BlockingIOError, OSError."""

    def close(self) -> None:
        """Release it."""


class _Lost(Enum):
    """Stands for all sockets of a message for which this process had no descriptor left."""

    LOST = 0


class Link:
    """One end of the connection between two processes. Both are ours, so an invalid message ends the link, and with it
    the worker."""

    def __init__(self, passage: Passage, take: Take, gone: Callable[[], None], news: News = lambda: None) -> None:
        """`take` is called for each message; `gone` once, when the other process has ended or sends nonsense.

        `news` is called whenever something is sent after announce_news().
        """
        self._loop = asyncio.get_running_loop()
        self._passage = passage
        self._take = take
        self._gone = gone
        self._news = news
        self._news_count = 0
        self._received = bytearray()
        self._sockets: deque[socket.socket | _Lost | None] = deque()
        """Sockets whose messages have not come or not been read yet."""
        self._queue: deque[tuple[bytes, socket.socket | None]] = deque()
        """Lines to send; for a socket, the words that go with it."""
        self._is_urgent = False
        self._is_waiting = False
        self._flushing: asyncio.TimerHandle | None = None
        self._is_open = True
        self._loop.add_reader(passage, self._readable)

    def send(self, *message: Any) -> None:
        """Send a message. Never blocks; after the end of the link the message is lost."""
        if not self._is_open:
            return
        self._queue.append((_line(message), None))
        self._flush_soon()

    def hand_over(self, sock: socket.socket, *words: str) -> None:
        """Send HANDED with these words and the socket, for which the other process gets a descriptor of its own. The
        caller closes ours once that process has answered, or the link has ended. Never blocks, see send().

        Strings only: for an array json sets up an encoder each time, which took an eighth of the time of this.
        """
        if not self._is_open:
            return
        self._queue.append((f"[{','.join(map(_ENCODE, words))}]".encode(), sock))
        self._flush_soon()

    def announce_news(self) -> None:
        """There is one more thing for `news` to report: with the next message, or soon. It is not sent at once because
        waking the other process costs more than the message itself."""
        self._news_count += 1
        if self._news_count == SOON_MESSAGES:
            self._loop.call_soon(self._flush)
        elif self._flushing is None and self._is_open:
            self._flushing = self._loop.call_later(SOON_SECONDS, self._flush)

    def close(self) -> None:
        """Send the rest as far as that works without waiting, and end; the other side notices. Idempotent."""
        if not self._is_open:
            return
        self._flush()
        self._is_open = False
        self._loop.remove_reader(self._passage)
        self._loop.remove_writer(self._passage)
        self._passage.close()
        for sock in self._sockets:
            if isinstance(sock, socket.socket):
                sock.close()
        self._queue.clear()

    # --- out ----------------------------------------------------------------------------------------------------

    def _flush_soon(self) -> None:
        """Flush at the end of this turn of the loop, so that all its messages go out together."""
        if not self._is_urgent:
            self._is_urgent = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        if not self._is_open:
            return
        if self._flushing is not None:
            self._flushing.cancel()
            self._flushing = None
        if self._news_count:
            self._news_count = 0
            if (message := self._news()) is not None:
                self._queue.append((_line(message), None))
        try:
            while self._queue:
                self._send_some()
        except (BlockingIOError, InterruptedError):
            self._is_waiting = True
            self._loop.add_writer(self._passage, self._flush)
            return
        except OSError as problem:
            if problem.errno in _LATER:
                self._flushing = self._loop.call_later(SOON_SECONDS, self._flush)
            else:  # the other process has ended; the reader will see its end, too
                self._queue.clear()
        self._is_urgent = False
        if self._is_waiting:
            self._is_waiting = False
            self._loop.remove_writer(self._passage)

    def _send_some(self) -> None:
        data, handed = self._handed() if self._queue[0][1] is not None else (self._joined(), [])
        sent = self._passage.send(data, handed)
        for _ in range(len(handed) or 1):
            self._queue.popleft()
        if sent < len(data):
            self._queue.appendleft((data[sent:], None))

    def _handed(self) -> tuple[bytes, list[socket.socket]]:
        """The HANDED message for the sockets that are next in the queue, and these sockets."""
        about = [_HANDED_BEGIN]
        handed: list[socket.socket] = []
        for words, sock in self._queue:
            if sock is None or len(handed) == HANDED_AT_ONCE:
                break
            about.append(words)
            handed.append(sock)
        return b",".join(about) + b"]\n", handed

    def _joined(self) -> bytes:
        """All lines before the next socket, joined and put back as the first of the queue."""
        parts = []
        while self._queue and self._queue[0][1] is None:
            parts.append(self._queue.popleft()[0])
        data = b"".join(parts)
        self._queue.appendleft((data, None))
        return data

    # --- in -----------------------------------------------------------------------------------------------------

    def _readable(self) -> None:
        try:
            data, sockets, has_lost = self._passage.receive()
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data, sockets, has_lost = b"", [], False
        self._sockets.extend(sockets)
        if has_lost:
            self._sockets.append(_Lost.LOST)
        *lines, rest = (bytes(self._received) + data).split(b"\n")
        self._received[:] = rest
        if not data or not all(map(self._hand_on, lines)):
            self._loop.remove_reader(self._passage)
            self._gone()

    def _hand_on(self, line: bytes) -> bool:
        """False if the line is invalid: then neither it nor anything after it may be trusted."""
        try:
            message = _DECODE(line.decode())
            if message[0] == HANDED:
                self._hand_on_sockets(*message[1:])
            else:
                self._take(message, None)
        except (ValueError, LookupError, TypeError, Misunderstood) as problem:
            trouble("worker.misunderstood", error=type(problem).__name__)  # not its text, which may quote a secret
            return False
        return True

    def _hand_on_sockets(self, first: list[Any], *others: list[Any]) -> None:
        """Hand on each socket with its words. Raises: LookupError if a socket has not come; what `take` raises."""
        is_lost = False
        for words in (first, *others):
            sock = None if is_lost else self._sockets.popleft()
            if isinstance(sock, _Lost):
                sock, is_lost = None, True
            self._take([HANDED, *words], sock)


def _line(message: Sequence[Any]) -> bytes:
    return _ENCODE(message).encode() + b"\n"
