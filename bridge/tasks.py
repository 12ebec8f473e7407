"""A TaskGroup for an object's long-lived helpers: an error of its body is raised as it is, not in an ExceptionGroup."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


@asynccontextmanager
async def task_group() -> AsyncIterator[asyncio.TaskGroup]:
    """Leaving waits for the tasks, even if the body failed, because their results must be saved.

    Raises: what the body raises; an ExceptionGroup only for a task that failed.
    """
    problem: BaseException | None = None
    async with asyncio.TaskGroup() as group:
        try:
            yield group
        except BaseException as error:  # noqa: BLE001  raised again below: in here it would be put in a group
            problem = error
    if problem is not None:
        raise problem
