"""The key in a real gnome-keyring, unlocked and locked, each in a session bus and a home of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers.needed import absent

pytestmark = pytest.mark.keyring_daemon

LIMIT = 60.0
"""Seconds for one session; it takes about two."""

OPEN_KEY = """
import asyncio, hashlib, os, sys, time
from bridge.config.schema import StoreConfig
from bridge.errors import BridgeError
from bridge.stores.keys import open_key

async def main():
    for has_records in (False, True):
        began = time.monotonic()
        try:
            key = await open_key(StoreConfig(path=None, url=None, key_file=None), has_records=has_records, limit=5.0)
            print(hashlib.sha256(key.reveal()).hexdigest(), flush=True)
        except BridgeError as error:
            print(f"{type(error).__name__}: {error}", flush=True)
        if time.monotonic() - began > 8:
            print("too slow", flush=True)

asyncio.run(main())
"""

NAMED_SECRET = """
from bridge.errors import BridgeError
from bridge.secret import Secret
from bridge.stores.named_secrets import check_named_secrets, read_named_secret, write_named_secret

try:
    print(check_named_secrets(limit=5.0))
    print(read_named_secret("office365", limit=5.0))
    for value in ("CANARY-one", "CANARY-two"):
        write_named_secret("office365", Secret(value), limit=5.0)
    print(read_named_secret("office365", limit=5.0) == "CANARY-two")
except BridgeError as error:
    print(f"{type(error).__name__}: {error}")
"""

SHORT = """
import os
from bridge.errors import KeyringMissing, StoreUnavailable
from bridge.stores.named_secrets import read_named_secret
from bridge.stores.timed_keyring import DESCRIPTORS
from tests.host.limits import out_of_descriptors

for left in range(DESCRIPTORS):
    if os.fork() == 0:  # what was missing is remembered by a process, if at all
        try:
            with out_of_descriptors(left):
                read_named_secret("office365", limit=5.0)
        except KeyringMissing:
            print(left, "missing", flush=True)
        except StoreUnavailable as problem:
            assert "Too many open files" in str(problem), problem
        assert read_named_secret("office365", limit=5.0) is None
        os._exit(0)
    assert os.wait()[1] == 0
"""

UNLOCKED = 'printf "CANARY-login\\n" | gnome-keyring-daemon --unlock --components=secrets >/dev/null; exec "$0" -c "$1"'
LOCKED = 'gnome-keyring-daemon --start --components=secrets >/dev/null; exec "$0" -c "$1"'


def session(home: Path, shell: str, program: str = OPEN_KEY) -> list[str]:
    """The output of the program in a new session of the user with this home directory."""
    for needed in ("dbus-run-session", "gnome-keyring-daemon"):
        if shutil.which(needed) is None:
            absent(needed)
    runtime = home / "run"
    runtime.mkdir(mode=0o700, exist_ok=True)
    strange = (
        "DISPLAY",
        "WAYLAND_DISPLAY",
        "DBUS_SESSION_BUS_ADDRESS",
        "PYTHON_KEYRING_BACKEND",
        "GNOME_KEYRING_CONTROL",
    )
    environment = {name: value for name, value in os.environ.items() if name not in strange}
    environment |= {"HOME": str(home), "XDG_RUNTIME_DIR": str(runtime)}
    environment |= {f"XDG_{name}_HOME": str(home / name.lower()) for name in ("DATA", "CONFIG", "CACHE", "STATE")}
    run = subprocess.run(
        ["dbus-run-session", "--", "sh", "-c", shell, sys.executable, program],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.splitlines()


def test_an_unlocked_keyring_gets_the_key_and_has_it_in_the_next_session_too(tmp_path: Path) -> None:
    first, again = session(tmp_path, UNLOCKED)
    assert len(first) == 64
    assert again == first
    assert session(tmp_path, UNLOCKED) == [first, first]


def test_a_keyring_that_was_never_set_up_says_so_in_time(tmp_path: Path) -> None:
    for said in session(tmp_path, LOCKED):
        assert said.startswith("StoreUnavailable: the OS keyring ")
        assert "unlock it. A file may hold the key instead: `store: {key_file" in said


def test_a_locked_keyring_says_so_in_time_and_keeps_the_key(tmp_path: Path) -> None:
    first, _ = session(tmp_path, UNLOCKED)
    said = session(tmp_path, LOCKED)
    assert len(said) == 2
    for line in said:
        assert line.startswith("StoreUnavailable: the OS keyring ")
        assert "unlock it. A file may hold the key instead" in line
    assert session(tmp_path, UNLOCKED) == [first, first]


def test_a_client_secret_is_kept_under_its_name_where_the_configuration_looks_for_it(tmp_path: Path) -> None:
    assert session(tmp_path, UNLOCKED, NAMED_SECRET) == ["SecretService keyring", "None", "True"]


def test_where_none_was_ever_set_up_no_client_secret_is_offered_a_place_in_it(tmp_path: Path) -> None:
    (said,) = session(tmp_path, LOCKED, NAMED_SECRET)
    assert said.startswith("StoreUnavailable: ")
    assert "CANARY" not in said


def test_a_keyring_that_was_asked_without_descriptors_is_asked_the_next_time(tmp_path: Path) -> None:
    """The error must not be KeyringMissing, which ends a start with exit code 2."""
    assert session(tmp_path, UNLOCKED, SHORT) == []
