"""Fixtures of more than one directory."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers.authorization import AuthorizationServer
from tests.servers.authorization import authorization_server as serve
from tests.servers.ca import Authority


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A certificate authority for this test process."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def authorization_server(authority: Authority) -> Iterator[AuthorizationServer]:
    """A fresh authorization server."""
    with serve(authority) as server:
        yield server
