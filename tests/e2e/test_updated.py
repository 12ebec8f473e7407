"""The program's own files are replaced while it runs, as by `pip install --upgrade` or `git pull`."""

from __future__ import annotations

import http.client
import shutil
from pathlib import Path

import pytest

import bridge as program
from tests.e2e.bridge import running
from tests.e2e.conftest import BOB, World, ever_expired
from tests.e2e.logins import LATER, imap_says

pytestmark = pytest.mark.servers


def test_parts_that_are_gone_when_they_are_first_wanted_are_told_and_a_login_is_later(
    world: World, tmp_path: Path
) -> None:
    files = tmp_path / "site" / "bridge"
    shutil.copytree(Path(program.__file__).parent, files, ignore=shutil.ignore_patterns("__pycache__"))
    bridge = world.bridge(tmp_path)
    bridge.environment["PYTHONPATH"] = str(files.parent)
    with ever_expired(world):
        with running(bridge):
            bridge.sign_in(world.provider, BOB)
            login = bridge.login(BOB)
        with running(bridge):
            shutil.rmtree(files)
            assert imap_says(login).startswith(LATER["imap"])
            bridge.wait_for_log("refresh.failed")
            with pytest.raises(http.client.RemoteDisconnected):
                bridge.get("/")
            bridge.wait_for_log("console.cannot_load")
            for line in bridge.log.splitlines():
                if "refresh.failed" in line or "console.cannot_load" in line:
                    assert "has been updated since mail-bridge was started, start it again" in line
            assert "Traceback" not in bridge.log
