"""Fixtures for several tests of the transport and of the adapters above it."""

from __future__ import annotations

import pytest

from tests.oauth.raw import Tls, certificates


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    """A CA and a server context, new for each module, for tests/oauth/raw.py."""
    return certificates(tmp_path_factory.mktemp("ca"))
