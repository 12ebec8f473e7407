"""While there is no configuration: the console's set-up pages; once it is written, the bridge, in the same process."""

from __future__ import annotations

import asyncio
import dataclasses
import importlib
import secrets
import socket
import threading
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Final

import click

from bridge.advice.said import said
from bridge.advice.system import too_little
from bridge.app import App
from bridge.clock import SystemClock
from bridge.config.console import console_url
from bridge.config.load import LoadedConfig
from bridge.config.references import named_variables
from bridge.control.unconfigured import Unconfigured
from bridge.errors import BridgeError, StoreUnavailable
from bridge.host import browser
from bridge.host.callers import Callers, own_user_id, this_system
from bridge.host.descriptors import descriptor_limit
from bridge.host.environment import taken_environment
from bridge.host.paths import is_for_service
from bridge.model import Ends
from bridge.observe import logs
from bridge.relay.limits import console_cap
from bridge.secret import Secret
from bridge.shortage import is_short
from bridge.stores.named_secrets import check_named_secrets
from bridge.tasks import task_group
from bridge.threads import NoThread, in_thread
from bridge.ui.cli.configured import Settings, find_config, load
from bridge.ui.cli.following import LOOK_SECONDS, Followed, warn
from bridge.ui.cli.local_installer import FirstRunOptions, LocalInstaller, found_config, settle
from bridge.ui.cli.log_output import log_as, log_stream
from bridge.ui.cli.reaching import Served, console, opened
from bridge.ui.cli.run import Beside, Orders, check_store, hang_up, run_beside, serve_until
from bridge.ui.cli.session import DONE
from bridge.ui.cli.starting import CannotStart, CannotStartNow, bind_or_stop
from bridge.ui.i18n import say
from bridge.ui.setup.writing import check_writable
from bridge.ui.web.console_sockets import ConsoleSockets
from bridge.ui.web.first_run import FirstRun
from bridge.ui.web.guards import Administrators

CONSOLE_PARTS: Final = ("bridge.host.collector", "bridge.ui.cli.findable", "bridge.ui.web.server")
"""Modules that the bridge's console needs at its start, loaded beforehand: if they failed for want of a descriptor
later, the set-up's pages, with somebody waiting for an answer, would be gone already."""


async def serve_first_run(settings: Settings, beside: Beside, options: FirstRunOptions) -> int:
    """The set-up and then the bridge, until it is told to stop."""
    logs.configure(settings.log_level or "info")
    await in_thread(partial(check_writable, options.output))
    sockets = _listen(options.port)
    port: int = sockets[0].getsockname()[1]
    served = Served(port, Secret(secrets.token_urlsafe(32)))
    administrators = Administrators(served.token, SystemClock())
    installer = LocalInstaller(options, port, await in_thread(partial(_has_keyring, options.output)), SystemClock())
    control = Unconfigured(str(options.output))
    page = FirstRun(
        installer,
        control,
        admin_token=served.token,
        hosts=served.hosts,
        places=console_cap(descriptor_limit()),
        user_of=partial(_user_of, Callers(this_system())),
        administrators=administrators,
    )
    console_sockets = ConsoleSockets([sock.dup() for sock in sockets])
    start = Start(settings, installer, sockets, console_sockets, page, served, administrators)
    orders = Orders()
    with beside.orders(orders.stop.set, lambda: hang_up(orders, beside, start.followed)):
        async with AsyncExitStack() as bridge, task_group() as group:
            companion = group.create_task(run_beside(beside, lambda: start.served, orders.stop))
            try:
                async with page.serving(console_sockets):
                    await _invite(options, served, administrators)
                    app = await start.wait(bridge, orders.stop)
                for sock in sockets:
                    sock.close()
                if app is not None:
                    await serve_until(app, orders, start.followed)
            finally:
                companion.cancel()
    return DONE


def _listen(port: int) -> list[socket.socket]:
    try:
        return bind_or_stop("localhost", port, "console")
    except CannotStart as problem:
        hint = said("To use another port for the set-up: mail-bridge init --browser --port NUMBER")
        raise CannotStart(said("{problem}\n{hint}", problem=problem.words, hint=hint)) from problem


def _has_keyring(output: Path) -> bool:
    if is_for_service(output):
        return False
    try:
        check_named_secrets()
    except StoreUnavailable:
        return False
    return True


async def _user_of(callers: Callers, ends: Ends | None) -> str:
    """See Site."""
    return (await callers.of(ends)).user_id


async def _invite(options: FirstRunOptions, served: Served, administrators: Administrators) -> None:
    """Print the link; and open it, where a person sits here and a browser can be started."""
    click.echo(say("There is no configuration yet. To make one, open this page in a browser on this computer:"))
    click.echo(f"\n  {served.admin_url}\n")
    click.echo(say("Anyone who has this link can do the set-up, so keep it to yourself. Ctrl-C ends the program."))
    logs.event("setup.waiting", file=str(options.output), console=console_url(served.port))
    if not options.open_browser:
        return
    with suppress(NoThread):  # then no browser: the link has been printed
        if await in_thread(browser.name) is None:
            return
        # Not the link itself, because others can read a browser's arguments in the list of processes.
        ticket = administrators.issue_ticket(own_user_id()).reveal()
        open_it = partial(browser.show, f"{console_url(served.port)}admin/{ticket}")
        # Not waited for, and not in a thread of the loop: some browsers' commands return only when they are closed.
        with suppress(RuntimeError):
            threading.Thread(target=open_it, name="browser", daemon=True).start()


class Start:
    """From the set-up to the bridge: tried when somebody asks, and when a configuration has appeared by itself."""

    def __init__(
        self,
        settings: Settings,
        installer: LocalInstaller,
        sockets: list[socket.socket],
        console_sockets: ConsoleSockets,
        page: FirstRun,
        served: Served,
        administrators: Administrators,
    ) -> None:
        self.followed: Followed | None = None
        """The file, once one could be used; one that could not is not read again for changes."""
        self.served = served
        """The bridge's console, once it serves: a file that appeared by itself may name another port."""
        self._settings = settings
        self._installer = installer
        self._sockets = sockets
        self._console_sockets = console_sockets
        self._page = page
        self._administrators = administrators
        self._shares_port = False
        self._refused: object = None
        """The stamp of a file that could not be used: it is not tried again by itself until it has changed."""

    async def wait(self, stack: AsyncExitStack, stop: asyncio.Event) -> App | None:
        """The bridge, its ports open and its console serving, all on `stack`; None once it is told to stop."""
        async with asyncio.TaskGroup() as group:
            trying = group.create_task(self._try_until_it_works(stack))
            stopping = group.create_task(stop.wait())
            await asyncio.wait({trying, stopping}, return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            if not trying.done():
                trying.cancel()
                self._installer.answer_all(CannotStart(said("mail-bridge is stopping")))
                return None
            return trying.result()

    async def _try_until_it_works(self, stack: AsyncExitStack) -> App:
        while True:
            order = await self._next_order()
            try:
                app = await self._open_or_tell(stack)
            except BridgeError as problem:
                logs.trouble("setup.cannot_start", reason=str(problem))
                if order is not None:
                    settle(order, problem)
                elif isinstance(why := problem.__cause__, NoThread) or (why is not None and is_short(why)):
                    self._refused = None  # the system was short of something: try this file again
                continue
            await self._take_over(stack, app)
            self._installer.answer_all()
            return app

    async def _next_order(self) -> asyncio.Future[None] | None:
        """Somebody's order to start, or None when a configuration has appeared that was not tried yet."""
        while True:
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    return await self._installer.start_order.get()
            except TimeoutError:
                with suppress(NoThread):
                    found = await in_thread(partial(_stamp, self._installer.output))
                    if found is not None and found != self._refused:
                        self._refused = found
                        return None

    async def _open_or_tell(self, stack: AsyncExitStack) -> App:
        """As _open(). Raises: BridgeError, also where the system has too little left for a part that is loaded now."""
        try:
            return await self._open(stack)
        except NoThread as problem:
            raise CannotStartNow(problem.said) from problem
        except (OSError, ImportError) as problem:
            if not is_short(problem):
                raise
            raise CannotStartNow(too_little(problem)) from problem

    async def _open(self, stack: AsyncExitStack) -> App:
        """Store and ports. Raises: BridgeError, ConfigError, with everything closed that was opened."""
        found = found_config(self._installer.output)
        if found is None:
            raise CannotStart(said("{file} is no longer there", file=self._installer.output))
        self._shares_port = False
        for part in CONSOLE_PARTS:
            importlib.import_module(part)
        async with AsyncExitStack() as attempt:
            followed = Followed.from_now_on(self._naming(found))
            loaded = await in_thread(partial(_load, followed.settings))
            stream = log_stream(loaded)
            app = await attempt.enter_async_context(opened(loaded, bind=self._bind))
            await check_store(app, loaded)
            app.bind()
            stack.push_async_exit(attempt.pop_all())
        self.followed = followed
        log_as(self._settings, loaded, stream)
        warn(loaded)
        return app

    def _naming(self, found: Path) -> Settings:
        """The settings for this file: the one that was to be written counts as named by the person, any other one does
        not."""
        if found == self._installer.output:
            return dataclasses.replace(self._settings, config=found)
        return dataclasses.replace(self._settings, config=None, found=found)

    async def _take_over(self, stack: AsyncExitStack, app: App) -> None:
        """Serve the bridge's console at our sockets. An error here ends the program, as it would end `run`."""
        for sock in app.console_sockets:
            stack.callback(sock.close)
        following = console(
            app,
            known_as=self.followed.path if self.followed is not None else None,
            token=self.served.token,
            administrators=self._administrators,
            console_sockets=self._console_sockets if self._shares_port else None,
        )
        self.served = await stack.enter_async_context(following)
        self._page.hand_over()

    def _bind(self, host: str, port: int, what: str) -> list[socket.socket]:
        """Bind a port. The console's is open already: the bridge gets sockets that only tell where, and are not
        served."""
        if what == "console" and port == self.served.port and host == "localhost":
            self._shares_port = True
            return [sock.dup() for sock in self._sockets]
        return bind_or_stop(host, port, what)


def _load(settings: Settings) -> LoadedConfig:
    """Load the file, having taken the variables that it names out of the environment, as each command does."""
    found = find_config(settings)
    taken_environment.take(named_variables(found))
    return load(settings)


def _stamp(output: Path) -> object:
    """A stamp of the configuration that is there by now; it differs once the file was written or replaced."""
    found = found_config(output)
    try:
        return None if found is None else (found, found.stat().st_mtime_ns, found.stat().st_size)
    except OSError:
        return None
