"""Windows: a file in a drive's own current directory, such as C:config.yaml."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bridge.ui.cli.configured import Settings, own_config
from bridge.ui.cli.reaching import known_by
from tests.e2e.bridge import Bridge, configuration

pytestmark = pytest.mark.skipif(sys.platform != "win32", reason="no drives")


def of_the_drive(file: Path) -> str:
    return f"{file.drive}{file.name}"


def test_it_is_known_by_its_whole_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "config.yaml"
    assert own_config(Settings(Path(of_the_drive(file)), None)) == ["--config", str(file)]
    assert known_by(Path(of_the_drive(file))) == known_by(file)


@pytest.mark.parametrize("how", ["--config", "-c", "environment"])
def test_what_it_names_is_beside_it(tmp_path: Path, how: str) -> None:
    providers = {"gmail": {"kind": "google", "client_id": "1234.apps", "client_secret": "CANARY-secret"}}
    bridge = Bridge(
        tmp_path, configuration(tmp_path, providers, [{"address": "alice@example.com", "provider": "gmail"}])
    )
    bridge.config["store"] = {"path": "of ours/store.sqlite", "key_file": "store.key"}
    file = bridge.write_config()
    command = [sys.executable, "-m", "bridge"]
    environment = dict(bridge.environ)
    if how == "environment":
        environment["MAIL_BRIDGE_CONFIG"] = of_the_drive(file)
    else:
        command += [how, of_the_drive(file)]
    done = subprocess.run(
        [*command, "accounts", "password", "alice@example.com"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=environment,
        cwd=tmp_path,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode("utf-8", "replace")
    assert sorted(os.listdir(tmp_path)) == ["config.yaml", "of ours", "store.key"]
