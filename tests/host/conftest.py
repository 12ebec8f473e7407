"""Run the tests of everything that depends on the operating system on the program's own kind of event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest

from bridge.host.loop import new_event_loop


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"program": new_event_loop}
