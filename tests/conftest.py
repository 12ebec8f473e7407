"""Fixtures of more than one directory."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from collections.abc import Generator, Iterator
from pathlib import Path

import hypothesis
import pytest

from tests.captured import captured
from tests.servers.authorization import AuthorizationServer
from tests.servers.authorization import authorization_server as serve
from tests.servers.ca import Authority
from tests.whole_files import drop_damaged

os.environ["LC_ALL"] = "C.UTF-8"  # what the tests read is English, whatever the developer's system speaks

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # As a shell has it for what it runs in the background; programs that the tests start would not hear it either.
    signal.signal(signal.SIGINT, signal.default_int_handler)

if sys.platform != "win32" and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    # As `nohup` has it, and mail-bridge respects it: what the tests start would outlive its terminal. They do so still.
    signal.signal(signal.SIGHUP, lambda number, frame: None)

COVERAGE = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("COVERAGE_")}
"""How a child process is measured: only for the program itself, not for children that tests kill in the middle."""


hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")  # else a busy machine fails a property that holds


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--chaos-seed",
        default=os.environ.get("MAIL_BRIDGE_CHAOS_SEED", ""),
        help="of tests/e2e/test_chaos.py: N, or N:ROUND for one round of it; by default another one each time",
    )


@pytest.hookimpl(wrapper=True, trylast=True)  # before pytest-cov's own end of the loop, which reads what is there
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    """Of a process that died while it wrote its coverage, the numbers are missing; the run is not."""
    try:
        return (yield)
    finally:
        drop_damaged(Path(os.environ.get("COVERAGE_FILE", session.config.rootpath / ".coverage")))


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """All that is logged, a JSON object a line."""
    with captured("debug", "json") as stream:
        yield stream


@pytest.fixture
def without_files(tmp_path: Path) -> Path:
    """A directory in which nobody makes a file: root neither, nor Windows' Python under wine, where that is root."""
    if (system := Path("/sys").absolute()).is_dir():
        return system
    directory = tmp_path / "closed"
    directory.mkdir(0o500)
    if sys.platform == "win32":
        subprocess.run(["icacls", str(directory), "/deny", "*S-1-1-0:(WD,AD)"], check=True)
    return directory


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A certificate authority for this test process."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def authorization_server(authority: Authority) -> Iterator[AuthorizationServer]:
    """A fresh authorization server."""
    with serve(authority) as server:
        yield server
