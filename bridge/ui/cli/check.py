"""`mail-bridge check` and `mail-bridge schema`: the configuration, and whether a bridge could start with it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

import click

from bridge.config.expiry import expiring
from bridge.config.load import LoadedConfig, json_schema
from bridge.errors import BridgeError, ConfigError
from bridge.ui.cli.session import DONE, UNUSABLE, Settings, in_loop, load, opened, reach_running, warn, with_settings


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    what: str
    is_ok: bool
    detail: str


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON array, for programs.")
@with_settings
def check(settings: Settings, as_json: bool) -> int:
    """Read the configuration, try the store and the ports; change nothing.

    Exit code 0 if the bridge could start, 2 if something must change first.
    """

    async def work() -> list[Finding]:
        return [finding async for finding in _findings(settings)]

    found = in_loop(work())
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in found], indent=2))
    else:
        for finding in found:
            click.echo(f"{'ok' if finding.is_ok else 'FAILED':<7} {finding.what}: {finding.detail}")
    return DONE if all(finding.is_ok for finding in found) else UNUSABLE


@click.command()
def schema() -> int:
    """Print the JSON Schema of the configuration file, for editors."""
    click.echo(json.dumps(json_schema(), indent=2))
    return DONE


async def _findings(settings: Settings) -> AsyncIterator[Finding]:
    try:
        loaded = load(settings)
    except ConfigError as problem:
        for line in problem.problems:
            yield Finding("configuration", False, line)
        return
    warn(loaded)
    config = loaded.config
    accounts, providers = len(config.accounts), len(config.providers)
    yield Finding("configuration", True, f"{loaded.name}, {accounts} account(s), {providers} provider(s)")
    for one in expiring(config, datetime.now().date()):
        yield Finding("client secret", not one.is_over, one.sentence)
    yield await _store(loaded)
    async with reach_running(settings) as control:
        if control is not None:
            yield Finding("ports", True, "a bridge is running with this configuration and holds them")
            return
    yield await _ports(loaded)


async def _store(loaded: LoadedConfig) -> Finding:
    """A store that is not there yet is not made: its first record and its key come with the first run."""
    from bridge.host.paths import store_file
    from bridge.stores.keys import check_key_home

    config = loaded.config.store
    place = Path(config.path) if config.path else store_file()
    try:
        if config.url is None and not place.exists():
            home = await check_key_home(config)
            return Finding("store", True, f"{place} will be made by the first run, its key in {home}")
        async with opened(loaded) as app:
            await app.check_store()
    except BridgeError as problem:
        return Finding("store", False, str(problem))
    return Finding(
        "store", True, "opens, and the key fits" if config.url is not None else f"{place} opens, the key fits"
    )


async def _ports(loaded: LoadedConfig) -> Finding:
    try:
        async with opened(loaded) as app:
            app.bind()
            names = app.close_ports()
    except BridgeError as problem:
        return Finding("ports", False, str(problem))
    return Finding("ports", True, f"free: {', '.join(names)}")
