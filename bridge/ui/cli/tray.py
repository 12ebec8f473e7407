"""`mail-bridge tray`: the icon for a bridge that runs; and what `run --tray` shares with it."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from contextvars import copy_context
from pathlib import Path
from typing import Any

import click

from bridge.config.console import DEFAULT_PORT, NAMES, USUAL_CONSOLE
from bridge.config.language import configured_console_port
from bridge.control.own import connect_own
from bridge.control.remote import RemoteControl, connect, connect_given
from bridge.control.rendezvous import find, is_loopback_url
from bridge.errors import ConfigError
from bridge.host import browser, clipboard
from bridge.host.autostart import autostart
from bridge.host.desktop import desktop_name
from bridge.host.paths import from_root, is_machines, runtime_dir
from bridge.host.signals import Order, Relay, outlives_terminal
from bridge.host.sole import sole
from bridge.threads import no_thread
from bridge.ui.cli.configured import Settings, find_config, own_config
from bridge.ui.cli.reaching import Served, known_by, places_to_ask
from bridge.ui.cli.session import DONE, in_loop, with_settings
from bridge.ui.cli.speaking import Command
from bridge.ui.cli.starting import CannotStart, NoIconAlone
from bridge.ui.i18n import say
from bridge.ui.tray.tray import Bridge, Connect, Desktop, Tray
from bridge.ui.tray.view import Quit

Work = Callable[[], Coroutine[Any, Any, int]]


@click.command(cls=Command)
@click.option(
    "--control",
    "control_file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="The control.json of a bridge that runs as another user, such as a service. [default: that of --config]",
)
@click.option(
    "--console",
    metavar="URL",
    help="The console of this machine's service, such as http://localhost:3017: no special rights are needed, and only "
    "what waits for you is shown. [default where you have no configuration of your own]",
)
@with_settings
def tray(settings: Settings, control_file: Path | None, console: str | None) -> int:
    """Show an icon beside the clock for a running bridge. If none is running, wait for one.

    If this desktop already has one for that bridge, the command says so and ends with exit code 0.
    """
    reach, arguments, files = _other_bridge(settings, control_file, console)

    async def follow() -> int:
        with companion.orders(companion.quit, lambda: None):
            await companion.follow(reach)
        return DONE

    with only_icon(files) as is_only:
        if not is_only:
            return DONE
        companion = Companion(["tray", *arguments], is_alone=True)
        return companion.around(follow)


def _other_bridge(
    settings: Settings, control_file: Path | None, console: str | None
) -> tuple[Connect, list[str], tuple[Path, ...]]:
    """How to reach it, the options that say so from any directory, and the files by which it is known.

    Raises: ConfigError if no file is found, and no service answers either.
    """
    if control_file is not None:
        file = from_root(control_file).absolute()
        return (lambda: connect_given(file)), ["--control", str(file)], (file,)
    if console is not None:
        return _service(_console_url(console))
    try:
        config = find_config(settings)
    except ConfigError:
        usual = f"http://127.0.0.1:{USUAL_CONSOLE}"
        if settings.config is not None or not in_loop(_answers(usual)):
            raise
        return _service(usual)
    directories, arguments, files = places_to_ask(config), own_config(settings), known_by(config)
    if not is_machines(config):
        return (lambda: connect(*directories)), arguments, files
    url = f"http://127.0.0.1:{configured_console_port(config)}"
    return (lambda: _administered_or_own(directories, url)), arguments, files


def _service(url: str) -> tuple[Connect, list[str], tuple[Path, ...]]:
    return (lambda: connect_own(url)), ["--console", url], (Path("/console", url.rpartition(":")[2]),)


def _console_url(given: str) -> str:
    """By number, whatever localhost means here."""
    url = given.rstrip("/")
    if url in {f"http://{name}" for name in NAMES}:
        url += f":{DEFAULT_PORT}"
    url = url.replace("//localhost:", "//127.0.0.1:")
    if not is_loopback_url(url):
        raise click.BadParameter(
            say("must be a page of this computer, such as http://localhost:3017"), param_hint="--console"
        )
    return url


async def _answers(url: str) -> bool:
    async with connect_own(url) as found:
        return found is not None


@contextlib.asynccontextmanager
async def _administered_or_own(directories: Sequence[Path], url: str) -> AsyncIterator[Bridge | None]:
    """The whole bridge for the user who runs it; for any other user their own accounts, until it is published for
    them."""
    before = list(map(find, directories))
    async with connect(*directories) as control:
        if control is not None:
            yield control
            return
    async with connect_own(url, lambda: list(map(find, directories)) != before) as own:
        yield own


@contextlib.contextmanager
def only_icon(files: Sequence[Path]) -> Iterator[bool]:
    """False if this desktop has an icon for that bridge already, and the person is told.

    Two bridges have an icon each, and so have two desktops of one person. Args: files, its control.json, one for each
    of its names, which need not exist.
    """
    with contextlib.ExitStack() as stack:
        is_only = True
        with contextlib.suppress(OSError):  # no room for the lock file: better two icons than none
            is_only = all(stack.enter_context(sole(_lock_of(file))) for file in files)
        if not is_only:
            click.echo(say("This mail-bridge already has an icon on this desktop; one is enough."), err=True)
        yield is_only


def _lock_of(file: Path) -> Path:
    what = f"{desktop_name()}\n{file.resolve()}"
    digest = hashlib.sha256(what.encode("utf-8", "surrogatepass")).hexdigest()
    return runtime_dir() / f"icon-{digest[:16]}.lock"


class Companion:
    """The icon in the main thread, and what it belongs to in a loop in another one. A run.Beside."""

    def __init__(self, arguments: Sequence[str], *, is_alone: bool) -> None:
        """Args: arguments, of this very program, for the next login. Raises: CannotStart if there can be no icon."""
        from bridge.ui.tray.icon import Icon, NoTray

        try:
            self._icon = Icon()
        except NoTray as problem:
            raise (NoIconAlone if is_alone else CannotStart)(problem.words) from problem
        desktop = Desktop(autostart(arguments), clipboard.copy, browser.show)
        self._tray = Tray(self._icon, desktop, is_alone=is_alone)
        self.outlives_terminal = outlives_terminal()
        self._relay = Relay()
        if not self._icon.has_place:
            sentence = say(
                "This desktop has no place for icons (GNOME needs the extension AppIndicator). Notifications and the "
                "console work all the same; the icon appears as soon as there is a place for it."
            )
            click.echo(sentence, err=True)

    def quit(self) -> None:
        """As if the person had chosen it; from any thread."""
        self._tray.choose(Quit())

    def orders(self, stop: Order, reload: Order) -> AbstractContextManager[None]:
        """Signals, which arrive in the main thread."""
        return self._relay.heard(stop, reload)

    async def run(self, served: Callable[[], Served]) -> None:
        """Show the icon until Quit, for the bridge of this process, which is asked like any other."""
        await self.follow(lambda: RemoteControl.opened(served().control_url, served().token))

    async def follow(self, reach: Connect) -> None:
        """Follow the bridge that `reach` finds, until Quit."""
        await self._tray.run(reach)

    def around(self, work: Work) -> int:
        """In the main thread: show the icon, and do the work in another, until either ends. Returns: what it does."""
        begun: list[Future[int]] = []
        context = copy_context()  # which holds the language
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="bridge") as pool, self._relay.caught():

            def begin() -> None:
                begun.append(_submitted(pool, lambda: context.run(lambda: in_loop(work()))))
                begun[0].add_done_callback(lambda done: self._icon.stop())

            try:
                self._icon.run(self._tray.choose, begin, self._relay.rearm)
            except RuntimeError as problem:
                if begun or "thread" not in str(problem):
                    raise
                raise no_thread(problem) from problem  # the toolkit had no thread to call `begin` in
            finally:
                self.quit()  # without an icon nothing could be chosen any more
            return begun[0].result() if begun else DONE


def _submitted(pool: ThreadPoolExecutor, work: Callable[[], int]) -> Future[int]:
    """Without a thread for it that is what it ends with."""
    try:
        return pool.submit(work)
    except RuntimeError as problem:
        ended: Future[int] = Future()
        ended.set_exception(no_thread(problem))
        return ended
