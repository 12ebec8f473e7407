"""The questions of `mail-bridge init`, in their order; nothing is written here, and no secret leaves its Secret."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import click

from bridge.config.values import same_name
from bridge.secret import Secret
from bridge.ui.cli.asking import ask, ask_secret, choose, is_yes, refuse
from bridge.ui.i18n import say, spoken
from bridge.ui.setup.answers import (
    AccountAnswer,
    Answers,
    Choice,
    ProviderAnswer,
    SecretNeed,
    account_problem,
    secret_problem,
    setting_problem,
)
from bridge.ui.setup.document import section_problem
from bridge.ui.setup.roster import LARGEST, read_roster

SECRETS = "secrets"
"""Directory for secrets, beside the YAML, as `mail-bridge import` has it."""


@dataclass(slots=True)
class Interview:
    """What has been said so far."""

    directory: Path
    """Of the file to write."""
    has_keyring: bool
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
        return Answers(self.providers, tuple(self.accounts), "" if self.has_keyring else "store.key")

    # --- a provider ---------------------------------------------------------------------------------------------

    def _provider(self) -> None:
        click.echo(say("Where are the mailboxes, and who signs in?"))
        choice = list(Choice)[choose(say("Number"), _choices())]
        click.echo("\n" + _preparation(choice) + "\n")
        name = choice.section(self.providers)
        while True:
            settings = self._settings(choice)
            problem = section_problem(choice, settings, self.directory)
            if not problem:
                break
            refuse(problem)
        reference = self._secret(choice, name, settings)
        self.providers[name] = ProviderAnswer(choice, settings, reference)

    def _settings(self, choice: Choice) -> dict[str, str]:
        settings = choice.settings

        def asked(key: str, question: str) -> None:
            settings[key] = ask(question, lambda answer: setting_problem({**settings, key: answer}, key))

        if choice is Choice.GOOGLE_SERVICE:
            path = ask(say("Path of the service account's JSON key file"), _file_problem)
            settings["service_account_file"] = str(Path(path).expanduser().absolute())
            return settings
        asked("client_id", say("Application (client) ID") if choice.kind == "microsoft" else say("Client ID"))
        if choice.kind == "microsoft":
            self._tenant(settings)
        return settings

    def _tenant(self, settings: dict[str, str]) -> None:
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

        settings["token_url"] = ask(say("OAuth 2.0 token endpoint (v2)"), token_url_problem)

    # --- its secret ---------------------------------------------------------------------------------------------

    def _secret(self, choice: Choice, name: str, settings: dict[str, str]) -> str:
        """Ask for it and for where it goes. Returns: the reference to it; empty if there is none."""
        if choice.secret is SecretNeed.NONE:
            return ""
        is_optional = choice.secret is SecretNeed.MAYBE
        question = say("Client secret: its Value") if choice.kind == "microsoft" else say("Client secret")
        if is_optional:
            question = say("{question} (empty: none, a public client)").format(question=question)
        secret = ask_secret(question, lambda text: secret_problem(choice, text), optional=is_optional)
        if secret is None:
            return ""
        if choice.kind == "microsoft":
            self._last_day(settings)
        return self._home(name, secret)

    def _last_day(self, settings: dict[str, str]) -> None:
        key = "client_secret_expires"
        day = ask(
            say("Its last day, such as 2027-01-31, as the portal shows it (empty: not known)"),
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
            path = Path(ask(say("Path of the CSV file"), _file_problem)).expanduser()
            with path.open("rb") as file:
                content = file.read(LARGEST + 1)
            if len(content) > LARGEST:
                refuse(say("the file is larger than {size} MiB").format(size=LARGEST // 1024 // 1024))
                continue
            roster = read_roster(content, self.providers)
            if not roster.problems:
                self.accounts += roster.accounts
                click.echo(say("Mailboxes found: {number}").format(number=len(roster.accounts)))
                return
            for problem in roster.problems:
                click.echo(f"  {problem}")
            click.echo(say("Nothing of this file is taken. Correct it, and name it again."))

    def _accounts_one_by_one(self) -> None:
        while True:
            question = say("Address of a mailbox") if not self.accounts else say("Another mailbox (empty: no more)")
            address = ask(question, self._address_problem, optional=bool(self.accounts))
            if not address:
                return
            provider = self._provider_of(address)
            self.accounts.append(AccountAnswer(address, provider, self._who_signs_in(address, provider)))

    def _address_problem(self, address: str) -> str:
        name = next(iter(self.providers))
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
            say("Who signs in, if not this address itself: for a shared mailbox (empty: itself)"),
            lambda person: account_problem(AccountAnswer(address, provider, person)),
            optional=True,
        )


def choose_accounts_from_file() -> bool:
    """Whether the accounts come from a file."""
    click.echo(say("Whose mailboxes?"))
    lists = say("a CSV file: address, provider, sign_in_as; the last two may be left out")
    return choose(say("Number"), [say("one by one"), lists]) == 1


def _choices() -> list[str]:
    texts: Mapping[Choice, str] = {
        Choice.GOOGLE: say("Gmail, Google Workspace: each person signs in once, in the browser"),
        Choice.GOOGLE_SERVICE: say("Google Workspace, service account: nobody signs in"),
        Choice.MICROSOFT: say("Office 365: each person signs in once, in the browser"),
        Choice.MICROSOFT_DEVICE: say("Office 365, for a server without a browser: a code, typed in any browser"),
        Choice.MICROSOFT_APP: say("Exchange Online, the app alone: nobody signs in"),
        Choice.FASTMAIL: "Fastmail",
        Choice.YANDEX: "Yandex",
        Choice.YAHOO: "Yahoo",
        Choice.AOL: "AOL",
    }
    return [texts[choice] for choice in Choice]


def _preparation(choice: Choice) -> str:
    """What must be there before the questions can be answered, and where it is told click by click."""
    match choice.kind:
        case "google" if choice is Choice.GOOGLE:
            what = say("At Google: an OAuth client of type Desktop app, with the Gmail API enabled.")
        case "google":
            what = say("At Google: a service account with domain-wide delegation for https://mail.google.com/.")
        case "microsoft" if choice is Choice.MICROSOFT:
            what = say("At Microsoft: an app registration with the redirect URI http://localhost:3017/ of type Web.")
        case "microsoft" if choice is Choice.MICROSOFT_DEVICE:
            what = say(
                "At Microsoft: an app registration with “Allow public client flows” set to Yes, without a secret."
            )
        case "microsoft":
            what = say("At Microsoft: an app with application permissions, and its service principal in Exchange.")
        case _:
            return say("A client must be registered at the provider, with http://localhost:3017/: docs/providers.md")
    page = f"docs/guides/{spoken()}/{choice.kind}.md"
    return what + "\n" + say("Every click: {page}").format(page=page)


def _file_problem(text: str) -> str:
    try:
        with Path(text).expanduser().open("rb"):
            return ""
    except (OSError, RuntimeError, ValueError) as error:  # no such home directory; a character that no path may have
        reason = error.strerror if isinstance(error, OSError) else None
        return say("this file cannot be read: {reason}").format(reason=reason or type(error).__name__)
