"""The running program with a store that is locked, full, gone, read-only or damaged, and with all sorts of keyrings."""

from __future__ import annotations

import base64
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from tests.e2e.bridge import running
from tests.e2e.conftest import ALICE, BOB, World, ever_expired
from tests.e2e.logins import assert_replies, imap_says, replies
from tests.e2e.settled import Settled, observed
from tests.servers.disks import copying_disk, failing_disk, full, small_disk
from tests.servers.needed import absent
from tests.servers.packages import needs

pytestmark = pytest.mark.servers


@contextmanager
def locked(store: Path) -> Iterator[None]:
    """Locked by another program, which has begun to write."""
    with closing(sqlite3.connect(store, isolation_level=None)) as database:
        database.execute("BEGIN IMMEDIATE")
        yield
        database.execute("ROLLBACK")


@contextmanager
def gone(store: Path) -> Iterator[None]:
    store.rename(store.with_name("elsewhere"))
    yield
    store.with_name("elsewhere").rename(store)


@contextmanager
def held(store: Path) -> Iterator[None]:
    """Locked by another program that does not even let others read, such as one that makes a copy."""
    with closing(sqlite3.connect(store, isolation_level=None)) as database:
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        database.execute("BEGIN EXCLUSIVE")
        yield
        database.execute("ROLLBACK")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A separate small disk."""
    with small_disk(tmp_path / "disk") as directory:
        yield directory


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (locked, "is locked by another program"),
        (full, "cannot be written: the disk is full"),
        (gone, "is gone; put it back, or restart mail-bridge to begin anew"),
    ],
)
def test_a_store_that_is_away_is_told_and_works_again_when_it_is_back(
    world: World, disk: Path, tmp_path: Path, fault: Callable[[Path], AbstractContextManager[None]], words: str
) -> None:
    bridge = world.bridge(tmp_path)
    store = disk / "store.sqlite"
    bridge.config["store"]["path"] = str(store)
    with ever_expired(world), observed(bridge), running(bridge):
        bridge.sign_in(world.provider, BOB)
        login = bridge.login(BOB)
        settled = Settled.of(bridge, login)
        asked = world.provider.count("refresh_token")
        with fault(store):
            assert imap_says(login).startswith("1 NO [UNAVAILABLE] The bridge cannot open its token store just now.")
            bridge.wait_for_log(f"{store} {words}")
            assert world.provider.count("refresh_token") == asked  # no refresh whose token could not be saved
        assert imap_says(login).startswith("1 OK"), bridge.log
        assert world.provider.count("refresh_token") == asked + 1
        settled.check(are_grants_kept=False)


def test_a_full_disk_with_btrfs_is_told_and_ends_no_bridge(world: World, tmp_path: Path) -> None:
    bridge = world.bridge(tmp_path)
    with copying_disk(tmp_path / "disk") as disk:
        store = disk / "store.sqlite"
        bridge.config["store"]["path"] = str(store)
        with ever_expired(world), observed(bridge), running(bridge):
            bridge.sign_in(world.provider, BOB)
            login = bridge.login(BOB)
            os.sync()
            with full(store):
                os.sync()
                for text in replies(login).values():
                    assert "The bridge cannot open its token store just now." in text
                bridge.wait_for_log(f"{store} cannot be written: the disk is full")
            assert imap_says(login).startswith("1 OK"), bridge.log


def test_a_disk_that_fails_while_the_bridge_runs_is_told_as_read_only_and_no_token_is_used_up(
    world: World, tmp_path: Path
) -> None:
    """With `errors=remount-ro`: open files stay open, but nothing can be written to them any more."""
    bridge = world.bridge(tmp_path)
    with failing_disk(tmp_path / "disk") as (disk, trigger):
        store = disk / "store.sqlite"
        bridge.config["store"]["path"] = str(store)
        with ever_expired(world), running(bridge):
            bridge.sign_in(world.provider, BOB)
            login = bridge.login(BOB)
            asked = world.provider.count("refresh_token")
            trigger.write_text("1")
            for text in replies(login).values():
                assert "The bridge cannot open its token store just now." in text
            bridge.wait_for_log(f"{store} cannot be written: the system has made its disk read-only")
            assert world.provider.count("refresh_token") == asked
            assert "the system has made its disk read-only" in bridge.run("status")


def test_a_sign_in_by_the_command_alone_waits_for_the_store(world: World, disk: Path, tmp_path: Path) -> None:
    """No bridge runs that could save the sign-in later: it would be lost when the command ends."""
    bridge = world.bridge(tmp_path)
    store = disk / "store.sqlite"
    bridge.config["store"]["path"] = str(store)
    bridge.run("accounts", "list")  # this creates the store
    pages = list[str]()
    with ExitStack() as away:

        def act(line: str, command: subprocess.Popen[str]) -> None:
            if (match := re.match(r"\s+(https://\S+)", line)) is not None:
                away.enter_context(full(store))
                pages.append(bridge.redirect(world.provider.consent(match[1], ALICE))[1])
            if "This command waits for that" in line:
                away.close()

        said = bridge.dialogue("authorize", ALICE, "--no-browser", act=act)
    assert "mail-bridge keeps it in memory, and saves it" in pages[0]
    kept = "mail-bridge keeps it in memory, and saves it as soon as the token store allows"
    assert f"the disk is full. {kept}. Nobody needs to sign in again, unless mail-bridge stops before then." in said
    assert f"{ALICE} is signed in as {ALICE}." in said
    assert "IMAP  works" in said
    assert bridge.json("accounts", "list")[0]["state"] == "ready"


def test_a_token_from_elsewhere_is_not_used_up_for_a_store_that_does_not_take_it(
    world: World, disk: Path, tmp_path: Path
) -> None:
    """The token may work only once."""
    bridge = world.bridge(tmp_path)
    store = disk / "store.sqlite"
    bridge.config["store"]["path"] = str(store)
    bridge.run("accounts", "list")
    token, asked = world.provider.issue_refresh_token(BOB), world.provider.count("refresh_token")
    with full(store):
        assert "the disk is full" in bridge.run("accounts", "adopt", BOB, stdin=f"{token}\n", code=1)
    assert world.provider.count("refresh_token") == asked
    assert "is signed in" in bridge.run("accounts", "adopt", BOB, stdin=f"{token}\n")


@pytest.mark.parametrize(
    ("fault", "words", "has_all"),
    [
        (held, "is locked by another program", False),
        (full, "cannot be written: the disk is full", False),
        (full, "cannot be written: the disk is full", True),
    ],
    ids=["locked", "full", "full, with all other data"],
)
def test_a_store_that_is_away_for_a_moment_at_the_start_does_not_end_it(
    world: World,
    disk: Path,
    tmp_path: Path,
    fault: Callable[[Path], AbstractContextManager[None]],
    words: str,
    has_all: bool,
) -> None:
    """A service manager takes exit code 2 for something that must be changed first, and would not restart it."""
    bridge = world.bridge(tmp_path)
    if has_all:
        bridge.environment["XDG_DATA_HOME"] = str(disk / "data")
    store = disk / "store.sqlite"
    bridge.config["store"]["path"] = str(store)
    with running(bridge):
        bridge.sign_in(world.provider, BOB)
        login = bridge.login(BOB)
    with ExitStack() as stack:
        with fault(store):
            stack.enter_context(running(bridge))
            assert f"{store} {words}" in bridge.log
            assert set(replies(login)) == {"imap", "pop3", "smtp"}
            for protocol, text in replies(login).items():
                assert "The bridge cannot open its token store just now" in text, protocol
            assert ("other commands do not find the running mail-bridge" in bridge.log) is has_all
        assert imap_says(login).startswith("1 OK"), bridge.log
        bridge.wait_until(lambda: "configuration: " in bridge.run("status", code=None), "other commands find it")


def test_a_store_on_a_read_only_disk_ends_the_start_and_stays_as_it_is(world: World, tmp_path: Path) -> None:
    bridge = world.bridge(tmp_path)
    home = tmp_path / "read-only"
    home.mkdir(mode=0o700)
    store = home / "store.sqlite"
    bridge.config["store"]["path"] = str(store)
    with running(bridge):
        bridge.sign_in(world.provider, BOB)
        login = bridge.login(BOB)
    before = store.read_bytes()
    mounts = f"mount --bind '{home}' '{home}' && mount -o remount,bind,ro '{home}' && exec \"$@\""
    bridge.launcher = ["unshare", "--mount", "sh", "-c", mounts, "sh"]
    if shutil.which("unshare") is None or subprocess.run([*bridge.launcher, "true"], check=False).returncode != 0:
        absent("the right to a mount namespace")
    with pytest.raises(AssertionError, match="did not start"):
        bridge.start()
    assert f"cannot start: {store} cannot be opened: Read-only file system" in bridge.log
    assert "Traceback" not in bridge.log
    assert store.read_bytes() == before
    bridge.launcher = []
    with running(bridge):
        assert imap_says(login).startswith("1 OK"), bridge.log


@pytest.mark.parametrize("damage", ["head", "middle"])
def test_a_damaged_store_is_told_and_not_written_to(world: World, tmp_path: Path, damage: str) -> None:
    bridge = world.bridge(tmp_path)
    store = tmp_path / "store.sqlite"
    with running(bridge):
        bridge.sign_in(world.provider, BOB)
        login = bridge.login(BOB)
    good = store.read_bytes()
    bad = b"\xa5" * 100 + good[100:] if damage == "head" else good[:4096] + b"\xa5" * (len(good) - 4096)
    store.write_bytes(bad)
    said = bridge.run("run", code=2)
    assert f"{store} is " in said
    assert "move it away" in said
    assert "Traceback" not in said
    assert store.read_bytes() == bad
    store.write_bytes(good)
    with running(bridge):
        assert imap_says(login).startswith("1 OK"), bridge.log


def test_a_key_file_that_is_replaced_stops_nobody_and_is_told_before_the_next_start(
    world: World, tmp_path: Path
) -> None:
    bridge = world.bridge(tmp_path)
    key = tmp_path / "key"
    with ever_expired(world), running(bridge):
        bridge.sign_in(world.provider, BOB)
        login, good = bridge.login(BOB), key.read_bytes()
        key.write_bytes(base64.b64encode(os.urandom(32)))
        assert imap_says(login).startswith("1 OK"), bridge.log
        assert "FAILED  store: this key does not belong to this store" in bridge.run("check", "--online", code=2)
        assert imap_says(login).startswith("1 OK"), bridge.log
    assert "this key does not belong to this store" in bridge.run("run", code=2)
    key.write_bytes(good)
    with running(bridge):
        assert imap_says(login).startswith("1 OK"), bridge.log


def test_trap_39_a_keyring_that_keeps_plain_text_gets_no_key(world: World, tmp_path: Path) -> None:
    bridge = world.bridge(tmp_path)
    bridge.environment["PYTHON_KEYRING_BACKEND"] = "tests.servers.plaintext_keyring.PlaintextKeyring"
    del bridge.config["store"]["key_file"]
    for command in ("check", "run"):
        said = bridge.run(command, code=2)
        assert "PlaintextKeyring, does not protect what it keeps" in said
        assert "store: {key_file:" in said
    assert not (tmp_path / "plaintext-keyring.json").exists()


@pytest.fixture
def session(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a separate session bus; its keyring daemons end with it."""
    needs("gnome-keyring", "dbus")
    runtime = tmp_path / "run"
    runtime.mkdir(mode=0o700)
    environment = {"HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path / "data"), "XDG_RUNTIME_DIR": str(runtime)}
    command = ["dbus-daemon", "--session", "--nofork", "--print-address=1"]
    path = {"PATH": os.environ["PATH"]}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=path | environment
    ) as bus:
        assert bus.stdout is not None
        yield environment | {"DBUS_SESSION_BUS_ADDRESS": bus.stdout.readline().strip()}
        bus.terminate()


def keyring_daemon(session: dict[str, str], *, unlocked: bool) -> None:
    """Start a keyring daemon, which replaces one that is already running."""
    how = ["--replace", "--unlock"] if unlocked else ["--replace", "--daemonize"]
    subprocess.run(
        ["gnome-keyring-daemon", *how, "--components=secrets"],
        input=b"CANARY-login" if unlocked else b"",
        env={"PATH": os.environ["PATH"], **session},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
        timeout=30,
    )


@pytest.mark.keyring_daemon
def test_a_keyring_that_is_locked_at_the_start_is_waited_for_and_its_key_is_kept(
    world: World, tmp_path: Path, session: dict[str, str]
) -> None:
    bridge = world.bridge(tmp_path)
    del bridge.config["store"]["key_file"]
    bridge.environment |= session
    keyring_daemon(session, unlocked=True)
    with running(bridge):
        bridge.sign_in(world.provider, ALICE)
        login = bridge.login(ALICE)
        assert imap_says(login).startswith("1 OK")
    keyring_daemon(session, unlocked=False)
    with running(bridge):
        assert "store.unavailable" in bridge.log
        for protocol, text in replies(login).items():
            assert "The bridge cannot open its token store just now" in text, protocol
        bridge.wait_for_log("unlock it. A file may hold the key instead")
        keyring_daemon(session, unlocked=True)
        until = time.monotonic() + 30
        while not imap_says(login).startswith("1 OK"):
            assert time.monotonic() < until, bridge.log
            threading.Event().wait(0.2)
        keyring_daemon(session, unlocked=False)
        assert imap_says(login).startswith("1 OK")  # the bridge already has the key
    assert "CANARY" not in bridge.log


def stored(store: Path, key: str) -> bytes:
    with closing(sqlite3.connect(store)) as database:
        (value,) = database.execute("SELECT value FROM bridge_records WHERE key = ?", (key,)).fetchone()
        return bytes(value)


def damage(store: Path, key: str) -> bytes:
    """Damage one record, as a failing disk would; the others stay readable. Returns: what is stored now."""
    value = stored(store, key)
    damaged = value[:40] + bytes([value[40] ^ 1]) + value[41:]
    with closing(sqlite3.connect(store)) as database, database:
        database.execute("UPDATE bridge_records SET value = ? WHERE key = ?", (damaged, key))
    return damaged


def test_where_store_and_key_are_removed_all_of_it_begins_anew(world: World, tmp_path: Path) -> None:
    """For an administrator who suspects that the key was seen (docs/security.md): if only the store were removed, the
    key would stay."""
    bridge = world.bridge(tmp_path)
    store, key_file = tmp_path / "store.sqlite", Path(bridge.config["store"]["key_file"])
    with running(bridge):
        bridge.sign_in(world.provider, ALICE)
        login = bridge.login(ALICE)
        assert imap_says(login).startswith("1 OK"), bridge.log
    key = key_file.read_bytes()
    bridge.run("accounts", "forget", ALICE, "--yes")
    key_file.unlink()
    assert "put it back. To give up the records, move the store away" in bridge.run("run", code=2)
    store.unlink()
    with running(bridge):
        assert key_file.read_bytes() != key
        assert imap_says(login).startswith("1 NO [AUTHENTICATIONFAILED]")
        bridge.sign_in(world.provider, ALICE)
        login = bridge.login(ALICE, bridge.password(ALICE))
        assert imap_says(login).startswith("1 OK"), bridge.log


def test_one_damaged_record_costs_its_account_a_command_and_the_others_nothing(world: World, tmp_path: Path) -> None:
    bridge = world.bridge(tmp_path)
    store = tmp_path / "store.sqlite"
    with running(bridge):
        for address in (ALICE, BOB):
            bridge.sign_in(world.provider, address)
        logins = [bridge.login(address) for address in (ALICE, BOB)]
    damaged = damage(store, f"grant/{BOB}")
    with running(bridge):
        assert imap_says(logins[0]).startswith("1 OK")
        assert_replies(replies(logins[1]), "[CONTACTADMIN]", "[SYS/PERM]", "454 4.7.0")
    assert stored(store, f"grant/{BOB}") == damaged
    damage(store, f"password/{BOB}")
    with running(bridge):
        assert imap_says(logins[0]).startswith("1 OK")
        assert imap_says(logins[1]).startswith("1 NO [CONTACTADMIN]")
        assert f"mail-bridge accounts password --rotate {BOB}" in bridge.run("accounts", "password", BOB, code=1)
        assert f"mail-bridge accounts forget {BOB}" in bridge.run("accounts", "list")
        bridge.run("accounts", "password", "--rotate", BOB)
        bridge.sign_in(world.provider, BOB)
        assert imap_says(bridge.login(BOB)).startswith("1 OK"), bridge.log
        damage(store, f"grant/{BOB}")
        bridge.run("accounts", "forget", BOB, "--yes")
        bridge.sign_in(world.provider, BOB)
        assert imap_says(bridge.login(BOB)).startswith("1 OK"), bridge.log
        assert imap_says(logins[0]).startswith("1 OK")
    assert "Traceback" not in bridge.log


@pytest.mark.keyring_daemon
def test_a_secret_in_a_locked_keyring_is_waited_for_at_the_start_and_at_a_reload(
    world: World, tmp_path: Path, session: dict[str, str]
) -> None:
    bridge = world.bridge(tmp_path)
    bridge.environment |= session
    secret = bridge.config["providers"]["gmail"]["client_secret"]
    keyring_daemon(session, unlocked=True)
    store = "from bridge.secret import Secret; from bridge.stores.named_secrets import write_named_secret as write"
    subprocess.run(
        [sys.executable, "-c", f"{store}; write('gmail', Secret({secret!r}))"], env=bridge.environ, check=True
    )
    bridge.config["providers"]["gmail"]["client_secret"] = "${keyring:gmail}"
    keyring_daemon(session, unlocked=False)

    def unlock_once_refused() -> None:
        bridge.wait_for_log("configuration.refused")
        keyring_daemon(session, unlocked=True)

    unlocker = threading.Thread(target=unlock_once_refused, daemon=True)
    unlocker.start()
    with running(bridge):
        unlocker.join()
        bridge.sign_in(world.provider, ALICE)
        keyring_daemon(session, unlocked=False)
        bridge.config["log"] = {"level": "info"}
        refused = bridge.log.count("configuration.refused")
        bridge.write_config()
        bridge.wait_until(lambda: bridge.log.count("configuration.refused") > refused, "refused")
        keyring_daemon(session, unlocked=True)
        bridge.wait_for_log("configuration.read")
    assert "CANARY" not in bridge.log
