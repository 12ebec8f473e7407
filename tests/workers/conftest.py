"""The event loop that workers and their bridge run on in these tests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest

from bridge.host.loop import new_event_loop


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"program": new_event_loop}
