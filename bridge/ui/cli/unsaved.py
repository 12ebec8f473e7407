"""A sign-in that the store does not take yet, in a command that ends with it: no bridge runs to leave it to."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import click

from bridge.advice.said import said
from bridge.control.contract import AccountStatus
from bridge.errors import BridgeError, SignInUnsaved
from bridge.ui.i18n import say

Save = Callable[[str], Awaitable[AccountStatus]]
"""Tries to save what waits for this account. Raises: SignInUnsaved while the store does not take it."""
AGAIN_SECONDS = 2.0
WAIT_SECONDS = 3600.0
"""Time to make room on a disk, or to unlock a keyring; a command in a script must not wait for ever."""


async def saved(save: Save, address: str, sentence: str, *, wait: float = WAIT_SECONDS) -> AccountStatus:
    """The account, once its sign-in is saved; `sentence` says that it waits. An attempt under way is not interrupted.

    Raises: BridgeError where it is lost.
    """
    here = say("This command waits for that. If you end it before (Ctrl-C), you must sign in again.")
    click.echo(f"mail-bridge: {sentence}\n{here}", err=True)
    clock = asyncio.get_running_loop().time
    end = clock() + wait
    while True:
        try:
            return await save(address)
        except SignInUnsaved as problem:
            if clock() >= end:
                lost = said(
                    "The sign-in for {address} could not be saved, and is lost: sign in again.", address=address
                )
                raise BridgeError(lost) from problem
        await asyncio.sleep(AGAIN_SECONDS)
