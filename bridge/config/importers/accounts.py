"""The accounts of email-oauth2-proxy: whose they are, with what they inherit from its catch-all accounts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import TypeAdapter, ValidationError

from bridge.advice.said import Said, said
from bridge.config.importers.ini import DEFAULT, IniSection, is_on
from bridge.config.values import MailAddress

SAMPLE_TEXT = "*** your"
"""The sample configuration's placeholders begin with this text."""

GLOBAL = "emailproxy"

TOKENS = frozenset(
    {"token_salt", "token_iterations", "access_token", "access_token_expiry", "refresh_token", "last_activity"}
)
"""Options that the program itself writes into an account's section; none of them is looked at."""

KNOWN = TOKENS | {
    "permission_url",
    "token_url",
    "oauth2_scope",
    "oauth2_resource",
    "oauth2_flow",
    "redirect_uri",
    "redirect_listen_address",
    "client_id",
    "client_secret",
    "client_secret_encrypted",
    "use_pkce",
    "jwt_certificate_path",
    "jwt_key_path",
}
"""Options of an account."""

_ADDRESS: TypeAdapter[str] = TypeAdapter(MailAddress)


class NotCarried(Exception):
    """This part has no place in our configuration; the reason says why, and what to do instead."""

    def __init__(self, reason: Said) -> None:
        super().__init__(str(reason))
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Globals:
    """The options of [emailproxy] that change what other sections mean."""

    catch_all: bool = False
    login_password_is_secret: bool = False
    written: frozenset[str] = frozenset()

    @classmethod
    def of(cls, sections: Sequence[IniSection]) -> Globals:
        """From the section of that name, if there is one."""
        found = next((section for section in sections if section.name == GLOBAL), None)
        if found is None:
            return cls()
        return cls(
            catch_all=is_on(found.get("allow_catch_all_accounts")),
            login_password_is_secret=is_on(found.get("use_login_password_as_client_credentials_secret")),
            written=frozenset(found.options),
        )


@dataclass(frozen=True, slots=True)
class Account:
    """One section with an @ in its name, and all the options that hold for it."""

    section: str
    line: int
    address: str
    """As we write it: `alice@example.com`, or `*@example.com`."""
    options: Mapping[str, str] = field(repr=False)
    secret_section: str
    """The section that has its client_secret; its own, if there is none."""

    def get(self, option: str) -> str:
        """The option, inherited or its own; empty if there is none."""
        return self.options.get(option, "").strip()


def read_accounts(
    sections: Sequence[IniSection], switches: Globals
) -> tuple[tuple[Account, ...], tuple[tuple[IniSection, Said], ...]]:
    """The accounts that have a usable address, in the order of the file, and why the others have none."""
    by_name = {section.name: section for section in sections}
    carried: list[Account] = []
    refused: list[tuple[IniSection, Said]] = []
    for section in sections:
        if "@" not in section.name:
            continue
        try:
            address = _address(section.name, switches)
        except NotCarried as problem:
            refused.append((section, problem.reason))
            continue
        templates = _templates(section, by_name) if switches.catch_all else []
        options, secret_section = _inherited(section, templates), _holder("client_secret", [section, *templates])
        carried.append(Account(section.name, section.line, address, options, secret_section))
    return tuple(carried), tuple(refused)


def _address(name: str, switches: Globals) -> str:
    if name.startswith("@"):
        if not switches.catch_all:
            raise NotCarried(said("it had no effect: allow_catch_all_accounts was not on"))
        if name == "@":
            raise NotCarried(
                said('one account for all domains is not possible here; add an account "*@example.com" for each domain')
            )
    try:
        return _ADDRESS.validate_python("*" + name if name.startswith("@") else name)
    except ValidationError:
        pass
    raise NotCarried(
        said("this is not the address of a mailbox; add an account with its address, and this under `aliases`")
    )


def _templates(section: IniSection, by_name: Mapping[str, IniSection]) -> list[IniSection]:
    """The sections from which missing options are taken: [@domain], then [@]."""
    found = (by_name.get("@" + section.name.rpartition("@")[2]), by_name.get("@"))
    return [template for template in found if template is not None and template is not section]


def _inherited(section: IniSection, templates: Sequence[IniSection]) -> Mapping[str, str]:
    options: dict[str, str] = {}
    for template in reversed(templates):
        # A template's own tokens belong to nobody else; and the salt of its encrypted secret is of no use here anyway.
        options |= {name: value for name, value in template.options.items() if name not in TOKENS}
    return options | dict(section.options)


def _holder(option: str, sections: Sequence[IniSection]) -> str:
    """The name of the section in which an option stands; that of the first one, if it is in none."""
    found = next((section for section in sections if option in section.options), sections[0])
    return DEFAULT if option in found.inherited else found.name
