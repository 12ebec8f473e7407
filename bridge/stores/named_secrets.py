"""Reads, checks and writes the OS keyring's entries for `${keyring:name}` in the configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bridge.advice.said import said
from bridge.secret import Secret
from bridge.stores.timed_keyring import ANSWER_LIMIT, ask_keyring

if TYPE_CHECKING:
    from bridge.stores.oskeyring import OsKeyring

NAMED_SERVICE = "mail-bridge"
"""Service of `${keyring:name}`; the name is the user name: `keyring set mail-bridge office365`."""

_REMEDY = said("Or use ${{file:…}} or an environment variable in place of ${{keyring:…}}")


def read_named_secret(name: str, *, limit: float = ANSWER_LIMIT) -> str | None:
    """The keyring's entry for `${keyring:name}`, or None. Blocks up to `limit` seconds. Raises: StoreUnavailable."""
    return ask_keyring(lambda home: home.read(NAMED_SERVICE, name), limit=limit, remedy=_REMEDY)


def check_named_secrets(*, limit: float = ANSWER_LIMIT) -> str:
    """Check that the keyring returns what is written to it. Returns: its name. Raises: StoreUnavailable."""

    def probe(home: OsKeyring) -> str:
        home.probe()
        return str(home.name)

    return ask_keyring(probe, limit=limit)


def write_named_secret(name: str, value: Secret[str], *, limit: float = ANSWER_LIMIT) -> None:
    """Store the entry that `${keyring:name}` reads, replacing an existing one. Raises: StoreUnavailable."""
    ask_keyring(lambda home: home.write(NAMED_SERVICE, name, value.reveal()), limit=limit, remedy=_REMEDY)
