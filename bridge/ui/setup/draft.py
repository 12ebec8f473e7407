"""The answers of a set-up as they stand: what was typed, what is wrong with it, and what comes of it.

In memory only, for one set-up. A secret is in it as Secret, and in no text that it gives out.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bridge.config.console import USUAL_CONSOLE
from bridge.config.importers.providers import SECRETS
from bridge.config.importers.yaml_text import Value
from bridge.config.load import LoadedConfig
from bridge.config.values import same_name
from bridge.host.paths import from_root
from bridge.model import Protocol
from bridge.secret import Secret
from bridge.ui.i18n import say
from bridge.ui.setup.answers import (
    AccountAnswer,
    Answers,
    Choice,
    ProviderAnswer,
    SecretNeed,
    file_problem,
    mail_server,
    secret_problem,
    setting_problem,
    store_places,
    unquoted,
)
from bridge.ui.setup.document import PORTS, document, section_problems, trial
from bridge.ui.setup.roster import read_roster

SECTIONS: Final = 8
"""Providers: more than anybody has, and a bound."""
TYPED: Final = 20_000
"""Characters of the list of mailboxes: its page stays small. A longer list comes as a file."""
LONGEST: Final = 2_000
"""Characters of any other answer: a URL, a secret."""

SERVERS: Final = tuple(protocol.value for protocol in Protocol)


def fields_of(choice: Choice) -> tuple[str, ...]:
    """What is asked for a provider, in this order, besides the secret."""
    if choice is Choice.GOOGLE_SERVICE:
        return ("service_account_file",)
    if choice.kind == "microsoft":
        dated = ("client_secret_expires",) if choice.secret is not SecretNeed.NONE else ()
        return ("client_id", "tenant", "authorization_url", "token_url", *dated)
    if choice is Choice.OTHER:
        return ("client_id", "authorization_url", "token_url", "scopes", *SERVERS, "ca_file")
    return ("client_id",)


_OPTIONAL: Final = frozenset({"tenant", "authorization_url", "token_url", "client_secret_expires", "ca_file", *SERVERS})


def is_optional(choice: Choice, name: str) -> bool:
    """True if the field may stay empty, by itself."""
    return name in _OPTIONAL and not (choice is Choice.OTHER and name.endswith("_url"))


@dataclass(slots=True)
class Section:
    """A provider as far as it was answered."""

    choice: Choice
    texts: dict[str, str] = field(default_factory=dict)
    """The answers as typed, valid or not, so that the page can show them again."""
    secret: Secret[str] | None = None
    reference: str = ""
    """Where the secret goes: `${keyring:…}` or `${file:…}`."""
    is_good: bool = False

    def mean(self, choice: str) -> None:
        """Take the choice whose form was sent. In another window, or with the browser's Back button, another choice of
        the same name may have been made since the form was shown; but this is the one that the sender has read."""
        found = Choice.__members__.get(choice)
        if found is None or found is self.choice or found.value[0] != self.choice.value[0]:
            return
        self.choice, self.is_good = found, False
        if found.secret is SecretNeed.NONE:
            self.secret, self.reference = None, ""

    def take(self, texts: Mapping[str, str], directory: Path) -> dict[str, str]:
        """Take the fields of the form. Returns: problems by field; under "" those of no single field."""
        self.texts = {name: texts.get(name, "").strip()[:LONGEST] for name in fields_of(self.choice)}
        if self.choice.kind == "microsoft" and "://" in self.texts["tenant"] and not self.texts["authorization_url"]:
            # One of the two URLs, whichever it is.
            self.texts["authorization_url"], self.texts["tenant"] = self.texts["tenant"], ""
        problems = self._problems(directory)
        if self.choice.secret is SecretNeed.ALWAYS and self.secret is None:
            problems.setdefault("client_secret", say("an answer is needed"))
        self.is_good = not problems
        return problems

    def offer_secret(self, text: str) -> str:
        """Take a secret that was typed, if nothing is wrong with it. Returns: what is wrong.

        The section counts as unanswered until take(), which is called once the secret has a place that the file can
        name.
        """
        if text and (problem := secret_problem(self.choice, text) or _too_long(text)):
            return problem
        if text:
            self.secret, self.reference, self.is_good = Secret(text), "", False
        return ""

    @property
    def settings(self) -> dict[str, Value]:
        """As they go into the file."""
        found = self.choice.settings
        for name, text in self.texts.items():
            if not text:
                continue
            if name == "scopes":
                found[name] = text.split()
            elif name in SERVERS:
                server = mail_server(text)
                found[name] = text if isinstance(server, str) else server
            elif name.endswith("_file"):
                path = Path(os.path.expanduser(unquoted(text)))  # Path.expanduser() raises where there is no such home
                found[name] = str(from_root(path).absolute())
            else:
                found[name] = text
        return found

    def _problems(self, directory: Path) -> dict[str, str]:
        problems = {
            name: say("an answer is needed")
            for name, text in self.texts.items()
            if not text and not is_optional(self.choice, name)
        }
        problems |= self._own_problems()
        if not problems:
            for key, sentence in section_problems(self.choice, self.settings, directory):
                problems.setdefault(key if key in self.texts else "", sentence)
        return problems

    def _own_problems(self) -> dict[str, str]:
        """Problems of each field that was filled in, by itself; and of fields of which at least one is needed."""
        problems: dict[str, str] = {}
        settings = self.settings
        for name in filter(self.texts.get, self.texts):
            found = ""
            if name.endswith("_file"):
                found = file_problem(self.texts[name])
            elif name in SERVERS:
                server = mail_server(self.texts[name])
                found = server if isinstance(server, str) else ""
            elif name != "scopes":
                found = setting_problem(settings, name)
            if found:
                problems[name] = found
        return problems | self._missing(problems)

    def _missing(self, problems: Mapping[str, str]) -> dict[str, str]:
        if self.choice is Choice.OTHER and not any(self.texts[name] for name in SERVERS):
            return {"imap": say("name at least one mail server")}
        if self.choice.kind != "microsoft":
            return {}
        tenant, *urls = (self.texts[name] for name in ("tenant", "authorization_url", "token_url"))
        if tenant and any(urls):
            return {"tenant": say("give either the tenant or the two URLs, not both")}
        if not tenant and not any(urls):
            return {"tenant": say("the tenant or both URLs are needed")}
        missing = [name for name in ("authorization_url", "token_url") if not tenant and not self.texts[name]]
        return {name: say("both URLs are needed") for name in missing if name not in problems}


def _too_long(text: str) -> str:
    return say("this is too long") if len(text) > LONGEST else ""


@dataclass(slots=True)
class Draft:
    """All answers so far."""

    directory: Path
    """The directory of the file to write."""
    has_keyring: bool
    is_for_service: bool = False
    console_port: int | None = None
    """Where it is not the default."""
    sections: dict[str, Section] = field(default_factory=dict)
    typed: str = ""
    """Mailboxes, one a line, as typed."""
    typed_accounts: tuple[AccountAnswer, ...] = ()
    file_accounts: tuple[AccountAnswer, ...] = ()
    file_unused: tuple[str, ...] = ()
    """Names of its columns that mean nothing here."""
    file_name: str = ""
    ports: dict[Protocol, str] = field(
        default_factory=lambda: {protocol: str(port) for protocol, port in PORTS.items()}
    )

    # --- providers ----------------------------------------------------------------------------------------------

    def choose(self, choice: Choice) -> str:
        """Add a provider to ask about, in place of those that were chosen but never answered. Returns: its name."""
        for name in [name for name, section in self.sections.items() if not section.texts]:
            del self.sections[name]
        name = choice.section(self.sections)
        if len(self.sections) < SECTIONS:
            self.sections[name] = Section(choice)
        return name

    def remove(self, name: str) -> None:
        """One provider and its secret; mailboxes that name it are found wrong when they are next looked at."""
        self.sections.pop(name, None)

    @property
    def unanswered(self) -> str:
        """The first provider with something to answer; empty if there is none."""
        return next((name for name, section in self.sections.items() if not section.is_good), "")

    @property
    def has_providers(self) -> bool:
        """True once there is one, and each is answered."""
        return bool(self.sections) and not self.unanswered

    # --- accounts -----------------------------------------------------------------------------------------------

    def take_typed(self, text: str) -> list[str]:
        """Take the typed list. Returns: problems, line by line; if there are any, it is shown again, and not used."""
        self.typed, self.typed_accounts = text.replace("\r\n", "\n")[:TYPED], ()
        if len(text) > TYPED:
            return [say("this list is too long to be entered here; choose a CSV file instead")]
        if not text.strip():
            return []
        roster = read_roster(self.typed.encode("utf-8", "replace"), self.sections)
        self.typed_accounts = () if roster.problems else roster.accounts
        return list(roster.problems)

    def take_file(self, name: str, content: bytes) -> list[str]:
        """Take a CSV file, in place of an earlier one. Returns: problems; if there are any, the earlier one stays."""
        roster = read_roster(content, self.sections)
        if not roster.problems:
            self.file_name, self.file_accounts, self.file_unused = name, roster.accounts, roster.unused
        return list(roster.problems)

    def drop_file(self) -> None:
        """Forget the uploaded file."""
        self.file_name, self.file_accounts, self.file_unused = "", (), ()

    def take_ports(self, texts: Mapping[str, str]) -> dict[str, str]:
        """The ports for mail programs, by protocol. Returns: what is wrong, by protocol."""
        self.ports = {protocol: texts.get(protocol.value, "").strip()[:5] for protocol in Protocol}
        return self._port_problems()

    def _port_problems(self) -> dict[str, str]:
        problems: dict[str, str] = {}
        taken = {self.console_port or USUAL_CONSOLE}
        for protocol, text in self.ports.items():
            if not (text.isascii() and text.isdigit() and 0 < int(text) < 65536):
                problems[protocol.value] = say("must be a number from 1 to 65535")
            elif int(text) in taken:
                problems[protocol.value] = say("this port is taken by another line, or by this page")
            else:
                taken.add(int(text))
        return problems

    @property
    def accounts(self) -> tuple[AccountAnswer, ...]:
        """The typed ones, then those of the file."""
        return (*self.typed_accounts, *self.file_accounts)

    @property
    def has_mailboxes(self) -> bool:
        """True once both lists, and the ports, are right: what was refused is kept, to be shown again."""
        return not self.account_problem() and not self._port_problems()

    @property
    def is_complete(self) -> bool:
        """True once there is nothing left to ask."""
        return self.has_providers and self.has_mailboxes

    def account_problem(self) -> str:
        """What is wrong with both lists together, or with one since a provider was removed; empty if nothing is."""
        if not self.accounts:
            return say("name at least one mailbox")
        seen: set[str] = set()
        for account in self.accounts:
            if account.provider not in self.sections:
                return say("{address} names a provider that is no longer in the list: {name}").format(
                    address=account.address, name=account.provider
                )
            if same_name(account.address) in seen:
                return say("{address} is in the list twice").format(address=account.address)
            seen.add(same_name(account.address))
        return ""

    # --- what comes of it ---------------------------------------------------------------------------------------

    @property
    def text(self) -> str:
        """config.yaml."""
        sections = {
            name: ProviderAnswer(section.choice, section.settings, section.reference)
            for name, section in self.sections.items()
        }
        ports = {protocol: int(text) for protocol, text in self.ports.items()}
        path, key_file = store_places(has_keyring=self.has_keyring, is_for_service=self.is_for_service)
        return document(Answers(sections, self.accounts, key_file, ports, self.console_port, path))

    def loaded(self) -> LoadedConfig:
        """The configuration as `run` would read it, the secrets elsewhere. Raises: ConfigError."""
        files = [f"${{file:{place}}}" for place, _ in self._secrets("file")]
        return trial(self.text, files, self.directory)

    @property
    def files(self) -> dict[Path, Secret[str]]:
        """Secrets that go into files."""
        return {self.directory / place: secret for place, secret in self._secrets("file")}

    @property
    def entries(self) -> dict[str, Secret[str]]:
        """Secrets that go into the keyring."""
        return dict(self._secrets("keyring"))

    def _secrets(self, scheme: str) -> list[tuple[str, Secret[str]]]:
        start = f"${{{scheme}:"
        return [
            (section.reference.removeprefix(start).removesuffix("}"), section.secret)
            for section in self.sections.values()
            if section.secret is not None and section.reference.startswith(start)
        ]


def reference_to(scheme: str, name: str) -> str:
    """The reference to a secret in a file, or (`keyring`) in an entry of the keyring."""
    return f"${{file:{SECRETS}/{name}.txt}}" if scheme == "file" else f"${{keyring:{name}}}"


def digest(text: str) -> str:
    """By this one can tell whether the text that is written is the one that was shown."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
