"""The bus hands facts to callbacks and streams, and never waits for either."""

from __future__ import annotations

import asyncio

from bridge.notices import QUEUE_LIMIT, Authorized, ListenerUp, Notice, NoticeBus


async def test_callbacks_and_subscriptions_get_every_fact_in_order() -> None:
    bus = NoticeBus()
    heard: list[Notice] = []
    bus.on_notice(heard.append)
    facts: list[Notice] = [Authorized("a@x", "a@x"), ListenerUp("imap", "127.0.0.1:1143")]
    with bus.subscription() as queue:
        for fact in facts:
            bus.publish(fact)
        assert [queue.get_nowait(), queue.get_nowait()] == facts
    assert heard == facts
    bus.publish(facts[0])
    assert queue.empty(), "a closed subscription hears nothing more"


async def test_a_slow_subscriber_loses_the_oldest_and_blocks_nobody() -> None:
    bus = NoticeBus()
    with bus.subscription() as queue:
        for number in range(QUEUE_LIMIT + 5):
            bus.publish(ListenerUp("imap", str(number)))
        assert queue.get_nowait() == ListenerUp("imap", "5")


async def test_a_stream_yields_what_is_published_after_it_began() -> None:
    bus = NoticeBus()
    stream = bus.stream()
    first = anext(stream)
    bus.on_notice(lambda _: None)
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(_await(first))
        await asyncio.sleep(0)
        bus.publish(ListenerUp("smtp", "x"))
    assert waiting.result() == ListenerUp("smtp", "x")
    await stream.aclose()


async def _await(awaitable: object) -> object:
    return await awaitable  # type: ignore[misc]  # anext's result
