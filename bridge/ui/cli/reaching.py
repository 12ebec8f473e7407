"""A bridge to talk to: the one that runs, or one in this process, opened for the occasion or to serve."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import secrets
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bridge.config.console import console_hosts, console_url
from bridge.host.language import system_language
from bridge.secret import Secret
from bridge.ui import i18n
from bridge.ui.cli.configured import Settings, as_named, find_config, load
from bridge.ui.cli.starting import bind_or_stop, ends_the_start

if TYPE_CHECKING:  # a command that only asks a running bridge does not import one
    from bridge.app import App
    from bridge.config.load import LoadedConfig
    from bridge.control.contract import Control
    from bridge.control.remote import RemoteControl
    from bridge.host.local_tls import MadeCertificate
    from bridge.relay.ports import Bind
    from bridge.stores.sealed import SealedStore
    from bridge.ui.cli.unsaved import Save
    from bridge.ui.web.console_sockets import ConsoleSockets
    from bridge.ui.web.guards import Administrators

LINGER_SECONDS = 2.0
"""For a console that was opened for one sign-in: the browser still has to fetch the page with the result."""


@asynccontextmanager
async def opened(
    loaded: LoadedConfig, store: SealedStore | None = None, *, is_demo: bool = False, bind: Bind | None = None
) -> AsyncIterator[App]:
    """A bridge in this process, without ports; `store` and `bind` in place of the usual ones."""
    from bridge.app import App, Surroundings
    from bridge.host.callers import Callers, this_system
    from bridge.host.disks import copies_on_write
    from bridge.host.machine import this_machine
    from bridge.host.paths import AUTHORITY_NAME, made_certificate_dir, store_file
    from bridge.host.programs import run_program
    from bridge.host.workers import start_worker
    from bridge.stores.registry import open_store

    place = store_file() if loaded.config.store.path is None else Path(loaded.config.store.path)
    callers = Callers(this_system())
    surroundings = Surroundings(
        store=store or open_store(loaded.config.store, default_path=store_file(), copies_on_write=copies_on_write),
        bind=bind or bind_or_stop,
        is_demo=is_demo,
        machine=this_machine(),
        run_program=run_program,
        translation=lambda configured: i18n.translation(i18n.choose(configured, system_language())),
        caller_of=callers.of,
        caller_at_once=callers.at_once,
        key_at_once=callers.key_at_once,
        program_of=callers.program,
        ensure_certificate=functools.partial(_certificate_or_stop, loaded),
        authority_file=made_certificate_dir(loaded.config.store.path) / AUTHORITY_NAME,
        start_worker=start_worker,
        store_place=None if store is not None or loaded.config.store.url is not None else place,
    )
    app = App(loaded, surroundings)
    async with app.opened():
        yield app


def made_certificate(loaded: LoadedConfig) -> MadeCertificate:
    """The certificate that the bridge makes."""
    from bridge.host.local_tls import MadeCertificate
    from bridge.host.paths import made_certificate_dir

    return MadeCertificate(made_certificate_dir(loaded.config.store.path), time.time)


def _certificate_or_stop(loaded: LoadedConfig, names: Iterable[str]) -> str:
    """The file of that certificate, with these names. Raises: CannotStart."""
    from bridge.host.local_tls import CertificateTrouble  # late, for ports with TLS alone: X.509 is heavy

    try:
        return made_certificate(loaded).ensure(names)
    except CertificateTrouble as problem:
        raise ends_the_start(problem) from problem


@dataclass(frozen=True, slots=True)
class Served:
    """A console that answers."""

    port: int
    token: Secret[str]
    """The administrator's."""

    @property
    def hosts(self) -> frozenset[str]:
        """What browsers may call it."""
        return console_hosts(self.port)

    @property
    def admin_url(self) -> str:
        """The link that shows all accounts; it holds the token."""
        return f"{console_url(self.port)}admin/{self.token.reveal()}"

    @property
    def control_url(self) -> str:
        """Where control.remote connects: a numeric address, independent of what localhost resolves to."""
        return f"http://127.0.0.1:{self.port}"


@asynccontextmanager
async def console(
    app: App,
    *,
    known_as: Path | None = None,
    token: Secret[str] | None = None,
    administrators: Administrators | None = None,
    console_sockets: ConsoleSockets | None = None,
) -> AsyncIterator[Served]:
    """Serve the console on the sockets that the app has bound.

    Args: known_as, the configuration file by which other commands find this bridge; None to stay unknown. token,
    administrators and sockets, of the first set-up that ends with this console; else there are new ones.
    """
    from bridge.ui.cli.findable import findable
    from bridge.ui.web.console_sockets import ConsoleSockets, answering_once_asked

    served = Served(app.console_port, token or Secret(secrets.token_urlsafe(32)))
    wanted = console_sockets or ConsoleSockets(app.console_sockets)

    def load_console() -> AbstractAsyncContextManager[None]:
        from bridge.host.collector import spare_the_collector
        from bridge.host.descriptors import descriptor_limit
        from bridge.relay.limits import console_cap
        from bridge.ui.web.server import Console  # late: aiohttp is a quarter of the start, and a tenth of the memory

        spare_the_collector()
        site = Console(
            app.control,
            admin_token=served.token,
            hosts=served.hosts,
            places=console_cap(descriptor_limit()),
            language=lambda: app.language,
            visitors=app.visitors,
            attendants=app.prompts,
            administrators=administrators,
            metrics=app.metrics,
        )
        return site.serving(wanted)

    # After a set-up its visitors are there, and aiohttp too.
    async with load_console() if console_sockets is not None else answering_once_asked(wanted, load_console):
        if known_as is None:
            yield served
            return
        async with findable(meeting_places(known_as), served.control_url, served.token):
            yield served


def meeting_places(config: Path) -> tuple[Path, ...]:
    """Where a running bridge publishes itself for other commands: a directory for each name of its configuration.

    First the name that was given, since a link in it may lead elsewhere by the time somebody asks; then the name of the
    file itself, to which many names may lead.
    """
    from bridge.host.paths import data_dir

    return _places_in(data_dir(), config)


def places_to_ask(config: Path) -> tuple[Path, ...]:
    """Where to look for a bridge: there, and where this machine's service publishes itself, for those who may read
    that."""
    from bridge.host.paths import is_for_service, service_data_dir

    directory = service_data_dir() if is_for_service(as_named(config)) else None
    return (*meeting_places(config), *(_places_in(directory, config) if directory is not None else ()))


def _places_in(directory: Path, config: Path) -> tuple[Path, ...]:
    names = dict.fromkeys([as_named(config), config.resolve()])
    digests = (hashlib.sha256(str(name).encode("utf-8", "surrogatepass")).hexdigest() for name in names)
    return tuple(directory / "run" / digest[:16] for digest in digests)


def known_by(config: Path) -> tuple[Path, ...]:
    """The control.json files by which a bridge with this configuration is known."""
    from bridge.control import rendezvous

    return tuple(directory / rendezvous.NAME for directory in meeting_places(config))


@asynccontextmanager
async def reach_running(settings: Settings) -> AsyncIterator[RemoteControl | None]:
    """The bridge that runs with this configuration, or None."""
    from bridge.control import rendezvous

    places = places_to_ask(find_config(settings))
    if not any(rendezvous.find(place) for place in places):  # nobody to ask: the import below is the slowest part
        yield None
        return
    from bridge.control.remote import connect

    async with connect(*places) as control:
        yield control


def not_running(settings: Settings) -> str:
    """What a command says that only a running bridge can answer: a service's does not answer everybody."""
    from bridge.config.language import configured_console_port
    from bridge.control import rendezvous
    from bridge.host.sockets import answers

    port = configured_console_port(find_config(settings))
    is_somebody_there = answers("127.0.0.1", port)
    if settings.caller:  # this command acts as the service's user, who has no other bridge
        if is_somebody_there:  # a service that is short of something, or was updated and not started again
            return i18n.say(
                "the service does not answer, but a program listens at {console}: the log says more ({log}); restart "
                "the service with: {command}"
            ).format(
                console=f"localhost:{port}",
                log="journalctl --unit=mail-bridge",
                command="sudo systemctl restart mail-bridge",
            )
        return i18n.say("the service is not running (start it with: {command})").format(
            command="sudo systemctl start mail-bridge"
        )
    if is_somebody_there and any(rendezvous.find(place) for place in meeting_places(find_config(settings))):
        return i18n.say(
            "the mail-bridge that this user has started does not answer, but a program listens at {console}. If it was "
            "stopped with Ctrl-Z, `fg` in its terminal lets it go on; if it hangs, or was updated since it was "
            "started, end it and start it again. If the program is the mail-bridge of another user, such as a "
            "service's, run this command as docs/guides/en/terminal-server.md shows: on Linux with sudo"
        ).format(console=f"localhost:{port}")
    if is_somebody_there:
        return i18n.say(
            "no mail-bridge of this user is running, but a program listens at {console}. If it is the mail-bridge of "
            "another user, such as a service's, run this command as docs/guides/en/terminal-server.md shows: on Linux "
            "with sudo"
        ).format(console=f"localhost:{port}")
    return i18n.say("mail-bridge is not running (start it with: {command})").format(command=f"{settings.program} run")


@dataclass(frozen=True, slots=True)
class Reached:
    """Whom a command asks."""

    control: Control
    save: Save | None = None
    """Only for a bridge in this process, which may end before the store takes the sign-in; a running one goes on
    trying."""


@asynccontextmanager
async def reach(settings: Settings) -> AsyncIterator[Control]:
    """The running bridge, or one in this process over the same store."""
    async with reach_to_sign_in(settings) as reached:
        yield reached.control


@asynccontextmanager
async def reach_to_sign_in(settings: Settings) -> AsyncIterator[Reached]:
    """The same, for a sign-in, which would be lost with this process unless it is saved."""
    async with reach_running(settings) as control:
        if control is not None:
            yield Reached(control)
            return
    loaded = load(settings)
    _warn_of_a_stranger(loaded)
    async with opened(loaded) as app:
        yield Reached(app.control, app.control.save)


def _warn_of_a_stranger(loaded: LoadedConfig) -> None:
    """Warn another user who asks for a service's password: it would come from that user's own store, and open
    nothing."""
    from bridge.host.sockets import answers

    config = loaded.config
    if config.store.path is None and config.store.url is None and answers(config.console.host, config.console.port):
        sentence = i18n.say(
            "warning: a program listens at {console}, but it is not a mail-bridge of this user. If it is that of "
            "another user, such as a service's, run this command as that user: as it is, it looks into a store of "
            "your own"
        )
        click.echo(sentence.format(console=config.console.address), err=True)


@asynccontextmanager
async def reach_with_console(settings: Settings) -> AsyncIterator[Reached]:
    """The same, with the page that the browser comes back to."""
    async with reach_running(settings) as control:
        if control is not None:
            yield Reached(control)
            return
    async with opened(load(settings)) as app:
        app.bind(console_only=True)
        async with console(app):
            yield Reached(app.control, app.control.save)
            await asyncio.sleep(LINGER_SECONDS)
