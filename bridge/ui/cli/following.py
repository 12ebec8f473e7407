"""Follows the configuration file while the bridge serves: a saved file is applied as a whole, or we say why not."""

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
from bridge.controller.late_imports import loading
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
"""A changed file is read once it has not changed again for this long: half of a file that is being copied over a
network may be a valid configuration, too, with other ports and without some `os_user`."""
GONE_SECONDS = 60.0
"""A file that is missing for this long is not just being replaced: the administrator is told, before the next start
fails to find it."""
RETRY_FIRST, RETRY_LAST = 10.0, 900.0
"""Seconds until a file whose secrets are in a locked keyring is read again; doubled each time. Somebody who comes back
to the keyring's prompt, and dismisses it, must not get the next one at once."""

Stamp = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Followed:
    """A configuration file whose changes are applied while the bridge serves."""

    settings: Settings
    """With the file that was found: looked for anew while an editor replaces it, another file might be found
    elsewhere."""
    path: Path
    seen: Stamp | None
    """The file's stamp before it was loaded: a start may take long, and a change during it must not be overlooked."""

    @classmethod
    def from_now_on(cls, settings: Settings) -> Followed:
        """Call before the file is loaded."""
        path = find_config(settings)
        return cls(dataclasses.replace(settings, found=path), path, _stamp(path))

    async def follow(self, app: App, reload: asyncio.Event) -> None:
        """Follow it until cancelled. A failed reload (no thread to read in, a bug) costs nobody a session."""
        await kept("configuration", functools.partial(self._follow, app, reload), SystemClock())

    async def _follow(self, app: App, reload: asyncio.Event) -> None:
        """Apply the file whenever it has changed, and on SIGHUP. An unusable file changes nothing, and is tried again
        by itself if nobody has to correct it."""
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
        """Runs in a thread: on a network drive whose server is gone it takes minutes."""
        return _stamp(self.path)

    def _load(self) -> LoadedConfig:
        """Runs in a thread, which a pipe would block until somebody writes into it. Raises: ConfigError."""
        refuse_a_pipe(self.path)
        return load(self.settings)

    async def _read(self, app: App, looks: Threads, at_rest: Stamp | None) -> bool:
        """`at_rest`: the stamp that the file must still have once it is read; None for a reload by order, of any file.

        Returns: True if the same file may be usable a while later.
        """
        service_manager.reloading()
        try:
            with loading():  # of what makes a certificate, for instance
                loaded = await in_thread(self._load)
                if at_rest in (None, await looks.run(self._look)):  # else it is being written: see the next look
                    await self._apply(app, looks, loaded)
        except ConfigError as problem:
            tell(problem)
            app.refused(problem)
            # A locked keyring; or a file that cannot be read just now: on Windows, the program that saves it, or a
            # virus scanner, may hold it for a moment after its stamp has changed.
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

    async def _apply(self, app: App, looks: Threads, loaded: LoadedConfig) -> None:
        """Raises: BridgeError, ConfigError, NoThread; then nothing has changed."""
        stream = await looks.run(functools.partial(log_stream, loaded))  # it may be on a network drive, too
        summary = await app.apply(loaded)
        log_as(self.settings, loaded, stream)
        app.tell_workers()
        if app.has_os_users:
            load_directory()
        logs.event("configuration.read", changes=summary or "none")
        _log_doubts(loaded)


async def loaded_once_open(settings: Settings) -> LoadedConfig:
    """Like load(), but waits for a locked keyring: at login its owner may still be asked for the password.

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
    """Seconds between attempts at something that passes by itself. With a locked keyring each attempt may show a
    prompt, but not while one is shown already."""
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
    """At a start, warn of what works and should be changed all the same: at a terminal in the person's language,
    otherwise as log lines, since these may be JSON, or go to a file, and standard error may not be kept."""
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
