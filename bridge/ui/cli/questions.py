"""The questions of `mail-bridge init`, in their order; nothing is written here, and no secret leaves its Secret."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import click

from bridge.config.importers.yaml_text import Value
from bridge.config.presets import DEFAULT_PORTS
from bridge.config.values import same_name
from bridge.model import Protocol, TlsMode
from bridge.secret import Secret
from bridge.ui.cli.asking import ask, ask_secret, choose, is_yes, refuse
from bridge.ui.i18n import say
from bridge.ui.setup.answers import (
    AccountAnswer,
    Answers,
    Choice,
    ProviderAnswer,
    SecretNeed,
    account_problem,
    file_problem,
    mail_server,
    secret_problem,
    setting_problem,
    store_places,
    unquoted,
    unreadable,
)
from bridge.ui.setup.document import section_problem
from bridge.ui.setup.roster import LARGEST, read_roster
from bridge.ui.setup.words import choice_label, field_label, guide, preparation

SECRETS = "secrets"
"""Directory for secrets, beside the YAML, as `mail-bridge import` has it."""


@dataclass(slots=True)
class Interview:
    """What has been said so far."""

    directory: Path
    """The directory of the file to write."""
    has_keyring: bool
    is_for_service: bool = False
    providers: dict[str, ProviderAnswer] = field(default_factory=dict)
    files: dict[str, Secret[str]] = field(default_factory=dict)
    """Secrets that go into files: path relative to `directory`, and text."""
    entries: dict[str, Secret[str]] = field(default_factory=dict)
    """Secrets that go into the keyring: name and text."""
    accounts: list[AccountAnswer] = field(default_factory=list)

    def hold(self) -> Answers:
        """Ask everything. Raises: click.Abort."""
        while True:
            self._provider()
            if not is_yes(say("Is there a second provider, for other mailboxes?"), default=False):
                break
        click.echo()
        if choose_accounts_from_file():
            self._accounts_from_file()
        else:
            self._accounts_one_by_one()
        path, key_file = store_places(has_keyring=self.has_keyring, is_for_service=self.is_for_service)
        return Answers(self.providers, tuple(self.accounts), key_file, store_path=path)

    # --- a provider ---------------------------------------------------------------------------------------------

    def _provider(self) -> None:
        click.echo(say("Where are the mailboxes, and who signs in?"))
        choice = list(Choice)[choose(say("Number"), [choice_label(choice) for choice in Choice])]
        click.echo("\n" + _prepared(choice) + "\n")
        name = choice.section(self.providers)
        while True:
            settings = self._settings(choice)
            problem = section_problem(choice, settings, self.directory)
            if not problem:
                break
            refuse(problem)
        reference = self._secret(choice, name, settings)
        self.providers[name] = ProviderAnswer(choice, settings, reference)

    def _settings(self, choice: Choice) -> dict[str, Value]:
        settings = choice.settings

        def asked(key: str) -> None:
            question = field_label(choice, key)
            settings[key] = ask(question, lambda answer: setting_problem({**settings, key: answer}, key))

        if choice is Choice.GOOGLE_SERVICE:
            path = ask(field_label(choice, "service_account_file"), file_problem)
            settings["service_account_file"] = str(Path(unquoted(path)).expanduser().absolute())
            return settings
        asked("client_id")
        if choice.kind == "microsoft":
            self._tenant(settings)
        if choice is Choice.OTHER:
            asked("authorization_url")
            asked("token_url")
            settings["scopes"] = ask(field_label(choice, "scopes")).split()
            self._servers(settings)
        return settings

    def _servers(self, settings: dict[str, Value]) -> None:
        """The mail servers of a provider that no preset knows; at least one."""
        while not any(protocol.value in settings for protocol in Protocol):
            for protocol in Protocol:
                question = say("{protocol} server, such as mail.example.com:{port} (empty: none)").format(
                    protocol=protocol.value.upper(), port=DEFAULT_PORTS[protocol, TlsMode.IMPLICIT]
                )
                text = ask(question, _server_problem, optional=True)
                found = mail_server(text)
                if not isinstance(found, str):
                    settings[protocol.value] = found

    def _tenant(self, settings: dict[str, Value]) -> None:
        """A tenant, or the two URLs of the portal's Endpoints page; whichever is pasted."""

        def key_of(answer: str) -> str:
            return "authorization_url" if "://" in answer else "tenant"

        question = say("Tenant: its GUID or domain; or paste the OAuth 2.0 authorization endpoint (v2)")
        answer = ask(question, lambda text: setting_problem({**settings, key_of(text): text}, key_of(text)))
        settings[key_of(answer)] = answer
        if "tenant" in settings:
            return

        def token_url_problem(text: str) -> str:
            filled = {**settings, "token_url": text}
            # Together with the other URL: of another tenant, each is right by itself. No secret is there yet.
            return setting_problem(filled, "token_url") or section_problem(
                Choice.MICROSOFT, {key: value for key, value in filled.items() if key != "flow"}, self.directory
            )

        settings["token_url"] = ask(field_label(Choice.MICROSOFT, "token_url"), token_url_problem)

    # --- its secret ---------------------------------------------------------------------------------------------

    def _secret(self, choice: Choice, name: str, settings: dict[str, Value]) -> str:
        """Ask for it and for where it goes. Returns: the reference to it; empty if there is none."""
        if choice.secret is SecretNeed.NONE:
            return ""
        is_optional = choice.secret is SecretNeed.MAYBE
        question = field_label(choice, "client_secret")
        if is_optional:
            question = say("{question} (empty: none, a public client)").format(question=question)
        secret = ask_secret(question, lambda text: secret_problem(choice, text), optional=is_optional)
        if secret is None:
            return ""
        if choice.kind == "microsoft":
            self._last_day(settings)
        return self._home(name, secret)

    def _last_day(self, settings: dict[str, Value]) -> None:
        key = "client_secret_expires"
        day = ask(
            say("Day on which the secret expires, such as 2027-01-31, as the portal shows it (empty: not known)"),
            lambda answer: setting_problem({**settings, key: answer}, key),
            optional=True,
        )
        if day:
            settings[key] = day

    def _home(self, name: str, secret: Secret[str]) -> str:
        file = f"{SECRETS}/{name}.txt"
        if self.has_keyring:
            click.echo(say("Where is the secret kept?"))
            choices = [
                say("in the keyring of this user of this computer"),
                say("in a file that only you can read: {file}").format(file=file),
            ]
            if choose(say("Number"), choices) == 0:
                self.entries[name] = secret
                return f"${{keyring:{name}}}"
        self.files[file] = secret
        return f"${{file:{file}}}"

    # --- accounts -----------------------------------------------------------------------------------------------

    def _accounts_from_file(self) -> None:
        while True:
            path = Path(unquoted(ask(say("Path of the CSV file"), file_problem))).expanduser()
            try:
                with path.open("rb") as file:
                    content = file.read(LARGEST + 1)
            except OSError as error:  # of a disk or a network drive: it could be opened a moment ago
                refuse(unreadable(error))
                continue
            if len(content) > LARGEST:
                refuse(say("the file is larger than {size} MiB").format(size=LARGEST // 1024 // 1024))
                continue
            roster = read_roster(content, self.providers)
            if not roster.problems:
                self.accounts += roster.accounts
                click.echo(say("Mailboxes found: {number}").format(number=len(roster.accounts)))
                if roster.unused:
                    click.echo(say("Columns that are not used: {names}").format(names=", ".join(roster.unused)))
                return
            for problem in roster.problems:
                click.echo(f"  {problem}")
            click.echo(say("Nothing has been taken from this file. Correct it, and name it again."))

    def _accounts_one_by_one(self) -> None:
        while True:
            question = say("Address of a mailbox") if not self.accounts else say("Another mailbox (empty: no more)")
            # In quotes, as YAML needs them and the advice shows them, it is the same address.
            address = unquoted(ask(question, self._address_problem, optional=bool(self.accounts)))
            if not address:
                return
            provider = self._provider_of(address)
            self.accounts.append(AccountAnswer(address, provider, self._who_signs_in(address, provider)))

    def _address_problem(self, text: str) -> str:
        name, address = next(iter(self.providers)), unquoted(text)
        if problem := account_problem(AccountAnswer(address, name)):
            return problem
        taken = {same_name(account.address) for account in self.accounts}
        return say("this mailbox is in the list already") if same_name(address) in taken else ""

    def _provider_of(self, address: str) -> str:
        names = list(self.providers)
        if len(names) == 1:
            return names[0]
        click.echo(say("Which provider has {address}?").format(address=address))
        return names[choose(say("Number"), names)]

    def _who_signs_in(self, address: str, provider: str) -> str:
        if self.providers[provider].choice.is_unattended or address.startswith("*@"):
            return ""
        return ask(
            say("For a shared mailbox: the address of the person who signs in (empty: this address itself)"),
            lambda person: account_problem(AccountAnswer(address, provider, person)),
            optional=True,
        )


def _server_problem(text: str) -> str:
    found = mail_server(text)
    return found if isinstance(found, str) else ""


def _prepared(choice: Choice) -> str:
    page = guide(choice)
    return preparation(choice) + ("\n" + say("Step by step: {page}").format(page=page) if page else "")


def choose_accounts_from_file() -> bool:
    """Whether the accounts come from a file."""
    click.echo(say("Whose mailboxes?"))
    lists = say("a CSV file: address, provider, sign_in_as; the last two may be left out")
    return choose(say("Number"), [say("one by one"), lists]) == 1
