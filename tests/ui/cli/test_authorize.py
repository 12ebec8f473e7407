"""`authorize`: which events end its wait. With the whole bridge and the demo's provider, in this process."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from bridge.control.contract import SignInStarted, Status
from bridge.demo.world import demo_world
from bridge.errors import SignInUnsaved
from bridge.model import Account, TokenSet
from bridge.tokens import authorizations
from bridge.ui.cli.authorize import sign_in
from bridge.ui.cli.session import DONE, FAILED
from tests.bridging import ALICE, BOB, Running, bridging, running
from tests.silent import no_thread
from tests.tokens.fakes import FailingStore


async def until_under_way(it: Running) -> None:
    while it.app._authorizations.find(ALICE) is None:
        await asyncio.sleep(0)


async def test_an_alias_will_do() -> None:
    def with_alias(text: str) -> str:
        return text.replace(f"{{address: {ALICE}, ", f"{{address: {ALICE}, aliases: ['CRM\\alice'], ")

    async with running(with_alias) as it, asyncio.timeout(20), asyncio.TaskGroup() as group:
        asked = group.create_task(sign_in(it.app.control, "crm\\Alice", open_browser=False))
        await until_under_way(it)
        await it.sign_in(BOB)
        await it.sign_in(ALICE)
        assert await asked == DONE


async def test_somebody_else_who_tries_the_mail_servers_does_not_end_the_wait() -> None:
    """The account works throughout: it is being signed in again, such as for an additional permission."""
    async with running() as it, asyncio.timeout(20), asyncio.TaskGroup() as group:
        await it.sign_in(ALICE)
        asked = group.create_task(sign_in(it.app.control, ALICE, open_browser=False))
        await until_under_way(it)
        await it.app.control.check_account(ALICE)
        for _ in range(100):
            await asyncio.sleep(0)
        assert not asked.done()
        await it.app.control.cancel_authorization(ALICE)
        assert await asked == FAILED


async def test_a_sign_in_that_waits_for_the_store_is_told_as_that(capsys: pytest.CaptureFixture[str]) -> None:
    store = FailingStore()
    async with demo_world() as world, bridging(world, store=store) as it, asyncio.timeout(20):
        async with asyncio.TaskGroup() as group:
            asked = group.create_task(sign_in(it.app.control, ALICE, open_browser=False))
            await until_under_way(it)
            store.is_full = True
            with pytest.raises(SignInUnsaved):
                await it.sign_in(ALICE)
            assert await asked == FAILED, "it is not stored yet"
        store.is_full = False
    said = capsys.readouterr().err
    assert "Nobody needs to sign in again" in said
    assert "did not succeed" not in said


async def test_who_comes_back_in_the_last_second_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    redeemed, looked = asyncio.Event(), asyncio.Event()
    async with running() as it, asyncio.timeout(30), asyncio.TaskGroup() as group:
        control = it.app.control
        begin, keep, status = control.begin_authorization, it.app._authorizations._keep, control.status

        async def begun_long_ago(address: str) -> SignInStarted:
            return replace(await begin(address), expires_at=0.0)

        async def kept_late(account: Account, tokens: TokenSet) -> str:
            redeemed.set()
            await looked.wait()
            return await keep(account, tokens)

        async def looked_at() -> Status:
            if redeemed.is_set():
                looked.set()  # by now the command's time is over
            return await status()

        monkeypatch.setattr(it.app._authorizations, "_keep", kept_late)
        monkeypatch.setattr(control, "status", looked_at)
        monkeypatch.setattr(control, "begin_authorization", begun_long_ago)
        asked = group.create_task(sign_in(control, ALICE, open_browser=False))
        await until_under_way(it)
        await it.sign_in(ALICE)
        assert await asked == DONE


async def test_a_sign_in_that_nobody_comes_back_from_ends_with_its_time(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(authorizations, "LIFE", 0.1)
    async with running() as it, asyncio.timeout(30):
        assert await sign_in(it.app.control, ALICE, open_browser=False) == FAILED
    assert "The time for this sign-in ran out" in capsys.readouterr().err


@pytest.mark.parametrize("paste", [True, False])
async def test_without_a_thread_for_a_line_or_a_browser_that_is_said(
    paste: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a thread for the browser the link is enough; without one that reads the pasted address nothing works."""
    async with running() as it, asyncio.timeout(20), asyncio.TaskGroup() as group:
        monkeypatch.setattr(threading.Thread, "start", no_thread)
        asked = group.create_task(sign_in(it.app.control, ALICE, open_browser=not paste, paste=paste))
        await until_under_way(it)
        if not paste:
            for _ in range(100):
                await asyncio.sleep(0)
            assert not asked.done()
            await it.app.control.cancel_authorization(ALICE)
        assert await asked == FAILED
        monkeypatch.undo()
    said = "the system has no more threads for mail-bridge" if paste else "No browser could be started here"
    assert said in capsys.readouterr().err


@contextmanager
def lasting_browser(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As with `BROWSER="firefox %s"` where no Firefox runs yet: the program runs until its windows are closed."""
    closed, program = directory / "closed", directory / "browser"
    os.mkfifo(closed)
    program.write_text(f"#!/bin/sh\nread -r _ < '{closed}'\n")
    program.chmod(0o755)
    monkeypatch.setattr(webbrowser, "_tryorder", [f"{program} %s"])
    monkeypatch.setenv("DISPLAY", ":7")
    try:
        yield
    finally:
        closed.write_text("\n")


@pytest.mark.skipif(sys.platform in {"win32", "darwin"}, reason="these have a browser of their own")
async def test_a_browser_that_stays_open_does_not_keep_the_end_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async with running() as it, asyncio.timeout(20), asyncio.TaskGroup() as group:
        with lasting_browser(tmp_path, monkeypatch):
            asked = group.create_task(sign_in(it.app.control, ALICE, open_browser=True))
            await until_under_way(it)
            await it.sign_in(ALICE)
            assert await asked == DONE
    assert f"{ALICE} is signed in as {ALICE}" in capsys.readouterr().out


@pytest.mark.skipif(sys.platform in {"win32", "darwin"}, reason="these have a browser of their own")
@pytest.mark.parametrize("display", [":7", ""])
async def test_a_browser_of_the_terminal_is_not_put_over_the_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], display: str
) -> None:
    program, shown = tmp_path / "w3m", tmp_path / "shown"
    program.write_text(f"#!/bin/sh\necho \"$1\" > '{shown}'\n")
    program.chmod(0o755)
    monkeypatch.setattr(webbrowser, "_tryorder", [f"{program} %s"])
    monkeypatch.setenv("DISPLAY", display)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    async with running() as it, asyncio.timeout(20), asyncio.TaskGroup() as group:
        asked = group.create_task(sign_in(it.app.control, ALICE, open_browser=True))
        await until_under_way(it)
        await it.sign_in(ALICE)
        assert await asked == DONE
    assert not shown.exists()
    assert "copy the link into one on this machine" in capsys.readouterr().err
