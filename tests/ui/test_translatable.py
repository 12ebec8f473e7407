"""Every sentence for people is marked, so that it is in the catalogues of translations.

The types ensure most of that: what the loader, the stores and the checks say must be a `Said`, not a plain `str`. These
tests cover the rest.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from babel.messages.pofile import read_po

import bridge
from bridge.ui.cli import speaking
from bridge.ui.cli.main import COMMANDS, main
from bridge.ui.i18n import translation

ROOT = Path(bridge.__file__).parent
SENTENCE = re.compile(r"[A-Za-z]{2,}[,:;]? [A-Za-z]{2,}")
"""Two words in a row are a sentence: not an option, a command or a piece of layout."""
MARKS = {"say", "say_number", "said"}
SHOWN = {
    "echo", "UsageError", "confirm", "prompt", "ask", "is_yes", "refuse",
    "AlreadyConfigured", "BadValue", "CannotStart", "ConfigError", "KeyringMissing", "LimitReached", "LoginRefused",
    "PortInUse", "StoreCorrupt", "StoreFileUnusable", "StoreUnavailable", "Unresolved", "report", "_stop", "_problem",
    "Problem", "NotCarried", "Remark", "comment",
}  # fmt: skip
"""Functions and classes whose arguments people read."""
WORDLESS = {"code", "script", "style"}
"""Elements whose text people type, or only a browser reads."""


def called(node: ast.Call) -> str:
    match node.func:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""


def unmarked(node: ast.AST) -> Iterator[ast.Constant]:
    """The sentences in this expression that no mark encloses."""
    if isinstance(node, ast.Call) and called(node) in MARKS:
        return
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and SENTENCE.search(node.value):
        yield node
    for child in ast.iter_child_nodes(node):
        yield from unmarked(child)


def bare(source: str) -> list[str]:
    """Sentences for people in this Python source that are not marked for translation."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call) and called(node) in SHOWN]
    arguments = [argument for call in calls for argument in (*call.args, *(word.value for word in call.keywords))]
    return [f"{node.lineno}: {node.value!r}" for argument in arguments for node in unmarked(argument)]


def bare_in_template(source: str) -> list[str]:
    """The same for a template: the text between its tags, and in the attributes that are read aloud or shown."""
    source = re.sub(r"\{%-?\s*trans\b.*?\bendtrans\s*-?%\}", "", source, flags=re.DOTALL)
    source = re.sub(r"\{#.*?#\}|\{%.*?%\}|\{\{.*?\}\}", "", source, flags=re.DOTALL)
    read = re.findall(r"""(?:alt|aria-label|placeholder|title)="([^"]*)\"""", source)
    for name in WORDLESS:
        source = re.sub(rf"<{name}\b.*?</{name}>", "", source, flags=re.DOTALL)
    texts = re.sub(r"<[^>]*>", "\n", source).splitlines()
    return [text.strip() for text in (*texts, *read) if re.search(r"[A-Za-z]{3,}", text.replace("mail-bridge", ""))]


FOR_THE_LOG = {"authenticator.py", "failed_logins.py"}
"""Modules that say why a login was refused: mail clients get the same ASCII line for any reason, and only the log has
the reason, in English."""
MODULES = [
    path
    for name in ("ui/cli", "ui/setup", "config", "config/importers", "stores", "accounts", "host")
    for path in sorted((ROOT / name).glob("*.py"))
    if path.name not in FOR_THE_LOG
]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_what_is_shown_to_people_is_marked(path: Path) -> None:
    assert bare(path.read_text("utf-8")) == []


@pytest.mark.parametrize("path", sorted((ROOT / "ui" / "web" / "templates").glob("*.html")), ids=lambda path: path.name)
def test_no_template_has_a_word_of_its_own(path: Path) -> None:
    assert bare_in_template(path.read_text("utf-8")) == []


def test_a_sentence_without_its_mark_is_found() -> None:
    assert bare('click.echo("It is done.")') == ["1: 'It is done.'"]
    assert bare('raise StoreCorrupt(f"the record {name} is damaged")') != []
    assert bare('click.echo(say("It is done.") + f"mail-bridge {more}")') == []
    assert bare_in_template("<p>{{ name }}</p><p>Open it</p>") == ["Open it"]
    assert bare_in_template('<p title="Open it">{% trans %}Open it{% endtrans %}</p>') == ["Open it"]


@pytest.mark.parametrize("path", sorted((ROOT / "config").glob("*.py")), ids=lambda path: path.name)
def test_a_wrong_value_is_a_bad_value(path: Path) -> None:
    """A validator's plain ValueError would be shown only as `this value cannot be used here`."""
    raised = [
        node.exc
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)
    ]
    assert "ValueError" not in {called(call) for call in raised}


def test_said_is_given_its_sentence_and_no_variable() -> None:
    """scripts/translate.py finds only literals."""
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and called(node) == "said" and isinstance(node.func, ast.Name):
                assert isinstance(node.args[0], ast.Constant), f"{path.name}:{node.lineno}"


def marked(path: Path) -> Iterator[str]:
    """Every literal that this module passes to a mark, in f-strings and conditional expressions too."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in MARKS:
            for argument in node.args:
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    yield argument.value


def test_each_marked_sentence_is_in_the_catalogue() -> None:
    """scripts/translate.py finds only literals, and none inside f-strings."""
    with (ROOT / "ui" / "locale" / "mail-bridge.pot").open("rb") as stream:
        known = {text for message in read_po(stream) for text in texts(message.id)}
    assert {text for path in ROOT.rglob("*.py") for text in marked(path)} - known == set()


def texts(value: str | tuple[str, ...] | list[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def commands(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    yield name, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for below in command.list_commands(context):
            found = command.get_command(context, below)
            assert found is not None
            yield from commands(found, f"{name} {below}")


@pytest.mark.parametrize(("name", "command"), list(commands(main, "mail-bridge")), ids=lambda value: str(value))
def test_every_command_and_every_option_has_help_in_french(name: str, command: click.Command) -> None:
    assert isinstance(command, speaking.Command), name
    french = translation("fr")
    same = {text for text in speaking.sentences(command) if french(text) == text}
    assert same <= {"[OPTIONS]"}, name
    assert all(option.help for option in command.params if isinstance(option, click.Option)), name


def test_the_list_of_commands_is_in_french() -> None:
    french = translation("fr")
    assert all(french(text) != text for _, _, text in COMMANDS.values())
