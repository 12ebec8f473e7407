"""What the suites for the flows share."""

from __future__ import annotations

import pytest

from tests.servers.authorization_controls import Fault


@pytest.fixture
def fault() -> Fault | None:
    """The trouble that the test is to make: none, unless it is parametrised."""
    return None
