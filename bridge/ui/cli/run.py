"""`mail-bridge run`: serve until Ctrl-C; with --demo, without Google or Microsoft."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import secrets
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import click

from bridge.advice.diagnosis import Diagnosis
from bridge.app import App
from bridge.clock import SystemClock
from bridge.config.console import USUAL_CONSOLE, console_url
from bridge.config.load import LoadedConfig, parse_config
from bridge.errors import KeyFileUnusable, KeyringMissing, StoreCorrupt, StoreFileUnusable, StoreUnavailable
from bridge.host.collector import spare_the_collector
from bridge.host.console_window import held_by_no_click
from bridge.host.hardening import say_where_it_crashed
from bridge.host.paths import config_candidates, config_file
from bridge.host.service import service_manager
from bridge.host.signals import Order, outlives_terminal, reload_on_signal, stop_on_signal
from bridge.host.users import load_directory
from bridge.notices import AuthorizationEnded, AuthorizationNeeded, Authorized, Notice
from bridge.observe import logs
from bridge.secret import Secret
from bridge.stores.sealed import KEY_BYTES, SealedStore
from bridge.ui.cli.configured import Settings, find_config, first_of, own_config
from bridge.ui.cli.following import Followed, loaded_once_open, warn
from bridge.ui.cli.log_output import log_as, log_stream
from bridge.ui.cli.reaching import Served, console, known_by, opened
from bridge.ui.cli.session import DONE, drop_output, in_loop, with_settings
from bridge.ui.cli.speaking import Command
from bridge.ui.cli.starting import CannotStart
from bridge.ui.i18n import say, spoken


@click.command(cls=Command)
@click.option(
    "--demo", is_flag=True, help="Use a built-in identity provider and built-in mail servers; no account needed."
)
@click.option("--tray", "with_tray", is_flag=True, help="Also show an icon beside the clock.")
@with_settings
@held_by_no_click()
def run(settings: Settings, demo: bool, with_tray: bool) -> int:
    """Start the bridge and serve mail programs until Ctrl-C."""
    say_where_it_crashed()
    serve: Serve = _serve_demo if demo else _serve
    to_be: Path | None = None
    if not demo and lacks_config(settings) and (with_tray or has_person()):
        from bridge.ui.cli.first_run import serve_first_run
        from bridge.ui.cli.local_installer import FirstRunOptions

        to_be = config_file().absolute()
        serve = functools.partial(serve_first_run, options=FirstRunOptions(to_be))
    if not with_tray:
        return in_loop(serve(settings, Terminal()))
    from bridge.ui.cli.tray import Companion, only_icon

    arguments = ["run", "--tray", *(["--demo"] if demo else own_config(settings))]
    with contextlib.nullcontext(True) if demo else only_icon(known_by(to_be or find_config(settings))) as is_only:
        if not is_only:  # `mail-bridge tray` shows one, and finds us by itself; mail does not wait for an icon
            return in_loop(serve(settings, Terminal()))
        companion = Companion(arguments, is_alone=False)
        return companion.around(lambda: serve(settings, companion))


def lacks_config(settings: Settings) -> bool:
    """True if none was named, and none is in the usual places. Raises: ConfigError if nobody can say so just now."""
    return settings.config is None and first_of(config_candidates()) is None


def has_person() -> bool:
    """True at a terminal. A service without a configuration ends at once: one that waited would look healthy."""
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout))


class Beside(Protocol):
    """What the bridge shares its process with: who gives it orders, and what runs along."""

    outlives_terminal: bool
    """Whoever started the program wants that, as `nohup` does."""

    def orders(self, stop: Order, reload: Order) -> AbstractContextManager[None]:
        """Both are called on the running loop, from now on."""

    async def run(self, served: Callable[[], Served]) -> None:
        """Run until cancelled; returning stops the bridge. `served`, the console: it may move after a set-up."""


Serve = Callable[[Settings, Beside], Coroutine[Any, Any, int]]


class Terminal:
    """Nothing but signals."""

    def __init__(self) -> None:
        self.outlives_terminal = outlives_terminal()

    @contextlib.contextmanager
    def orders(self, stop: Order, reload: Order) -> Iterator[None]:
        """See Beside."""
        with stop_on_signal(stop), reload_on_signal(reload):
            yield

    async def run(self, served: Callable[[], Served]) -> None:
        """See Beside."""
        await asyncio.Event().wait()


async def _serve(settings: Settings, beside: Beside) -> int:
    followed = Followed.from_now_on(settings)
    loaded = await loaded_once_open(followed.settings)
    log_as(settings, loaded, log_stream(loaded))
    warn(loaded)
    async with opened(loaded) as app:
        await check_store(app, loaded)
        app.bind()
        # First the orders: whoever finds us, by `status` for one, may stop us at once.
        with _heard(beside, followed) as orders:
            async with console(app, known_as=loaded.path) as served:
                await _until_stopped(app, served, beside, orders, followed)
    return DONE


async def check_store(app: App, loaded: LoadedConfig) -> None:
    """End the start if the key is wrong or missing, or the store's file cannot be used. What may pass does not end it:
    a locked keyring, a database server that starts after us, a full disk. Then the accounts report it, and the next
    login tries again."""
    store = loaded.config.store
    try:
        await app.check_store()
    except (StoreCorrupt, KeyringMissing, KeyFileUnusable) as problem:
        raise CannotStart(problem.words) from problem
    except StoreUnavailable as problem:
        if isinstance(problem, StoreFileUnusable) and store.url is None and store.key_file is not None:
            raise CannotStart(problem.words) from problem
        logs.trouble("store.unavailable", reason=str(problem))


@contextlib.contextmanager
def _heard(beside: Beside, followed: Followed | None = None) -> Iterator[Orders]:
    """What the bridge is told from outside, from now on."""
    orders = Orders()
    with beside.orders(orders.stop.set, lambda: hang_up(orders, beside, followed)):
        yield orders


async def _until_stopped(
    app: App, served: Served, beside: Beside, orders: Orders, followed: Followed | None = None
) -> None:
    """Serve; follow changes of the configuration if there is a file."""
    async with asyncio.TaskGroup() as group:
        companion = group.create_task(run_beside(beside, lambda: served, orders.stop))
        await serve_until(app, orders, followed)
        companion.cancel()


@dataclass(frozen=True, slots=True)
class Orders:
    """What the bridge is told from outside."""

    stop: asyncio.Event = field(default_factory=asyncio.Event)
    reload: asyncio.Event = field(default_factory=asyncio.Event)


def hang_up(orders: Orders, beside: Beside, followed: Followed | None) -> None:
    """Handle SIGHUP. Without a configuration file it means that the terminal was closed, which `nohup` lets us survive.

    With a file it is the order to reload, even under `nohup`, where people reload a bridge left running by this signal.
    """
    if followed is not None:
        orders.reload.set()
    elif not beside.outlives_terminal:
        orders.stop.set()


async def serve_until(app: App, orders: Orders, followed: Followed | None) -> None:
    """Serve until the order to stop; follow changes of the configuration if there is a file."""
    app.on_notice(_announce)
    spare_the_collector()
    if app.has_os_users:
        load_directory()
    async with asyncio.TaskGroup() as group:
        serving = group.create_task(app.serve())
        following = [] if followed is None else [group.create_task(followed.follow(app, orders.reload))]
        along = [*following, group.create_task(service_manager.watched(SystemClock()))]
        logs.event("bridge.up", console=console_url(app.console_port))
        service_manager.ready()
        await orders.stop.wait()
        service_manager.stopping()
        logs.event("bridge.stopping")
        for task in along:
            task.cancel()
        app.stop()
        await serving


async def run_beside(beside: Beside, served: Callable[[], Served], stop: asyncio.Event) -> None:
    """What shares the process with the bridge; its end stops the bridge."""
    await beside.run(served)
    stop.set()


def _announce(notice: Notice) -> None:
    """What a person at the terminal or a reader of the log wants to know at once."""
    match notice:
        case AuthorizationNeeded(address, url, reason, diagnosis):
            _log("sign_in.needed", reason, diagnosis, account=address, url=url)
        case Authorized(address, subject):
            logs.event("sign_in.done", account=address, subject=subject)
        case AuthorizationEnded(address, code, reason, diagnosis):
            _log("sign_in.ended", reason, diagnosis, account=address, code=code)
        case _:
            pass


def _log(name: str, reason: str, diagnosis: Diagnosis | None, **fields: str) -> None:
    if diagnosis is None:
        logs.trouble(name, reason=reason, **fields)
    else:
        logs.told(name, diagnosis, reason=reason, **fields)


# --- demo ---------------------------------------------------------------------------------------------------------


async def _serve_demo(settings: Settings, beside: Beside) -> int:
    from bridge.demo.world import demo_world
    from bridge.stores.memory import MemoryStore
    from bridge.ui.cli.demo import DemoPorts, demo_guide

    logs.configure(settings.log_level or "warning")
    with contextlib.closing(DemoPorts()) as taken:
        console_port, *ports = [taken.choose(port) for port in (USUAL_CONSOLE, 1143, 1110, 1587)]
        places = (ports[0], ports[1], ports[2])
        async with demo_world(console_port, places, translate=say, language=spoken()) as world:
            loaded = parse_config(world.yaml, name="(demo)", directory=Path.cwd())
            store = SealedStore(MemoryStore(), Secret(secrets.token_bytes(KEY_BYTES)))
            async with opened(loaded, store, is_demo=True, bind=taken.bind) as app:
                app.bind()
                with _heard(beside) as orders:
                    async with console(app) as served:
                        passwords = {address: await app.control.local_password(address) for address in world.addresses}
                        click.echo(demo_guide(app, passwords, ports, served.admin_url))
                        await _until_stopped(app, served, beside, orders)
    try:
        click.echo(say("The demo is over; nothing of it is left."))
    except OSError:  # its terminal may have gone
        drop_output()
    return DONE
