"""The console's HTTP server: hosts, headers, limits, and connections that stay silent."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import gzip
import io
import json
import os
import re
import socket
import ssl
import sys
import weakref
from asyncio import selector_events
from typing import Any

import pytest
from aiohttp import web

from bridge.control.contract import AccountState
from bridge.model import Ends
from bridge.relay.limits import ConnectionCap, console_cap
from bridge.secret import Secret
from bridge.ui.cli.reaching import Served
from bridge.ui.web import rendering
from bridge.ui.web.connection import ROOM, Connection
from bridge.ui.web.turns import Turns
from tests.consoles import Console
from tests.fakes_control import FakeControl, state_of
from tests.host.limits import out_of_descriptors
from tests.tokens.fakes import HandClock
from tests.turns import until
from tests.ui.web.conftest import TOKEN, Browser, browsing, serving

ALICE = "alice@example.com"
SELECTOR_TRANSPORT: Any = selector_events._SelectorTransport  # type: ignore[attr-defined]


async def raw(port: int, data: bytes) -> tuple[bytes, bytes]:
    """Send these bytes. Returns: head and body of what the server sends until it closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(data)
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    finally:
        writer.close()
        await writer.wait_closed()
    return head, body


def assert_headers(headers: str) -> None:
    for line in (
        "content-security-policy: default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'self'; "
        "img-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
        "referrer-policy: no-referrer",
        "cache-control: no-store",
        "x-content-type-options: nosniff",
        "x-frame-options: deny",
        "cross-origin-opener-policy: same-origin",
        "cross-origin-resource-policy: same-origin",
        "x-ua-compatible: ie=edge",
        "server: mail-bridge",
    ):
        assert line in headers.lower().splitlines()
    assert "aiohttp" not in headers
    assert "Python" not in headers


async def test_every_answer_has_the_headers(browser: Browser) -> None:
    for method, path in (
        ("GET", "/"),
        ("HEAD", "/"),
        ("GET", "/style.css"),
        ("GET", "/console.js"),
        ("GET", "/events"),
        ("GET", "/check"),
        ("GET", f"/accounts/{ALICE}"),
        ("GET", "/favicon.ico"),
        ("GET", "/metrics"),
        ("GET", f"/admin/{TOKEN}"),
        ("GET", "/admin/wrong"),
        ("GET", "/nowhere"),
        ("DELETE", "/"),
        ("OPTIONS", "/"),
        ("POST", "/"),
        ("GET", "/?code=1&state=2"),
        ("GET", f"/sign-in/{ALICE}"),
        ("GET", "/api/status"),
        ("GET", "/api/nowhere"),
    ):
        async with browser.session.request(method, browser.base + path, allow_redirects=False) as response:
            assert_headers("\n".join(f"{name}: {value}" for name, value in response.headers.items()))
            assert response.status == 200 or path != "/" or method not in {"GET", "HEAD"}


@pytest.mark.parametrize("host", ["evil.example:{port}", "localhost", "localhost:1", "localhost.:{port}", "", "[::1]"])
async def test_a_foreign_host_gets_nothing_and_changes_nothing(
    browser: Browser, control: FakeControl, host: str
) -> None:
    state = state_of((await control.begin_authorization(ALICE)).url)
    for path in (f"/?code=CANARY-c&state={state}", "/", "/api/status", "/favicon.ico"):
        request = f"GET {path} HTTP/1.1\r\nHost: {host.format(port=browser.port)}\r\nConnection: close\r\n\r\n"
        head, body = await raw(browser.port, request.encode())
        assert b" 404 " in head.splitlines()[0]
        assert body == b""
        assert_headers(head.decode())
    assert control.completions == []


@pytest.mark.parametrize(
    "request_head",
    [
        "GET / HTTP/1.1\r\n",
        "GET / HTTP/1.1\r\nHost: {own}\r\nHost: evil.example\r\n",
        "GET / HTTP/1.1\r\nHost: {own}\r\nHost: {own}\r\n",
        "GET http://evil.example/ HTTP/1.1\r\nHost: {own}\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: {own}\r\n",
        "GET / HTTP/1.0\r\n",
    ],
)
async def test_no_host_two_hosts_and_another_host_in_the_target_get_no_page(
    browser: Browser, request_head: str
) -> None:
    own = f"localhost:{browser.port}"
    head, body = await raw(browser.port, (request_head.format(own=own) + "Connection: close\r\n\r\n").encode())
    assert head.split()[1] in {b"400", b"404"}
    assert body == b""
    assert_headers(head.decode())


async def test_a_path_of_more_parts_than_any_page_has_is_not_looked_for(browser: Browser) -> None:
    """For 32,000 slashes aiohttp's router looked for a page 32,000 times, which held up the loop for 1 or 2 seconds."""
    for path, is_looked_for in (
        ("/" * 32_000, False),
        ("/%F0%9F%98%80" + "/" * 31_000, False),
        ("/a" * 9, False),
        ("/a" * 8 + "?" + "/" * 100, True),
        ("/?" + "/" * 100, True),
    ):
        request = f"GET {path} HTTP/1.1\r\nHost: localhost:{browser.port}\r\nConnection: close\r\n\r\n"
        head, body = await raw(browser.port, request.encode())
        assert (body != b"") is is_looked_for, path[:20]
        assert is_looked_for or b" 404 " in head.splitlines()[0]
        assert_headers(head.decode())


@pytest.mark.parametrize("host", ["localhost:{port}", "LOCALHOST:{port}", "127.0.0.1:{port}", "[::1]:{port}"])
async def test_each_own_name_works(browser: Browser, host: str) -> None:
    request = f"GET / HTTP/1.1\r\nHost: {host.format(port=browser.port)}\r\nConnection: close\r\n\r\n"
    head, _ = await raw(browser.port, request.encode())
    assert b" 200 " in head.splitlines()[0]


@pytest.mark.parametrize("host", ["localhost", "localhost:80", "127.0.0.1", "[::1]"])
async def test_at_port_80_no_browser_names_the_port(control: FakeControl, host: str) -> None:
    async with serving(control, hosts=Served(80, Secret(TOKEN)).hosts) as browser:
        browser.session.headers["Host"] = host
        status, _ = await browser.press(f"/sign-in/{ALICE}", {"Origin": f"http://{host}"})
        assert status == 200
        assert control.states[ALICE] is AccountState.PENDING
        state = state_of((await control.begin_authorization(ALICE)).url)
        async with browser.get("/", params={"code": "c", "state": state}) as response:
            assert response.status == 200
        assert control.states[ALICE] is AccountState.READY
        await browser.as_administrator()
        assert "bob@example.com" in await browser.text("/")
        for foreign in ("evil.example", "localhost:3017", "localhost:", ""):
            browser.session.headers["Host"] = foreign
            async with browser.get("/") as response:
                assert (response.status, await response.read()) == (404, b"")


async def test_with_and_without_the_port_it_is_the_same_console(control: FakeControl) -> None:
    """The port may be in a link but not in the redirect: the administrator's session must be the same."""
    async with serving(control, hosts=Served(80, Secret(TOKEN)).hosts) as browser:
        browser.session.headers["Host"] = "localhost:80"
        await browser.as_administrator()
        browser.session.headers["Host"] = "localhost"
        assert "bob@example.com" in await browser.text("/")
        assert {cookie.key.rpartition("_")[2] for cookie in browser.session.cookie_jar} == {"80"}


async def test_what_is_no_http_is_neither_sent_back_nor_logged(browser: Browser, log: io.StringIO) -> None:
    for data in (
        b"GET /?code=CANARY-code&state=\x00 HTTP/1.1\r\n\r\n",
        b"BROKEN CANARY-code\r\n\r\n",
        b"GET /?code=CANARY-code" + b"x" * 40_000 + b" HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00CANARY-tls\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nCANARY header\r\n\r\n",
    ):
        head, body = await raw(browser.port, data)
        assert b" 400 " in head.splitlines()[0]
        assert body == b""
        assert_headers(head.decode())
        line = json.loads(log.getvalue().splitlines()[-1])
        assert (line["event"], line["status"]) == ("console.request_unreadable", 400)
    assert "CANARY" not in log.getvalue()


async def test_a_browser_that_was_sent_to_https_is_told_of_in_the_log(browser: Browser, log: io.StringIO) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", browser.port)
    with pytest.raises(ssl.SSLError):
        await writer.start_tls(ssl.create_default_context(), server_hostname="localhost")
    writer.close()
    line = json.loads(log.getvalue().splitlines()[-1])
    assert (line["event"], line["status"]) == ("console.request_unreadable", 400)
    assert line["problem"] == "TLS: the console's address begins with http://, in a browser and as redirect URI"


async def test_what_comes_later_is_no_tls(browser: Browser, log: io.StringIO) -> None:
    request = f"GET /favicon.ico HTTP/1.1\r\nHost: 127.0.0.1:{browser.port}\r\n\r\n".encode()
    await raw(browser.port, request + b"\x16\x03\x01\r\n\r\n")
    assert json.loads(log.getvalue().splitlines()[-1])["problem"] == "BadHttpMethod"


async def test_a_fault_in_front_of_all_pages_is_logged_without_the_url(
    browser: Browser, log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a point where no supervisor catches it yet; the connection is closed afterwards."""

    async def mine(turns: Turns) -> None:
        raise RuntimeError("CANARY-fault")

    monkeypatch.setattr(Turns, "mine", mine)
    request = f"GET /?code=CANARY-code HTTP/1.1\r\nHost: 127.0.0.1:{browser.port}\r\n\r\n".encode()
    head, body = await raw(browser.port, request)
    assert b" 500 " in head.splitlines()[0]
    assert body == b""
    line = json.loads(log.getvalue().splitlines()[-1])
    assert (line["event"], line["status"], line["problem"]) == ("console.request_unreadable", 500, "RuntimeError")
    assert "CANARY" not in log.getvalue()


async def test_a_fault_of_ours_gets_a_page_and_a_line_without_the_url(
    browser: Browser, control: FakeControl, log: io.StringIO
) -> None:
    control.bug = RuntimeError("a bug")
    async with browser.get("/?page=CANARY-page") as response:
        assert response.status == 500
        text = await response.text()
        assert "The fault is in mail-bridge, and is in its log." in text
        assert "a bug" not in text
    assert "console.request_failed" in log.getvalue()
    assert "CANARY" not in log.getvalue()
    control.bug = None
    assert "mail-bridge" in await browser.text("/")


async def test_want_of_a_descriptor_is_no_fault_of_ours(
    browser: Browser, control: FakeControl, log: io.StringIO
) -> None:
    control.bug = OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    async with browser.get("/?page=CANARY-page") as response:
        assert response.status == 503
        text = await response.text()
    assert "Please try again later." in text
    assert "not have enough resources left for mail-bridge" in text
    line = json.loads(log.getvalue().splitlines()[-1])
    assert line["event"] == "console.request_failed"
    assert re.fullmatch(r"bridge\.ui\.web\.site:\d+, .*tests\.fakes_control:\d+", line["places"])
    assert "Traceback" not in log.getvalue()
    assert "CANARY" not in log.getvalue()


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on descriptors")
async def test_the_first_page_without_a_descriptor_for_its_template_is_a_sentence(
    browser: Browser, log: io.StringIO
) -> None:
    await browser.text("/")  # the connection is kept for the next request
    rendering._templates.cache_clear()
    with out_of_descriptors():
        async with browser.get("/") as response:
            assert response.status == 503
            assert (await response.text()).startswith("Please reload this page in a moment\n")
    assert "Traceback" not in log.getvalue()
    assert "mail-bridge" in await browser.text("/")


async def test_what_is_packed_is_not_unpacked(browser: Browser, control: FakeControl) -> None:
    """A small compressed body could become a very large one."""
    body = gzip.compress(f"form={await browser.form(f'/sign-in/{ALICE}')}".encode())
    headers = {"Content-Type": _FORM, "Content-Encoding": "gzip"}
    async with browser.post(f"/sign-in/{ALICE}", data=body, headers=headers) as response:
        assert response.status == 403
    assert control.states[ALICE] is AccountState.SIGN_IN


async def test_a_large_body_is_refused(browser: Browser) -> None:
    async with browser.post("/", data=b"x" * (64 * 1024 + 1), headers={"Content-Type": _FORM}) as response:
        assert response.status == 413
    async with browser.post("/", data=b"x" * 1000, headers={"Content-Type": _FORM}) as response:
        assert response.status == 404


async def test_the_console_of_several_sockets_closes_them_at_the_end(control: FakeControl) -> None:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    ports = [sock.getsockname()[1] for sock in sockets]
    hosts = frozenset(f"127.0.0.1:{port}" for port in ports)
    console = Console(control, admin_token=Secret(TOKEN), places=console_cap(), hosts=hosts)
    async with console.serving(sockets):
        for port in ports:
            async with browsing(port) as browser:
                assert "mail-bridge" in await browser.text("/")
        reader, writer = await asyncio.open_connection("127.0.0.1", ports[0])
        writer.write(f"HEAD / HTTP/1.1\r\nHost: 127.0.0.1:{ports[0]}\r\n\r\n".encode())
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
    async with asyncio.timeout(30):
        assert await reader.read() == b"", "what a browser keeps open ends as well"
    writer.close()
    for port in ports:
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)


async def test_who_comes_when_all_places_are_taken_is_sent_away_until_somebody_goes(control: FakeControl) -> None:
    sock = socket.create_server(("127.0.0.1", 0))
    port = sock.getsockname()[1]
    console = Console(
        control, admin_token=Secret(TOKEN), places=ConnectionCap(1), hosts=frozenset({f"127.0.0.1:{port}"})
    )
    ask = f"GET /style.css HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()
    async with console.serving([sock]):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(ask)
        assert (await reader.readline()).split()[1] == b"200"
        with contextlib.suppress(ConnectionError):
            assert await raw(port, ask) == (b"", b"")
        writer.close()
        await writer.wait_closed()
        async with asyncio.timeout(30):
            while not await answers(port, ask):  # it may take the server a moment to learn of it
                pass


async def test_who_comes_faster_than_the_system_says_whose_he_is_holds_a_place_all_the_while(
    control: FakeControl,
) -> None:
    """Otherwise a program that connects and hangs up thousands of times would take all memory and all descriptors."""
    sock = socket.create_server(("127.0.0.1", 0))
    port = sock.getsockname()[1]
    asked, answer = asyncio.Semaphore(0), asyncio.Event()

    async def user_of(ends: Ends | None) -> str:
        asked.release()
        await answer.wait()
        return "1000"

    console = Console(
        control, admin_token=Secret(TOKEN), places=ConnectionCap(2), hosts=frozenset({f"127.0.0.1:{port}"})
    )
    console._user_of = user_of
    async with console.serving([sock]), asyncio.TaskGroup() as group:
        ask = f"GET /style.css HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n".encode()
        waiting = [group.create_task(raw(port, ask)) for _ in range(2)]
        for _ in waiting:
            await asked.acquire()
        with contextlib.suppress(ConnectionError):
            assert await raw(port, ask) == (b"", b"")
        assert asked.locked(), "and nobody was asked about it"
        answer.set()
    for done in waiting:
        assert done.result()[0].startswith(b"HTTP/1.1 200 ")


async def test_who_has_gone_before_the_system_says_whose_he_was_is_nobody_and_no_fault(
    control: FakeControl, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By then another program may have the client port that the system is asked about."""
    sock = socket.create_server(("127.0.0.1", 0))
    port = sock.getsockname()[1]
    asked, answer, problems = asyncio.Event(), asyncio.Event(), list[dict[str, Any]]()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))
    lost = asyncio.Event()
    lose = Connection.connection_lost

    def connection_lost(connection: Connection, exc: BaseException | None) -> None:
        lose(connection, exc)
        lost.set()

    async def user_of(ends: Ends | None) -> str:
        asked.set()
        await answer.wait()
        return "1000"

    monkeypatch.setattr(Connection, "connection_lost", connection_lost)
    places = ConnectionCap(2)
    console = Console(control, admin_token=Secret(TOKEN), places=places, hosts=frozenset({f"127.0.0.1:{port}"}))
    console._user_of = user_of
    state = state_of((await control.begin_authorization(ALICE)).url)
    async with console.serving([sock]), asyncio.timeout(30):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET /?code=c&state={state} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
        await asked.wait()
        writer.close()
        await lost.wait()
        answer.set()
        while places.count:
            await asyncio.sleep(0)
    gc.collect()
    assert problems == []
    assert control.completions == []


async def test_all_headers_together_are_limited_and_each_request_of_a_connection_anew(browser: Browser) -> None:
    """However the octets arrive: a head in pieces, two heads in one piece, a head after a body."""
    host = f"Host: 127.0.0.1:{browser.port}\r\n".encode()
    many = b"".join(b"X%d: %s\r\n" % (number, b"a" * 1000) for number in range(30))
    get = b"GET /style.css HTTP/1.1\r\n" + host + many + b"\r\n"
    body = b"x" * 60_000
    post = b"POST /nowhere HTTP/1.1\r\n" + host + b"Content-Length: %d\r\n\r\n" % len(body) + body
    crumbs = b"POST /nowhere HTTP/1.1\r\n" + host + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * 9000
    reader, writer = await asyncio.open_connection("127.0.0.1", browser.port)
    for said, statuses in (
        ([get], [b"200"]),
        ([get[:9000], get[9000:20000], get[20000:]], [b"200"]),
        ([get + get[:20000], get[20000:]], [b"200", b"200"]),
        ([post + get], [b"404", b"200"]),
        ([post[:30000], post[30000:] + get[:20000], get[20000:]], [b"404", b"200"]),
        ([get * 4], [b"200"] * 4),
        ([crumbs[:20000], crumbs[20000:], b"0\r\n\r\n", get], [b"404", b"200"]),
    ):
        for piece in said:
            writer.write(piece)
            await asyncio.sleep(0.05)  # so that each arrives as a piece of its own
        for status in statuses:
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.split()[1] == status
            length = re.search(rb"(?i)content-length: (\d+)", head)
            assert length is not None
            await reader.readexactly(int(length[1]))
    writer.close()


@pytest.mark.parametrize(
    "before", [b"", b"GET /style.css HTTP/1.1\r\nHOST\r\n", b"POST / HTTP/1.1\r\nHOSTContent-Length: 5\r\n\r\nabcde"]
)
@pytest.mark.parametrize("piece", [1000, 200_000])
async def test_who_sends_header_after_header_is_sent_away(
    browser: Browser, log: io.StringIO, before: bytes, piece: int
) -> None:
    """aiohttp accepts 128 lines of 32 KiB, which would be 4 MiB for each connection."""
    host = f"Host: 127.0.0.1:{browser.port}\r\n".encode()
    said = (
        before.replace(b"HOST", host)
        + b"GET / HTTP/1.1\r\n"
        + host
        + b"".join(b"X%d: %s\r\n" % (number, b"a" * 8000) for number in range(100))
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", browser.port)
    with contextlib.suppress(ConnectionError):
        for start in range(0, len(said), piece):
            writer.write(said[start : start + piece])
            await writer.drain()
            await asyncio.sleep(0)
        await reader.read()
    writer.close()
    await asyncio.sleep(0)
    assert "console.request_unreadable" in log.getvalue()
    assert "TooLong" in log.getvalue()


@pytest.mark.parametrize("kibibytes", [33, 720])  # the latter: 180 cookies of 4 KiB, as many as Chromium keeps
@pytest.mark.parametrize("first", [1_000_000, 1000, 33_000], ids=["whole", "soon cut", "cut where it is too long"])
async def test_who_has_too_many_cookies_reads_what_to_do(
    control: FakeControl, clock: HandClock, monkeypatch: pytest.MonkeyPatch, kibibytes: int, first: int
) -> None:
    """A browser sends those that any program at any port of localhost has set, and then reads the answer: what was left
    unread would reset the connection."""
    taken, parsed = list[int](), list[int]()
    take, parse = Connection.buffer_updated, web.RequestHandler.data_received

    def noted(connection: Connection, nbytes: int) -> None:
        taken.append(nbytes)
        take(connection, nbytes)

    def noted_as_parsed(connection: web.RequestHandler, data: bytes) -> None:
        parsed.append(len(data))
        parse(connection, data)

    monkeypatch.setattr(Connection, "buffer_updated", noted)
    monkeypatch.setattr(web.RequestHandler, "data_received", noted_as_parsed)
    async with serving(control, clock, language="fr") as browser:
        reader, writer = await asyncio.open_connection("127.0.0.1", browser.port)
        said = b"GET /?code=c HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUser-Agent: %s\r\n" % (browser.port, b"a" * 500)
        said += b"Cookie: " + b"one=two; " * (kibibytes * 1024 // 9) + b"\r\n\r\n"
        writer.write(said[:first])
        await until(lambda: bool(parsed))
        writer.write(said[first:])
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = re.search(r"Content-Length: (\d+)", head)
        assert length is not None
        page = (await reader.readexactly(int(length[1]))).decode()
        await until(lambda: sum(taken) == len(said))
        writer.close()
    assert " 400 " in head.splitlines()[0]
    assert "Content-Security-Policy" in head
    assert "Supprimez dans ce navigateur les cookies de localhost" in page
    assert sum(parsed) <= ROOM, "the rest is discarded as it comes"


@pytest.mark.parametrize("is_kept", [False, True], ids=["forgotten", "kept"])
@pytest.mark.parametrize(
    "said",
    [
        b"\0nonsense\r\n\r\n",
        b"GET /nowhere HTTP/1.1\r\nHost: HOST\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: HOST\r\nCookie: " + b"c" * 40_000 + b"\r\n\r\n",
    ],
    ids=["nonsense", "nowhere", "cookies"],
)
async def test_nothing_that_was_refused_waits_for_the_garbage_collector(
    browser: Browser, monkeypatch: pytest.MonkeyPatch, said: bytes, is_kept: bool
) -> None:
    """Thousands of connections would wait for it, each with all that it has sent. `is_kept`: as on Windows, where a
    transport keeps its reference to the connection after the end."""
    if is_kept:
        lost = SELECTOR_TRANSPORT._call_connection_lost

        def keep(transport: Any, problem: Exception | None) -> None:
            protocol = transport._protocol
            lost(transport, problem)
            transport._protocol = protocol
            transport._read_ready_cb = None  # it refers to the transport; Windows' transports have no such callback

        monkeypatch.setattr(SELECTOR_TRANSPORT, "_call_connection_lost", keep)
    connections = []
    made = Connection.__init__

    def make(connection: Connection, *arguments: Any, **options: Any) -> None:
        connections.append(weakref.ref(connection))
        made(connection, *arguments, **options)

    monkeypatch.setattr(Connection, "__init__", make)
    said = said.replace(b"HOST", f"127.0.0.1:{browser.port}\r\nConnection: close".encode())
    gc.disable()
    try:
        assert (await raw(browser.port, said))[0]
        async with asyncio.timeout(30):
            while any(connection() is not None for connection in connections):
                await asyncio.sleep(0.001)
    finally:
        gc.enable()
    assert len(connections) == 1


async def answers(port: int, ask: bytes) -> bool:
    with contextlib.suppress(ConnectionError):
        return (await raw(port, ask.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")))[0] != b""
    return False


async def test_an_empty_admin_token_opens_nothing(control: FakeControl) -> None:
    sock = socket.create_server(("127.0.0.1", 0))
    port = sock.getsockname()[1]
    console = Console(control, admin_token=Secret(""), places=console_cap(), hosts=frozenset({f"127.0.0.1:{port}"}))
    async with console.serving([sock]), browsing(port) as browser:
        async with browser.get("/admin/") as response:
            assert response.status == 404
        async with browser.get("/api/status", headers={"Authorization": "Bearer "}) as response:
            assert response.status == 401


async def test_a_sign_in_completes_although_the_browser_has_gone(browser: Browser, control: FakeControl) -> None:
    state = state_of((await control.begin_authorization(ALICE)).url)
    with control.bus.subscription() as notices:
        _, writer = await asyncio.open_connection("127.0.0.1", browser.port)
        writer.write(f"GET /?code=c&state={state} HTTP/1.1\r\nHost: localhost:{browser.port}\r\n\r\n".encode())
        writer.close()
        await writer.wait_closed()
        await notices.get()
    assert control.states[ALICE] is AccountState.READY


_FORM = "application/x-www-form-urlencoded"
