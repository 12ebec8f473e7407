"""The program's own files are replaced while it runs, as by `pip install --upgrade` or `git pull`."""

from __future__ import annotations

import http.client
import os
import shutil
import signal
from datetime import date
from pathlib import Path

import pytest

import bridge as program
from tests.e2e.asking import asked
from tests.e2e.bridge import running
from tests.e2e.conftest import BOB, World, ever_expired
from tests.e2e.logins import LATER, YES, answer, imap_says
from tests.servers.daemons import free_ports

pytestmark = pytest.mark.servers


SENTENCE = "has been updated since mail-bridge was started, start it again"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """The program's own files, as a copy."""
    copy = tmp_path / "site" / "bridge"
    shutil.copytree(Path(program.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


def test_parts_that_are_gone_when_they_are_first_wanted_are_told_and_a_login_is_later(
    world: World, tmp_path: Path, files: Path
) -> None:
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
                    assert SENTENCE in line
            assert "Traceback" not in bridge.log


def test_a_part_of_the_new_version_that_does_not_fit_the_old_one_is_no_bug(
    world: World, tmp_path: Path, files: Path
) -> None:
    """It calls what the part that is loaded already does not have; whoever reads a traceback looks for a mistake."""
    bridge = world.bridge(tmp_path)
    bridge.environment["PYTHONPATH"] = str(files.parent)
    with running(bridge):
        for name in ("__init__.py", "ui/web/server.py"):
            new = files / "new"
            new.write_text((files / name).read_text() + "import bridge.notices\nbridge.notices.newer()\n")
            new.replace(files / name)
        with pytest.raises(http.client.RemoteDisconnected):
            bridge.get("/")
        bridge.wait_for_log("console.cannot_load")
        assert SENTENCE in bridge.log
        assert "bridge.ui.web.server:" in bridge.log.split("places=")[1].split("'")[1]  # where it is, beside it
        assert "Traceback" not in bridge.log
        del bridge.environment["PYTHONPATH"]  # commands are of one version
        assert "or was updated since it was started, end it and start it again" in bridge.run("status", code=1)


def test_a_status_without_the_part_that_looks_at_certificates_has_the_other_warnings(
    world: World, tmp_path: Path, files: Path
) -> None:
    bridge = world.bridge(tmp_path)
    bridge.environment["PYTHONPATH"] = str(files.parent)
    bridge.config["providers"]["gmail"]["client_secret_expires"] = date.today()
    (port,) = free_ports(1)
    bridge.config["listeners"]["pop3"] = {"address": f"127.0.0.1:{port}", "tls": "implicit"}
    with running(bridge):
        bridge.get("/")
        shutil.rmtree(files)
        found = asked(bridge.meeting_places(), lambda control: control.status())
        assert found is not None
        assert [warning.key for warning in found.warnings] == ["secret.today"]


def test_a_worker_that_the_new_version_cannot_start_says_what_to_do(world: World, tmp_path: Path, files: Path) -> None:
    """It dies again and again, and only the end of its process would be told."""
    bridge = world.bridge(tmp_path)
    bridge.environment["PYTHONPATH"] = str(files.parent)
    bridge.config["workers"] = 2
    with running(bridge):
        bridge.wait_for_log("worker.up")
        for name in ("__init__.py", "ui/cli/worker.py"):
            new = files / "new"
            new.write_text((files / name).read_text() + "import bridge.notices\nbridge.notices.newer()\n")
            new.replace(files / name)
        os.kill(bridge.workers[0], signal.SIGKILL)
        bridge.wait_for_log("worker.not_started")
        assert SENTENCE in bridge.log


@pytest.mark.parametrize("change", ["provider", "port"])
def test_a_change_that_wants_a_part_that_is_gone_is_refused_as_a_whole(
    world: World, tmp_path: Path, files: Path, change: str
) -> None:
    """A provider of another kind has an adapter of its own, and a port with TLS a certificate that is made here."""
    bridge = world.bridge(tmp_path)
    bridge.environment["PYTHONPATH"] = str(files.parent)
    before, after = dict(bridge.config), dict(bridge.config)
    (port,) = free_ports(1)
    before["providers"] = {"office365": bridge.config["providers"]["office365"]}
    before["accounts"] = [{"address": BOB, "provider": "office365"}]
    if change == "port":
        after = before | {
            "listeners": before["listeners"] | {"pop3": {"address": f"127.0.0.1:{port}", "tls": "implicit"}}
        }
    bridge.config = before
    with running(bridge):
        bridge.sign_in(world.provider, BOB)
        login = bridge.login(BOB)
        shutil.rmtree(files)
        bridge.config = after
        bridge.write_config()
        bridge.wait_for_log("configuration.refused")
        assert SENTENCE in bridge.log
        assert "Traceback" not in bridge.log
        assert all(said.startswith(YES[protocol]) for protocol, said in ((p, answer(login, p)) for p in YES))
