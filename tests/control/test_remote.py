"""The control contract over HTTP, from another process: every method and error, the notices, and who may ask."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import inspect
import io
import json
import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from bridge import errors
from bridge.control import rendezvous, wire
from bridge.control.contract import AccountState, Control, Finding, Outcome
from bridge.control.remote import BridgeNotRunning, RemoteControl, connect
from bridge.notices import Forgotten, ListenerUp, Notice, Reloaded
from bridge.relay.limits import console_cap
from bridge.secret import Secret
from tests.consoles import Console
from tests.control.test_wire import every_error
from tests.fakes_control import FakeControl, state_of

ALICE = "alice@example.com"
TOKEN = Secret("CANARY-admin-token")


@asynccontextmanager
async def console(control: FakeControl, token: Secret[str] = TOKEN, keep_alive: float = 15.0) -> AsyncIterator[str]:
    sock = socket.create_server(("127.0.0.1", 0))
    port = sock.getsockname()[1]
    hosts = frozenset({f"127.0.0.1:{port}"})
    async with Console(control, admin_token=token, hosts=hosts, places=console_cap(), keep_alive=keep_alive).serving(
        [sock]
    ):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def control() -> FakeControl:
    return FakeControl(ALICE)


@pytest.fixture
async def url(control: FakeControl) -> AsyncIterator[str]:
    async with console(control) as url:
        yield url


@pytest.fixture
async def remote(url: str) -> AsyncIterator[RemoteControl]:
    async with RemoteControl.opened(url, TOKEN) as remote:
        yield remote


async def test_a_remote_control_is_a_control(remote: RemoteControl) -> None:
    same: Control = remote
    methods = {name for name, _ in inspect.getmembers(Control, inspect.isfunction) if not name.startswith("_")}
    assert methods <= set(dir(same))


async def test_the_status_arrives_whole(remote: RemoteControl, control: FakeControl) -> None:
    control.states["zoe@example.com"] = AccountState.READY
    control.details[ALICE] = "Déjà vu\n\u2028\"'<"
    assert await remote.status() == await control.status()
    assert await remote.check_account(ALICE) == await control.check_account(ALICE)


async def test_the_doctors_findings_arrive_whole(remote: RemoteControl, control: FakeControl) -> None:
    findings = await remote.diagnose()
    assert findings == control.findings
    assert findings[1].told() == "off by 900 s"


async def test_a_finding_that_cannot_be_told_is_refused(remote: RemoteControl, control: FakeControl) -> None:
    control.findings = (Finding("clock", "", Outcome.FAILED, "off by {seconds.__class__} {}"),)
    with pytest.raises(wire.WireError, match="does not fit"):
        await remote.diagnose()


async def test_a_sign_in_is_begun_and_completed(remote: RemoteControl, control: FakeControl) -> None:
    started = await remote.begin_authorization(ALICE)
    assert started == await control.begin_authorization(ALICE)
    parameters = {"code": "CANARY-c/+ é", "state": state_of(started.url)}
    assert await remote.complete_authorization(parameters) == ALICE
    assert control.completions == [parameters]
    with pytest.raises(errors.AuthorizationFailed) as caught:
        await remote.complete_authorization(parameters)
    assert caught.value.code == "unknown_state"


async def test_a_sign_in_is_cancelled_and_a_grant_forgotten(remote: RemoteControl, control: FakeControl) -> None:
    await remote.begin_authorization(ALICE)
    await remote.cancel_authorization(ALICE)
    assert control.states[ALICE] is AccountState.SIGN_IN
    control.states[ALICE] = AccountState.READY
    await remote.forget(ALICE)
    assert control.states[ALICE] is AccountState.SIGN_IN


async def test_a_refresh_token_is_adopted(remote: RemoteControl, control: FakeControl) -> None:
    status = await remote.adopt(ALICE, Secret("CANARY-refresh"))
    assert status == (await control.status()).accounts[0]
    assert status.state is AccountState.READY
    with pytest.raises(errors.AuthorizationFailed) as caught:
        await remote.adopt(ALICE, Secret("CANARY-other"))
    assert caught.value.code == "no_grant"


async def test_the_local_password_is_shown_rotated_and_set(remote: RemoteControl, control: FakeControl) -> None:
    first = await remote.local_password(ALICE)
    assert first == control.passwords[ALICE]
    assert await remote.rotate_local_password(ALICE) == control.passwords[ALICE] != first
    assert control.stopped_at_once is False
    await remote.rotate_local_password(ALICE, at_once=True)
    assert control.stopped_at_once is True
    await remote.set_local_password(ALICE, Secret("CANARY-é-\ud800-\n"))
    assert control.passwords[ALICE] == Secret("CANARY-é-\ud800-\n")
    assert control.stopped_at_once is False
    await remote.set_local_password(ALICE, Secret("CANARY-long-enough"), at_once=True)
    assert control.stopped_at_once is True
    with pytest.raises(ValueError, match="at least 12 characters"):
        await remote.set_local_password(ALICE, Secret("short"))


async def test_an_unknown_address_is_refused_by_every_method(remote: RemoteControl) -> None:
    nobody, secret = "nobody@example.com", Secret("CANARY-long-enough")
    for call in (
        remote.begin_authorization(nobody),
        remote.cancel_authorization(nobody),
        remote.forget(nobody),
        remote.adopt(nobody, secret),
        remote.local_password(nobody),
        remote.rotate_local_password(nobody),
        remote.set_local_password(nobody, secret),
    ):
        with pytest.raises(errors.LoginRefused, match="nobody@example"):
            await call


@pytest.mark.parametrize("problem", every_error(), ids=lambda problem: type(problem).__name__)
async def test_each_error_arrives_as_itself(
    remote: RemoteControl, control: FakeControl, problem: errors.BridgeError
) -> None:
    control.problem = problem
    with pytest.raises(type(problem)) as caught:
        await remote.status()
    assert type(caught.value) is type(problem)
    assert (str(caught.value), vars(caught.value)) == (str(problem), vars(problem))


async def test_a_fault_in_the_bridge_is_an_error_here(remote: RemoteControl, control: FakeControl) -> None:
    control.bug = RuntimeError("a bug")
    with pytest.raises(errors.BridgeError):
        await remote.status()


async def test_more_than_the_console_takes_is_an_error_here(remote: RemoteControl) -> None:
    with pytest.raises(errors.BridgeError, match=r"cannot answer this \(\d+\); its log says more"):
        await remote.set_local_password(ALICE, Secret("CANARY" * 20_000))


# --- notices ------------------------------------------------------------------------------------------------------


async def test_notices_arrive_in_order_as_they_happen(remote: RemoteControl, control: FakeControl) -> None:
    facts: list[Notice] = [Reloaded("é\n"), ListenerUp("imap", "[::1]:1"), Forgotten(ALICE)]
    stream = remote.notices()
    async with asyncio.TaskGroup() as group:
        first = group.create_task(_next(stream))
        await control.following.wait()
        for fact in facts:
            control.bus.publish(fact)
    assert [await first, await anext(stream), await anext(stream)] == facts
    await _close(stream)


async def test_a_reload_that_adds_fifty_thousand_accounts_is_told_too(
    remote: RemoteControl, control: FakeControl, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = Reloaded("; ".join(f"account person-{number}@example.com added" for number in range(50_000)))
    stream = remote.notices()
    async with asyncio.TaskGroup() as group:
        first = group.create_task(_next(stream))
        await control.following.wait()
        control.bus.publish(many)
        control.bus.publish(Forgotten(ALICE))
    assert [await first, await anext(stream)] == [many, Forgotten(ALICE)]
    monkeypatch.setattr("bridge.control.remote.ANSWER_LIMIT", 1_000_000)
    control.bus.publish(many)
    with pytest.raises(wire.WireError, match="a notice that is too long"):
        await anext(stream)


async def test_the_stream_ends_with_words_when_the_bridge_stops(
    control: FakeControl, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, without the time that the console otherwise allows for unfinished answers."""
    monkeypatch.setattr("bridge.ui.web.site.STOP_SECONDS", 3600)
    async with contextlib.AsyncExitStack() as stack:
        url = await stack.enter_async_context(console(control))
        async with RemoteControl.opened(url, TOKEN) as remote, asyncio.TaskGroup() as group:

            async def follow() -> None:
                with pytest.raises(BridgeNotRunning):
                    await anext(remote.notices())

            group.create_task(follow())
            await control.following.wait()
            async with asyncio.timeout(60):
                await stack.aclose()
    assert control.abandoned.is_set()


async def test_the_stream_is_open_before_there_is_anything_to_tell(
    session: aiohttp.ClientSession, url: str, control: FakeControl
) -> None:
    """A client that opens the stream first and then reads the status misses nothing in between."""
    headers = {"Authorization": f"Bearer {TOKEN.reveal()}"}
    async with asyncio.timeout(wire.KEEP_ALIVE / 2), session.get(f"{url}/api/notices", headers=headers) as response:
        assert response.status == 200
        control.bus.publish(Forgotten(ALICE))
        assert await response.content.readline() == b"\n"
        assert wire.decode_notice(await response.content.readline()) == Forgotten(ALICE)


async def test_a_reader_that_goes_away_leaves_no_subscription_and_is_no_fault(
    url: str, remote: RemoteControl, control: FakeControl, log: io.StringIO
) -> None:
    stream = remote.notices()
    async with asyncio.TaskGroup() as group:
        first = group.create_task(_next(stream))
        await control.following.wait()
        control.bus.publish(Forgotten(ALICE))
    assert await first == Forgotten(ALICE)
    await _close(stream)
    async with asyncio.timeout(60):
        while not control.abandoned.is_set():  # the console notices at the latest when it sends the next notice
            control.bus.publish(Forgotten(ALICE))
            await remote.status()
    await remote.status()
    assert "failed" not in log.getvalue()


async def test_a_stream_with_a_wrong_token_is_refused(url: str) -> None:
    async with RemoteControl.opened(url, Secret("CANARY-wrong")) as remote:
        with pytest.raises(BridgeNotRunning):
            await anext(remote.notices())


async def test_empty_lines_keep_a_silent_stream_alive(control: FakeControl) -> None:
    async with console(control, keep_alive=0.01) as url, aiohttp.ClientSession() as session:
        headers = {"Authorization": f"Bearer {TOKEN.reveal()}"}
        async with session.get(f"{url}/api/notices", headers=headers) as response:
            assert response.content_type == "application/x-ndjson"
            assert response.headers["Cache-Control"] == "no-store"
            assert [await response.content.readline() for _ in range(3)] == [b"\n"] * 3
            control.bus.publish(Forgotten(ALICE))
            while (line := await response.content.readline()) == b"\n":
                pass
            assert wire.decode_notice(line) == Forgotten(ALICE)


# --- who may ask --------------------------------------------------------------------------------------------------

METHODS = [
    "begin",
    "complete",
    "cancel",
    "forget",
    "adopt",
    "check",
    "local-password",
    "local-password/rotate",
    "local-password/set",
    "console-ticket",
]


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer "},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Bearer {TOKEN.reveal()}x"},
        {"Authorization": f"Basic {TOKEN.reveal()}"},
        {"Authorization": TOKEN.reveal()},
        {"Authorization": f"Bearer {TOKEN.reveal()}", "Origin": "https://evil.example"},
        {"Authorization": f"Bearer {TOKEN.reveal()}", "Origin": "null"},
        {"Authorization": f"Bearer {TOKEN.reveal()}", "Origin": "http://127.0.0.1:1"},
        {"Authorization": f"Bearer {TOKEN.reveal()}", "Sec-Fetch-Site": "cross-site"},
        {"Authorization": f"Bearer {TOKEN.reveal()}", "Host": "evil.example"},
    ],
)
async def test_nobody_else_gets_an_answer(
    session: aiohttp.ClientSession, url: str, control: FakeControl, headers: dict[str, str]
) -> None:
    body = {"address": ALICE, "password": "CANARY-long-enough", "refresh_token": "CANARY-refresh", "parameters": {}}
    calls = [("GET", "status"), ("GET", "notices"), *(("POST", name) for name in (*METHODS, "diagnose"))]
    for method, name in calls:
        async with session.request(method, f"{url}/api/{name}", json=body, headers=headers) as response:
            assert response.status in {401, 403, 404}
            assert ALICE not in await response.text()
            assert "Access-Control-Allow-Origin" not in response.headers
    assert control.states == {ALICE: AccountState.SIGN_IN}
    assert control.passwords == {}
    assert control.completions == []
    assert not control.following.is_set()


async def test_our_own_origin_may_ask(session: aiohttp.ClientSession, url: str) -> None:
    headers = {"Authorization": f"Bearer {TOKEN.reveal()}", "Origin": url}
    async with session.get(f"{url}/api/status", headers=headers) as response:
        assert response.status == 200


async def test_a_preflight_is_not_answered(session: aiohttp.ClientSession, url: str) -> None:
    headers = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    async with session.options(f"{url}/api/begin", headers=headers) as response:
        assert response.status == 404
        assert not any(name.lower().startswith("access-control") for name in response.headers)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", "application/json"),
        (b"[]", "application/json"),
        (b'{"address":1}', "application/json"),
        (b'{"address":null,"parameters":{"code":1}}', "application/json"),
        (b'{"CANARY', "application/json"),
        (json.dumps({"address": ALICE}).encode(), "text/plain"),
        (b"address=alice@example.com", "application/x-www-form-urlencoded"),
    ],
)
async def test_a_broken_body_is_refused_and_changes_nothing(
    session: aiohttp.ClientSession, url: str, control: FakeControl, body: bytes, kind: str
) -> None:
    headers = {"Authorization": f"Bearer {TOKEN.reveal()}", "Content-Type": kind}
    for name in METHODS:
        async with session.post(f"{url}/api/{name}", data=body, headers=headers) as response:
            assert response.status == 400
            answer: dict[str, Any] = await response.json()
            assert answer["error"] == "BridgeError"
            assert "CANARY" not in answer["text"]
    assert control.states == {ALICE: AccountState.SIGN_IN}
    assert control.completions == []


async def test_hello_proves_the_token_without_telling_it(session: aiohttp.ClientSession, url: str) -> None:
    nonce = "0123456789abcdef" * 4
    async with session.get(f"{url}/api/hello", params={"nonce": nonce}) as response:
        assert await response.json() == {"proof": wire.proof(TOKEN, nonce)}
    for bad in ("", "x", nonce + "0", nonce.upper(), f"{nonce}\n"):
        async with session.get(f"{url}/api/hello", params={"nonce": bad}) as response:
            assert response.status == 403
    for page in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "same-site"}):
        async with session.get(f"{url}/api/hello", params={"nonce": nonce}, headers=page) as response:
            assert response.status == 403


async def test_no_secret_reaches_the_log(remote: RemoteControl, control: FakeControl, log: io.StringIO) -> None:
    await remote.adopt(ALICE, Secret("CANARY-refresh"))
    await remote.set_local_password(ALICE, Secret("CANARY-long-enough"))
    with pytest.raises(errors.AuthorizationFailed):
        await remote.complete_authorization({"code": "CANARY-code", "state": "CANARY-state"})
    assert "CANARY" not in log.getvalue()


# --- finding the bridge -------------------------------------------------------------------------------------------


async def test_a_published_bridge_is_found(url: str, control: FakeControl, tmp_path: Path) -> None:
    rendezvous.publish(tmp_path, url, TOKEN, os.getpid())
    async with connect(tmp_path) as remote:
        assert remote is not None
        assert (await remote.status()).version == "9.8.7"


async def test_without_a_file_no_bridge_is_running(tmp_path: Path) -> None:
    async with connect(tmp_path) as remote:
        assert remote is None


async def test_a_bridge_that_has_gone_is_not_running(control: FakeControl, tmp_path: Path) -> None:
    async with console(control) as url, RemoteControl.opened(url, TOKEN) as remote:
        rendezvous.publish(tmp_path, url, TOKEN, os.getpid())
        await remote.status()
    async with connect(tmp_path) as found:
        assert found is None
    async with RemoteControl.opened(url, TOKEN) as remote:
        with pytest.raises(BridgeNotRunning) as caught:
            await remote.status()
        assert caught.value.temporary
        with pytest.raises(BridgeNotRunning):
            await anext(remote.notices())


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n{"])
async def test_a_bridge_that_ends_before_it_has_answered_is_not_running(said: bytes) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(said)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        where = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with RemoteControl.opened(where, TOKEN) as remote:
            for call in (remote.status(), anext(remote.notices())):
                with pytest.raises(BridgeNotRunning, match="does not answer"):
                    await call


async def test_a_bridge_that_was_restarted_is_to_be_found_again(control: FakeControl, tmp_path: Path) -> None:
    async with console(control, Secret("CANARY-next")) as url:
        rendezvous.publish(tmp_path, url, TOKEN, os.getpid())
        async with connect(tmp_path) as found:
            assert found is None
        async with RemoteControl.opened(url, TOKEN) as remote:
            with pytest.raises(BridgeNotRunning, match="restarted"):
                await remote.status()


async def test_whoever_listens_on_a_dead_bridges_port_does_not_get_the_token(tmp_path: Path) -> None:
    received = bytearray()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.extend(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 17\r\nConnection: close\r\n\r\n{"proof":"CANARY"')
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        rendezvous.publish(tmp_path, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", TOKEN, 1)
        async with connect(tmp_path) as remote:
            assert remote is None
    assert b"/api/hello?nonce=" in received
    assert b"CANARY" not in received


async def test_it_follows_nobody_elsewhere_and_unpacks_nothing(url: str, control: FakeControl, tmp_path: Path) -> None:
    """An impostor could redirect the first question to the bridge, which would answer it correctly: the impostor would
    then be sent the token."""
    packed = gzip.compress(wire.dumps(wire.encode(await control.status())).encode())

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await reader.readuntil(b"\r\n\r\n")).split()[1]
        head = b"307 See\r\nContent-Length: 0\r\nLocation: " + url.encode() + path
        if path == b"/api/status":
            head = b"200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d" % len(packed)
        writer.write(b"HTTP/1.1 " + head + b"\r\nConnection: close\r\n\r\n")
        writer.write(packed if path == b"/api/status" else b"")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        elsewhere = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        rendezvous.publish(tmp_path, elsewhere, TOKEN, os.getpid())
        async with connect(tmp_path) as found:
            assert found is None
        async with RemoteControl.opened(elsewhere, TOKEN) as remote:
            for call in (anext(remote.notices()), remote.local_password(ALICE)):
                with pytest.raises(errors.BridgeError, match=r"cannot answer this \(307\)"):
                    await call
            with pytest.raises(wire.WireError):
                await remote.status()


@pytest.mark.parametrize(
    "bad", ["http://evil.example:1", "https://127.0.0.1:1", "http://127.0.0.1:1/x", "", "http://10.0.0.1:1"]
)
async def test_only_this_machine_is_ever_asked(bad: str) -> None:
    with pytest.raises(ValueError, match="only ever asked on this machine"):
        async with RemoteControl.opened(bad, TOKEN):
            pass


@pytest.fixture
def proxy_in_the_environment() -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(http_proxy="http://127.0.0.1:9", HTTP_PROXY="http://127.0.0.1:9", all_proxy="http://127.0.0.1:9")
    yield
    os.environ.clear()
    os.environ.update(before)


async def test_a_proxy_of_the_environment_is_not_used(proxy_in_the_environment: None, remote: RemoteControl) -> None:
    assert (await remote.status()).version == "9.8.7"


async def _next(stream: AsyncIterator[Notice]) -> Notice:
    return await anext(stream)


async def _close(stream: AsyncIterator[Notice]) -> None:
    assert inspect.isasyncgen(stream)
    await stream.aclose()
