"""Username to Account: exact addresses, then aliases, then `*@domain` patterns."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping

from bridge.config.endpoints import used_endpoints
from bridge.config.schema import AccountConfig, Config
from bridge.config.values import same_name
from bridge.model import LONGEST_ADDRESS, Account, Endpoint, Protocol

_LOCAL_PART = re.compile(r"[\w#$&'+=~^-]+(\.[\w#$&'+=~^-]+)*")
"""The local parts that a `*@domain` pattern accepts. RFC 5322 allows more, none of it in use: `%` and `!` were routes
through other hosts, `*` is our own, a quoted part can hold anything. An address that needs these can have a line of its
own in the configuration."""

LONGEST_LOCAL_PART = 64
"""Octets (RFC 5321 section 4.5.3.1.1)."""


class Directory:
    """Which account a username means in one configuration. Case, and spaces around it, do not matter."""

    def __init__(self, config: Config) -> None:
        endpoints = {name: used_endpoints(config, provider) for name, provider in config.providers.items()}
        self._local_password = config.local_password
        self._patterns: dict[str, tuple[AccountConfig, Mapping[Protocol, Endpoint]]] = {}
        self._exact: dict[str, Account] = {}
        self._aliases: dict[str, Account] = {}
        for entry in config.accounts:
            if entry.is_pattern:
                domain = same_name(entry.address.removeprefix("*@"))
                self._patterns.setdefault(domain, (entry, endpoints[entry.provider]))
            else:
                self._add(entry, endpoints[entry.provider])
        self.accounts: tuple[Account, ...] = tuple(self._exact.values())
        """The accounts with a line of their own, in the order of the file."""
        self.patterns: tuple[str, ...] = tuple(entry.address for entry in config.accounts if entry.is_pattern)
        """`*@domain`, in the order of the file."""

    def find(self, username: str) -> Account | None:
        """The account, or None.

        A name that matches a pattern gets an Account of its own, with its address in lower case. `DOMAIN\\user` and a
        bare `user` match only as an alias: we do not guess which mailbox they mean.
        """
        if len(username) > LONGEST_ADDRESS:
            return None
        name = same_name(username)
        return self._exact.get(name) or self._aliases.get(name) or self._below_pattern(username)

    def _below_pattern(self, username: str) -> Account | None:
        # lower(), not casefold(): the address goes to the provider, where ß folded to ss would be another mailbox.
        address = unicodedata.normalize("NFC", username).strip().lower()
        local, at, domain = address.rpartition("@")
        found = self._patterns.get(same_name(domain)) if at and domain == domain.strip() else None
        if found is None or not _LOCAL_PART.fullmatch(local) or len(local.encode()) > LONGEST_LOCAL_PART:
            return None
        entry, endpoints = found
        return Account(address, entry.provider, address, endpoints, entry.os_user, self._is_first_use(entry))

    def _is_first_use(self, entry: AccountConfig) -> bool:
        return (entry.local_password or self._local_password) == "first-use"

    def _add(self, entry: AccountConfig, endpoints: Mapping[Protocol, Endpoint]) -> None:
        person = entry.sign_in_as or entry.address
        account = Account(entry.address, entry.provider, person, endpoints, entry.os_user, self._is_first_use(entry))
        # The first one wins. The loader refuses duplicates, but a Config made in code may not have gone through it.
        self._exact.setdefault(same_name(entry.address), account)
        for alias in entry.aliases:
            self._aliases.setdefault(same_name(alias), account)
