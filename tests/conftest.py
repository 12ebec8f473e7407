"""Fixtures of more than one directory."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.servers.authorization import AuthorizationServer
from tests.servers.authorization import authorization_server as serve
from tests.servers.ca import Authority

os.environ["LC_ALL"] = "C.UTF-8"  # what the tests read is English, whatever the developer's system speaks

COVERAGE = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("COVERAGE_")}
"""How a child process is measured: only for the program itself, not for children that tests kill in the middle."""


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A certificate authority for this test process."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def authorization_server(authority: Authority) -> Iterator[AuthorizationServer]:
    """A fresh authorization server."""
    with serve(authority) as server:
        yield server
