"""What every command needs: the configuration, and a bridge to talk to, running or opened for the occasion."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import itertools
import os
import secrets
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from bridge.advice.said import Said, said
from bridge.advice.system import system_reason
from bridge.config.console import console_hosts, console_url
from bridge.config.language import configured_language
from bridge.config.references import named_variables
from bridge.errors import ConfigError
from bridge.host.language import system_language
from bridge.host.loop import new_event_loop
from bridge.secret import Secret
from bridge.ui import i18n
from bridge.ui.cli import speaking
from bridge.ui.cli.starting import bind_or_stop, certificate_or_stop, refuse_if_incomplete

if TYPE_CHECKING:  # a command that only asks a running bridge does not import one
    from bridge.app import App
    from bridge.config.load import LoadedConfig
    from bridge.control.contract import Control
    from bridge.control.remote import RemoteControl
    from bridge.host.local_tls import MadeCertificate
    from bridge.observe.logs import Level
    from bridge.relay.ports import Bind
    from bridge.stores.sealed import SealedStore
    from bridge.ui.web.doors import Doors
    from bridge.ui.web.guards import Administrators

DONE, FAILED, UNUSABLE = 0, 1, 2
"""Exit codes: done; it did not work; usage or configuration must change first."""

LINGER_SECONDS = 2.0
"""For a console that was opened for one sign-in: the browser still has to fetch the page that says how it went."""

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Settings:
    """The options that all commands take."""

    config: Path | None
    log_level: Level | None
    found: Path | None = None
    """What find_config() has found where nobody has named a file: for who reads it again, and no other in its place."""


config_option = click.option(
    "--config", "-c", type=click.Path(path_type=Path, readable=False), metavar="FILE", help="The YAML file."
)
log_level_option = click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    metavar="LEVEL",
    help="debug, info, warning or error; wins over the file.",
)


def with_settings(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command --config and --log-level, also where they stand before its name; it gets Settings first.

    The log goes to standard error, whatever the command: standard output is for what was asked for.
    """

    @config_option
    @log_level_option
    @click.pass_context
    @functools.wraps(command)
    def wrapped(ctx: click.Context, /, config: Path | None, log_level: Level | None, **options: Any) -> Any:
        from bridge.host.descriptors import raise_descriptor_limit
        from bridge.host.environment import taken_environment
        from bridge.host.hardening import forbid_dumps
        from bridge.observe import logs

        forbid_dumps()
        raise_descriptor_limit()  # for every command: `check` says what `run` will have
        before = ctx.find_root().obj or {}
        settings = Settings(config or before.get("config"), log_level or before.get("log_level"))
        logs.configure(settings.log_level or "warning")
        found = _found(settings.config)
        taken_environment.take(named_variables(found) if found else ())
        speaking.speak(_language(found))
        refuse_if_incomplete()
        return command(settings, **options)

    return wrapped


def speak_before_parsing(arguments: Sequence[str]) -> None:
    """For what click says of the arguments, and for --help: by the configuration that they seem to name."""
    named = os.environ.get("MAIL_BRIDGE_CONFIG")
    for before, argument in itertools.pairwise(["", *arguments]):
        if before in {"-c", "--config"}:
            named = argument
        elif argument.startswith("--config="):
            named = argument.removeprefix("--config=")
    speaking.speak(_language(_found(Path(named) if named else None)))


def _language(file: Path | None) -> i18n.Language:
    return i18n.choose(configured_language(file) if file is not None else "auto", system_language())


def _found(config: Path | None) -> Path | None:
    """The configuration, if there is one."""
    from bridge.host.paths import config_candidates, is_there

    places = [config] if config is not None else config_candidates()
    return next((path for path in places if is_there(path)), None)


def in_loop(main: Coroutine[Any, Any, R]) -> R:
    """Run a command's coroutine."""
    from bridge.host.signals import run_until_interrupted

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return run_until_interrupted(runner, main)


async def read_line() -> str:
    """A line of standard input; empty at its end.

    In a daemon thread: one of the loop's own would hold the process after Ctrl-C until somebody presses Enter.
    """
    loop = asyncio.get_running_loop()
    line: asyncio.Future[str] = loop.create_future()

    def settle(text: str) -> None:
        if not line.done():
            line.set_result(text)

    def read() -> None:
        text = sys.stdin.readline()
        with contextlib.suppress(RuntimeError):  # the loop is over: nobody waits any more
            loop.call_soon_threadsafe(settle, text)

    threading.Thread(target=read, name="standard input", daemon=True).start()
    return await line


def drop_output() -> None:
    """Standard output takes nothing more; what is left in it must not be tried again at the exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def find_config(settings: Settings) -> Path:
    """The file to use. Raises: ConfigError naming the places where it was looked for."""
    from bridge.host.paths import config_candidates, is_there

    if settings.config is not None:
        _refuse_a_strangers(settings.config)
        try:
            if not settings.config.is_dir():  # which the loader tells
                # Else `status --config tpyo.yaml` would say that no bridge is running.
                settings.config.open("rb").close()
        except (OSError, ValueError) as problem:
            _tell_unreadable(settings.config, problem)
        return settings.config
    candidates = config_candidates()
    found = settings.found or next(filter(is_there, candidates), None)
    if found is not None:
        _refuse_a_strangers(found)
        _refuse_a_strangers_here(found)
        return found
    places = "\n  ".join(map(str, candidates))
    first = i18n.say("there is no configuration yet. Looked for:")
    remedy = i18n.say("To make one, by answering a few questions: mail-bridge init, or in the browser: init --browser")
    other = i18n.say("Or name yours with --config FILE. To look around first: mail-bridge run --demo")
    raise ConfigError((f"{first}\n  {places}\n{remedy}\n{other}",))


def _tell_unreadable(file: Path, problem: OSError | ValueError) -> NoReturn:
    """Raises: ConfigError; where the file is there, with the system's reason as its cause."""
    if not isinstance(problem, OSError) or isinstance(problem, (FileNotFoundError, NotADirectoryError)):
        raise ConfigError([said("{file}: there is no such file", file=file)]) from None
    reason = said("this file cannot be read: {reason}", reason=system_reason(problem))
    raise ConfigError([Said("{file}: {reason}", (("file", str(file)), ("reason", reason)))]) from problem


def _refuse_a_strangers(config: Path) -> None:
    """Of the machine's configuration, which can name programs to be run. Raises: ConfigError."""
    from bridge.host.paths import CONFIG_NAME, machine_config_dir

    if config != machine_config_dir() / CONFIG_NAME:
        return
    from bridge.host.owners import ADMINISTRATORS, is_trusted  # late: 7 ms of each command's start

    if not is_trusted(config):
        told = said(
            "{file} or its directory belongs to a user of this machine who is neither you nor the administrators, and "
            "is not used. If it is right all the same, as an administrator: {command}",
            file=config,
            command=f'icacls "{config.parent}" /setowner *{ADMINISTRATORS} /T',
        )
        raise ConfigError([told])


def _refuse_a_strangers_here(config: Path) -> None:
    """Of a configuration that nobody has named, in the current directory, which may be everybody's. Raises:
    ConfigError."""
    from bridge.host.owners import is_strangers
    from bridge.host.paths import CONFIG_NAME, config_candidates, machine_config_dir

    if config in {config_candidates()[0], machine_config_dir() / CONFIG_NAME}:
        return
    try:
        is_theirs = is_strangers(config)
    except OSError as problem:  # it was there a moment ago
        _tell_unreadable(config, problem)
    if is_theirs:
        told = said(
            "{file} was found in the current directory, belongs to another user of this machine, and is not used. If "
            "it is right all the same, name it: {command}",
            file=config,
            command=f'--config "{config}"',
        )
        raise ConfigError([told])


def own_config(settings: Settings) -> list[str]:
    """The option that names the same file from any directory; nothing where it is found by itself."""
    return ["--config", str(_as_named(settings.config))] if settings.config is not None else []


def _as_named(config: Path) -> Path:
    """From the root, with the links in it, which may lead elsewhere tomorrow: the running bridge follows them.

    Those before a `..` are what it goes up from, and are followed now.
    """
    whole = config.absolute()
    if ".." not in whole.parts:
        return whole
    end = len(whole.parts) - whole.parts[::-1].index("..")
    return Path(*whole.parts[:end]).resolve().joinpath(*whole.parts[end:])


def load(settings: Settings) -> LoadedConfig:
    """The configuration, checked. Raises: ConfigError with all its problems."""
    from bridge.config.load import load_config
    from bridge.host.environment import taken_environment
    from bridge.stores.keys import read_named_secret

    return load_config(find_config(settings), environ=taken_environment, read_keyring=read_named_secret)


def warn(loaded: LoadedConfig) -> None:
    """What works and should be changed all the same, on standard error; for the commands that are about the file."""
    for warning in loaded.warnings:
        click.echo(i18n.say("warning: {warning}").format(warning=warning.told(i18n.say)), err=True)


@asynccontextmanager
async def opened(
    loaded: LoadedConfig, store: SealedStore | None = None, *, is_demo: bool = False, bind: Bind | None = None
) -> AsyncIterator[App]:
    """A bridge in this process, without ports; `store` and `bind` in place of the usual ones."""
    from bridge.app import App, Surroundings
    from bridge.host.callers import Callers, this_system
    from bridge.host.machine import this_machine
    from bridge.host.paths import AUTHORITY_NAME, made_certificate_dir, store_file
    from bridge.host.programs import run_program
    from bridge.host.workers import start_worker
    from bridge.stores.registry import open_store

    place = store_file() if loaded.config.store.path is None else Path(loaded.config.store.path)
    callers = Callers(this_system())
    surroundings = Surroundings(
        store=store or open_store(loaded.config.store, default_path=store_file()),
        bind=bind or bind_or_stop,
        is_demo=is_demo,
        machine=this_machine(),
        run_program=run_program,
        translation=lambda configured: i18n.translation(i18n.choose(configured, system_language())),
        caller_of=callers.of,
        caller_at_once=callers.at_once,
        program_of=callers.program,
        ensure_certificate=functools.partial(certificate_or_stop, functools.partial(made_certificate, loaded)),
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
        """Where control.remote asks: by number, whatever localhost means here."""
        return f"http://127.0.0.1:{self.port}"


@asynccontextmanager
async def console(
    app: App,
    *,
    known_as: Path | None = None,
    token: Secret[str] | None = None,
    administrators: Administrators | None = None,
    doors: Doors | None = None,
) -> AsyncIterator[Served]:
    """Serve the console on the sockets that the app has bound.

    Args: known_as, the configuration file by which other commands find this bridge; None to stay unknown. token,
    administrators and doors, of the first set-up that ends with this console; else there are new ones.
    """
    from bridge.ui.cli.findable import findable
    from bridge.ui.web.doors import Doors, answering_once_asked

    served = Served(app.console_port, token or Secret(secrets.token_urlsafe(32)))
    wanted = doors or Doors(app.console_sockets)

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
            attendants=app.concerned,
            administrators=administrators,
        )
        return site.serving(wanted)

    # After a set-up its visitors are there, and aiohttp too.
    async with load_console() if doors is not None else answering_once_asked(wanted, load_console):
        if known_as is None:
            yield served
            return
        async with findable(meeting_places(known_as), served.control_url, served.token):
            yield served


def meeting_places(config: Path) -> tuple[Path, ...]:
    """Where a running bridge leaves word for other commands: a directory for each name of its configuration.

    First the name that it was given, since a link in it may lead elsewhere by the time that somebody asks; then that of
    the file itself, which has many names.
    """
    from bridge.host.paths import data_dir

    names = dict.fromkeys([_as_named(config), config.resolve()])
    return tuple(data_dir() / "run" / _digest(str(name)) for name in names)


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def known_by(config: Path) -> tuple[Path, ...]:
    """The files there."""
    from bridge.control import rendezvous

    return tuple(directory / rendezvous.NAME for directory in meeting_places(config))


@asynccontextmanager
async def reach_running(settings: Settings) -> AsyncIterator[RemoteControl | None]:
    """The bridge that runs with this configuration, or None."""
    from bridge.control.remote import connect

    async with connect(*meeting_places(find_config(settings))) as control:
        yield control


def not_running(settings: Settings) -> str:
    """What a command says that only a running bridge can answer: a service's does not answer everybody."""
    from bridge.config.language import configured_console_port
    from bridge.host.sockets import answers

    port = configured_console_port(find_config(settings))
    if answers("127.0.0.1", port):
        return i18n.say(
            "no mail-bridge of this user is running, but a program listens at {console}. If it is the mail-bridge of "
            "another user, such as a service's, run this command as that user, with the STATE_DIRECTORY that systemd "
            "gives the service"
        ).format(console=f"localhost:{port}")
    return i18n.say("mail-bridge is not running (start it with: {command})").format(command="mail-bridge run")


@asynccontextmanager
async def reach(settings: Settings) -> AsyncIterator[Control]:
    """The running bridge, or one in this process over the same store."""
    async with reach_running(settings) as control:
        if control is not None:
            yield control
            return
    loaded = load(settings)
    _warn_of_a_stranger(loaded)
    async with opened(loaded) as app:
        yield app.control


def _warn_of_a_stranger(loaded: LoadedConfig) -> None:
    """A service's password asked for by another user is one of that user's own store, and opens nothing."""
    from bridge.host.sockets import answers

    config = loaded.config
    if config.store.path is None and config.store.url is None and answers(config.console.host, config.console.port):
        sentence = i18n.say(
            "warning: a program listens at {console}, and it is no mail-bridge of this user. If it is that of another "
            "user, such as a service's, run this command as that user: here it looks into a store of your own"
        )
        click.echo(sentence.format(console=config.console.address), err=True)


@asynccontextmanager
async def reach_with_console(settings: Settings) -> AsyncIterator[Control]:
    """The same, with the page that the browser comes back to."""
    async with reach_running(settings) as control:
        if control is not None:
            yield control
            return
    async with opened(load(settings)) as app:
        app.bind(console_only=True)
        async with console(app):
            yield app.control
            await asyncio.sleep(LINGER_SECONDS)
