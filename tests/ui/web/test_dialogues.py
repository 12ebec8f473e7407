"""Each request is answered once, in order, and to the visitor who sent it, however its octets arrive."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
import re
import socket
from collections.abc import AsyncIterator

from aiohttp import web

from bridge.host.sockets import bind
from bridge.relay.limits import console_cap
from bridge.ui.web.console_sockets import ConsoleSockets
from bridge.ui.web.site import Site
from tests.consoles import nobody_knows

SECONDS = 30.0
HOST = "console"


@contextlib.asynccontextmanager
async def site(*routes: web.RouteDef) -> AsyncIterator[int]:
    """A site that answers requests with the Host header HOST. Yields: its port."""
    (sock,) = bind("127.0.0.1", 0, what="console")
    port = sock.getsockname()[1]
    console = Site(frozenset({HOST}), lambda: "en", console_cap(), nobody_knows)
    async with asyncio.timeout(SECONDS), console.answering(routes, ConsoleSockets([sock]), lambda: None):
        yield port


def head(start: str, *lines: str) -> bytes:
    return "\r\n".join([f"{start} HTTP/1.1", f"Host: {HOST}", *lines, "", ""]).encode()


DIALOGUES = 300
AT_ONCE = 30
"""Visitors who are served at the same time."""
BAD = [
    b"GET / HTTP/1.1\r\n\r\n",  # no host
    b"GET / HTTP/1.1\r\nHost: console\r\nHost: console\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: console\r\n folded: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost : console\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: console\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: console\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: console\r\nContent-Length: +1\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: console\r\nTransfer-Encoding: chunked, identity\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
]
"""Requests that two programs could understand differently, and that must be refused: RFC 9112 sections 3.2, 5.1, 5.2,
6.1 and 6.3."""


def chunked(dice: random.Random, body: bytes) -> bytes:
    said = bytearray()
    while body:
        size = dice.choice([1, 2, 100, 5000])
        part, body = body[:size], body[size:]
        said += f"{len(part):{dice.choice('xX')}}{dice.choice(['', ';a=b'])}\r\n".encode() + part + b"\r\n"
    return bytes(said) + b"0\r\n" + dice.choice([b"", b"X-Trailer: x\r\n"]) + b"\r\n"


def request(dice: random.Random, number: str, *, is_last: bool) -> tuple[bytes, str]:
    """A random request. Returns: its octets, and what the page sees of it."""
    method, lines = (
        dice.choice(["GET", "HEAD", "POST", "POST"]),
        [f"X-Number: {number}", f"X: {'x' * dice.choice([0, 9000])}"],
    )
    body = bytes(dice.choices(b"ab\r\n0 GET/:", k=dice.choice([0, 1, 9, 300, 4096, 9000]))) if method == "POST" else b""
    said = body
    if method == "POST" and dice.random() < 0.5:
        lines.append("Transfer-Encoding: chunked")
        said = chunked(dice, body)
    elif method == "POST":
        lines.append(f"Content-Length: {len(body)}")
    if dice.random() < 0.1:
        lines.append("Expect: 100-continue")
    if is_last:
        lines.append("Connection: close")
    dice.shuffle(lines)
    lead = dice.choice([b"", b"", b"", b"\r\n"])  # RFC 9112 section 2.2
    return lead + head(f"{method} /", *lines) + said, seen_of(number, method, body)


def seen_of(number: str, method: str, body: bytes) -> str:
    return f"200 {number} {method} {hashlib.sha256(body).hexdigest()}"


async def told(port: int, dice: random.Random, said: bytes) -> list[str]:
    """Send these octets in random pieces. Returns: the answers.

    A refused visitor's request may not be read to its end, which resets the connection. The answer is still in the
    socket's buffer then, but asyncio's streams would throw it away.
    """
    loop, got = asyncio.get_running_loop(), b""
    most = dice.choice([3, 500, 5000, 10**6])
    with socket.socket() as sock:
        sock.setblocking(False)
        await loop.sock_connect(sock, ("127.0.0.1", port))
        with contextlib.suppress(ConnectionError):
            while said:
                size = dice.randint(1, most) if len(said) < 200 * most else len(said)
                await loop.sock_sendall(sock, said[:size])
                said = said[size:]
                await asyncio.sleep(0)
        with contextlib.suppress(ConnectionError):
            while piece := await loop.sock_recv(sock, 65536):
                got += piece
    answers = [one.partition(b"\r\n\r\n")[0].decode().split("\r\n") for one in re.split(rb"HTTP/1\.[01] ", got)[1:]]
    names = [next((line[8:] for line in one if line.startswith("X-Seen: ")), one[0][:3]) for one in answers]
    return [name for name in names if name != "100"]


async def test_each_request_is_answered_once_and_in_order_however_its_octets_come() -> None:
    async def page(request: web.Request) -> web.StreamResponse:
        if dice.random() < 0.3:
            await asyncio.sleep(0)
        body = await request.read()
        for _ in range(dice.choice([0, 0, 1, 5])):
            await asyncio.sleep(0)
        return web.Response(text="x", headers={"X-Seen": seen_of(request.headers["X-Number"], request.method, body)})

    async def visit(number: int) -> None:
        mine = random.Random(number)
        count, end = mine.choice([1, 2, 5, 40]), mine.choice(["close", "close", "bad"])
        asked = [request(mine, f"{number}.{one}", is_last=end == "close" and one == count - 1) for one in range(count)]
        said, expected = b"".join(octets for octets, _ in asked), [seen for _, seen in asked]
        if end == "bad":
            got = await told(port, mine, said + mine.choice(BAD))
            assert got.pop() == "400"
            expected = expected[: len(got)]  # aiohttp drops requests that it read in one piece with a bad one
        else:
            got = await told(port, mine, said)
        assert got == expected, (number, end)

    dice = random.Random(0)
    async with site(web.get("/", page), web.post("/", page)) as port:
        for first in range(0, DIALOGUES, AT_ONCE):
            async with asyncio.TaskGroup() as group:
                for number in range(first, first + AT_ONCE):
                    group.create_task(visit(number))
