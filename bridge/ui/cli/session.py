"""What every command needs: its options, exit codes, an event loop, standard input and output."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import itertools
import os
import sys
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from bridge.advice.said import Said, said
from bridge.advice.system import system_reason, too_little
from bridge.config.language import configured_language
from bridge.config.references import named_variables
from bridge.errors import BridgeError, ConfigError
from bridge.host.language import system_language
from bridge.host.loop import new_event_loop
from bridge.shortage import may_pass
from bridge.threads import Threads
from bridge.ui import i18n
from bridge.ui.cli import speaking
from bridge.ui.cli.configured import Settings, first_of, found_file, places_of, refuse_a_pipe
from bridge.ui.cli.starting import refuse_if_incomplete

if TYPE_CHECKING:
    from bridge.observe.logs import Level

DONE, FAILED, UNUSABLE = 0, 1, 2
"""Exit codes: done; it did not work; usage or configuration must change first."""

R = TypeVar("R")


def code_of(problem: ConfigError) -> int:
    """The exit code: FAILED for a file that merely cannot be read just now, which nobody has to change. A locked
    keyring is UNUSABLE, because somebody must unlock it first; `run` waits for that."""
    is_systems = may_pass(problem.__cause__) or (problem.may_pass and not problem.is_locked)
    return FAILED if is_systems else UNUSABLE


config_option = click.option(
    "--config", "-c", type=click.Path(path_type=Path, readable=False), metavar="FILE", help="The YAML file."
)
log_level_option = click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    metavar="LEVEL",
    help="debug, info, warning or error; takes precedence over the configuration file.",
)


def passing_settings(group: Callable[..., Any]) -> Callable[..., Any]:
    """Give a group --config and --log-level, which hold for its commands as those before its own name do."""

    @config_option
    @log_level_option
    @click.pass_context
    @functools.wraps(group)
    def wrapped(ctx: click.Context, /, **options: Any) -> Any:
        ctx.obj = {**(ctx.obj or {}), **{name: value for name, value in options.items() if value is not None}}
        return group()

    return wrapped


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
        from bridge.host.paths import from_root
        from bridge.observe import logs

        forbid_dumps()
        raise_descriptor_limit()  # for every command: `check` says what `run` will have
        before = ctx.obj or {}
        named = config or before.get("config")
        settings = Settings(named and from_root(named), log_level or before.get("log_level"))
        logs.configure(settings.log_level or "warning")
        found = found_file(settings.config)
        speaking.speak(_language(found))
        if found is not None:
            refuse_a_pipe(found)
        taken_environment.take(named_variables(found) if found else ())
        refuse_if_incomplete()
        return command(settings, **options)

    return wrapped


def as_service(command: Callable[..., Any]) -> Callable[..., Any]:
    """For a command that asks a bridge: about the service of the machine root asks it as the service's own user."""

    @functools.wraps(command)
    def wrapped(settings: Settings, **options: Any) -> Any:
        from bridge.host.callers import own_user_id
        from bridge.host.service_user import become_service_user

        caller, found = own_user_id(), first_of(places_of(settings.config))
        if found is not None and become_service_user(found):
            settings = dataclasses.replace(settings, caller=caller)
        return command(settings, **options)

    return wrapped


def why_not_written(settings: Settings, problem: OSError) -> Said:
    """Why the file that a command was told to write is not there. An administrator may write anywhere, and would not
    understand that permission is denied."""
    if settings.caller and isinstance(problem, PermissionError):
        import tempfile  # not at the start of each command

        return said(
            "the service's user, as whom this command acts, may not write there: name a new file in {directory}",
            directory=tempfile.gettempdir(),
        )
    return system_reason(problem)


def speak_before_parsing(arguments: Sequence[str]) -> None:
    """For what click says of the arguments, and for --help: by the configuration that they seem to name."""
    named = os.environ.get("MAIL_BRIDGE_CONFIG")
    for before, argument in itertools.pairwise(["", *arguments]):
        if before in {"-c", "--config"}:
            named = argument
        elif argument.startswith("--config="):
            named = argument.removeprefix("--config=")
    speaking.speak(_language(found_file(Path(named) if named else None)))


def _language(file: Path | None) -> i18n.Language:
    return i18n.choose(configured_language(file) if file is not None else "auto", system_language())


def async_command(command: Callable[..., Coroutine[Any, Any, int]]) -> Callable[..., int]:
    """A command that is a coroutine: it is run in a loop of its own."""

    @functools.wraps(command)
    def wrapped(*arguments: Any, **options: Any) -> int:
        return in_loop(command(*arguments, **options))

    return wrapped


def in_loop(main: Coroutine[Any, Any, R]) -> R:
    """Run a command's coroutine. Raises: what it raises; BridgeError if the system gives no loop."""
    from bridge.host.signals import run_until_interrupted

    with contextlib.closing(main), asyncio.Runner(loop_factory=_loop) as runner:
        return run_until_interrupted(runner, main)


def _loop() -> asyncio.AbstractEventLoop:
    try:
        return new_event_loop()
    except OSError as problem:
        raise BridgeError(too_little(problem)) from problem


async def read_line() -> str:
    """A line of standard input; empty at its end. Raises: NoThread.

    In a daemon thread: one of the loop's own would hold the process after Ctrl-C until somebody presses Enter.
    """
    return await Threads("standard input", at_once=1).run(sys.stdin.readline)


def drop_output() -> None:
    """Standard output takes nothing more; Python must not try again at the exit to write what is left in its buffer."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
