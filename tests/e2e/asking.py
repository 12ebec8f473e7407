"""Questions to a running bridge by the control contract, as the tray asks them, for tests that are not about commands.

A command has to start a Python first, which is slow; tests/e2e/test_commands.py covers the commands.
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
    """The answer of the bridge that has published its address in one of these directories; None if there is none.

    Runs in another thread, because the calling test may have an event loop.
    """

    async def ask() -> Answer | None:
        async with asyncio.timeout(SECONDS), connect(*directories) as control:
            return None if control is None else await question(control)

    with ThreadPoolExecutor(1) as threads:
        return threads.submit(asyncio.run, ask()).result()


async def local_password(control: Control, address: str) -> str:
    """The password with which the mail program logs in."""
    return (await control.local_password(address)).reveal()


async def sign_in(control: Control, address: str, consent: Callable[[str], object]) -> bool:
    """A whole sign-in; `consent` is the person's part and gets the URL. Returns once every mail server was tried."""
    async with aclosing(control.notices()) as notices, asyncio.TaskGroup() as group:
        group.create_task(_over(notices, address))
        await asyncio.sleep(0)  # lets _over() listen before anything can happen
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
