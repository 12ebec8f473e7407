"""Notices are delivered: to real programs and a real HTTP server, also slow, failing and silent ones."""

from __future__ import annotations

import asyncio
import io
import socket
import ssl
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import trustme
from aiohttp import web

from bridge.advice.diagnosis import Diagnosis
from bridge.config.schema import NotifyConfig
from bridge.hooks.delivery import Ended, HookFailed
from bridge.hooks.dispatch import AT_ONCE, REFUSED_AGAIN, RETRY_AFTER, WAITING, Hooks
from bridge.hooks.events import HookEvent
from bridge.hooks.webhook import post
from bridge.host.programs import run_program
from bridge.notices import AuthorizationNeeded, MailServerAnswered, Notice, RefreshFailed
from bridge.secret import Secret
from bridge.threads import in_thread
from tests.bypassing import threads_that_look_up
from tests.captured import captured
from tests.clocks import ManualClock
from tests.host.limits import out_of_descriptors
from tests.servers.tunnel import tunnel
from tests.silent import no_thread

URL = "http://localhost:3017/sign-in/alice@example.com"
EVENT = HookEvent("authorization-needed", "alice@example.com", "", "ended", URL)


def needed(address: str = "alice@example.com") -> Notice:
    return AuthorizationNeeded(address, URL, "ended")


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    with captured("debug", "text") as stream:
        yield stream


class Receiver:
    """An HTTP server that gives the answers that a test sets."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        """The statuses of the next answers; all later ones are 204."""
        self.received: list[dict[str, str]] = []
        self.came = asyncio.Event()
        self.hanging: asyncio.Event | None = None
        self.url = ""

    async def answer(self, request: web.Request) -> web.Response:
        self.received.append(await request.json())
        self.came.set()
        if self.hanging is not None:
            await self.hanging.wait()
        headers = {"Location": "http://127.0.0.1:9/elsewhere"}
        return web.Response(status=self.statuses.pop(0) if self.statuses else 204, headers=headers)

    async def until(self, count: int) -> None:
        while len(self.received) < count:
            self.came.clear()
            await self.came.wait()


@asynccontextmanager
async def receiving(context: ssl.SSLContext | None = None) -> AsyncIterator[Receiver]:
    receiver = Receiver()
    app = web.Application()
    app.add_routes([web.post("/hook", receiver.answer)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    receiver.url = f"{'https' if context else 'http'}://localhost:{runner.addresses[0][1]}/hook?key=CANARY-query"
    try:
        yield receiver
    finally:
        if receiver.hanging is not None:
            receiver.hanging.set()
        await runner.cleanup()


@asynccontextmanager
async def running(hooks: Hooks) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(hooks.run())
        await asyncio.sleep(0)
        yield
        task.cancel()


def webhook(url: str, **more: str) -> NotifyConfig:
    return NotifyConfig.model_validate({"webhook": url, **more})


async def until_logged(log: io.StringIO, words: str) -> str:
    async with asyncio.timeout(60):
        while words not in log.getvalue():
            await asyncio.to_thread(threading.Event().wait, 0.01)
    return log.getvalue()


async def test_a_program_finds_what_happened_in_its_environment(tmp_path: Path, log: io.StringIO) -> None:
    code = "import os, sys; open(sys.argv[1], 'w').write(os.environ['MAIL_BRIDGE_URL']); print('CANARY-free words')"
    config = NotifyConfig(command=(sys.executable, "-c", code, str(tmp_path / "told")))
    hooks = Hooks(lambda: config, run_program, ManualClock())
    hooks.take(needed())  # nothing is kept before the hooks run
    async with running(hooks):
        hooks.take(needed())
        said = await until_logged(log, "hook.done")
    assert (tmp_path / "told").read_text() == URL
    assert said.count("hook.done") == 1
    assert "text=" in said
    assert "free words" in said


async def test_a_program_that_fails_is_one_line_and_the_next_is_told_all_the_same(log: io.StringIO) -> None:
    config = NotifyConfig(command=(sys.executable, "-c", "import sys; sys.exit(4)"))
    hooks = Hooks(lambda: config, run_program, ManualClock())
    async with running(hooks):
        hooks.take(needed())
        said = await until_logged(log, "it ended with code 4")
        assert said.count("hook.failed") == 1
        config = NotifyConfig(command=("/nowhere/at-all",))  # as after a reload
        hooks.take(needed())
        await until_logged(log, "/nowhere/at-all cannot be started")


async def test_a_program_for_which_something_is_lacking_is_started_a_second_time(
    tmp_path: Path, log: io.StringIO
) -> None:
    code = "import sys; open(sys.argv[1], 'w').close()"
    config, clock = NotifyConfig(command=(sys.executable, "-c", code, str(tmp_path / "told"))), ManualClock()
    hooks = Hooks(lambda: config, run_program, clock)
    async with running(hooks):
        with out_of_descriptors():
            hooks.take(needed())
            await clock.until_asleep()
        assert "hook." not in log.getvalue()
        clock.advance(RETRY_AFTER)
        await until_logged(log, "hook.done")
    assert (tmp_path / "told").exists()


async def test_after_its_second_attempt_a_program_is_given_up(log: io.StringIO) -> None:
    config, clock = NotifyConfig(command=("tell",)), ManualClock()
    hooks = Hooks(lambda: config, lacking, clock)
    async with running(hooks):
        hooks.take(needed())
        await clock.until_asleep()
        clock.advance(RETRY_AFTER)
        said = await until_logged(log, "hook.failed")
    assert said.count("tell cannot be started") == 1


async def lacking(command: Sequence[str], *_: object) -> Ended:
    raise HookFailed(f"{command[0]} cannot be started: no memory", temporary=True)


async def test_a_webhook_gets_json() -> None:
    async with receiving() as receiver:
        await post(EVENT, webhook(receiver.url), Secret(receiver.url), 10)
        assert receiver.received == [EVENT.content]


async def test_a_webhook_that_is_in_trouble_is_tried_once_more(log: io.StringIO) -> None:
    clock = ManualClock()
    async with receiving() as receiver:
        hooks = Hooks(lambda: webhook(receiver.url), run_program, clock)
        async with running(hooks):
            receiver.statuses = [503]
            hooks.take(needed())
            await clock.until_asleep()
            clock.advance(RETRY_AFTER)
            await until_logged(log, "hook.done")
            receiver.statuses = [503, 500]
            hooks.take(needed())
            await clock.until_asleep()
            clock.advance(RETRY_AFTER)
            said = await until_logged(log, "answers HTTP 500")
    assert len(receiver.received) == 4
    assert said.count("hook.failed") == 1
    assert "CANARY" not in said


@contextmanager
def out_of_threads() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        yield


@pytest.mark.parametrize("short", [out_of_descriptors, out_of_threads])
async def test_a_webhook_that_finds_no_descriptor_or_thread_is_tried_once_more(
    log: io.StringIO,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    short: Callable[[], AbstractContextManager[None]],
) -> None:
    """The first webhook lacks one for its own module, which is loaded only then; the next, for the file of authorities
    that it trusts."""
    clock, ca_file = ManualClock(), tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(ca_file)
    async with receiving() as receiver:
        hooks = Hooks(lambda: webhook(receiver.url, ca_file=str(ca_file)), run_program, clock)
        async with running(hooks):
            monkeypatch.delitem(sys.modules, "bridge.hooks.webhook")
            for count in (1, 2):
                with short():
                    hooks.take(needed())
                    await clock.until_asleep()
                clock.advance(RETRY_AFTER)
                await receiver.until(count)
            said = await until_logged(log, "hook.done")
    assert "hook.failed" not in said


@pytest.mark.parametrize("status", [400, 404, 302])
async def test_a_no_is_a_no_and_no_redirect_is_followed(status: int) -> None:
    async with receiving() as receiver:
        receiver.statuses = [status]
        with pytest.raises(HookFailed, match=f"answers HTTP {status}") as caught:
            await post(EVENT, webhook(receiver.url), Secret(receiver.url), 10)
    assert not caught.value.is_worth_another_try
    assert "CANARY" not in str(caught.value)


async def test_one_that_hangs_is_given_up_in_time() -> None:
    async with receiving() as receiver:
        receiver.hanging = asyncio.Event()
        with pytest.raises(HookFailed, match=r"did not answer within 0\.2 s") as caught:
            await post(EVENT, webhook(receiver.url), Secret(receiver.url), 0.2)
    assert caught.value.is_worth_another_try


async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


@pytest.mark.parametrize("is_there", [False, True])
async def test_nobody_there_or_who_hangs_up_is_worth_another_try_and_names_the_host_only(is_there: bool) -> None:
    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1] if is_there else 9
        url = f"http://localhost:{port}/CANARY-path?key=CANARY-query"
        with pytest.raises(HookFailed, match="localhost cannot be reached") as caught:
            await post(EVENT, webhook(url), Secret(url), 5)
    assert caught.value.is_worth_another_try
    assert "CANARY" not in str(caught.value)


async def test_a_name_server_that_hangs_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    looking = threads_that_look_up(monkeypatch)
    with pytest.raises(HookFailed, match=r"hooks\.invalid cannot be reached"):
        await post(EVENT, webhook("https://hooks.invalid/"), Secret("https://hooks.invalid/"), 10)
    assert looking
    assert threading.current_thread() not in looking


async def test_who_waits_for_a_name_server_leaves_the_loops_own_threads_to_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The loop's own threads read changed configurations, and a stop waits for all of them."""
    loop = asyncio.get_running_loop()
    answer, asked, real = threading.Event(), asyncio.Event(), socket.getaddrinfo

    def look_up(host: Any, *args: Any, **names: Any) -> Any:
        if host != "hooks.invalid":
            return real(host, *args, **names)
        loop.call_soon_threadsafe(asked.set)
        answer.wait()
        raise socket.gaierror(socket.EAI_AGAIN, "no answer")

    async def tell() -> None:
        url = "https://hooks.invalid/"
        with pytest.raises(HookFailed, match=r"hooks\.invalid cannot be reached") as failed:
            await post(EVENT, webhook(url), Secret(url), 60)
        assert failed.value.is_worth_another_try

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    loop.set_default_executor(ThreadPoolExecutor(1))
    try:
        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            group.create_task(tell())
            await asked.wait()
            assert await in_thread(lambda: "read") == "read"
            answer.set()
    finally:
        answer.set()


async def test_https_is_verified_by_the_ca_file(tmp_path: Path) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    async with receiving(context) as receiver:
        with pytest.raises(HookFailed, match="certificate of localhost is not trusted"):
            await post(EVENT, webhook(receiver.url), Secret(receiver.url), 10)
        config = webhook(receiver.url, ca_file=str(tmp_path / "ca.pem"))
        await post(EVENT, config, Secret(receiver.url), 10)
        assert len(receiver.received) == 1


@pytest.mark.parametrize("is_configured", [True, False])
async def test_the_configured_proxy_is_used_or_else_the_environments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_configured: bool
) -> None:
    authority, url = trustme.CA(), "https://hooks.example/hook"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("hooks.example").configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    async with receiving(context) as receiver:
        with ExitStack() as held:
            proxy = held.enter_context(tunnel(urlsplit(receiver.url).port or 0))
            monkeypatch.setenv("https_proxy", "http://127.0.0.1:9" if is_configured else proxy.url)
            more = {"proxy": proxy.url} if is_configured else {}
            await post(EVENT, webhook(url, ca_file=str(tmp_path / "ca.pem"), **more), Secret(url), 10)
            await asyncio.to_thread(held.close)  # waits for the receiver to hang up, which needs this loop
    assert (proxy.hosts, len(receiver.received)) == (["hooks.example:443"], 1)


async def test_many_at_once_are_queued_a_few_run_and_what_is_too_much_is_counted(log: io.StringIO) -> None:
    started: list[str] = []
    go, full, all_started = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def program(command: Sequence[str], environment: Mapping[str, str], seconds: float) -> Ended:
        started.append(environment["MAIL_BRIDGE_ACCOUNT"])
        if len(started) >= AT_ONCE:
            full.set()
        if len(started) >= WAITING:
            all_started.set()
        await go.wait()
        return Ended(0, "")

    hooks = Hooks(lambda: NotifyConfig(command=("tell",)), program, ManualClock())
    async with running(hooks):
        for number in range(WAITING + 100):
            hooks.take(needed(f"p{number}@example.com"))
        await full.wait()
        assert len(started) == AT_ONCE
        go.set()
        said = await until_logged(log, "hook.dropped")
        assert "count=100" in said
        async with asyncio.timeout(20):
            await all_started.wait()
    assert len(set(started)) == WAITING


async def test_that_an_account_is_refused_is_told_at_most_every_ten_minutes() -> None:
    """A mail server may accept and refuse logins in turn."""
    clock = ManualClock()
    async with receiving() as receiver:
        hooks = Hooks(lambda: webhook(receiver.url), run_program, clock)
        async with running(hooks):
            for _ in range(3):
                for address in ("alice@example.com", "bob@example.com"):
                    hooks.take(MailServerAnswered(address, "imap", "no"))
                    hooks.take(MailServerAnswered(address, "imap", ""))
            clock.advance(REFUSED_AGAIN - 1)
            hooks.take(MailServerAnswered("alice@example.com", "smtp", "no"))
            clock.advance(1)
            hooks.take(MailServerAnswered("alice@example.com", "smtp", "no"))
            hooks.take(RefreshFailed("bob@example.com", "revoked", temporary=False))
            await receiver.until(4)
    assert sorted((content["event"], content["account"]) for content in receiver.received) == [
        ("login-refused", "alice@example.com"),
        ("login-refused", "alice@example.com"),
        ("login-refused", "bob@example.com"),
        ("refresh-failed", "bob@example.com"),
    ]


async def test_an_account_that_is_refused_for_another_reason_is_told_of_that_too() -> None:
    """If IMAP and SMTP AUTH are both off, a mail program is refused by both within a second. Otherwise an administrator
    who has switched one on would never hear of the other, because a refusal that goes on has no second notice."""
    imap_off = Diagnosis.of("mail.protocol_off", "NO", protocol="IMAP", mailbox="alice@example.com")
    smtp_off = Diagnosis.of("mail.smtp_off_tenant", "535", mailbox="alice@example.com")
    async with receiving() as receiver:
        hooks = Hooks(lambda: webhook(receiver.url), run_program, ManualClock())
        async with running(hooks):
            for protocol, found in (("imap", imap_off), ("smtp", smtp_off), ("imap", imap_off), ("smtp", smtp_off)):
                hooks.take(MailServerAnswered("alice@example.com", protocol, found.told(), diagnosis=found))
            hooks.take(RefreshFailed("bob@example.com", "revoked", temporary=False))
            await receiver.until(3)
    assert sorted(content["reason"] for content in receiver.received) == sorted(
        [imap_off.told(), smtp_off.told(), "revoked"]
    )


async def test_where_nobody_is_to_be_told_nothing_is_kept() -> None:
    config = NotifyConfig()
    hooks = Hooks(lambda: config, run_program, ManualClock())
    async with running(hooks):
        hooks.take(needed())
        async with receiving() as receiver:
            config = webhook(receiver.url)
            hooks.take(RefreshFailed("bob@example.com", "revoked", temporary=False))
            await receiver.until(1)
    assert [content["account"] for content in receiver.received] == ["bob@example.com"]
