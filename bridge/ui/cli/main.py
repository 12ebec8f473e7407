"""Arguments and exit codes (0 done, 1 failed, 2 usage or configuration); __main__.py calls it.

Each command lives in its own file and is imported when it is called: `mail-bridge --help` needs none of them.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import importlib
import io
import os
import sys
import traceback
from pathlib import Path
from typing import Any

import click

from bridge import __version__
from bridge.advice.said import said
from bridge.advice.system import system_reason, too_little
from bridge.errors import BridgeError, ConfigError
from bridge.host.console_window import encoding_of_pipe
from bridge.shortage import is_short
from bridge.threads import NoThread
from bridge.ui.cli.session import FAILED, UNUSABLE, code_of, drop_output, log_level_option, speak_before_parsing
from bridge.ui.cli.speaking import Group
from bridge.ui.cli.starting import CannotStart, CannotStartNow, NoIconAlone
from bridge.ui.i18n import say, tell_problem

COMMANDS: dict[str, tuple[str, str, str]] = {
    "init": ("bridge.ui.cli.init", "init", "Ask a few questions and write the first configuration."),
    "run": ("bridge.ui.cli.run", "run", "Start the bridge and serve mail programs until Ctrl-C."),
    "tray": ("bridge.ui.cli.tray", "tray", "Show an icon beside the clock for a running bridge."),
    "check": (
        "bridge.ui.cli.check",
        "check",
        "Check the configuration, the store and the ports; with --online, everything that mail passes through.",
    ),
    "authorize": ("bridge.ui.cli.authorize", "authorize", "Sign in for one account in the browser."),
    "accounts": (
        "bridge.ui.cli.accounts",
        "accounts",
        "List accounts; show passwords; try mail servers; forget or adopt a sign-in.",
    ),
    "status": ("bridge.ui.cli.status", "status", "Show the state of the running bridge."),
    "console": ("bridge.ui.cli.console", "console", "Open the console, with all accounts, in the browser."),
    "certificate": (
        "bridge.ui.cli.certificate",
        "certificate",
        "Show the certificate that mail-bridge makes for ports with TLS.",
    ),
    "service": ("bridge.ui.cli.service", "service", "Have the system start the bridge for all users of this machine."),
    "import": ("bridge.ui.cli.import_config", "import_config", "Convert a configuration of email-oauth2-proxy."),
    "schema": ("bridge.ui.cli.check", "schema", "Print the JSON Schema of the configuration file."),
}
"""Name: module, object, one line of help."""

PLAIN = {"●": "*", "◐": "~", "○": "o", "▲": "!", "→": "->", "…": "...", "’": "'", "œ": "oe", "Œ": "OE", "\u00a0": " "}
"""Replacements for characters in our own sentences and marks. Any other comes as \\u0141."""


class _Commands(Group):
    """Lists all commands, imports one."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings, commands={name: click.Command(name) for name in COMMANDS})  # for "Did you mean"

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order in which a newcomer meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Import the command that was asked for."""
        if name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[name]
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """From the table above, so that --help stays quick."""
        with formatter.section(say("Commands")):
            formatter.write_dl([(name, say(text)) for name, (_, _, text) in COMMANDS.items()])


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="First look, without any account: mail-bridge run --demo. First set-up: mail-bridge init",
)
@click.option(
    "--config",
    "-c",
    type=click.Path(path_type=Path, readable=False),
    metavar="FILE",
    envvar="MAIL_BRIDGE_CONFIG",
    help="The YAML file. Default: $MAIL_BRIDGE_CONFIG, then the user's, the machine's, ./config.yaml.",
)
@log_level_option
@click.version_option(__version__, prog_name="mail-bridge", help="Show the version and exit.")
@click.pass_context
def main(ctx: click.Context, /, **options: Any) -> None:
    """Plain IMAP, POP3 and SMTP logins on localhost; OAuth 2.0 to Gmail and Office 365.

    The mail program logs in here with a user name and a local password. The bridge logs in to the mail server with a
    token and passes everything on. Each person signs in once, in the browser.

    Exit codes: 0 done, 1 failed, 2 usage or configuration.
    """
    ctx.obj = options


def _have_standard_streams() -> None:
    """Make sure of all standard streams: their descriptors are taken, a closed standard input is empty, and a file
    takes the log and the last words where there is no standard error, as in a Windows program without a window."""
    if None in (sys.stdin, sys.stdout, sys.stderr):
        from bridge.host.descriptors import fill_standard_descriptors

        fill_standard_descriptors()
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115  for as long as we live
    if sys.stderr is None:
        from bridge.host.paths import log_dir
        from bridge.observe.log_file import log_file

        with contextlib.suppress(OSError, BridgeError):
            sys.stderr = log_file(log_dir() / "mail-bridge.log")


def _speak_as_the_console() -> None:
    """In a pipe: `mail-bridge check | more`, and in a PowerShell `mail-bridge check > report.txt`."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, LookupError):  # it is closed, or Python does not know the letters
            if isinstance(stream, io.TextIOWrapper) and (encoding := encoding_of_pipe(stream.fileno())):
                stream.reconfigure(encoding=encoding, errors=stream.errors)


def _read_anything() -> None:
    """Keep undecodable bytes of standard input as Python does in the locale C; only a path may contain them. Otherwise
    they would end the command, or silently the thread that waits for a line."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")


def _print_anything() -> None:
    """Replace characters that the standard streams cannot encode. On Windows a file or a pipe can encode some 250, and
    any other, such as the mark before an account, would end the command. UTF-8 cannot encode a file name in Latin-1,
    and in most locales Python is strict about that."""
    codecs.register_error("plain", _in_plain_letters)
    for stream in (sys.stdout, sys.stderr):
        if not isinstance(stream, io.TextIOWrapper):
            continue
        if stream.errors == "strict" or codecs.lookup(stream.encoding).name != "utf-8":
            stream.reconfigure(errors="plain")


def _in_plain_letters(problem: UnicodeError) -> tuple[str, int]:
    """See codecs.register_error()."""
    if not isinstance(problem, UnicodeEncodeError):
        raise problem
    lacking = problem.object[problem.start : problem.end]
    escaped = (PLAIN.get(letter) or letter.encode("ascii", "backslashreplace").decode() for letter in lacking)
    return "".join(escaped), problem.end


def _wants_no_more(problem: OSError) -> bool:
    """True for a closed pipe, as in `mail-bridge … | head`. Windows reports that as an invalid argument, like other
    errors."""
    return isinstance(problem, BrokenPipeError) or (problem.errno == errno.EINVAL and _is_of_output(problem))


def _is_of_output(problem: OSError) -> bool:
    """Raised where click writes what a command has to say."""
    *_, innermost = traceback.extract_tb(problem.__traceback__)
    return Path(innermost.filename).parent.name == "click"


def _is_of_nowhere(problem: OSError) -> bool:
    """Raised where a name is to begin with that of the current directory, which has been removed."""
    if not isinstance(problem, FileNotFoundError) or problem.filename is not None:
        return False
    try:
        os.getcwd()
    except FileNotFoundError:
        return True
    return False


def _tell_of_system(problem: OSError) -> int:
    """Tell of a system error in writing output, in loading a module late, or in resolving a path. Returns: the exit
    code.
    Raises: the error, if it is none of these."""
    if _wants_no_more(problem):
        drop_output()
    elif _is_of_output(problem):
        sentence = said("standard output cannot be written: {reason}", reason=system_reason(problem))
        _tell(f"mail-bridge: {sentence.told(say)}")
        drop_output()
    elif is_short(problem):
        _tell(f"mail-bridge: {too_little(problem).told(say)}")
    elif _is_of_nowhere(problem):
        sentence = said("the current directory no longer exists: change to another one, and run this command again")
        _tell(f"mail-bridge: {sentence.told(say)}")
        return UNUSABLE
    else:
        raise problem
    return FAILED


def _tell_of_name(problem: UnicodeEncodeError) -> int:
    """Tell that a file's name cannot be encoded for the system, in a locale with an older encoding. Returns: the exit
    code. Raises: the error, if it is anything else."""
    of_names, found = codecs.lookup(sys.getfilesystemencoding()).name, codecs.lookup(problem.encoding).name
    if of_names == "utf-8" or found != of_names:
        raise problem
    sentence = said(
        "the language that is set for this command (LANG) has only the characters of {encoding}, but the name of a "
        "file has others ({letters}): set one with UTF-8, such as C.UTF-8",
        encoding=sys.getfilesystemencoding(),
        letters=ascii(problem.object[problem.start : problem.end]),
    )
    _tell(f"mail-bridge: {sentence.told(say)}")
    return UNUSABLE


def _tell(sentence: str) -> None:
    """Say a last sentence. A full disk may swallow it, but a service manager goes by the exit code, which says as
    much."""
    with contextlib.suppress(OSError):
        click.echo(sentence, err=True)


def _drop_errors() -> None:
    """Drop output that a full disk has not taken: Python would try again at the exit, and end with code 120."""
    try:
        if sys.stderr is not None:
            sys.stderr.flush()
    except OSError:
        with contextlib.suppress(OSError):  # a stream without a descriptor
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    except ValueError:  # closed
        pass


def run_command_line(arguments: list[str]) -> int:
    """Run one command and return its exit code; people get sentences, never a traceback."""
    try:
        return _code_of(arguments)
    finally:
        _drop_errors()


def _code_of(arguments: list[str]) -> int:
    _have_standard_streams()
    _speak_as_the_console()
    _read_anything()
    _print_anything()
    speak_before_parsing(arguments)
    try:
        result = main.main(args=arguments, prog_name="mail-bridge", standalone_mode=False)
        return int(result or 0)
    except click.ClickException as problem:
        with contextlib.suppress(OSError):  # as _tell()
            problem.show()
        return UNUSABLE
    except click.exceptions.Exit as done:
        return done.exit_code
    except (click.Abort, KeyboardInterrupt):
        return FAILED
    except ConfigError as problem:
        _tell(tell_problem(problem))
        return code_of(problem)
    except NoIconAlone as problem:
        _tell(f"mail-bridge: {tell_problem(problem)}")
        return UNUSABLE
    except CannotStart as problem:
        _tell(say("mail-bridge cannot start: {reason}").format(reason=tell_problem(problem)))
        return FAILED if isinstance(problem, CannotStartNow) else UNUSABLE
    except BridgeError as problem:
        _tell(f"mail-bridge: {tell_problem(problem)}")
        return FAILED
    except NoThread as problem:
        _tell(f"mail-bridge: {problem.said.told(say)}")
        return FAILED
    except OSError as problem:
        return _tell_of_system(problem)
    except UnicodeEncodeError as problem:
        return _tell_of_name(problem)
