"""Where the store's key lives, and whether the store opens with it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from bridge.advice.said import said
from bridge.advice.system import system_reason
from bridge.config.schema import StoreConfig
from bridge.control.contract import Finding
from bridge.doctor.findings import VERBATIM, failed, ok, skipped
from bridge.doctor.places import check_place
from bridge.errors import BridgeError, StoreUnavailable
from bridge.files.existing import exists
from bridge.stores.keys import check_key_home

KEPT = "{home}: an entry was written, read back and removed"
KEY_FILE = "not tried: the store's key is in the file {file}"
DEMO = "not tried: the demo's key is in memory"
OPENS = "opens, and the key fits"
OPENS_AT = "{place} opens, and the key fits"
LATER = "not there yet: the first run creates {place}, with its key in {home}"


async def keyring_finding(config: StoreConfig, *, is_demo: bool = False) -> Finding:
    """A round trip to the OS keyring, where it is used."""
    if is_demo:
        return skipped("keyring", "", DEMO)
    if config.key_file is not None:
        return skipped("keyring", "", KEY_FILE, file=config.key_file)
    try:
        home = await check_key_home(config)
    except BridgeError as problem:
        return failed("keyring", "", VERBATIM, problem=problem.words)
    return ok("keyring", "", KEPT, home=home)


async def store_finding(config: StoreConfig, place: Path | None, check: Callable[[], Awaitable[None]]) -> Finding:
    """Open the store and its key.

    Args: place, its file, None where it is in no file; check, which opens it, and would create it: so it is not called
    for a store that is not there yet, whose first record and key come with the first run.
    """
    try:
        if not has_store(place):
            home = await check_key_home(config, made_first=None if place is None else place.parent)
            if place is not None:
                _check_place(place)
            return skipped("store", "", LATER, place=place, home=home)
        await check()
    except BridgeError as problem:
        return failed("store", "", VERBATIM, problem=problem.words)
    return ok("store", "", OPENS) if place is None else ok("store", "", OPENS_AT, place=place)


def has_store(place: Path | None) -> bool:
    """False before the first run. True where we are not allowed to look: opening the store will tell that."""
    try:
        return place is None or exists(place)
    except OSError:
        return True


def _check_place(place: Path) -> None:
    """Make sure that the first run can create the store there, and its directories. Raises: StoreUnavailable."""
    try:
        check_place(place)
    except OSError as error:
        reason = system_reason(error)
        raise StoreUnavailable(said("{store} cannot be opened: {reason}", store=place, reason=reason)) from error
