"""A program that refreshes a token and kills itself at a given step: `python -m tests.tokens.killed FILE`.

FILE holds JSON: `provider` (a section of the configuration), `store`, `key_file`, `account`. Each line on standard
input is the number of a step, or 0 for none. For each line a copy of this process (by fork, so that the libraries are
loaded once) runs the real token service over the real store and the real adapter, and prints the outcome as JSON.

A step is the moment before or after each call of SQLite, of a socket or of TLS, in any thread. Only these calls leave
something behind when a process is killed, so there are no other steps. The interpreter reports the calls
(sys.setprofile), so the program needs no hook for them.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import msal  # noqa: F401  loaded before the fork, not in each copy

from bridge.clock import SystemClock
from bridge.config.microsoft import MicrosoftProvider
from bridge.config.schema import StoreConfig
from bridge.errors import BridgeError
from bridge.model import Account
from bridge.notices import NoticeBus
from bridge.oauth import registry
from bridge.oauth.quiet import quieten
from bridge.observe import logs
from bridge.stores.registry import open_store
from bridge.tokens.service import TokenService
from bridge.tokens.vault import Vault

WITH_EFFECT = {
    "sqlite3": {"commit", "execute", "fetchall", "fetchone", "rollback"},
    "_ssl": {"do_handshake", "read", "shutdown", "write"},
    "ssl": {"close", "connect", "shutdown"},
    "socket": {"close", "connect", "shutdown"},
}
"""Methods by the module of their class. A statement may take effect only after its last row was fetched."""

Setting = dict[str, Any]


@asynccontextmanager
async def running(setting: Setting) -> AsyncIterator[tuple[Vault, TokenService]]:
    """The token service and its vault, as bridge.app builds them."""
    clock = SystemClock()
    store = open_store(
        StoreConfig(path=setting["store"], url=None, key_file=setting["key_file"]), default_path=Path("unused")
    )
    provider = registry.create("office365", MicrosoftProvider(**setting["provider"]), clock)
    vault = Vault(store)

    async def verify(account: Account, token: object) -> None:
        raise AssertionError("the id_token tells who signed in")

    tokens = TokenService(vault, {"office365": provider}, clock, NoticeBus(), lambda address: address, verify)
    async with tokens.running():
        yield vault, tokens
    await provider.close()
    await store.close()


def account(setting: Setting) -> Account:
    return Account(setting["account"], "office365", setting["account"], {})


def say(**fields: object) -> None:
    os.write(1, json.dumps(fields).encode() + b"\n")


def kill_at(number: int) -> None:
    """Count the steps from now on, in all threads, and kill the process at this one."""
    steps = itertools.count(1)

    def step(frame: FrameType, kind: str, called: Any) -> None:
        if kind not in ("c_call", "c_return", "c_exception"):
            return
        if called.__name__ not in WITH_EFFECT.get(type(getattr(called, "__self__", None)).__module__, ()):
            return
        if next(steps) == number:
            say(killed=f"{'before' if kind == 'c_call' else 'behind'} {called.__qualname__}")
            os.kill(os.getpid(), signal.SIGKILL)

    threading.setprofile(step)
    sys.setprofile(step)


async def refresh(setting: Setting, number: int) -> None:
    async with running(setting) as (_, tokens):
        kill_at(number)
        try:
            token = await tokens.access_token(account(setting))
            say(token=token.value.reveal())
        except BridgeError as problem:
            say(problem=type(problem).__name__)


def main() -> None:
    setting: Setting = json.loads(Path(sys.argv[1]).read_text())
    logs.configure("error")
    quieten()
    for line in sys.stdin:
        if (child := os.fork()) == 0:
            say(pid=os.getpid())  # said by the child: on a busy machine it may be killed before the parent says it
            asyncio.run(refresh(setting, int(line)))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        say(ended=os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
