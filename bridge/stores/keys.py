"""Where the store's 32-byte key lives: the OS keyring, or a file that the admin names; never a silent fallback.

An empty store may be given a new key; a store with records never is, because a new key could not open them.
"""

from __future__ import annotations

import base64
import secrets
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from bridge.advice.said import Said, said
from bridge.config.schema import StoreConfig
from bridge.errors import StoreCorrupt, StoreUnavailable
from bridge.secret import Secret
from bridge.stores.key_file import check_key_file, decoded_key, key_from_file
from bridge.stores.sealed import KEY_BYTES
from bridge.stores.timed_keyring import ANSWER_LIMIT, ask_keyring, no_answer
from bridge.threads import NoThread, in_thread

if TYPE_CHECKING:
    from bridge.stores.oskeyring import OsKeyring

KEY_SERVICE = "mail-bridge store key"
"""Not the service name of named secrets: on Windows, a second user name under one service rewrites the first entry."""

KEY_USER = "mail-bridge"

_REMEDY = said("A file may hold the key instead: `store: {{key_file: …}}`")

R = TypeVar("R")


async def open_key(config: StoreConfig, *, has_records: bool, limit: float = ANSWER_LIMIT) -> Secret[bytes]:
    """Find the key, or make one if the store is empty.

    Raises: StoreUnavailable if the keyring or the file does not answer; its subclasses KeyringMissing and
    KeyFileUnusable if waiting does not help; StoreCorrupt if the store has records and the key is gone, or if what was
    found is no key. The text names the remedy.
    """
    if config.key_file is not None:
        return await _beside(partial(key_from_file, config.key_file, has_records))
    is_given_up = threading.Event()
    find = partial(_from_keyring, has_records, is_given_up)
    try:
        return await _beside(partial(ask_keyring, find, limit=limit, remedy=_REMEDY))
    finally:
        is_given_up.set()


async def check_key_home(config: StoreConfig, *, limit: float = ANSWER_LIMIT, made_first: Path | None = None) -> Said:
    """Check the place where a first key would go, without making one.

    Args: made_first, a directory that does not exist yet, but will be made before the key.
    Returns: the place, in words. Raises: as open_key().
    """
    if config.key_file is not None:
        await _beside(partial(check_key_file, config.key_file, made_first))
        return said("the file {file}", file=config.key_file)

    def probe(home: OsKeyring) -> Said:
        home.probe()
        return home.name

    return await _beside(partial(ask_keyring, probe, limit=limit, remedy=_REMEDY))


async def _beside(work: Callable[[], R]) -> R:
    """Run `work` in a thread. Raises: StoreUnavailable if there is no thread; what `work` raises."""
    try:
        return await in_thread(work)
    except NoThread as problem:
        raise StoreUnavailable(problem.said) from problem


def _from_keyring(has_records: bool, is_given_up: threading.Event, home: OsKeyring) -> Secret[bytes]:
    text = home.read(KEY_SERVICE, KEY_USER)
    if text is None:
        if has_records:
            raise StoreCorrupt(
                said(
                    "the store has records, but the {keyring} has no key for them (entry '{entry}'): it was removed, "
                    "this is another user or machine, or another program is the keyring now. Restore the entry, or "
                    "name the file that holds the key: `store: {{key_file: …}}`. To give up the records, move the "
                    "store away",
                    keyring=home.name,
                    entry=KEY_SERVICE,
                )
            )
        home.probe()
        if is_given_up.is_set():  # our time to set up the store has run out: another process may have made its key
            raise StoreUnavailable(no_answer())
        key = secrets.token_bytes(KEY_BYTES)
        home.write(KEY_SERVICE, KEY_USER, base64.b64encode(key).decode())
        return Secret(key)
    place = said("the entry '{entry}' in the {keyring}", entry=KEY_SERVICE, keyring=home.name)
    return decoded_key(text.encode(), place)
