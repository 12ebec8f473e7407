"""Work for a mail program that may give up before it is done: the work ends when the program has gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bridge.errors import PeerGone
from bridge.relay.channel import Channel

LOOK_SECONDS = 0.25
"""Between two looks whether the client is still there."""


@asynccontextmanager
async def while_wanted(client: Channel) -> AsyncIterator[None]:
    """Cancel the body once nothing more can come from the client; nobody may receive from it meanwhile.

    Raises: PeerGone then.
    """
    gone = PeerGone("the client has left while it waited for its turn")
    if client.has_left:
        raise gone
    loop = asyncio.get_running_loop()
    limit = asyncio.timeout(None)
    timer: asyncio.TimerHandle

    def look() -> None:
        nonlocal timer
        if client.has_left:
            limit.reschedule(loop.time())
        else:
            timer = loop.call_later(LOOK_SECONDS, look)

    timer = loop.call_later(LOOK_SECONDS, look)
    try:
        async with limit:
            yield
    except TimeoutError:
        if limit.expired():
            raise gone from None
        raise
    finally:
        timer.cancel()
