"""Passes bytes both ways after login, with flow control, and counts them.

After login not one byte is parsed, logged or changed. Memory is one shared read buffer for all sessions of a loop plus,
for a direction whose receiver is slower than its sender, the one piece that the kernel would not take.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import Enum, auto

from bridge.errors import PeerGone
from bridge.relay.channel import Channel
from bridge.relay.readiness import ReadinessChannel

HALF_CLOSE_SECONDS = 2.0
"""A client that half-closes (QUIT, then FIN) still gets what the upstream says, until nothing has passed for this long
and nothing waits to be sent. A full close looks the same on the wire, until we send something and get a reset. The
half-close is not passed on, because TLS to the upstream has none that servers respect."""
IDLE_SECONDS = 35 * 60.0
"""A session in which not one octet has passed for this long ends, at twice this time at the latest. An IMAP client in
IDLE speaks every 29 minutes (RFC 2177), and its server may hang up after 30 (RFC 9051 section 5.4): this ends only
sessions that both sides have forgotten. A computer that has vanished is found by keepalive, within minutes."""
PIECES_A_TURN = 8
"""Without readiness, at most 128 KiB are moved before other sessions get their turn. To await what is there already
does not yield to the loop, so one fast download held up all other sessions until its end (a quarter of a second for 100
MB; 2 ms now)."""

_NOTHING = memoryview(b"")
"""Shared: otherwise each session would hold two empty views of 300 octets."""


@dataclass(slots=True)
class Traffic:
    """Octets passed after login, and who ended the session; filled in once splice() is over, even if cancelled."""

    to_client: int = 0
    to_upstream: int = 0
    ended_by: str = "bridge"
    """`client`, `upstream`, `client lost` / `upstream lost` after a reset, `idle`, or `bridge` if it stops or fails."""


async def splice(
    client: Channel,
    upstream: Channel,
    traffic: Traffic,
    *,
    to_client: bytes,
    to_upstream: bytes,
    idle_seconds: float = IDLE_SECONDS,
) -> None:
    """Pass bytes until either side ends, `to_client` and `to_upstream` (received before) first; fill in `traffic`.

    When the upstream closes, the session ends once the client has got everything that was on its way. When the client
    closes, it ends once the upstream has got everything and has been silent for HALF_CLOSE_SECONDS. A side that no
    longer takes bytes may have said why: its last words are passed on before the session ends. The caller closes both
    channels.
    """
    if isinstance(client, ReadinessChannel) and isinstance(upstream, ReadinessChannel):
        await _ReadinessSplice(client, upstream, traffic, idle_seconds).run(to_client, to_upstream)
    else:
        await _CompletionSplice(client, upstream, traffic, idle_seconds).run(to_client, to_upstream)


class _Direction:
    """One way of a splice on readiness channels: read, write at once, keep only what the sink does not take."""

    __slots__ = ("_ended", "_failed", "_is_last", "_pending", "_sink_lost", "count", "is_source_lost", "sink", "source")

    def __init__(
        self,
        source: ReadinessChannel,
        sink: ReadinessChannel,
        ended: Callable[[], None],
        sink_lost: Callable[[], None],
        failed: Callable[[Exception], None],
    ) -> None:
        """Called when: `ended`, all that the source has said is sent; `sink_lost`, the sink takes no more; `failed`,
        something that was read is lost."""
        self._pending = _NOTHING
        self._is_last = False
        """True if the source's end, or its loss, follows what is pending. That was read already: the loop will not
        report it again."""
        self._ended = ended
        self._sink_lost = sink_lost
        self._failed = failed
        self.source = source
        self.sink = sink
        self.count = 0
        self.is_source_lost = False
        """The source was reset, not closed."""

    def start(self, first: bytes) -> None:
        """Send what was received before, then read."""
        self.count += len(first)
        self._pending = memoryview(first)
        self.writable()

    @property
    def taken(self) -> int:
        """Octets of `count` that the sink has taken."""
        return self.count - len(self._pending)

    def stop(self) -> None:
        """Call back no more; what is pending stays unsent."""
        self.source.unwatch_readable()
        self.sink.unwatch_writable()
        # Otherwise both directions and the splice would refer to each other, and keep two channels with their TLS
        # (40 KiB) until the garbage collector runs.
        self._ended = self._sink_lost = self._failed = _do_nothing
        self._pending = _NOTHING

    def readable(self) -> None:
        """The source has something: move one piece at most, then let others have their turn."""
        try:
            data, is_end = self.source.try_receive()
        except PeerGone:
            self.is_source_lost = True
            return self._end()
        if not data:
            return self._end() if is_end else None
        try:
            sent = self.sink.try_send(data)
        except PeerGone:
            return self._sink_lost()
        self.count += len(data)
        if sent < len(data):
            return self._keep(data[sent:], is_last=is_end)
        return self.readable() if is_end else None

    def _keep(self, rest: memoryview, *, is_last: bool) -> None:
        """Keep the rest for when the sink takes bytes again. Nobody else has these bytes: if they cannot be kept (no
        memory), the session must fail, since nothing may be sent after the gap."""
        self.source.unwatch_readable()
        self._is_last = is_last
        try:
            self._pending = memoryview(bytes(rest))
        except MemoryError as problem:
            return self._failed(problem)
        return self._await_sink()

    def _await_sink(self) -> None:
        """Go on when the sink takes bytes again. If the loop cannot watch it, which is not the sink's doing, nothing
        would ever tell: then the session must fail, too."""
        try:
            self.sink.watch_writable(self.writable)
        except (MemoryError, PeerGone) as problem:
            self._failed(problem)

    def writable(self) -> None:
        """The sink takes bytes again (or for the first time)."""
        try:
            while self._pending:
                sent = self.sink.try_send(self._pending)
                if not sent:
                    return self._await_sink()
                self._pending = self._pending[sent:]
            self._pending = _NOTHING
        except PeerGone:
            return self._sink_lost()
        self.sink.unwatch_writable()
        try:
            self.source.watch_readable(self.readable)
        except PeerGone:
            self.is_source_lost = True
            return self._end()
        return self.readable() if self._is_last else None

    def _end(self) -> None:
        self.source.unwatch_readable()
        self._ended()


def _do_nothing(*_: object) -> None:
    """In place of the callbacks, once a direction has been stopped."""


class _ReadinessSplice:
    """Both directions on readiness channels, and the one future that ends them."""

    def __init__(
        self, client: ReadinessChannel, upstream: ReadinessChannel, traffic: Traffic, idle_seconds: float
    ) -> None:
        self._traffic = traffic
        self._loop = asyncio.get_running_loop()
        self._done: asyncio.Future[str] = self._loop.create_future()
        self._idle_seconds = idle_seconds
        self._farewell: asyncio.TimerHandle | None = None
        self._down = _Direction(upstream, client, self._upstream_ended, self._client_lost, self._fail)
        self._up = _Direction(client, upstream, self._client_ended, self._upstream_lost, self._fail)

    async def run(self, to_client: bytes, to_upstream: bytes) -> None:
        self._watch(-1)
        try:
            self._down.start(to_client)
            self._up.start(to_upstream)
            self._traffic.ended_by = await self._done
        finally:
            self._traffic.to_client, self._traffic.to_upstream = self._down.count, self._up.count
            self._watching.cancel()
            if self._farewell is not None:
                self._farewell.cancel()  # otherwise the timer would keep both channels, and their TLS, until it fires
            self._down.stop()
            self._up.stop()

    def _upstream_ended(self) -> None:
        self._finish("upstream lost" if self._down.is_source_lost else "upstream")

    def _client_ended(self) -> None:
        if self._up.is_source_lost:
            return self._finish("client lost")
        return self._await_last_words(-1)

    def _await_last_words(self, before: int) -> None:
        """The client may have half-closed only: a download that it has asked for goes on."""
        taken = self._down.taken
        if taken == before == self._down.count:
            return self._finish("client")
        self._farewell = self._loop.call_later(HALF_CLOSE_SECONDS, self._await_last_words, taken)
        return None

    def _upstream_lost(self) -> None:
        """The upstream takes no more. The client still gets what it said before (perhaps why), at the client's pace."""
        self._up.stop()
        self._down.is_source_lost = True

    def _client_lost(self) -> None:
        """The client takes no more. What it sent before is passed on, for HALF_CLOSE_SECONDS at most."""
        self._down.stop()
        self._up.is_source_lost = True
        self._farewell = self._loop.call_later(HALF_CLOSE_SECONDS, self._finish, "client lost")

    def _watch(self, before: int) -> None:
        """Look once in each idle_seconds whether anything has passed: passing bytes costs nothing for it."""
        passed = self._down.count + self._up.count
        if passed == before:
            self._finish("idle")
        self._watching = self._loop.call_later(self._idle_seconds, self._watch, passed)

    def _fail(self, problem: Exception) -> None:
        if not self._done.done():
            self._done.set_exception(problem)

    def _finish(self, ended_by: str) -> None:
        if not self._done.done():
            self._done.set_result(ended_by)


class _End(Enum):
    """How one way of a splice came to its end."""

    SAID_ALL = auto()
    """The source has ended its stream, and the sink has all of it."""
    SOURCE_LOST = auto()
    """The source was reset."""
    SINK_LOST = auto()
    """The sink takes no more."""


@dataclass(slots=True)
class _Copy:
    """One way of a splice that awaits receive() and send()."""

    source: Channel
    sink: Channel
    count: int = 0
    """Octets from the source."""
    taken: int = 0
    """Octets of `count` that the sink has taken."""

    async def run(self, data: bytes) -> _End:
        """Send what was received before, then what comes."""
        pieces = 0
        while True:
            try:
                self.count += len(data)
                await self.sink.send(data)
                self.taken += len(data)
            except PeerGone:
                return _End.SINK_LOST
            pieces += 1
            if pieces % PIECES_A_TURN == 0:
                await asyncio.sleep(0)
            try:
                data = await self.source.receive()
            except PeerGone:
                return _End.SOURCE_LOST
            if not data:
                return _End.SAID_ALL


class _CompletionSplice:
    """The same with receive() and send() only, for loops without readiness."""

    def __init__(self, client: Channel, upstream: Channel, traffic: Traffic, idle_seconds: float) -> None:
        self._traffic = traffic
        self._down = _Copy(upstream, client)
        self._up = _Copy(client, upstream)
        self._idle_seconds = idle_seconds
        self._ended_by = ""
        self._patience: float | None = 0.0
        """Seconds for the other way, once one has ended; None until it has passed everything on."""

    async def run(self, to_client: bytes, to_upstream: bytes) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                ways = group.create_task(self._run_down(to_client)), group.create_task(self._run_up(to_upstream))
                await self._wait(ways)
                if others := [way for way in ways if not way.done()]:
                    await self._await_last_words(others)
                for way in ways:
                    way.cancel()
            self._traffic.ended_by = self._ended_by
        finally:
            self._traffic.to_client, self._traffic.to_upstream = self._down.count, self._up.count

    async def _run_down(self, data: bytes) -> None:
        match await self._down.run(data):
            case _End.SAID_ALL:
                self._end("upstream")
            case _End.SOURCE_LOST:
                self._end("upstream lost")
            case _End.SINK_LOST:
                self._end("client lost", HALF_CLOSE_SECONDS)

    async def _run_up(self, data: bytes) -> None:
        match await self._up.run(data):
            case _End.SAID_ALL:
                self._end("client", HALF_CLOSE_SECONDS)
            case _End.SOURCE_LOST:
                self._end("client lost")
            case _End.SINK_LOST:
                self._end("upstream lost", None)

    def _end(self, ended_by: str, patience: float | None = 0.0) -> None:
        """End with this outcome, unless there is one already."""
        if not self._ended_by:
            self._ended_by, self._patience = ended_by, patience

    async def _wait(self, ways: Collection[asyncio.Task[None]]) -> None:
        """Wait until one of them has ended, or nothing has passed for idle_seconds."""
        before = -1
        while not (await asyncio.wait(ways, timeout=self._idle_seconds, return_when=asyncio.FIRST_COMPLETED))[0]:
            if (passed := self._down.count + self._up.count) == before:
                self._end("idle")
                return
            before = passed

    async def _await_last_words(self, ways: Collection[asyncio.Task[None]]) -> None:
        """Wait for `self._patience`; longer while a client that has said all is still reading."""
        is_moving = True
        while is_moving:
            before = self._down.taken
            try:
                async with asyncio.timeout(self._patience):
                    return await self._wait(ways)
            except TimeoutError:
                is_moving = self._ended_by == "client" and not before == self._down.taken == self._down.count
        return None
