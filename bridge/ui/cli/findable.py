"""Lets other commands find this process: a file for each name of its configuration, while it serves."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

from bridge.control import rendezvous
from bridge.errors import BridgeError
from bridge.observe.logs import trouble
from bridge.secret import Secret
from bridge.shortage import may_pass
from bridge.tasks import task_group
from bridge.ui.cli.starting import ends_the_start

TRY_SECONDS = 5.0
"""Until we try again to publish where the disk had no room for the file: mail programs are served meanwhile."""


@asynccontextmanager
async def findable(directories: Iterable[Path], url: str, token: Secret[str]) -> AsyncIterator[None]:
    """Publish this bridge in each of them, on a full disk as soon as there is room, and withdraw it at the end.

    Raises: CannotStart where somebody must change something first.
    """
    places = tuple(directories)
    async with task_group() as group:
        late = []
        try:
            for directory in places:
                try:
                    rendezvous.publish(directory, url, token, os.getpid())
                except BridgeError as problem:
                    if not may_pass(problem.__cause__):
                        raise ends_the_start(problem) from problem
                    trouble("control.not_published", reason=str(problem))
                    late.append(group.create_task(_publish_later(directory, url, token)))
            yield
        finally:
            for publishing in late:
                publishing.cancel()
            for directory in places:
                rendezvous.withdraw(directory, token)


async def _publish_later(directory: Path, url: str, token: Secret[str]) -> None:
    while True:
        await asyncio.sleep(TRY_SECONDS)
        try:
            return rendezvous.publish(directory, url, token, os.getpid())
        except BridgeError as problem:
            if not may_pass(problem.__cause__):
                return trouble("control.not_published", reason=str(problem))
