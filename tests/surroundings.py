"""What a bridge has around it in a test that is about none of this: nothing is told, made or started."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bridge.app import Surroundings
from bridge.doctor.machine import Machine, Telling
from bridge.errors import ConfigError
from bridge.hooks.delivery import Ended, HookFailed
from bridge.model import Caller, Ends
from bridge.relay.ports import Bind
from bridge.stores.sealed import SealedStore

NOT_TOLD = Machine(
    holder_of=lambda port: None,
    excluded_ports=lambda: (),
    descriptor_limit=lambda: None,
    browser=lambda: None,
    tells_users=lambda: Telling.NOTHING,
    has_user=lambda name: None,
    has_program=lambda name: False,
    answers=lambda host, port: False,
    is_on_network=lambda place: False,
)


async def no_programs(command: Sequence[str], environment: Mapping[str, str], seconds: float) -> Ended:
    raise HookFailed("programs cannot be started here", temporary=False)


def no_certificate(names: Iterable[str]) -> str:
    raise ConfigError(("listeners: tls needs `certificate` and `key` here",))


async def _not_told(ends: Ends | None) -> Caller:
    return Caller(unknown="nobody was asked")


async def _not_named(ends: Ends | None) -> str:
    return ""


def surroundings(store: SealedStore, bind: Bind, **others: Any) -> Surroundings:
    usual: dict[str, Any] = {
        "is_demo": False,
        "machine": NOT_TOLD,
        "store_place": None,
        "run_program": no_programs,
        "translation": lambda configured: str,
        "caller_of": _not_told,
        "caller_at_once": lambda ends: None,
        "key_at_once": lambda ends: "",
        "program_of": _not_named,
        "ensure_certificate": no_certificate,
        "authority_file": Path("no authority"),
        "start_worker": None,
    }
    return Surroundings(store=store, bind=bind, **(usual | others))
