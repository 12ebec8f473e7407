"""Bytes both ways; pauses the reader when the writer is full; counts.

After login not one byte is parsed, logged or changed. Memory is one shared read buffer for all sessions of a loop plus,
for a direction whose receiver is slower than its sender, the one piece that the kernel would not take.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from bridge.errors import PeerGone
from bridge.relay.channel import RECORD_SIZE, Channel
from bridge.relay.readiness import ReadinessChannel, shared_buffer

HALF_CLOSE_SECONDS = 2.0
"""A client that half-closes (QUIT, then FIN) still gets the upstream's last words for this long. A full close looks
the same on the wire; TLS to the upstream has no half-close that servers respect, so there is nothing to pass on."""
PIECE = 64 * 1024
"""Octets moved for one direction before other sessions get their turn: 256 KiB saves 3 % CPU in bulk but makes a
neighbour's NOOP wait four times as long."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """Octets passed after login, and which side ended it."""

    to_client: int
    to_upstream: int
    ended_by: str
    """`client`, `upstream`, or `client lost` / `upstream lost` after a reset."""


async def splice(client: Channel, upstream: Channel, *, to_client: bytes, to_upstream: bytes) -> Traffic:
    """Pass bytes until either side ends, `to_client` and `to_upstream` (received before) first.

    The end of the upstream ends the session once the client has what was on its way. The end of the client does so
    once the upstream has it, and has had HALF_CLOSE_SECONDS to answer. The caller closes both channels.
    """
    if isinstance(client, ReadinessChannel) and isinstance(upstream, ReadinessChannel):
        return await _ReadinessSplice(client, upstream).run(to_client, to_upstream)
    return await _copy_both(client, upstream, to_client, to_upstream)


class _Direction:
    """One way of a splice on readiness channels: read, write at once, keep only what the sink does not take."""

    __slots__ = ("_ended", "_loop", "_lost", "_pending", "_view", "count", "sink", "source")

    def __init__(
        self,
        source: ReadinessChannel,
        sink: ReadinessChannel,
        ended: Callable[[], None],
        lost: Callable[[ReadinessChannel], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._view = shared_buffer(self._loop)[:PIECE]
        self._pending = memoryview(b"")
        self._ended = ended
        self._lost = lost
        self.source = source
        self.sink = sink
        self.count = 0

    def start(self, first: bytes) -> None:
        """Send what was received before, then read."""
        self.count += len(first)
        self._pending = memoryview(first)
        self.writable()

    def stop(self) -> None:
        """No more calls; what is pending stays unsent."""
        self.source.unwatch_readable()
        self.sink.unwatch_writable()
        self._pending = memoryview(b"")

    def readable(self) -> None:
        """The source has something: move one piece at most, then let others have their turn."""
        try:
            filled, at_end = self._fill()
        except PeerGone:
            return self._lost(self.source)
        try:
            sent = self.sink.try_send(self._view[:filled]) if filled else 0
        except PeerGone:
            return self._lost(self.sink)
        self.count += filled
        if sent < filled:
            self._pending = memoryview(bytes(self._view[sent:filled]))
            self.source.unwatch_readable()
            self.sink.watch_writable(self.writable)
        elif at_end:
            self._end()
        elif self.source.has_decrypted():
            self._loop.call_soon(self._go_on)
        return None

    def writable(self) -> None:
        """The sink takes bytes again (or for the first time)."""
        try:
            while self._pending:
                sent = self.sink.try_send(self._pending)
                if not sent:
                    return self.sink.watch_writable(self.writable)
                self._pending = self._pending[sent:]
        except PeerGone:
            return self._lost(self.sink)
        self.sink.unwatch_writable()
        self.source.watch_readable(self.readable)
        if self.source.has_decrypted():
            self._loop.call_soon(self._go_on)
        return None

    def _fill(self) -> tuple[int, bool]:
        """Read up to one piece: (octets in the view, end of file)."""
        filled = 0
        while filled < len(self._view):
            count = self.source.try_receive_into(self._view[filled:])
            if count is None:
                break
            if count == 0:
                return filled, True
            filled += count
            if not self.source.is_record_based or count < RECORD_SIZE:
                break  # the socket is most likely empty: spare the read that would say so
        return filled, False

    def _go_on(self) -> None:
        if self.source.is_watched:
            self.readable()

    def _end(self) -> None:
        self.source.unwatch_readable()
        self._ended()


class _ReadinessSplice:
    """Both directions, and the one future that ends them."""

    def __init__(self, client: ReadinessChannel, upstream: ReadinessChannel) -> None:
        self._loop = asyncio.get_running_loop()
        self._done: asyncio.Future[str] = self._loop.create_future()
        self._client = client
        self._down = _Direction(upstream, client, self._upstream_ended, self._lost)
        self._up = _Direction(client, upstream, self._client_ended, self._lost)

    async def run(self, to_client: bytes, to_upstream: bytes) -> Traffic:
        try:
            self._down.start(to_client)
            self._up.start(to_upstream)
            ended_by = await self._done
        finally:
            self._down.stop()
            self._up.stop()
        return Traffic(self._down.count, self._up.count, ended_by)

    def _upstream_ended(self) -> None:
        self._finish("upstream")

    def _client_ended(self) -> None:
        self._loop.call_later(HALF_CLOSE_SECONDS, self._finish, "client")

    def _lost(self, channel: ReadinessChannel) -> None:
        self._finish("client lost" if channel is self._client else "upstream lost")

    def _finish(self, ended_by: str) -> None:
        if not self._done.done():
            self._done.set_result(ended_by)


async def _copy_both(client: Channel, upstream: Channel, to_client: bytes, to_upstream: bytes) -> Traffic:
    """The same with receive() and send() only, for loops without readiness."""
    counts = {"client": 0, "upstream": 0}
    ended_by = ""

    def end(reason: str) -> None:
        nonlocal ended_by
        ended_by = ended_by or reason

    async def copy(source: Channel, sink: Channel, data: bytes, source_name: str, sink_name: str) -> None:
        while True:
            try:
                counts[sink_name] += len(data)
                await sink.send(data)
            except PeerGone:
                return end(f"{sink_name} lost")
            try:
                data = await source.receive()
            except PeerGone:
                return end(f"{source_name} lost")
            if not data:
                return end(source_name)

    async with asyncio.TaskGroup() as group:
        down = group.create_task(copy(upstream, client, to_client, "upstream", "client"))
        up = group.create_task(copy(client, upstream, to_upstream, "client", "upstream"))
        await asyncio.wait((down, up), return_when=asyncio.FIRST_COMPLETED)
        if up.done() and ended_by == "client":
            await asyncio.wait((down,), timeout=HALF_CLOSE_SECONDS)
        down.cancel()
        up.cancel()
    return Traffic(counts["client"], counts["upstream"], ended_by)
