"""`mail-bridge tray`: the icon for a bridge that runs; and what `run --tray` shares with it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from contextvars import copy_context
from pathlib import Path
from typing import Any

import click

from bridge.control.remote import RemoteControl, connect, connect_given
from bridge.host import clipboard
from bridge.host.autostart import autostart
from bridge.host.signals import Order, Relay
from bridge.ui.cli.session import (
    DONE,
    CannotStart,
    Served,
    Settings,
    find_config,
    in_loop,
    meeting_place,
    own_config,
    with_settings,
)
from bridge.ui.i18n import say, say_number
from bridge.ui.tray.tray import Connect, Desktop, Tray
from bridge.ui.tray.view import Quit
from bridge.ui.tray.words import Words

Work = Callable[[], Coroutine[Any, Any, int]]


@click.command()
@click.option(
    "--control",
    "control_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The control.json of a bridge that runs as somebody else, such as a service. [default: that of --config]",
)
@with_settings
def tray(settings: Settings, control_file: Path | None) -> int:
    """Show an icon beside the clock for a bridge that runs. It waits for one that does not."""
    reach, arguments = _other_bridge(settings, control_file)
    companion = Companion(["tray", *arguments], is_alone=True)

    async def follow() -> int:
        with companion.orders(companion.quit, lambda: None):
            await companion.follow(reach)
        return DONE

    return companion.around(follow)


def _other_bridge(settings: Settings, control_file: Path | None) -> tuple[Connect, list[str]]:
    """How to reach it, and the options that say so from any directory. Raises: ConfigError if no file is found."""
    if control_file is not None:
        file = control_file.absolute()
        return (lambda: connect_given(file)), ["--control", str(file)]
    place = meeting_place(find_config(settings))
    return (lambda: connect(place)), own_config(settings)


class Companion:
    """The icon in the main thread, and what it belongs to in a loop in another one. A run.Beside."""

    def __init__(self, arguments: Sequence[str], *, is_alone: bool) -> None:
        """Args: arguments, of this very program, for the next login. Raises: CannotStart if there can be no icon."""
        from bridge.ui.tray.icon import Icon, NoTray

        words = Words(say, say_number)
        try:
            self._icon = Icon(words)
        except NoTray as problem:
            raise CannotStart(str(problem)) from problem
        desktop = Desktop(autostart(arguments), clipboard.copy)
        self._tray = Tray(self._icon, desktop, words, is_alone=is_alone)
        self._relay = Relay()
        if not self._icon.has_place:
            click.echo(words.no_tray(), err=True)

    def quit(self) -> None:
        """As if the person had chosen it; from any thread."""
        self._tray.choose(Quit())

    def orders(self, stop: Order, reload: Order) -> AbstractContextManager[None]:
        """Signals, which arrive in the main thread."""
        return self._relay.heard(stop, reload)

    async def run(self, served: Served) -> None:
        """Until Quit: for a bridge of this process, asked as any other would be."""
        await self.follow(lambda: RemoteControl.opened(served.control_url, served.token))

    async def follow(self, reach: Connect) -> None:
        """Until Quit."""
        await self._tray.run(reach)

    def around(self, work: Work) -> int:
        """In the main thread: show the icon, and do the work in another, until either ends. Returns: what it does."""
        begun: list[Future[int]] = []
        context = copy_context()  # the language belongs to it
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="bridge") as pool, self._relay.caught():

            def begin() -> None:
                begun.append(pool.submit(context.run, lambda: in_loop(work())))
                begun[0].add_done_callback(lambda done: self._icon.stop())

            try:
                self._icon.run(self._tray.choose, begin, self._relay.rearm)
            finally:
                self.quit()  # without an icon nothing could be chosen any more
            return begun[0].result() if begun else DONE
