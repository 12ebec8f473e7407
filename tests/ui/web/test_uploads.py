"""Forms with a file in them: as a browser sends them, and as another program may."""

from __future__ import annotations

import asyncio
import io
import socket
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from bridge.relay.limits import console_cap
from bridge.ui.web.console_sockets import ConsoleSockets
from bridge.ui.web.site import Site
from bridge.ui.web.uploads import PARTS, Upload, read_upload
from tests.consoles import nobody_knows
from tests.relay.later import Later

LIMIT = 20
FORM = "multipart/form-data; boundary=x"
END = b"--x--\r\n"


def part(head: bytes, content: bytes = b"") -> bytes:
    return b"--x\r\n" + head + b"\r\n" + content + b"\r\n"


def field(name: str, content: bytes = b"") -> bytes:
    return part(f"Content-Disposition: form-data; name={name}\r\n".encode(), content)


def file(name: str, content: bytes = b"") -> bytes:
    return part(f'Content-Disposition: form-data; name=csv; filename="{name}"\r\n'.encode(), content)


class Form:
    """A page of ours that takes a form, on a port of this machine."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.begun = asyncio.Event()
        self.taken: list[Upload | None] = []

    async def take(self, request: web.Request) -> web.Response:
        self.begun.set()
        self.taken.append(await read_upload(request, LIMIT))
        return web.Response()

    async def send(self, body: bytes, kind: str = FORM, length: int | None = None) -> Upload | None:
        """Send this body, perhaps as the beginning of `length` octets. Returns: what the page made of it."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        head = f"POST / HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nContent-Type: {kind}\r\nConnection: close\r\n"
        writer.write(f"{head}Content-Length: {length or len(body)}\r\n\r\n".encode() + body)
        assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
        writer.close()
        return self.taken[-1]


@pytest.fixture
async def form() -> AsyncIterator[Form]:
    sock = socket.create_server(("127.0.0.1", 0))
    form = Form(sock.getsockname()[1])
    site = Site(frozenset({f"127.0.0.1:{form.port}"}), lambda: "en", console_cap(), nobody_knows)
    async with site.answering([web.post("/", form.take)], ConsoleSockets([sock]), lambda: None):
        yield form


async def test_fields_and_a_file_are_told_apart(form: Form) -> None:
    sent = field("form", b"token") + file("é" * 300, b"a\xff\0b") + field("text", b"\xc3\xa9\xff")
    assert await form.send(sent + END) == Upload({"form": "token", "text": "é\ufffd"}, "é" * 200, b"a\xff\0b")


async def test_a_file_that_nobody_has_chosen_is_neither_a_file_nor_a_field(form: Form) -> None:
    assert await form.send(file("list.csv", b"alice") + file("") + END) == Upload({}, "list.csv", b"alice")


@pytest.mark.parametrize("content", [b"x" * (LIMIT - 9), b"x" * 9000])
async def test_all_together_is_bounded_and_behind_that_nothing_is_read(form: Form, content: bytes) -> None:
    """However many fields there are; those that came before the limit was reached are returned."""
    most = field("form", b"x" * 5) + field("text", b"x" * 5) + file("list.csv", b"x" * (LIMIT - 10))
    whole = await form.send(most + field("empty") + END)
    assert whole is not None
    assert not whole.is_too_large
    assert whole.fields.keys() == {"form", "text", "empty"}
    sent = field("form", b"x" * 5) + field("text", b"x" * 5) + file("list.csv", content) + field("behind") + END
    assert await form.send(sent) == Upload({"form": "x" * 5, "text": "x" * 5}, is_too_large=True)


async def test_there_is_a_bounded_number_of_fields(form: Form) -> None:
    taken = await form.send(b"".join(field(f"f{number}") for number in range(PARTS - 1)) + END)
    assert taken is not None
    assert len(taken.fields) == PARTS - 1
    assert await form.send(b"".join(field(f"f{number}") for number in range(PARTS + 1)) + END) is None


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("multipart/mixed; boundary=x", field("form") + END),
        ("multipart/form-data", field("form") + END),
        ("text/plain", field("form") + END),
        (FORM, b"nothing of the kind"),
        (FORM, field("form", b"without an end")),
        (FORM, part(b"Content-Disposition: form-data\r\n") + END),
        (FORM, part(b"") + END),
        (FORM, part(b"Content-Type: multipart/mixed; boundary=y\r\n", b"--y\r\n\r\n\r\n--y--") + END),
        (FORM, part(b"CANARY no header\r\n") + END),
        (FORM, part(b"CANARY: " + b"x" * 9000 + b"\r\n") + END),
        (FORM, part(b"CANARY: x\r\n" * 200) + END),
        (FORM, field("_charset_", b"CANARY" * 10) + END),
    ],
)
async def test_a_broken_form_is_none_and_what_is_in_it_is_in_no_log(
    form: Form, log: io.StringIO, kind: str, body: bytes
) -> None:
    assert await form.send(body, kind) is None
    assert log.getvalue() == ""


async def test_a_form_that_does_not_arrive_is_waited_for_a_minute(form: Form, monkeypatch: pytest.MonkeyPatch) -> None:
    later, sent = Later(monkeypatch), field("form", b"token")
    async with asyncio.TaskGroup() as group:
        sending = group.create_task(form.send(sent, length=len(sent) + len(END)))
        await form.begun.wait()
        await later.by(59)
        assert form.taken == []
        await later.by(1)
        assert await sending is None
