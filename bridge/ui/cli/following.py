"""The configuration file while the bridge serves: what is saved is put in force, whole, or it is told why not."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from bridge.app import App
from bridge.clock import SystemClock
from bridge.config.load import LoadedConfig
from bridge.errors import BridgeError, ConfigError
from bridge.host.service import service_manager
from bridge.host.users import load_directory
from bridge.observe import logs
from bridge.observe.supervisor import kept
from bridge.threads import NoThread, Threads, in_thread
from bridge.ui.cli.configured import Settings, find_config, load, refuse_a_pipe
from bridge.ui.cli.log_output import log_as, log_stream
from bridge.ui.cli.starting import CannotStartNow
from bridge.ui.i18n import say

LOOK_SECONDS = 2.0
"""Between two looks at the configuration file."""
REST_SECONDS = 1.0
"""A file that has changed is read once it has stayed as it is for so long: half of one that is copied over a network
may be a configuration, too, with other ports and without some `os_user`."""
GONE_SECONDS = 60.0
"""A file that is away for so long is not being replaced: the administrator hears of it before the next start does not
find it."""
RETRY_FIRST, RETRY_LAST = 10.0, 900.0
"""Seconds until a file whose secrets are in a locked keyring is read again; doubled each time. Who was away when the
prompt came, and dismisses it, must not find the next one at once."""

Stamp = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Followed:
    """A configuration file whose changes are applied while the bridge serves."""

    settings: Settings
    """With the file that was found: while an editor replaces it, another one would be, in another place."""
    path: Path
    seen: Stamp | None
    """As it was before it was loaded: a start may take long, and what changes during it must not be overlooked."""

    @classmethod
    def from_now_on(cls, settings: Settings) -> Followed:
        """Call before the file is loaded."""
        path = find_config(settings)
        return cls(dataclasses.replace(settings, found=path), path, _stamp(path))

    async def follow(self, app: App, reload: asyncio.Event) -> None:
        """Until it is cancelled. Whatever becomes of a reload (no thread to read in, a bug) costs nobody a session."""
        await kept("configuration", functools.partial(self._follow, app, reload), SystemClock())

    async def _follow(self, app: App, reload: asyncio.Event) -> None:
        """Apply the file whenever it has changed, and on SIGHUP; what cannot be used changes nothing, and is tried
        again by itself where nobody has to correct it."""
        seen = last = self.seen
        pauses: Iterator[float] | None = None
        again_at = gone_at = math.inf
        looks = Threads("configuration", at_once=1)
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS if last == seen else REST_SECONDS):
                    await reload.wait()
            try:
                found = await looks.run(self._look)
            except NoThread as problem:
                if reload.is_set():  # whoever ordered the reload is told; otherwise the next look is soon enough
                    reload.clear()
                    again_at = time.monotonic()
                    _refuse(app, BridgeError(problem.said))
                continue
            is_at_rest, last = found == last, found
            gone_at = math.inf if found is not None else min(gone_at, time.monotonic() + GONE_SECONDS)
            is_changed = found not in (seen, None)  # None: an editor is replacing it
            is_gone = seen is not None and time.monotonic() >= gone_at
            is_due = is_changed or is_gone or time.monotonic() >= again_at
            is_ordered = reload.is_set()
            if not (is_ordered or (is_due and is_at_rest)):
                continue
            if is_ordered or is_changed or is_gone:
                pauses = None
            reload.clear()
            seen, again_at = found, math.inf
            if await self._read(app, looks, None if is_ordered else found):
                pauses = pauses or retry_pauses()
                again_at = time.monotonic() + next(pauses)

    def _look(self) -> Stamp | None:
        """In a thread: on a network drive whose server is gone it takes minutes."""
        return _stamp(self.path)

    def _load(self) -> LoadedConfig:
        """In a thread, which a pipe would hold until somebody writes into it. Raises: ConfigError."""
        refuse_a_pipe(self.path)
        return load(self.settings)

    async def _read(self, app: App, looks: Threads, at_rest: Stamp | None) -> bool:
        """`at_rest`: what the file must still be once it is read; None by order, which takes it as it is.

        Returns: True if the same file may be usable a while later.
        """
        service_manager.reloading()
        try:
            loaded = await in_thread(self._load)
            if at_rest in (None, await looks.run(self._look)):  # else it is being written: see the next look
                await self._apply(app, loaded)
        except ConfigError as problem:
            tell(problem)
            app.refused(problem)
            # A locked keyring; or a file that the system does not give just now: on Windows who saves it, or looks for
            # viruses, may have it for a moment longer than its stamp tells.
            return problem.may_pass or isinstance(problem.__cause__, OSError)
        except NoThread as problem:
            _refuse(app, BridgeError(problem.said))
            return True
        except BridgeError as problem:  # a port that another program has may be free a while later
            _refuse(app, problem)
            return True
        finally:
            service_manager.ready()
        return False

    async def _apply(self, app: App, loaded: LoadedConfig) -> None:
        """Raises: BridgeError, ConfigError; then nothing has changed."""
        stream = log_stream(loaded)
        summary = await app.apply(loaded)
        log_as(self.settings, loaded, stream)
        app.tell_workers()
        if app.has_os_users:
            load_directory()
        logs.event("configuration.read", changes=summary or "none")
        _log_doubts(loaded)


async def loaded_once_open(settings: Settings) -> LoadedConfig:
    """As load(); a keyring that is locked just now is waited for: at login its owner may be asked for a password.

    Raises: ConfigError for all else; CannotStartNow without a thread to read it in.
    """
    pauses = retry_pauses()
    while True:
        try:
            return await in_thread(functools.partial(load, settings))
        except NoThread as problem:
            raise CannotStartNow(problem.said) from problem
        except ConfigError as problem:
            if not problem.may_pass:
                raise
            tell(problem)
        pause = next(pauses)
        service_manager.waits(pause)
        await asyncio.sleep(pause)


def retry_pauses() -> Iterator[float]:
    """Seconds between attempts at what passes by itself. Where a keyring is locked each may show a prompt, but not
    while one is shown already."""
    pause = RETRY_FIRST
    while True:
        yield pause
        pause = min(2 * pause, RETRY_LAST)


def _refuse(app: App, problem: BridgeError) -> None:
    logs.trouble("configuration.refused", reason=str(problem))
    app.refused(problem)


def tell(problem: ConfigError) -> None:
    """Log each thing to change."""
    for line in problem.problems:
        logs.trouble("configuration.refused", reason=line)


def warn(loaded: LoadedConfig) -> None:
    """What works and should be changed all the same, at a start, where the log goes by now: to a person at a terminal
    in their language, else as its lines. They may be JSON, or in a file, and nobody may keep standard error."""
    stream = logs.current_stream()
    if stream is None or stream is not sys.stderr or not stream.isatty():
        _log_doubts(loaded)
        return
    for warning in loaded.warnings:
        click.echo(say("warning: {warning}").format(warning=warning.told(say)), err=True)


def _log_doubts(loaded: LoadedConfig) -> None:
    for warning in loaded.warnings:
        logs.trouble("configuration.doubtful", reason=str(warning))


def _stamp(path: Path) -> Stamp | None:
    """Differs when the file was written or replaced."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
