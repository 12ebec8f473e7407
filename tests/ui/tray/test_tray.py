"""What the tray does in its loop: what it shows, when it notifies, and what a click does."""

from __future__ import annotations

import asyncio
import io
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from bridge.control.contract import AccountState, AccountStatus, Status
from bridge.control.remote import BridgeNotRunning
from bridge.errors import BridgeError, StoreUnavailable
from bridge.notices import AuthorizationNeeded, Authorized
from bridge.ui.tray.tray import RETRY_SECONDS, Desktop, Tray
from bridge.ui.tray.view import (
    Action,
    CopyPassword,
    Notification,
    OpenConsole,
    OpenPage,
    Picture,
    Quit,
    SetAutostart,
    View,
)
from tests.clocks import ManualClock
from tests.fakes_control import FakeControl
from tests.silent import no_thread

ALICE, BOB = "alice@example.com", "bob@example.com"
PAGE = "http://localhost:3017/sign-in/alice@example.com"
SECONDS = 60.0


class FakeBridge(FakeControl):
    """A bridge whose sign-in pages are on this machine, and that can stop."""

    def __init__(self, *addresses: str, clock: ManualClock) -> None:
        super().__init__(*addresses, clock=clock)
        self.is_down = False

    async def status(self) -> Status:
        if self.is_down:
            raise BridgeNotRunning("it has stopped")
        return await super().status()

    async def console_link(self) -> str:
        return "http://localhost:3017/admin/CANARY-once"

    def _status_of(self, address: str) -> AccountStatus:
        return replace(super()._status_of(address), sign_in_url=f"http://localhost:3017/sign-in/{address}")


class Person:
    """The person at the icon: a Shell and a Desktop that record what they show, and a way to wait for it."""

    def __init__(self) -> None:
        self.seen: list[View] = []
        self.told: list[Notification] = []
        self.offered: list[Action | None] = []
        """What a click on each notification would do."""
        self.visited: list[str] = []
        self.pasted: list[str] = []
        self.is_autostart = False
        self.has_browser = True
        self.browser_returns = threading.Event()
        self.browser_returns.set()
        self.problem: Exception | None = None
        self._happened: asyncio.Event = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(SECONDS):
            while not holds():
                self._happened.clear()
                await self._happened.wait()

    def labels(self) -> list[str]:
        return [entry.label for entry in self.seen[-1].menu if entry.label]

    def show(self, seen: View) -> None:
        self.seen.append(seen)
        self._happened.set()

    def notify(self, said: Notification, action: Action | None = None) -> None:
        self.told.append(said)
        self.offered.append(action)
        self._happened.set()

    def browse(self, url: str) -> bool:
        self._note(self.visited, url)
        self.browser_returns.wait(SECONDS)
        return self.has_browser

    def copy(self, text: str) -> None:
        if self.problem is not None:
            raise self.problem
        self._note(self.pasted, text)

    def is_on(self) -> bool:
        return self.is_autostart

    def turn(self, on: bool) -> None:
        if self.problem is not None:
            raise self.problem
        self.is_autostart = on

    def _note(self, where: list[str], what: str) -> None:
        """Called by browse() and copy(), which the tray runs in threads."""
        assert threading.current_thread() is not threading.main_thread()
        where.append(what)
        self._loop.call_soon_threadsafe(self._happened.set)


class World:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.bridge: FakeBridge | None = FakeBridge(ALICE, BOB, clock=self.clock)
        self.person = Person()
        self.tray = Tray(self.person, Desktop(self.person, self.person.copy, self.person.browse), clock=self.clock)

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[FakeBridge | None]:
        yield self.bridge

    async def choose(self, action: Action) -> None:
        """Choose an action as the icon does, from another thread."""
        await asyncio.to_thread(self.tray.choose, action)

    async def settle(self) -> None:
        """Let the moment pass that the tray waits after a notice, in case there are more."""
        await self.clock.until_asleep()
        self.clock.advance(1)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """A tray that is connected to its bridge."""
    made = World()
    async with asyncio.timeout(SECONDS), asyncio.TaskGroup() as group:
        running = group.create_task(made.tray.run(made.connect))
        await made.person.until(lambda: made.person.seen[-1].picture is Picture.SIGN_IN)
        yield made
        made.tray.choose(Quit())
        await running


async def test_it_tells_of_all_at_once_and_follows_a_sign_in(world: World) -> None:
    assert [said.title for said in world.person.told] == ["Mail: 2 accounts need a sign-in"]
    assert world.person.offered == [OpenConsole()]
    assert world.bridge is not None
    await world.bridge.following.wait()
    world.bridge.states[ALICE] = AccountState.READY
    world.bridge.bus.publish(Authorized(ALICE, ALICE))
    await world.clock.until_asleep(1)
    while f"{ALICE} is signed in" not in world.person.labels():
        await world.settle()
    assert len(world.person.told) == 1


async def test_a_login_that_is_refused_again_and_again_is_one_notification(world: World) -> None:
    assert world.bridge is not None
    await world.bridge.following.wait()
    for _ in range(20):
        world.bridge.bus.publish(AuthorizationNeeded(ALICE, PAGE, "no grant"))
        await world.settle()
    assert len(world.person.told) == 1


async def test_one_account_is_told_of_by_name_with_its_page() -> None:
    world = World()
    world.bridge = FakeBridge(ALICE, clock=world.clock)
    async with asyncio.timeout(SECONDS), asyncio.TaskGroup() as group:
        group.create_task(world.tray.run(world.connect))
        await world.person.until(lambda: bool(world.person.told))
        world.tray.choose(Quit())
    assert ALICE in world.person.told[0].title
    assert PAGE in world.person.told[0].text
    assert world.person.offered == [OpenPage(PAGE)]


async def test_no_bridge_then_one_then_none_again(world: World) -> None:
    assert world.bridge is not None
    gone, world.bridge = world.bridge, None
    gone.is_down = True
    while world.person.seen[-1].picture is not Picture.ABSENT:
        await world.clock.until_asleep()
        world.clock.advance(31)
    await world.choose(OpenConsole())
    await world.person.until(lambda: "not running" in world.person.told[-1].text)
    await world.choose(CopyPassword(ALICE))
    await world.person.until(lambda: len(world.person.told) == 3)
    assert world.person.visited == world.person.pasted == []
    world.bridge = FakeBridge(ALICE, clock=world.clock)
    await world.clock.until_asleep()
    world.clock.advance(RETRY_SECONDS)
    await world.person.until(lambda: world.person.seen[-1].picture is Picture.SIGN_IN)


async def test_pages_open_in_the_browser(world: World) -> None:
    await world.choose(OpenPage(PAGE))
    await world.person.until(lambda: world.person.visited == [PAGE])
    await world.choose(OpenConsole())
    await world.person.until(lambda: world.person.visited[-1] == "http://localhost:3017/admin/CANARY-once")


@pytest.mark.parametrize(
    "url",
    [
        "http://evil.example/sign-in",
        "https://localhost:3017/",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "-new-window",
        "http://localhost@evil.example/",
    ],
)
async def test_only_pages_of_this_machine_are_opened(world: World, url: str) -> None:
    await world.choose(OpenPage(url))
    await world.person.until(lambda: world.person.told[-1].title == "No browser could be started")
    assert world.person.visited == []


async def test_without_a_browser_the_page_is_told(world: World) -> None:
    world.person.has_browser = False
    await world.choose(OpenPage(PAGE))
    await world.person.until(lambda: PAGE in world.person.told[-1].text)


async def test_without_a_thread_what_was_chosen_is_said_not_to_work(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The icon stays, and so does the bridge, which may run in the same process."""
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        chosen: list[Action] = [OpenPage(PAGE), CopyPassword(ALICE), SetAutostart(True)]
        for action in chosen:
            before = len(world.person.told)
            world.tray.choose(action)
            await world.person.until(lambda before=before: len(world.person.told) > before)  # type: ignore[misc]
            assert "has no more threads for mail-bridge" in world.person.told[-1].text
    await world.choose(OpenPage(PAGE))
    await world.person.until(lambda: world.person.visited == [PAGE])


async def test_a_bug_in_what_was_chosen_is_logged_and_the_icon_stays(world: World, log: io.StringIO) -> None:
    """The bridge may run in the same process, with everybody's mail."""
    world.person.problem = ValueError("a bug of ours")
    await world.choose(CopyPassword(ALICE))
    await world.person.until(lambda: "The fault is in mail-bridge, and is in its log." in world.person.told[-1].text)
    assert log.getvalue().count("icon.bug") == 1
    world.person.problem = None
    await world.choose(CopyPassword(ALICE))
    await world.person.until(lambda: len(world.person.pasted) == 1)


async def test_a_browser_that_does_not_return_holds_up_nothing(world: World) -> None:
    world.person.browser_returns.clear()
    await world.choose(OpenPage(PAGE))
    await world.choose(CopyPassword(ALICE))
    await world.person.until(lambda: len(world.person.pasted) == 1)
    world.person.browser_returns.set()


async def test_a_password_goes_to_the_clipboard_and_into_no_sentence(world: World) -> None:
    await world.choose(CopyPassword(ALICE))
    await world.person.until(lambda: world.person.told[-1].title == "Local password copied")
    assert world.bridge is not None
    assert world.person.pasted == [world.bridge.passwords[ALICE].reveal()]
    assert "CANARY" not in repr(world.person.told) + repr(world.person.seen)


async def test_what_does_not_work_is_said(world: World) -> None:
    world.person.problem = OSError(13, "Permission denied")
    await world.choose(CopyPassword(ALICE))
    why = "needs one of the programs wl-copy, xclip or xsel" if sys.platform == "linux" else "may have it open"
    await world.person.until(lambda: why in world.person.told[-1].text)
    await world.choose(SetAutostart(True))
    await world.person.until(lambda: "Permission denied" in world.person.told[-1].text)
    world.person.problem = BridgeError("too long for the registry")
    await world.choose(SetAutostart(True))
    await world.person.until(lambda: "too long for the registry" in world.person.told[-1].text)
    assert world.bridge is not None
    world.bridge.problem = StoreUnavailable("the keyring is locked")
    await world.choose(CopyPassword(BOB))
    await world.person.until(lambda: "keyring is locked" in world.person.told[-1].text)


async def test_start_at_login_shows_what_the_system_has_taken(world: World) -> None:
    def is_ticked() -> bool:
        return any(entry.is_checked for entry in world.person.seen[-1].menu)

    assert not is_ticked()
    await world.choose(SetAutostart(True))
    await world.person.until(is_ticked)
    assert world.person.is_autostart
    await world.choose(SetAutostart(False))
    await world.person.until(lambda: not is_ticked())


async def test_quit_that_was_chosen_before_the_loop_began_counts() -> None:
    world = World()
    world.tray.choose(Quit())
    async with asyncio.timeout(SECONDS):
        await world.tray.run(world.connect)
    world.tray.choose(OpenConsole())


class OwnBridge:
    """A bridge as control.own shows it: only what concerns this person."""

    def __init__(self, bridge: FakeBridge) -> None:
        self.status = bridge.status
        self.notices = bridge.notices


async def test_who_sees_only_their_own_is_offered_no_console_and_no_password() -> None:
    world = World()
    assert world.bridge is not None
    own = OwnBridge(world.bridge)

    @asynccontextmanager
    async def connect() -> AsyncIterator[OwnBridge]:
        yield own

    async with asyncio.timeout(SECONDS), asyncio.TaskGroup() as group:
        group.create_task(world.tray.run(connect))
        await world.person.until(lambda: bool(world.person.told))
        for action in (OpenConsole(), CopyPassword(ALICE)):
            told = len(world.person.told)
            await world.choose(action)
            await world.person.until(lambda: len(world.person.told) > told)  # noqa: B023  waits within the round
            assert world.person.told[-1].title == "mail-bridge cannot do this now"
        world.tray.choose(Quit())
    assert world.person.labels() == [
        "mail-bridge: 2 accounts need a sign-in",
        f"Sign in as {ALICE}",
        f"Sign in as {BOB}",
        "Start at login",
        "Quit",
    ]
    assert (world.person.told[0].title, world.person.told[0].button) == ("Mail: 2 accounts need a sign-in", "")
    assert world.person.offered[0] is None
    assert world.person.visited == world.person.pasted == []
