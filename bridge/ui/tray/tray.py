"""Follows a bridge, shows it, tells people in time, and does what they choose; in a loop that is not the icon's."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar, runtime_checkable
from urllib.parse import urlsplit

from bridge.advice.system import system_reason
from bridge.clock import Clock, SystemClock
from bridge.control.contract import AccountState, Status
from bridge.errors import BridgeError
from bridge.host.autostart import Autostart
from bridge.notices import ListenerUp, Notice
from bridge.observe.logs import fault
from bridge.secret import Secret
from bridge.threads import NoThread, Threads
from bridge.ui.i18n import say, say_number, tell_problem
from bridge.ui.tray.reminders import Memory, decide
from bridge.ui.tray.view import (
    NOT_CONNECTED,
    Action,
    CopyPassword,
    Notification,
    OpenConsole,
    OpenPage,
    Quit,
    SetAutostart,
    View,
    view,
    waiting,
)

R = TypeVar("R")

LOOK_SECONDS: Final = 30.0
"""Between two status requests, for changes that send no notice: a sign-in that begins, or is given up."""
SETTLE_SECONDS: Final = 0.3
"""Between a notice and the status request: notices come in bursts, and a status of many accounts is expensive."""
REST: Final = 20
"""We wait this many times as long as the last answer took: a bridge with 50,000 accounts has better things to do."""
RETRY_SECONDS: Final = 2.0
"""Between two attempts to find a bridge: while it restarts, somebody looks at the icon."""


class Bridge(Protocol):
    """A running bridge: all of it, or what is one person's."""

    async def status(self) -> Status:
        """See Control."""

    def notices(self) -> AsyncGenerator[Notice, None]:
        """See Control."""


@runtime_checkable
class Administered(Bridge, Protocol):
    """What the administrator's token opens besides, as control.remote gives it."""

    async def local_password(self, address: str) -> Secret[str]:
        """See Control."""

    async def console_link(self) -> str:
        """The console for a browser here; works once."""


class Shell(Protocol):
    """The icon; both methods may be called from any thread."""

    def show(self, seen: View) -> None:
        """Picture, line and menu from now on."""

    def notify(self, said: Notification, action: Action | None = None) -> None:
        """Tell the person, wherever the desktop shows such things; a click does `action`, where it can be clicked."""


Connect = Callable[[], AbstractAsyncContextManager[Bridge | None]]


@dataclass(frozen=True, slots=True)
class Desktop:
    """What the person's session offers. `copy` raises OSError where it cannot, `browse` returns False."""

    autostart: Autostart
    copy: Callable[[str], None]
    browse: Callable[[str], bool]


class Tray:
    """One icon's life. choose() comes from the icon's thread, all else happens in run()'s loop."""

    def __init__(self, shell: Shell, desktop: Desktop, *, clock: Clock | None = None, is_alone: bool = True) -> None:
        """Shows at once that nothing is known yet; `is_alone` as in view()."""
        self._shell = shell
        self._desktop = desktop
        self._clock = clock or SystemClock()
        self._is_alone = is_alone
        self._bridge: Bridge | None = None
        self._status: Status | None = None
        self._shown: View | None = None
        self._starts_at_login = False
        self._memory = Memory()
        self._chosen: deque[Action] = deque()
        self._woken = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._show()

    def choose(self, action: Action) -> None:
        """The person has chosen this; from any thread, also before run() has begun."""
        self._chosen.append(action)
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is over: nobody acts on the choice
                self._loop.call_soon_threadsafe(self._woken.set)

    async def run(self, connect: Connect) -> None:
        """Show the bridge that `connect` finds, and do what is chosen, until that is Quit."""
        self._loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._follow_always(connect))]
            while True:
                self._woken.clear()
                while self._chosen:
                    action = self._chosen.popleft()
                    if isinstance(action, Quit):
                        for task in tasks:
                            task.cancel()
                        return
                    tasks = [*(task for task in tasks if not task.done()), group.create_task(self._do(action))]
                await self._woken.wait()

    # --- the bridge ---------------------------------------------------------------------------------------------

    async def _follow_always(self, connect: Connect) -> None:
        self._starts_at_login = await self._is_autostart_on()
        while True:
            with contextlib.suppress(BridgeError):  # it has stopped, or is of another version: the icon says so
                async with connect() as bridge:
                    if bridge is not None:
                        await self._follow(bridge)
            self._bridge = self._status = None
            self._show()
            await self._clock.pause(RETRY_SECONDS)

    async def _follow(self, bridge: Bridge) -> None:
        """Raises: BridgeError once it does not answer any more."""
        self._bridge = bridge
        changed = asyncio.Event()
        ended: list[BaseException] = []
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._listen(bridge, changed))
                group.create_task(self._look(bridge, changed))
        except* BridgeError as problems:
            ended += problems.exceptions
        if ended:  # not raised above: in Python 3.11.2, Debian 12's, an exception from in there becomes a group
            raise ended[0]

    async def _listen(self, bridge: Bridge, changed: asyncio.Event) -> None:
        async with contextlib.aclosing(bridge.notices()) as notices:
            async for notice in notices:
                if not isinstance(notice, ListenerUp):
                    changed.set()

    async def _look(self, bridge: Bridge, changed: asyncio.Event) -> None:
        while True:
            changed.clear()
            began = self._clock.monotonic()
            self._status = await bridge.status()
            rest = (self._clock.monotonic() - began) * REST
            self._show()
            pause = max(LOOK_SECONDS, rest)
            if (reminder_at := self._remind(self._status)) is not None:
                pause = min(pause, max(0.0, reminder_at - self._clock.now()))
            if await self._wait(changed, pause):
                await self._clock.pause(max(SETTLE_SECONDS, rest))

    async def _wait(self, changed: asyncio.Event, seconds: float) -> bool:
        """True once something has changed, False once it is time."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(changed.wait()), group.create_task(self._clock.pause(seconds))]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
        return changed.is_set()

    def _show(self) -> None:
        seen = view(self._status, starts_at_login=self._starts_at_login, is_alone=self._is_alone, is_own=self._is_own)
        if seen != self._shown:  # a menu that is open closes when it is replaced
            self._shown = seen
            self._shell.show(seen)

    @property
    def _is_own(self) -> bool:
        """Only what is this person's is to be seen: there is no console to open, and no password to copy."""
        return self._bridge is not None and not isinstance(self._bridge, Administered)

    def _remind(self, status: Status) -> float | None:
        """Tell those who are needed, if it is time. Returns: when it may be again."""
        urls = {account.address: account.sign_in_url for account in waiting(status)}
        needing = [account.address for account in waiting(status) if account.state is AccountState.SIGN_IN]
        pending = urls.keys() - set(needing)
        decision = decide(needing, pending, self._memory, self._clock.now())
        self._memory = decision.memory
        match decision.addresses:
            case ():
                pass
            case (address,):
                self._shell.notify(_needed_by(address, urls[address]), OpenPage(urls[address]))
            case addresses if self._is_own:
                self._shell.notify(_needed_by_many(len(addresses)))
            case addresses:
                self._shell.notify(_needed_by_many(len(addresses), button=say("Open console")), OpenConsole())
        return decision.look_again_at

    # --- what was chosen ----------------------------------------------------------------------------------------

    async def _do(self, action: Action) -> None:
        try:
            match action:
                case OpenPage(url):
                    await self._open(url)
                case OpenConsole():
                    await self._open_console()
                case CopyPassword(address):
                    await self._copy_password(address)
                case SetAutostart(on):
                    await self._set_autostart(on)
                case Quit():
                    pass  # run() has seen it
        except BridgeError as problem:
            self._fail(tell_problem(problem))
        except NoThread as problem:
            self._fail(problem.said.told(say))
        except Exception as bug:  # noqa: BLE001  a supervisor: the icon stays, and the bridge that may be in this process
            fault("icon.bug", chosen=type(action).__name__, error=bug)
            self._fail(
                say("The fault is in mail-bridge, and is in its log. Please try again, or tell your administrator.")
            )

    async def _open(self, url: str) -> None:
        """Only ever a page of this machine: the URL may come from another process."""
        is_page = urlsplit(url).scheme == "http" and urlsplit(url).hostname in ("localhost", "127.0.0.1", "::1")
        if not is_page or not await _in_thread(lambda: self._desktop.browse(url)):
            text = say("Open this page yourself: {url}").format(url=url)
            self._shell.notify(Notification(say("No browser could be started"), text))

    async def _open_console(self) -> None:
        if not isinstance(self._bridge, Administered):
            self._fail(NOT_CONNECTED.told(say))
            return
        await self._open(await self._bridge.console_link())

    async def _copy_password(self, address: str) -> None:
        if not isinstance(self._bridge, Administered):
            self._fail(NOT_CONNECTED.told(say))
            return
        password = await self._bridge.local_password(address)
        try:
            await _in_thread(lambda: self._desktop.copy(password.reveal()))
        except OSError:
            self._shell.notify(Notification(say("Not copied"), _why_not_copied()))
        else:
            text = say("The local password of {address} is in the clipboard. Paste it into the mail program.")
            self._shell.notify(Notification(say("Local password copied"), text.format(address=address)))

    async def _set_autostart(self, on: bool) -> None:
        try:
            await _in_thread(lambda: self._desktop.autostart.turn(on))
        except OSError as problem:
            text = say("The system says: {reason}").format(reason=system_reason(problem).told(say))
            self._shell.notify(Notification(say("“Start at login” could not be changed"), text))
        self._starts_at_login = await self._is_autostart_on()
        self._show()

    async def _is_autostart_on(self) -> bool:
        with contextlib.suppress(OSError, NoThread):  # unreadable: nothing of it will work at login either
            return await _in_thread(self._desktop.autostart.is_on)
        return False

    def _fail(self, reason: str) -> None:
        self._shell.notify(Notification(say("mail-bridge cannot do this now"), reason))


async def _in_thread(call: Callable[[], R]) -> R:
    """The result of a call that may block, perhaps while a browser is open. Not in the loop's own threads, because the
    loop's end would wait for them.

    Raises: NoThread; what the call raises.
    """
    return await Threads("tray", at_once=1).run(call)


def _why_not_copied() -> str:
    if sys.platform == "linux":
        return say(
            "Copying needs one of the programs wl-copy, xclip or xsel. The password is also shown by: mail-bridge "
            "accounts password ADDRESS"
        )
    return say(
        "The clipboard cannot be used just now; another program may have it open. Please try again. The password is "
        "also shown by: mail-bridge accounts password ADDRESS"
    )


def _needed_by(address: str, url: str) -> Notification:
    return Notification(
        say("Mail: {address} must sign in").format(address=address),
        say("Choose “Sign in” in the menu of the mail-bridge icon, or open {url}").format(url=url),
        say("Sign in"),
    )


def _needed_by_many(count: int, *, button: str = "") -> Notification:
    title = say_number("Mail: {count} account needs a sign-in", "Mail: {count} accounts need a sign-in", count)
    return Notification(title.format(count=count), say("The menu of the mail-bridge icon lists them."), button)
