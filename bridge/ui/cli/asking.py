"""Questions at a terminal, or to whatever writes into standard input: a text, a secret, one of several, yes or no.

End of input and Ctrl-C raise click.Abort.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import click

from bridge.secret import Secret
from bridge.ui.i18n import say

Problem = Callable[[str], str]
"""What is wrong with an answer; empty if nothing is."""


def _none(_: str) -> str:
    return ""


def ask(question: str, problem: Problem = _none, *, optional: bool = False) -> str:
    """One line, without spaces around it; asked again, with the reason, until it is good."""
    while True:
        answer: str = click.prompt(question, default="", show_default=False, prompt_suffix=say(": ")).strip()
        if not answer and optional:
            return ""
        reason = problem(answer) if answer else say("an answer is needed")
        if not reason:
            return answer
        refuse(reason)


def ask_secret(question: str, problem: Problem, *, optional: bool = False) -> Secret[str] | None:
    """A secret: not shown while it is typed. None for an empty line, where that is allowed."""
    while True:
        answer = Secret(_hidden(question).strip())
        if not answer.reveal() and optional:
            return None
        reason = problem(answer.reveal()) if answer.reveal() else say("an answer is needed")
        if not reason:
            return answer
        refuse(reason)


def _hidden(question: str) -> str:
    """Uses getpass at a terminal; piped input is not echoed anyway, and getpass would look for a terminal."""
    if sys.stdin is not None and sys.stdin.isatty():
        hidden = say("{question} (not shown)").format(question=question)
        return str(click.prompt(hidden, default="", show_default=False, hide_input=True, prompt_suffix=say(": ")))
    click.echo(question + say(": "), nl=False)
    line = sys.stdin.readline() if sys.stdin is not None else ""
    click.echo()
    if not line:
        raise click.Abort
    return line


def choose(question: str, choices: Sequence[str]) -> int:
    """The index of one of several, which are shown with numbers from 1."""
    for number, text in enumerate(choices, start=1):
        click.echo(f"  {number}  {text}")
    numbers = {str(number): number - 1 for number in range(1, len(choices) + 1)}

    def problem(answer: str) -> str:
        return "" if answer in numbers else say("enter a number from 1 to {last}").format(last=len(choices))

    return numbers[ask(question, problem)]


def is_yes(question: str, *, default: bool) -> bool:
    """Yes or no, in English and in French, whatever language is spoken."""
    known = {"y": True, "yes": True, "o": True, "oui": True, "n": False, "no": False, "non": False, "": default}
    shown = say("[Y/n]") if default else say("[y/N]")

    def problem(answer: str) -> str:
        return "" if answer.lower() in known else say("answer yes or no")

    return known[ask(f"{question} {shown}", problem, optional=True).lower()]


def refuse(reason: str) -> None:
    """Say why an answer cannot be used."""
    click.echo("  " + say("This cannot be used: {reason}").format(reason=reason))
