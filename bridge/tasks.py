"""A TaskGroup for long-lived helpers of an object: what its body raises comes out as it is, not in a group."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


@asynccontextmanager
async def task_group() -> AsyncIterator[asyncio.TaskGroup]:
    """Leaving waits for the tasks, whether the body ended well or not: what they have under way must be saved.

    Raises: what the body raises; an ExceptionGroup only for a task that failed.
    """
    problem: BaseException | None = None
    async with asyncio.TaskGroup() as group:
        try:
            yield group
        except BaseException as error:  # noqa: BLE001  raised again below: in here it would end in a group
            problem = error
    if problem is not None:
        raise problem
