"""A visitor's connection: its place, the user at the other end, and its input, which is parsed in turns of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol, cast

from aiohttp import EMPTY_PAYLOAD, HttpVersion11, StreamReader, hdrs, web
from aiohttp.http_exceptions import LineTooLong

from bridge.errors import LimitReached
from bridge.model import Ends
from bridge.observe.logs import detail, trouble
from bridge.ui.web import guards
from bridge.ui.web.rendering import HEADERS
from bridge.ui.web.turns import Turns

HEAD_LIMIT = 32 * 1024
"""Octets of the request line and all headers together: enough for a long code, and the cookies that every program on
localhost sets. aiohttp itself limits each line and the number of lines, which allows megabytes for each connection."""
PIECE = 4 * 1024
"""Octets of a chunked body that are parsed at once. 256 KiB, as asyncio reads them, take aiohttp's parser 20 ms if they
are chunks of one octet; 4 KiB take 0.3 ms. A body with a Content-Length costs next to nothing."""
ROOM = 64 * 1024
"""Octets that are read at once, as in Windows' loop; enough for a head that is too long, so that it gets an answer:
data left unread would reset the connection."""
HEAD_END = b"\r\n\r\n"
TLS = b"\x16\x03"
"""A TLS handshake record (RFC 8446 section 5.1): somebody has typed https, or registered it in the redirect URI."""
SPEAKS_TLS = "TLS: the console's address begins with http://, in a browser and as redirect URI"


class Place(Protocol):
    """One connection's place, while it is held."""

    @property
    def needs_caller(self) -> bool:
        """True if the place can be kept only with give_to()."""

    def give_to(self, caller: str) -> None:
        """Count the place among this caller's from now on; empty if the caller is not known. Raises: LimitReached."""


class Places(Protocol):
    """Limits the number of connections: anybody on this machine may connect to the port, and each connection takes a
    descriptor that a mail client would need."""

    def place(self) -> AbstractContextManager[Place]:
        """Hold one place. Raises: LimitReached."""


UserOf = Callable[[Ends | None], Awaitable[str]]
"""The system's id of the user whose program is at the other end of a connection; empty if not known."""


class Pace:
    """Wraps a connection's transport: reading is paused while data waits for its turn, even if aiohttp resumes it, and
    while aiohttp has paused it."""

    def __init__(self) -> None:
        self._transport: Any = None
        self._is_held = False
        self._is_paused = False

    def of(self, transport: asyncio.BaseTransport) -> asyncio.BaseTransport:
        """The wrapper to use in place of this transport from now on."""
        self._transport = transport
        return cast(asyncio.BaseTransport, self)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def hold(self) -> None:
        """Stop reading: what has come waits for its turn."""
        self._is_held = True
        self._transport.pause_reading()

    def let_go(self) -> None:
        """Nothing waits: read on, if aiohttp wants more."""
        self._is_held = False
        self._go_on()

    def pause_reading(self) -> None:
        """aiohttp wants no data for now."""
        self._is_paused = True
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """aiohttp wants data again."""
        self._is_paused = False
        self._go_on()

    def _go_on(self) -> None:
        if not self._is_held and not self._is_paused:
            self._transport.resume_reading()


class Connection(web.RequestHandler, asyncio.BufferedProtocol):
    """aiohttp's connection, if it gets a place; input that could not be parsed is neither sent back nor logged.

    Its input is parsed in turns of its own: a head in one turn, a chunked body in small pieces.
    """

    def __init__(
        self,
        manager: web.Server,
        *,
        places: Places,
        user_of: UserOf,
        turns: Turns,
        room: memoryview,
        too_long: Callable[[], web.Response],
        **options: Any,
    ) -> None:
        """`room`, the buffer for reading, is shared by all connections: nothing stays in it. `too_long`: the answer to
        a header of more than HEAD_LIMIT."""
        super().__init__(manager, **options)
        self._places = places
        self._user_of = user_of
        self._turns = turns
        self._room = room
        self._too_long = too_long
        self._pace = Pace()
        self._waiting = b""
        """Input that was read, and is to be parsed from `_place` on."""
        self._place = 0
        self._is_put_off = False
        """The turn came while an earlier request waited: 30 parsed heads of 120 lines would take 400 KiB."""
        self.user_id = ""
        """The user of the program at the other end; asked once, since a connection does not change hands."""
        self._body: StreamReader = EMPTY_PAYLOAD
        """The body of the last request whose head is complete."""
        self._length: int | None = 0
        """Octets of that body; None if it comes in chunks."""
        self._head_size = 0
        """Octets of a head that is not complete yet."""
        self._has_begun = self._is_tls = False
        self._has_line = False
        """The request line of that head is complete."""
        self._is_refused = False
        """A header was too long. What else comes is discarded, like a body that nobody wants, while the answer is read:
        data left unread would reset the connection."""

    async def start(self) -> None:
        """See aiohttp: answer one request after the other."""
        try:
            with self._places.place() as place:
                self.user_id = await self._user_of(guards.ends_of(self.transport))
                # The visitor has gone meanwhile: its input must not be taken for that of a user who has its port now.
                if self.transport is None or self.transport.is_closing():
                    return
                if place.needs_caller and self.user_id:
                    place.give_to(f"user {self.user_id}")
                await super().start()
        except LimitReached as limit:
            detail("console.crowded", reason=str(limit))
            self.force_close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See aiohttp, which gets a transport that can be held."""
        super().connection_made(self._pace.of(transport))

    def get_buffer(self, sizehint: int) -> memoryview:
        """Room for one head."""
        return self._room

    def buffer_updated(self, nbytes: int) -> None:
        """Data has come."""
        self.data_received(bytes(self._room[:nbytes]))

    def data_received(self, data: bytes) -> None:
        """See aiohttp; but in turns. aiohttp itself calls this with no data, to go on with what it has."""
        if not data:
            self._take_apart(data)
            return
        if not self._has_begun:
            self._has_begun, self._is_tls = True, data.startswith(TLS)
        self._pace.hold()
        is_expected = bool(self._waiting)
        self._waiting, self._place = self._waiting[self._place :] + data, 0
        if not is_expected:
            self._turns.take(self._in_turn)

    def connection_lost(self, exc: BaseException | None) -> None:
        """See aiohttp. Input that nobody will parse is dropped now, and not when its turn comes."""
        self._waiting = b""
        self._pace = Pace()  # breaks a cycle on Windows, where the transport keeps its protocol
        super().connection_lost(exc)

    def request_has_begun(self) -> None:
        """A request is being answered: the input that follows it may be parsed."""
        if self._is_put_off and not self._messages:
            self._is_put_off = False
            self._turns.take(self._in_turn)

    def _in_turn(self) -> bool:
        if self._messages and not self._is_refused:
            self._is_put_off = True
            return False
        if not self._waiting:  # the visitor has gone, or was sent away
            return False
        if self._is_refused:
            self._waiting = b""
            self._pace.let_go()
            return True
        start, end = self._place, self._place + self._size_of_piece()
        piece, self._place = self._waiting[start:end], end
        if end >= len(self._waiting):
            self._waiting = b""
            self._pace.let_go()
        try:
            self._take_apart(piece)
        except BaseException:
            self.force_close()  # as asyncio does, where it calls
            raise
        if self._waiting:
            self._turns.next(self._in_turn)
        return True

    def _size_of_piece(self) -> int:
        """How much to parse in this turn. A head is parsed whole, so that one that is too long ends the connection
        before the next requests are parsed."""
        if not self._body.is_eof():
            return PIECE if self._length is None else max(self._length - self._body.total_bytes, 1)
        if self._head_size:  # the head has begun: its end may be cut in two, with a body behind it
            return PIECE
        end = self._waiting.find(HEAD_END, self._place)
        return (end + len(HEAD_END) if end >= 0 else len(self._waiting)) - self._place

    def _take_apart(self, data: bytes) -> None:
        """Parse this, as long as no head is longer than HEAD_LIMIT."""
        self._has_line = b"\r\n" in data[:HEAD_LIMIT] or (self._has_line and self._head_size > 0)
        requests, fed = self._request_count, self._body.total_bytes
        super().data_received(data)
        if self._request_count == requests:
            self._head_size += len(data) - (self._body.total_bytes - fed)
        else:  # after the last head comes its body, and then the beginning of the next head
            for place in range(-min(self._request_count - requests, len(self._messages)), 0):
                message, self._body = self._messages[place]
                self._messages[place] = _in_our_version(message), self._body
                self._length = _length_told(message)
                if self._has_line and isinstance(getattr(message, "exc", None), LineTooLong):
                    self._is_refused = True
                    self._messages[place] = message, StreamReader(self, PIECE, loop=self._loop)
            self._head_size = len(data) - (data.rfind(HEAD_END) + len(HEAD_END)) - self._body.total_bytes
        if not self._body.is_eof():
            self._head_size = 0
        elif self._head_size > HEAD_LIMIT + PIECE and not self._is_refused:  # not by a single header: see above
            trouble("console.request_unreadable", status=431, problem="TooLong")
            self.force_close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """`exc` and `message` quote the request line, and are not told. Raises: ConnectionError, if nobody reads it."""
        if isinstance(exc, ConnectionError):  # the client has gone in the middle of its body
            raise exc
        problem = SPEAKS_TLS if self._is_tls else type(exc).__name__
        trouble("console.request_unreadable", status=status, problem=problem)
        if exc is not None:
            exc.__traceback__ = None  # its frames hold `exc` and all that was read: a reference cycle
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun already")  # as aiohttp does: there is no second one
        response = self._too_long() if self._is_refused else web.Response(status=status)
        response.headers.update(HEADERS)
        response.force_close()
        return response

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """The kind of the error, without its text."""
        error = kw.get("exc_info")
        trouble("console.connection_failed", problem=type(error).__name__)


def _in_our_version(message: Any) -> Any:
    """The request as HTTP/1.1 if it claims a later version (RFC 9110 section 2.5): aiohttp would answer in that
    version."""
    is_later = getattr(message, "version", HttpVersion11) > HttpVersion11
    return message._replace(version=HttpVersion11) if is_later else message


def _length_told(message: Any) -> int | None:
    """Octets of a request's body; None if it is chunked. A request that could not be parsed, for which aiohttp has a
    class of its own, has no body."""
    if getattr(message, "chunked", False):
        return None
    headers = getattr(message, "headers", {})
    return int(headers.get(hdrs.CONTENT_LENGTH, 0))
