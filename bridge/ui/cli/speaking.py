"""The command line in the person's language: the help of our commands, and click's own words.

click takes its words from gettext's default domain, and that one's language from the environment: so `speak()` names
our catalogue there. The help of our commands is English where it stands, and translated when it is shown;
scripts/translate.py finds it by walking through the commands.
"""

from __future__ import annotations

import copy
import gettext
import inspect
from collections.abc import Iterable, Iterator
from typing import Any, Final

import click

from bridge.host.language import have_gettext_speak
from bridge.ui import i18n
from bridge.ui.i18n import Language, say

CLICK: Final = (
    "Aborted!",
    "Choose from:\n\t{choices}",
    "Commands",
    "Error: {message}",
    "Invalid value for {param_hint}: {message}",
    "Invalid value: {message}",
    "Missing argument",
    "Missing command.",
    "Missing option",
    "Missing parameter",
    "No such command {name!r}.",
    "No such option {name!r}.",
    "Option {name!r} does not take a value.",
    "Options",
    "Positional arguments",
    "Show this message and exit.",
    "Try '{command} {option}' for help.",
    "Usage:",
    "directory",
    "file",
    "path",
    "{name} {filename!r} does not exist.",
    "{name} {filename!r} is a directory.",
    "{name} {filename!r} is a file.",
    "{name} {filename!r} is not readable.",
    "{name} {filename!r} is not writable.",
    "{value!r} is not a valid {number_type}.",
    "{value} is not in the range {range}.",
)
"""What our commands can make click say."""

CLICK_NUMBERS: Final = (
    ("Did you mean {possibility}?", "(Did you mean one of: {possibilities}?)"),
    ("Got unexpected extra argument ({args})", "Got unexpected extra arguments ({args})"),
    ("Option {name!r} requires an argument.", "Option {name!r} requires {nargs} arguments."),
    ("{value!r} is not {choice}.", "{value!r} is not one of {choices}."),
)
"""The same with a number in it: singular and plural."""


def speak(language: Language) -> None:
    """From now on, in this context; and click, in this whole process."""
    i18n.speak(language)
    have_gettext_speak(language)
    gettext.bindtextdomain(i18n.DOMAIN, str(i18n.LOCALE))
    gettext.textdomain(i18n.DOMAIN)


_UNBROKEN: Final = "\u2011"
"""A hyphen at which no line is broken."""


class _Formatter(click.HelpFormatter):
    """Headings with the colon of the language; `mail-bridge` stays whole at the end of a line, to be copied."""

    def write(self, string: str) -> None:
        super().write(string.replace(_UNBROKEN, "-"))

    def write_text(self, text: str) -> None:
        super().write_text(text.replace("-", _UNBROKEN))

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        super().write_dl([(name, text.replace("-", _UNBROKEN)) for name, text in rows], col_max, col_spacing)

    def write_heading(self, heading: str) -> None:
        self.write(f"{'':>{self.current_indent}}{heading}{say(': ').rstrip(' ')}\n")


class _Context(click.Context):
    formatter_class = _Formatter


class Command(click.Command):
    """A command that speaks the language of the moment."""

    context_class = _Context

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Its options and arguments, their help translated."""
        return [_spoken(parameter) for parameter in super().get_params(ctx)]

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """What stands behind `Usage: mail-bridge …`."""
        return [say(piece) for piece in super().collect_usage_pieces(ctx)]

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The whole of --help."""
        told = copy.copy(self)
        told.help = "\n\n".join(map(say, paragraphs(self.help)))
        told.epilog = "\n\n".join(map(say, paragraphs(self.epilog)))
        super(Command, told).format_help(ctx, formatter)

    def get_short_help_str(self, limit: int = 45) -> str:
        """One line, for the list of the group above."""
        line = " ".join(paragraphs(self.short_help))
        return say(line)


class Group(Command, click.Group):
    """A command with commands of its own."""

    command_class = Command


def paragraphs(text: str | None) -> list[str]:
    """Each on one line: how the source breaks its lines does not matter."""
    return [" ".join(part.split()) for part in inspect.cleandoc(text or "").split("\n\n") if part.strip()]


def sentences(command: click.Command) -> Iterator[str]:
    """Everything that people can read of this command and those below it, for scripts/translate.py."""
    for text in (command.help, command.epilog):
        yield from paragraphs(text)
    if command.short_help:
        yield " ".join(paragraphs(command.short_help))
    context = click.Context(command)
    yield from command.collect_usage_pieces(context)
    for parameter in command.params:
        yield from (text for text in (getattr(parameter, "help", None), _metavar(parameter)) if text)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            if below is not None:
                yield from sentences(below)


def _spoken(parameter: click.Parameter) -> click.Parameter:
    told: Any = copy.copy(parameter)
    if isinstance(told, click.Option) and told.help:
        told.help = say(told.help)
    if metavar := _metavar(parameter):
        told.metavar = say(metavar)
    return told  # type: ignore[no-any-return]  # a copy is of the same type


def _metavar(parameter: click.Parameter) -> str:
    """What stands for the value: always an argument's name, an option's where it names one."""
    if isinstance(parameter, click.Argument):
        return parameter.metavar or str(parameter.name).upper()
    return parameter.metavar or ""
