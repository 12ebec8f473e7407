"""`mail-bridge init`: a few questions, then a configuration that works, and what to do next."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

import click

from bridge.advice.said import said
from bridge.config.console import USUAL_CONSOLE
from bridge.config.load import LoadedConfig, load_config
from bridge.errors import BridgeError, ConfigError, StoreUnavailable
from bridge.host.paths import config_candidates, config_file, from_root, is_for_service
from bridge.model import Protocol
from bridge.stores.named_secrets import check_named_secrets, read_named_secret, write_named_secret
from bridge.ui.cli.asking import is_yes
from bridge.ui.cli.calling import administrators_program, own_program, with_config
from bridge.ui.cli.configured import Settings
from bridge.ui.cli.questions import Interview
from bridge.ui.cli.session import DONE, FAILED, code_of, in_loop, with_settings
from bridge.ui.cli.speaking import Command
from bridge.ui.i18n import say, tell_problem
from bridge.ui.setup.draft import Draft
from bridge.ui.setup.installer import secret_text
from bridge.ui.setup.writing import check_writable, is_taken, write_configuration


@click.command(cls=Command)
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write here. [default: where `run` looks first]",
)
@click.option("--browser", is_flag=True, help="Ask on a page in the browser, then go on as the bridge.")
@click.option("--no-open", is_flag=True, help="With --browser: only print the link of that page.")
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    metavar="NUMBER",
    help="With --browser: the port of the console. [default: 3017]",
)
@with_settings
def init(settings: Settings, output: Path | None, browser: bool, no_open: bool, port: int | None) -> int:
    """Ask for the provider, the IDs, the secret and the mailboxes, and write config.yaml with comments.

    Every answer is checked at once. Nothing is written before the last question is answered, and nothing that exists
    is overwritten without asking. The secret is not shown, and goes into the keyring or a file of its own. With
    --browser, the questions are on a page that only its link opens, and the bridge starts once they are answered.
    """
    output = from_root(output or settings.config or config_file()).absolute()
    if browser:
        return _init_in_browser(settings, output, port, opens=not no_open)
    if no_open or port is not None:
        raise click.UsageError(say("--port and --no-open need --browser"))
    check_writable(output)
    replaceable = Replaceable()
    try:
        draft = _ask(output, replaceable)
        if draft is None or not _carry_out(output, draft, replaceable):
            click.echo(say("Nothing was written."), err=True)
            return FAILED
    except (click.Abort, KeyboardInterrupt):
        if not replaceable.has_written:
            click.echo("\n" + say("Nothing was written."), err=True)
        return FAILED
    return _finish(output)


def _init_in_browser(settings: Settings, output: Path, port: int | None, *, opens: bool) -> int:
    from bridge.ui.cli.first_run import serve_first_run
    from bridge.ui.cli.local_installer import FirstRunOptions
    from bridge.ui.cli.run import Terminal

    if is_taken(output):
        click.echo(say("{file} already exists, and is left as it is.").format(file=output), err=True)
        return FAILED
    options = FirstRunOptions(output, USUAL_CONSOLE if port is None else port, opens)
    return in_loop(serve_first_run(settings, Terminal(), options))


@dataclass(slots=True)
class Replaceable:
    """What exists, and may be replaced."""

    places: set[Path] = field(default_factory=set)
    entries: set[str] = field(default_factory=set)
    """Entries of the keyring."""
    has_written: bool = False
    """True once some of them may have been written by us."""


def _ask(output: Path, replaceable: Replaceable) -> Draft | None:
    """All questions. Returns: the answers; None if somebody would rather not."""
    click.echo(
        say(
            "The configuration will be in {file}. Nothing is written before the end; Ctrl-C stops the questions."
        ).format(file=output)
    )
    draft = Draft(output.parent, _has_keyring(output), is_for_service(output))
    if is_taken(output):
        replaceable.places.add(output)
        if not is_yes(say("This file already exists. Replace it at the end?"), default=False):
            return None
    click.echo()
    Interview(draft).hold()
    draft.loaded()  # before anything is written
    click.echo()
    return draft


def _carry_out(output: Path, draft: Draft, replaceable: Replaceable) -> bool:
    """Write it, if that is wanted. A failure may be retried with the same answers, as often as the person likes:
    otherwise a full disk or a locked keyring would cost all answers. Returns: whether it was wanted.

    Raises: BridgeError; click.Abort.
    """
    is_wanted = False
    while True:
        try:
            is_wanted = is_wanted or _is_wanted(output, draft, replaceable)
            if is_wanted:
                _write(draft, output, replaceable)
        except BridgeError as problem:
            if not sys.stdin.isatty():
                raise
            click.echo(f"mail-bridge: {tell_problem(problem)}", err=True)
            if not is_yes(say("Try again, with the same answers?"), default=True):
                raise click.Abort from None
        else:
            return is_wanted


def _is_wanted(output: Path, draft: Draft, replaceable: Replaceable) -> bool:
    """Nothing that is there is replaced without a question. Raises: BridgeError."""
    for path in draft.files:
        if path not in replaceable.places and is_taken(path):
            if not is_yes(say("{file} already exists. Replace it?").format(file=path), default=False):
                return False
            replaceable.places.add(path)
    for name in draft.entries:
        question = say("The keyring already has an entry mail-bridge/{name}. Replace it?").format(name=name)
        if name not in replaceable.entries and read_named_secret(name) is not None:
            if not is_yes(question, default=False):
                return False
            replaceable.entries.add(name)
    return is_yes(say("Write {file}?").format(file=output), default=True)


def _has_keyring(output: Path) -> bool:
    if is_for_service(output):
        click.echo(
            say(
                "Secrets will be in files beside the configuration, because a service will read it, and a "
                "service has no keyring."
            )
        )
        return False
    try:
        check_named_secrets()
    except StoreUnavailable as problem:
        click.echo(
            say("Secrets will be in files that only you can read: {reason}").format(reason=tell_problem(problem))
        )
        return False
    return True


def _write(draft: Draft, output: Path, replaceable: Replaceable) -> None:
    """Raises: BridgeError, also for a file or entry that has appeared since the question, from another window or
    user."""
    secrets = {path: secret_text(secret) for path, secret in draft.files.items()}
    for path in (*secrets, output):
        if path not in replaceable.places and is_taken(path):
            raise BridgeError(said("{file} already exists, and is left as it is.", file=path))
    for name, secret in draft.entries.items():
        # The same value is ours: the first try's answer was lost, or came only when the keyring was unlocked.
        if name not in replaceable.entries and read_named_secret(name) not in {None, secret.reveal()}:
            raise BridgeError(
                said("the keyring already has an entry mail-bridge/{name}, which is left as it is", name=name)
            )
    for name, secret in draft.entries.items():
        replaceable.has_written = True  # before: it may be written although the answer is lost
        write_named_secret(name, secret)
        replaceable.entries.add(name)
    write_configuration({**secrets, output: draft.text}, replaceable.places)


def _finish(output: Path) -> int:
    """Read it as `run` will, and say what to do next."""
    try:
        loaded = load_config(output, read_keyring=read_named_secret)
    except ConfigError as problem:
        click.echo(say("{file} is written").format(file=output))
        click.echo(say("Before the bridge can start:"), err=True)
        for sentence in problem.sentences:
            click.echo(f"  {sentence.told(say)}", err=True)
        return code_of(problem)
    click.echo(say("{file} has been written, and can be loaded.").format(file=output))
    click.echo("\n" + say("Next:"))
    if is_for_service(output):
        program = administrators_program()
        steps = {f"{program} service install": say("starts it for all users, now and whenever the machine starts")}
    else:
        is_found = output == config_candidates()[0].absolute()
        program = with_config(own_program(), None if is_found else output)
        steps = {
            f"{program} check --online": say("tries everything that mail has to pass through"),
            f"{program} run": say("serves mail programs until Ctrl-C, and has the page on which people sign in"),
        }
    for command, purpose in steps.items():
        click.echo(f"  {command}\n      {purpose}")
    click.echo("\n" + say("In the mail program or CRM, the same for every mailbox:"))
    click.echo(crm_settings(loaded, program))
    return DONE


def crm_settings(loaded: LoadedConfig, program: str) -> str:
    """The table that somebody copies into the mail program, by the ports of the configuration. `program` is ours."""
    heads = (say("protocol"), say("server"), say("port"), say("encryption"))
    rows = [heads]
    for protocol in Protocol:
        for address in loaded.config.listeners.of(protocol):
            encryption = say("none") if address.tls is None else address.tls.value
            rows.append((protocol.value.upper(), "localhost", str(address.port), encryption))
    widths = [max(len(row[column]) for row in rows) for column in range(len(heads))]
    lines = [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    user = say("User name: the mailbox's address. Authentication: password, for SMTP too.")
    command = f"{program} accounts password " + say("ADDRESS")
    password = say("Password: the one that this command shows, not the mailbox's: {command}").format(command=command)
    return "\n".join([*lines, f"  {user}", f"  {password}"])
