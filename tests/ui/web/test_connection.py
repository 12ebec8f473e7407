"""When a visitor's connection is read, and which of aiohttp's internals that needs."""

from __future__ import annotations

import asyncio
import io
import random
import tomllib
from pathlib import Path

import pytest
from aiohttp import web

from bridge.ui.web.connection import ROOM, Connection, Pace
from tests.ui.web.test_turns import visitors


class Line(asyncio.ReadTransport):
    """Records whether it would be read at the moment."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 4711)})
        self.is_read = True

    def pause_reading(self) -> None:
        self.is_read = False

    def resume_reading(self) -> None:
        self.is_read = True


@pytest.fixture
def line() -> Line:
    return Line()


@pytest.fixture
def pace(line: Line) -> Pace:
    pace = Pace()
    assert pace.of(line).get_extra_info("peername") == ("127.0.0.1", 4711)
    return pace


def test_what_waits_for_its_turn_is_not_added_to_though_aiohttp_asks_for_more(line: Line, pace: Pace) -> None:
    pace.hold()
    assert not line.is_read
    pace.pause_reading()
    pace.resume_reading()
    assert not line.is_read
    pace.let_go()
    assert line.is_read


def test_nothing_is_read_while_aiohttp_wants_nothing(line: Line, pace: Pace) -> None:
    pace.pause_reading()
    assert not line.is_read
    pace.hold()
    pace.let_go()
    assert not line.is_read
    pace.resume_reading()
    assert line.is_read


def test_whoever_was_held_once_is_read_whenever_aiohttp_wants(line: Line, pace: Pace) -> None:
    pace.hold()
    pace.let_go()
    assert line.is_read
    pace.pause_reading()
    pace.resume_reading()
    assert line.is_read


def test_aiohttp_may_pause_before_anything_has_come(line: Line, pace: Pace) -> None:
    line.is_read = False
    pace.resume_reading()
    assert line.is_read


@pytest.mark.parametrize("octets", [524_500, 525_000, 528_500, 2_000_000])
@pytest.mark.parametrize("size", [0, 250], ids=["whole", "in chunks"])
async def test_a_body_that_waits_for_its_reader_comes_whole(octets: int, size: int) -> None:
    """aiohttp buffers 512 KiB, then pauses the transport; later it goes on by itself, from its buffer first."""
    sent = random.Random(octets).randbytes(octets)
    kept = 0

    async def handler(request: web.Request) -> web.StreamResponse:
        nonlocal kept
        quiet = 0
        while quiet < 100:  # turns of the loop without a new octet: nothing more will come
            quiet = quiet + 1 if kept == request.content.total_bytes else 0
            kept = request.content.total_bytes
            await asyncio.sleep(0)
        return web.Response(status=200 if await request.content.read() == sent else 500)

    async with visitors(handler) as (head, come), asyncio.timeout(30):
        reader, writer = come[0]
        if size:
            chunks = (sent[start : start + size] for start in range(0, octets, size))
            writer.write(head("Transfer-Encoding: chunked\r\n"))
            writer.writelines([*(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks), b"0\r\n\r\n"])
        else:
            writer.write(head(f"Content-Length: {octets}\r\n") + sent)
        assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
    assert kept < 512 * 1024 + 2 * ROOM


async def test_who_goes_in_the_middle_of_his_form_is_nobody_to_warn_of(log: io.StringIO) -> None:
    """A tab that was closed: the request was not unreadable, and nobody is there to read an answer."""
    begun, over = asyncio.Event(), asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        begun.set()
        try:
            await request.read()
        finally:
            over.set()
        raise AssertionError("he did not say it all")

    async with asyncio.timeout(30), visitors(handler) as (head, come):
        _, writer = come[0]
        writer.write(head("Content-Length: 9\r\n"))
        await begun.wait()
        writer.close()
        await over.wait()
    assert "warning" not in log.getvalue()


@pytest.mark.parametrize("version", ["1.0", "1.1", "2.0"])  # aiohttp rejects all others
async def test_the_answer_is_in_a_version_that_we_speak(version: str) -> None:
    """RFC 9110 section 2.5. aiohttp by itself answers in the request's version, whatever that is: scripts/fuzz.py found
    it."""

    async def handler(request: web.Request) -> web.StreamResponse:
        return web.Response(text=await request.text())

    async with asyncio.timeout(30), visitors(handler) as (head, come):
        reader, writer = come[0]
        writer.write(head("Content-Length: 3\r\n").replace(b"HTTP/1.1", f"HTTP/{version}".encode()) + b"abc")
        answer = await reader.readuntil(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.0 200 " if version == "1.0" else b"HTTP/1.1 200 ")
        assert await reader.readexactly(3) == b"abc"


async def test_so_is_each_answer_to_requests_that_come_in_one_piece() -> None:
    """The end of a chunked body is known only once it is parsed: heads that follow reach aiohttp together with it."""
    has_begun = asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        has_begun.set()
        await request.read()
        return web.Response()

    async with asyncio.timeout(30), visitors(handler) as (head, come):
        reader, writer = come[0]
        writer.write(head("Transfer-Encoding: chunked\r\n") + b"3\r\nabc\r\n")
        await has_begun.wait()
        later = head("Connection: keep-alive\r\nContent-Length: 0\r\n").replace(b"HTTP/1.1", b"HTTP/2.0")
        writer.write(b"0\r\n\r\n" + later * 3)
        for _ in range(4):
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")


async def test_aiohttp_has_the_private_names_that_we_go_by() -> None:
    """_request_count is how many requests were parsed; _messages are those of them that are not yet handled, each with
    the reader of its body. If this fails, an update of aiohttp has changed what connection.py relies on."""
    assert {"_request_count", "_messages"} <= set(web.RequestHandler.__slots__)
    seen = list[tuple[int, str, bool]]()

    async def look(request: web.Request) -> web.StreamResponse:
        connection = request.protocol
        assert isinstance(connection, Connection)
        while not connection._messages:
            await asyncio.sleep(0)
        for message, body in connection._messages:
            seen.append((connection._request_count, getattr(message, "method", ""), body.is_eof()))
        return web.Response()

    async with visitors(look) as (head, come), asyncio.timeout(30):
        reader, writer = come[0]  # this visitor has already requested one page
        writer.write(head("Content-Length: 0\r\n") + head("Content-Length: 3\r\n"))
        assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
    assert seen == [(3, "POST", False)]


def test_no_aiohttp_is_let_in_that_has_not_what_is_used() -> None:
    """web.RequestKey came with 3.14.0: with an older aiohttp, which pip would not replace, no page could be loaded."""
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text("utf-8"))["project"]
    (oldest,) = (line.partition(">=")[2] for line in project["dependencies"] if line.startswith("aiohttp>="))
    assert tuple(map(int, oldest.split("."))) >= (3, 14)
