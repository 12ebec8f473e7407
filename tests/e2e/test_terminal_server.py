"""One service for a whole machine, and the other users of that machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers.daemons import short_directory
from tests.servers.os_user import os_user

pytestmark = pytest.mark.servers


def test_a_configuration_in_a_closed_directory_is_none_of_ours() -> None:
    with os_user(f"mb-dave-{os.getpid()}") as dave, short_directory("mb-closed-") as directory:
        (directory / "config.yaml").touch()
        directory.chmod(0o700)
        command = [sys.executable, "-m", "bridge", "-c", str(directory / "config.yaml"), "status"]
        surroundings = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "PYTHONPATH": str(Path(__file__).parents[2])}
        done = subprocess.run(
            [*dave.launcher(), *command], env=surroundings, cwd="/", capture_output=True, text=True, check=False
        )
        assert done.returncode == 2
        assert "there is no such file" in done.stderr
        assert "Traceback" not in done.stderr
