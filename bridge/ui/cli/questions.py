"""The questions of `mail-bridge init`, in their order; nothing is written here, and no secret leaves its Secret."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from bridge.config.importers.providers import SECRETS
from bridge.config.presets import DEFAULT_PORTS
from bridge.config.values import same_name
from bridge.model import Protocol, TlsMode
from bridge.ui.cli.asking import ask, ask_secret, choose, is_yes, refuse
from bridge.ui.i18n import say
from bridge.ui.setup.answers import (
    AccountAnswer,
    Choice,
    SecretNeed,
    account_problem,
    file_problem,
    mail_server,
    secret_problem,
    setting_problem,
    unquoted,
    unreadable,
)
from bridge.ui.setup.document import section_problem
from bridge.ui.setup.draft import SERVERS, Draft, Section, reference_to
from bridge.ui.setup.roster import LARGEST
from bridge.ui.setup.words import choice_label, field_label, guide, preparation


@dataclass(frozen=True, slots=True)
class Interview:
    """Puts the answers into a draft that is still empty."""

    draft: Draft

    def hold(self) -> None:
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

    # --- a provider ---------------------------------------------------------------------------------------------

    def _provider(self) -> None:
        click.echo(say("Where are the mailboxes, and who signs in?"))
        choice = list(Choice)[choose(say("Number"), [choice_label(choice) for choice in Choice])]
        click.echo("\n" + _prepared(choice) + "\n")
        name = choice.section(self.draft.sections)
        while True:
            section = Section(choice)
            self._settings(section)
            problem = section_problem(choice, section.settings, self.draft.directory)
            if not problem:
                break
            refuse(problem)
        self._secret(section, name)
        self.draft.sections[name] = section

    def _settings(self, section: Section) -> None:
        choice = section.choice

        def asked(key: str) -> None:
            question = field_label(choice, key)
            section.texts[key] = ask(question, lambda answer: setting_problem({**section.settings, key: answer}, key))

        if choice is Choice.GOOGLE_SERVICE:
            section.texts["service_account_file"] = ask(field_label(choice, "service_account_file"), file_problem)
            return
        asked("client_id")
        if choice.kind == "microsoft":
            self._tenant(section)
        if choice is Choice.OTHER:
            asked("authorization_url")
            asked("token_url")
            section.texts["scopes"] = ask(field_label(choice, "scopes"))
            _servers(section)

    def _tenant(self, section: Section) -> None:
        """A tenant, or the two URLs of the portal's Endpoints page; whichever is pasted."""

        def key_of(answer: str) -> str:
            return "authorization_url" if "://" in answer else "tenant"

        question = say("Tenant: its GUID or domain; or paste the OAuth 2.0 authorization endpoint (v2)")
        answer = ask(question, lambda text: setting_problem({**section.settings, key_of(text): text}, key_of(text)))
        section.texts[key_of(answer)] = answer
        if "tenant" in section.texts:
            return

        def token_url_problem(text: str) -> str:
            filled = {**section.settings, "token_url": text}
            # Together with the other URL: of another tenant, each is right by itself. No secret is there yet.
            return setting_problem(filled, "token_url") or section_problem(
                Choice.MICROSOFT, {key: value for key, value in filled.items() if key != "flow"}, self.draft.directory
            )

        section.texts["token_url"] = ask(field_label(Choice.MICROSOFT, "token_url"), token_url_problem)

    # --- its secret ---------------------------------------------------------------------------------------------

    def _secret(self, section: Section, name: str) -> None:
        """Ask for it, if there is one, and for where it goes."""
        choice = section.choice
        if choice.secret is SecretNeed.NONE:
            return
        is_optional = choice.secret is SecretNeed.MAYBE
        question = field_label(choice, "client_secret")
        if is_optional:
            question = say("{question} (empty: none, a public client)").format(question=question)
        section.secret = ask_secret(question, lambda text: secret_problem(choice, text), optional=is_optional)
        if section.secret is None:
            return
        if choice.kind == "microsoft":
            key = "client_secret_expires"
            section.texts[key] = ask(
                say("Day on which the secret expires, such as 2027-01-31, as the portal shows it (empty: not known)"),
                lambda answer: setting_problem({**section.settings, key: answer}, key),
                optional=True,
            )
        section.reference = self._home(name)

    def _home(self, name: str) -> str:
        """Ask where the secret is kept. Returns: the reference to it."""
        if self.draft.has_keyring:
            click.echo(say("Where is the secret kept?"))
            file = f"{SECRETS}/{name}.txt"
            choices = [
                say("in the keyring of this user of this computer"),
                say("in a file that only you can read: {file}").format(file=file),
            ]
            if choose(say("Number"), choices) == 0:
                return reference_to("keyring", name)
        return reference_to("file", name)

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
            problems = self.draft.take_file(path.name, content)
            if not problems:
                click.echo(say("Mailboxes found: {number}").format(number=len(self.draft.file_accounts)))
                if unused := ", ".join(self.draft.file_unused):
                    click.echo(say("Columns that are not used: {names}").format(names=unused))
                return
            for problem in problems:
                click.echo(f"  {problem}")
            click.echo(say("Nothing has been taken from this file. Correct it, and name it again."))

    def _accounts_one_by_one(self) -> None:
        while True:
            is_first = not self.draft.accounts
            question = say("Address of a mailbox") if is_first else say("Another mailbox (empty: no more)")
            # In quotes, as YAML needs them and the advice shows them, it is the same address.
            address = unquoted(ask(question, self._address_problem, optional=not is_first))
            if not address:
                return
            provider = self._provider_of(address)
            account = AccountAnswer(address, provider, self._who_signs_in(address, provider))
            self.draft.typed_accounts = (*self.draft.typed_accounts, account)

    def _address_problem(self, text: str) -> str:
        name, address = next(iter(self.draft.sections)), unquoted(text)
        if problem := account_problem(AccountAnswer(address, name)):
            return problem
        taken = {same_name(account.address) for account in self.draft.accounts}
        return say("this mailbox is in the list already") if same_name(address) in taken else ""

    def _provider_of(self, address: str) -> str:
        names = list(self.draft.sections)
        if len(names) == 1:
            return names[0]
        click.echo(say("Which provider has {address}?").format(address=address))
        return names[choose(say("Number"), names)]

    def _who_signs_in(self, address: str, provider: str) -> str:
        if self.draft.sections[provider].choice.is_unattended or address.startswith("*@"):
            return ""
        return ask(
            say("For a shared mailbox: the address of the person who signs in (empty: this address itself)"),
            lambda person: account_problem(AccountAnswer(address, provider, person)),
            optional=True,
        )


def _servers(section: Section) -> None:
    """The mail servers of a provider that no preset knows; at least one."""
    while not any(section.texts.get(name) for name in SERVERS):
        for protocol in Protocol:
            question = say("{protocol} server, such as mail.example.com:{port} (empty: none)").format(
                protocol=protocol.value.upper(), port=DEFAULT_PORTS[protocol, TlsMode.IMPLICIT]
            )
            section.texts[protocol.value] = ask(question, _server_problem, optional=True)


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
