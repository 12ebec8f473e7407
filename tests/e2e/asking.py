"""What tests ask of a running bridge where the command for it is not what is tested: by the control contract.

As the tray asks it. A command has a Python to start first; tests/e2e/test_commands.py is about those.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from pathlib import Path
from typing import TypeVar

from bridge.control.contract import Control
from bridge.control.remote import connect
from bridge.notices import AuthorizationEnded, Authorized, Notice, ServersChecked

SECONDS = 60
Answer = TypeVar("Answer")


def asked(directories: Iterable[Path], question: Callable[[Control], Awaitable[Answer]]) -> Answer | None:
    """The answer of the bridge that has left word in one of these directories; None if there is none.

    In a thread of its own: the calling test may have a loop.
    """

    async def ask() -> Answer | None:
        async with asyncio.timeout(SECONDS), connect(*directories) as control:
            return None if control is None else await question(control)

    with ThreadPoolExecutor(1) as threads:
        return threads.submit(asyncio.run, ask()).result()


async def local_password(control: Control, address: str) -> str:
    """The one that the mail program logs in with."""
    return (await control.local_password(address)).reveal()


async def sign_in(control: Control, address: str, consent: Callable[[str], object]) -> bool:
    """A whole one; `consent` is the person's part, with the URL. It is over when each mail server was tried."""
    async with aclosing(control.notices()) as notices, asyncio.TaskGroup() as group:
        group.create_task(_over(notices, address))
        await asyncio.sleep(0)  # so that it listens before anything can happen
        begun = await control.begin_authorization(address)
        await asyncio.to_thread(consent, begun.url)
    return True


async def _over(notices: AsyncGenerator[Notice, None], address: str) -> None:
    is_stored = False
    async for notice in notices:
        match notice:
            case Authorized() if notice.address == address:
                is_stored = True
            case ServersChecked() if notice.address == address and is_stored:
                return
            case AuthorizationEnded() if notice.address == address:
                raise AssertionError(notice.reason)
            case _:
                pass
