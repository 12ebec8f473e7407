"""A database whose calls hang: it is given up in time, and holds up neither the next one nor the end."""

from __future__ import annotations

import threading

import pytest

from bridge.advice.said import said
from bridge.errors import StoreUnavailable
from bridge.stores import worker as module
from bridge.stores.worker import Worker


async def test_an_answer_that_does_not_come_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANSWER_LIMIT", 0.05)
    worker, answer = Worker(said("the store")), threading.Event()
    try:
        for _ in range(2):
            with pytest.raises(StoreUnavailable, match=r"the store has not answered for 0\.05 s"):
                await worker.run(answer.wait)
        await worker.close(lambda: None)
    finally:
        answer.set()
