"""Config and its parts: frozen pydantic models; the JSON Schema comes from here.

Values arrive here as text, with `${…}` references already resolved (load.py). What a value, or one part, can say about
itself is checked here, in values.py, in addresses.py and in a file for each kind of provider; what needs two parts (an
account naming a provider) is in checks.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, GetJsonSchemaHandler, ValidationInfo, field_validator, model_validator
from pydantic_core import CoreSchema

from bridge.advice.said import said
from bridge.config.addresses import ConsoleAddress, ListenAddress
from bridge.config.console import USUAL_CONSOLE
from bridge.config.providers import ProviderConfig
from bridge.config.store_url import StoreUrl
from bridge.config.values import (
    BadValue,
    FilePath,
    MailAddress,
    OsUser,
    Part,
    PersonAddress,
    ProxyUrl,
    SecretUrl,
    Username,
    check_seen,
    from_home,
)
from bridge.model import Protocol

SAME_USER = "same"
"""For `os_user`: the user whose name stands before the @ of the address."""

LocalPasswordMode = Literal["random", "first-use"]


class AccountConfig(Part):
    """One mailbox, or all of a domain."""

    address: MailAddress = Field(description='alice@example.com, or "*@example.com" for everybody of a domain.')
    provider: str = Field(min_length=1, description="Name of one of `providers`.")
    sign_in_as: PersonAddress | None = Field(
        None, description="Who signs in, where that is not the address itself: a shared mailbox, or another UPN."
    )
    aliases: tuple[Username, ...] = Field((), description="Further user names that mean this account.")
    os_user: tuple[OsUser, ...] = Field(
        (),
        description="Whose programs on this machine may log in: a user of the operating system (`alice`, "
        "`OFFICE\\alice`, a uid or SID), or several; `same` for the one who is called as the address begins.",
    )
    local_password: LocalPasswordMode | None = Field(
        None, description="As the setting of the same name for all accounts; this one wins."
    )

    @field_validator("os_user", mode="before")
    @classmethod
    def _users(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("os_user")
    @classmethod
    def _somebody(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise BadValue(said("names nobody; leave os_user out to let all users of this machine in"))
        return value

    @property
    def is_pattern(self) -> bool:
        """True for a whole domain."""
        return self.address.startswith("*@")

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """One OS user, or several."""
        section = handler.resolve_ref_schema(handler(core))
        field = section["properties"]["os_user"]
        several = {"type": "array", "items": field["items"], "minItems": 1}
        section["properties"]["os_user"] = {"description": field["description"], "anyOf": [field["items"], several]}
        return section

    @model_validator(mode="after")
    def _pattern_is_plain(self) -> AccountConfig:
        if self.is_pattern and (self.sign_in_as or self.aliases):
            raise BadValue(said('sign_in_as and aliases belong to one address, not to a "*@domain" pattern'))
        return self


def _listeners(default: str) -> Any:
    return Field(
        default_factory=lambda: (ListenAddress(address=default),),
        description=f"Default {default}; a list where there are several; `off` for none.",
    )


_OFF = frozenset({"off", "no", "none", "false"})


class Listeners(Part):
    """Local ports, one for each protocol, for all accounts and providers."""

    imap: tuple[ListenAddress, ...] = _listeners("localhost:1143")
    pop3: tuple[ListenAddress, ...] = _listeners("localhost:1110")
    smtp: tuple[ListenAddress, ...] = _listeners("localhost:1587")

    @model_validator(mode="before")
    @classmethod
    def _lists(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value

        def as_list(item: Any) -> Any:
            if item is False or item is None or (isinstance(item, str) and item.strip().lower() in _OFF):
                return []
            return item if isinstance(item, (list, tuple)) else [item]

        return {key: as_list(item) for key, item in value.items()}

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """One address, several, or `off`, which editors read as a text or as false."""
        section = handler.resolve_ref_schema(handler(core))
        for name, field in section["properties"].items():
            described = {"description": field.pop("description"), "default": field.pop("default", None)}
            several = {key: value for key, value in field.items() if key != "title"}
            described["default"] = cls.model_fields[name].get_default(call_default_factory=True)[0].address
            section["properties"][name] = {**described, "anyOf": [{"enum": ["off", False]}, several["items"], several]}
        return section

    def of(self, protocol: Protocol) -> tuple[ListenAddress, ...]:
        """Where this protocol is served."""
        addresses: tuple[ListenAddress, ...] = getattr(self, protocol.value)
        return addresses


class StoreConfig(Part):
    """Where sealed tokens live, and where their key lives."""

    path: FilePath | None = Field(None, description="SQLite file; default: in the user's data directory.")
    url: StoreUrl | None = Field(None, description="SQLAlchemy URL of a shared database, for several nodes.")
    key_file: FilePath | None = Field(None, description="File with the 32-byte key; default: the OS keyring holds it.")

    @model_validator(mode="before")
    @classmethod
    def _one_place(cls, values: Any) -> Any:
        """Checked first, because errors about the key that has to go would be of no use."""
        if isinstance(values, dict) and values.get("path") and values.get("url"):
            raise BadValue(said("give `path` (one machine) or `url` (several), not both"))
        return values


class LogConfig(Part):
    """What is logged, and how."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["text", "json"] = "text"
    file: FilePath | None = Field(
        None,
        description="A file in place of standard error, for where nobody keeps that, such as a task of Windows. "
        "At 10 MiB it gets .1 behind its name, and a new one is begun; four older ones are kept.",
    )


class NotifyConfig(Part):
    """Who is told, besides the console and the log, when somebody must act."""

    command: tuple[str, ...] = Field(
        (), description="A program and its arguments; it finds what has happened in MAIL_BRIDGE_* of its environment."
    )
    webhook: SecretUrl | None = Field(None, description="A URL to which what has happened is sent, as JSON by POST.")
    proxy: ProxyUrl | None = Field(None, description="http://host:port for the webhook.")
    ca_file: FilePath | None = Field(
        None, description="PEM file for the webhook, instead of the system's certificates."
    )

    @field_validator("command")
    @classmethod
    def _program(cls, command: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        """A name is looked for in PATH; a path is relative to the YAML's directory, like all others."""
        if not command:
            return command
        program, *arguments = command
        if not program.strip():
            raise BadValue(said("must begin with a program"))
        check_seen(program)
        directory = (info.context or {}).get("directory")
        if directory is not None and ("/" in program or "\\" in program):
            program = str(Path(directory) / from_home(program))
        return program, *arguments

    @model_validator(mode="after")
    def _webhooks_own(self) -> NotifyConfig:
        if self.webhook is None and (self.proxy or self.ca_file):
            raise BadValue(said("proxy and ca_file belong to `webhook`"))
        return self


MOST_WORKERS = 64
"""More than the bridge's own process, which takes part in each login, could keep busy."""


class Config(Part):
    """The whole file."""

    providers: dict[str, ProviderConfig] = Field(min_length=1)
    accounts: tuple[AccountConfig, ...] = Field(min_length=1)
    listeners: Listeners = Field(default_factory=Listeners)
    console: ConsoleAddress = Field(default_factory=lambda: ConsoleAddress(address=f"127.0.0.1:{USUAL_CONSOLE}"))
    local_password: LocalPasswordMode = Field(
        "random",
        description="What mail programs log in with. random: a password that mail-bridge makes and shows. first-use: "
        "the mail program's own, once the person who signs in has confirmed it.",
    )
    store: StoreConfig = Field(default_factory=StoreConfig)
    notify: NotifyConfig = Field(default_factory=NotifyConfig)
    log: LogConfig = Field(default_factory=LogConfig)
    workers: int = Field(
        1,
        ge=1,
        le=MOST_WORKERS,
        description="Processes that serve mail programs; more than 1 uses more cores (Linux and macOS).",
    )
    language: Literal["en", "fr", "auto"] = "auto"
