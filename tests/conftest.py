"""Fixtures that more than one directory of tests uses."""

from __future__ import annotations

import gc
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
from tests.servers.os_user import OsUser, os_user
from tests.whole_files import drop_damaged

os.environ["LC_ALL"] = "C.UTF-8"  # what the tests read is English, whatever the developer's system speaks

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell ignores SIGINT for what it runs in the background; the programs that the tests start would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)

if sys.platform != "win32" and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    # Under `nohup` SIGHUP is ignored, and mail-bridge respects that: the programs that the tests start would outlive
    # their terminals. The tests themselves still ignore the signal.
    signal.signal(signal.SIGHUP, lambda number, frame: None)

COVERAGE = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("COVERAGE_")}
"""Makes a child process measure its coverage: meant for the program itself, not for children that tests kill."""


hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")  # otherwise a property that holds would fail on a busy machine


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--chaos-seed",
        default=os.environ.get("MAIL_BRIDGE_CHAOS_SEED", ""),
        help="of tests/e2e/test_chaos.py: N, or N:ROUND for one round of it; by default another one each time",
    )


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Keep what all tests are made of out of the collections to come: a test that collects garbage to see what it has
    left, of which there are some hundred, would look through all of it."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True, trylast=True)  # ends before pytest-cov's own wrapper, which combines the files
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    """A process that died while it wrote its coverage loses its own numbers, but does not spoil the whole run."""
    try:
        return (yield)
    finally:
        drop_damaged(Path(os.environ.get("COVERAGE_FILE", session.config.rootpath / ".coverage")))


@pytest.fixture(scope="session", autouse=True)
def dumps_stay_allowed() -> Iterator[None]:
    """Commands that tests call in this process do not forbid core dumps: that cannot be undone, and tests/host/
    test_hardening may follow in the same process."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("bridge.host.hardening.forbid_dumps", lambda: None)
        yield


@pytest.fixture(scope="module", autouse=True)
def everything_is_closed() -> Iterator[None]:
    """Collects garbage after the module, so that a leaked socket or task is reported here and not in another module."""
    yield
    gc.collect()


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """Everything that is logged, one JSON object per line."""
    with captured("debug", "json") as stream:
        yield stream


@pytest.fixture
def without_files(tmp_path: Path) -> Path:
    """A directory in which nobody can create a file: not root, and not Windows' Python under wine run by root."""
    if (system := Path("/sys").absolute()).is_dir():
        return system
    directory = tmp_path / "closed"
    directory.mkdir(0o500)
    if sys.platform == "win32":
        subprocess.run(["icacls", str(directory), "/deny", "*S-1-1-0:(WD,AD)"], check=True)
    return directory


@pytest.fixture(scope="session")
def colleague() -> Iterator[OsUser]:
    """A second user of this machine, without rights."""
    with os_user(f"mb-colleague-{os.getpid()}") as user:
        yield user


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A certificate authority for this test process."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def authorization_server(authority: Authority) -> Iterator[AuthorizationServer]:
    """A fresh authorization server."""
    with serve(authority) as server:
        yield server
