"""Turns the answers into the text of config.yaml, with comments in the language of this context."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from bridge.advice.said import Said
from bridge.config.console import USUAL_CONSOLE, console_url
from bridge.config.importers.yaml_text import Reference, Value, comment, entry, scalar
from bridge.config.load import LoadedConfig, parse_config
from bridge.errors import ConfigError
from bridge.model import Protocol
from bridge.ui.i18n import say
from bridge.ui.setup.answers import AccountAnswer, Answers, Choice, ProviderAnswer, SecretNeed

_PLACE = re.compile(r"config\.yaml:[0-9]+:[0-9]+(?:: providers\.trial(?:\.([a-z0-9_]+)[a-z0-9_.[\]]*)?)?")

PORTS: Final = {Protocol.IMAP: 1143, Protocol.POP3: 1110, Protocol.SMTP: 1587}
"""Where mail programs connect by default, as config.schema has it."""


def document(answers: Answers) -> str:
    """The file's text. It can be loaded if every answer is valid and what its references name is in place."""
    return "\n".join(_lines(answers)) + "\n"


def at_console(sentence: str, port: int | None) -> str:
    """A sentence that names the console, where that is at another port than the default."""
    return sentence if port is None else sentence.replace(console_url(USUAL_CONSOLE), console_url(port))


def section_problem(choice: Choice, settings: Mapping[str, Value], directory: Path) -> str:
    """What is wrong with a provider's settings together, and with the files that they name; empty if nothing is."""
    for key, sentence in section_problems(choice, settings, directory):
        return f"{key}: {sentence}" if key else sentence
    return ""


def section_problems(choice: Choice, settings: Mapping[str, Value], directory: Path) -> list[tuple[str, str]]:
    """All problems, each with its key; the key is empty for a problem of no single setting.

    Found by loading the settings with an account and, where one is required, with a made-up secret.
    """
    secret = {"client_secret": "any"} if choice.secret is SecretNeed.ALWAYS else {}
    trial = ProviderAnswer(choice, {**settings, **secret})
    answers = Answers({"trial": trial}, (AccountAnswer("someone@example.com", "trial"),))
    try:
        parse_config(document(answers), directory=directory, environ={})
    except ConfigError as error:
        return [_placed(sentence) for sentence in error.sentences]
    return []


def trial(text: str, references: Iterable[str], directory: Path) -> LoadedConfig:
    """The file as `run` would read it, although what these references name does not exist yet. Raises: ConfigError,
    such as for too many accounts."""
    for reference in references:
        text = text.replace(reference, "${TRIAL}")
    return parse_config(text, directory=directory, environ={"TRIAL": "any"}, read_keyring=lambda name: "any")


def _placed(problem: Said) -> tuple[str, str]:
    parts = dict(problem.arguments)
    place, sentence = _PLACE.fullmatch(str(parts.get("where", ""))), parts.get("sentence")
    if place is None or not isinstance(sentence, Said):  # of the file as a whole
        return "", problem.told(say)
    return place[1] or "", sentence.told(say)


def _lines(answers: Answers) -> Iterator[str]:
    yield from comment(
        [
            say("Made by `mail-bridge init`. config.example.yaml shows all settings and explains each."),
            say("After a change, run `mail-bridge check`. A running bridge reloads the file by itself."),
        ]
    )
    yield ""
    yield from comment([say("Who issues the tokens: the app that you have registered, once for everybody.")])
    yield "providers:"
    for index, (name, provider) in enumerate(answers.providers.items()):
        yield from [""] * bool(index) + _provider(name, provider, answers.console_port)
    yield ""
    yield from _accounts(answers)
    yield ""
    yield from _doors(answers)
    if answers.key_file:
        yield ""
        yield from comment(
            [
                say(
                    "The operating system has no keyring to rely on here, so the key of the stored sign-ins is in "
                    "this file. Keep it as safe as a password; without it, everybody must sign in again."
                )
            ]
        )
        yield "store:"
        if answers.store_path:
            yield from entry("path", answers.store_path, 2)
        yield from entry("key_file", answers.key_file, 2)


def _doors(answers: Answers) -> Iterator[str]:
    ports = PORTS | dict(answers.ports)
    if ports == PORTS:
        yield from comment([say("Where mail programs connect. These are the defaults; remove the # to change one.")])
    else:
        yield from comment([say("Where mail programs connect.")])
    mark = "#" if ports == PORTS else ""
    yield f"{mark}listeners:"
    for protocol, port in ports.items():
        yield f"{mark}  {protocol.value}: localhost:{port}"
    if answers.console_port is not None:
        yield from entry("console", f"127.0.0.1:{answers.console_port}")


def _provider(name: str, provider: ProviderAnswer, console_port: int | None) -> list[str]:
    heading = at_console(_heading(provider.choice), console_port)
    lines = [f"  {scalar(name)}:", *comment([heading], 4)]
    for key, value in provider.settings.items():
        if key != "client_secret_expires":
            lines += entry(key, value, 4)
    if provider.secret_reference:
        lines += entry("client_secret", Reference(provider.secret_reference), 4)
    if ends := provider.settings.get("client_secret_expires"):
        warned = say(
            "The secret expires on this day; after that, nobody's mail works. mail-bridge warns 30 days ahead, and "
            "daily from 7 days ahead on."
        )
        lines += comment([warned], 4)
        lines += entry("client_secret_expires", ends, 4)
    return lines


def _heading(choice: Choice) -> str:
    if choice.is_unattended:
        return say("Nobody signs in: the local password is the only lock. Keep the secret, or the key file, safe.")
    if choice is Choice.MICROSOFT_DEVICE:
        return say("Each person signs in once, by typing a code into any browser.")
    return say("Each person signs in once, in the browser, which then returns to http://localhost:3017/.")


def _accounts(answers: Answers) -> Iterator[str]:
    yield from comment(
        [
            say("The mailboxes. The user name in the mail program picks the account."),
            say(
                "One entry covers everybody in a domain (`*@example.com`, in quotes); `sign_in_as` is for shared "
                "mailboxes."
            ),
        ]
    )
    yield "accounts:"
    for account in answers.accounts:
        yield f"  - address: {scalar(account.address)}"
        yield f"    provider: {scalar(account.provider)}"
        if account.sign_in_as:
            yield f"    sign_in_as: {scalar(account.sign_in_as)}"
