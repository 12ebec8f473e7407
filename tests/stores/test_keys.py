"""Where the store's key is kept: in files or the OS keyring, and what is refused."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import errno
import os
import re
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import keyring
import pytest
from keyring.backend import KeyringBackend
from keyring.backends import chainer, fail, null
from keyring.errors import InitError, KeyringError, KeyringLocked, NoKeyringError, PasswordDeleteError

from bridge.config.schema import StoreConfig
from bridge.errors import KeyFileUnusable, KeyringMissing, StoreCorrupt, StoreUnavailable
from bridge.secret import Secret
from bridge.stores import key_file
from bridge.stores.keys import KEY_SERVICE, KEY_USER, check_key_home, open_key
from bridge.stores.named_secrets import NAMED_SERVICE, check_named_secrets, read_named_secret, write_named_secret
from bridge.ui.i18n import translation
from tests.host.limits import out_of_descriptors
from tests.servers.disks import open_disk
from tests.silent import no_thread

posix = pytest.mark.skipif(os.name != "posix", reason="POSIX modes")

KEY = b"CANARY".ljust(32, b"\r")  # ends in bytes that text mode would change
TEXT = base64.b64encode(KEY)
IN_KEYRING = StoreConfig(path=None, url=None, key_file=None)


def in_file(path: Path | str) -> StoreConfig:
    return StoreConfig(path=None, url=None, key_file=str(path))


def private(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    path.chmod(0o600)
    return path


def free_descriptor() -> int:
    """The lowest free descriptor: higher with each open file, lower when a thread of an earlier test closes one."""
    handle = os.open(os.devnull, os.O_RDONLY)
    os.close(handle)
    return handle


# --- key files ---


async def test_an_empty_store_gets_a_new_key_in_a_private_file(tmp_path: Path) -> None:
    file = tmp_path / "key"
    made = await open_key(in_file(file), has_records=False)
    assert len(made.reveal()) == 32
    assert base64.b64decode(file.read_bytes()) == made.reveal()
    assert os.listdir(tmp_path) == ["key"]
    if os.name == "posix":
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    for has_records in (False, True):
        assert await open_key(in_file(file), has_records=has_records) == made


async def test_two_stores_get_two_keys(tmp_path: Path) -> None:
    one = await open_key(in_file(tmp_path / "one"), has_records=False)
    assert one != await open_key(in_file(tmp_path / "two"), has_records=False)


@pytest.mark.parametrize("content", [KEY, TEXT, TEXT + b"\n", TEXT + b"\r\n"], ids=["raw", "base64", "lf", "crlf"])
async def test_a_key_may_be_raw_or_base64(tmp_path: Path, content: bytes) -> None:
    file = private(tmp_path / "key", content)
    assert (await open_key(in_file(file), has_records=True)).reveal() == KEY
    assert file.read_bytes() == content


async def test_a_raw_key_that_would_be_base64_too_is_raw(tmp_path: Path) -> None:
    """As made by `openssl rand -hex 16`."""
    file = private(tmp_path / "key", b"CA0123456789abcdef0123456789abcd")
    assert (await open_key(in_file(file), has_records=True)).reveal() == file.read_bytes()


@pytest.mark.parametrize(
    ("content", "size"),
    [
        (b"", 0),
        (b"CANARY", 6),
        (KEY + b"\n", 33),
        (base64.b64encode(KEY[:16]), 16),
        (TEXT[:20] + b"!" + TEXT[20:], 45),
        (b"CANARY!" * 9999, 1024),
    ],
    ids=["empty", "short", "long", "short base64", "no base64", "huge"],
)
@pytest.mark.parametrize("has_records", [False, True])
async def test_what_is_no_key_is_named_and_not_replaced(
    tmp_path: Path, content: bytes, size: int, has_records: bool
) -> None:
    file = private(tmp_path / "key", content)
    with pytest.raises(StoreCorrupt, match=f"the key file {re.escape(str(file))} holds {size} bytes;") as caught:
        await open_key(in_file(file), has_records=has_records)
    assert "CANARY" not in str(caught.value)
    assert file.read_bytes() == content


@posix
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601])
async def test_a_key_that_others_may_touch_is_refused_with_the_command_to_run(tmp_path: Path, mode: int) -> None:
    file = private(tmp_path / "key", TEXT)
    file.chmod(mode)
    before = free_descriptor()
    with pytest.raises(StoreUnavailable, match=f"can be read by other users; run: chmod 600 '{file}'"):
        await open_key(in_file(file), has_records=True)
    assert free_descriptor() <= before, "each login tries again"
    file.chmod(0o400)
    assert (await open_key(in_file(file), has_records=True)).reveal() == KEY


@pytest.mark.servers
async def test_on_a_disk_that_keeps_no_permissions_no_key_is_made_and_no_command_named_that_changes_nothing(
    tmp_path: Path,
) -> None:
    with open_disk(tmp_path / "disk") as disk:
        file = disk / "key"
        words = f"the disk of the key file {file} keeps no permissions.*keep the key on another disk$"
        with pytest.raises(KeyFileUnusable, match=words):
            await open_key(in_file(file), has_records=False)
        assert list(disk.iterdir()) == []
        file.write_bytes(TEXT)
        with pytest.raises(KeyFileUnusable, match=words):
            await open_key(in_file(file), has_records=True)
        assert list(disk.iterdir()) == [file]


@posix
async def test_a_credential_of_systemd_is_private_by_its_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = private(tmp_path / "key", TEXT)
    file.chmod(0o440)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert (await open_key(in_file(file), has_records=True)).reveal() == KEY
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "another"))
    with pytest.raises(StoreUnavailable, match="can be read by other users"):
        await open_key(in_file(file), has_records=True)


async def test_a_missing_key_of_a_store_with_records_is_not_replaced(tmp_path: Path) -> None:
    file = tmp_path / "key"
    with pytest.raises(StoreCorrupt, match=r"the store has records, but their key file .*key does not exist"):
        await open_key(in_file(file), has_records=True)
    assert os.listdir(tmp_path) == []


async def test_a_missing_directory_is_not_made_and_the_text_says_how(tmp_path: Path) -> None:
    file = tmp_path / "unmounted" / "key"
    with pytest.raises(StoreUnavailable, match="cannot be created: No such file or directory; make its directory"):
        await open_key(in_file(file), has_records=False)
    assert os.listdir(tmp_path) == []


async def test_a_directory_in_place_of_the_file_is_unavailable(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    with pytest.raises(StoreUnavailable, match=f"the key file {re.escape(str(tmp_path))} cannot be read"):
        await open_key(in_file(tmp_path), has_records=False)


async def test_a_key_that_cannot_be_read_for_want_of_a_descriptor_is_read_the_next_time(tmp_path: Path) -> None:
    """The error must not be KeyFileUnusable, which ends a start with exit code 2."""
    config = in_file(private(tmp_path / "key", TEXT))
    with out_of_descriptors(), pytest.raises(StoreUnavailable, match=os.strerror(errno.EMFILE)) as short:
        await open_key(config, has_records=True)
    assert not isinstance(short.value, KeyFileUnusable)
    assert (await open_key(config, has_records=True)).reveal() == KEY


async def test_a_relative_path_is_refused_and_a_home_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StoreUnavailable, match="key_file must be an absolute path, not key"):
        await open_key(in_file("key"), has_records=False)
    private(tmp_path / "key", TEXT)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert (await open_key(in_file("~/key"), has_records=True)).reveal() == KEY


@posix
async def test_a_pipe_that_nobody_writes_to_does_not_wait_for_ever(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)
    with pytest.raises(StoreCorrupt, match="holds 0 bytes"):
        await open_key(in_file(pipe), has_records=False)


@posix
async def test_a_link_to_nowhere_is_not_followed_to_make_a_key(tmp_path: Path) -> None:
    link = tmp_path / "key"
    link.symlink_to(tmp_path / "nowhere")
    with pytest.raises(StoreUnavailable, match="cannot be created"):
        await open_key(in_file(link), has_records=False)
    assert os.listdir(tmp_path) == ["key"]


MAKE_KEY = """
import asyncio, hashlib, sys
from bridge.config.schema import StoreConfig
from bridge.stores.keys import open_key

config = StoreConfig(path=None, url=None, key_file=sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
key = asyncio.run(open_key(config, has_records=False))
print(hashlib.sha256(key.reveal()).hexdigest(), flush=True)
"""


def test_processes_that_make_the_key_at_the_same_time_get_the_same_one(tmp_path: Path) -> None:
    command = [sys.executable, "-c", MAKE_KEY, str(tmp_path / "key")]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(4)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == b"ready"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(b"go\n")
        process.stdin.flush()
    found = {process.communicate()[0] for process in processes}
    assert len(found) == 1
    assert len(found.pop().strip()) == 64
    assert os.listdir(tmp_path) == ["key"]


async def test_threads_that_make_the_key_at_the_same_time_get_the_same_one(tmp_path: Path) -> None:
    for n in range(20):
        config = in_file(tmp_path / f"key{n}")
        keys = await asyncio.gather(*(open_key(config, has_records=False) for _ in range(8)))
        assert {key.reveal() for key in keys} == {keys[0].reveal()}


async def test_a_key_that_windows_keeps_from_us_while_another_process_names_it_is_read_a_moment_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen on Windows, with the threads of the test above."""
    file = private(tmp_path / "key", TEXT)
    refused, really = [PermissionError(13, "Permission denied")] * 2, os.open

    def held_at_first(path: Path, flags: int, mode: int = 0o777) -> int:
        if refused:
            raise refused.pop()
        return really(path, flags, mode)

    monkeypatch.setattr(key_file, "_MOVING_SECONDS", (0.0, 0.0, 0.0))
    monkeypatch.setattr(os, "open", held_at_first)
    assert (await open_key(in_file(file), has_records=True)).reveal() == KEY
    for place, reason in ((file, "Permission denied"), (tmp_path, "Is a directory")):
        refused[:] = [PermissionError(13, "Permission denied")] * 4
        with pytest.raises(StoreUnavailable, match=f"cannot be read: {reason}"):
            await open_key(in_file(place), has_records=True)


@pytest.mark.parametrize("is_there", [False, True], ids=["alone", "another process was quicker"])
async def test_a_new_key_that_a_virus_scanner_holds_gets_its_name_when_it_lets_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_there: bool
) -> None:
    """Windows' own scanner does that with each new file; on other systems an open file can be renamed."""
    file, synced = tmp_path / "key", os.fsync
    with contextlib.ExitStack() as scanner:

        def scanned(handle: int) -> None:
            synced(handle)
            for draft in tmp_path.glob("*.new"):
                scanner.enter_context(draft.open("rb"))
                if is_there:
                    private(file, TEXT)

        monkeypatch.setattr(os, "fsync", scanned)
        monkeypatch.setattr("time.sleep", lambda seconds: scanner.close())
        key = (await open_key(in_file(file), has_records=False)).reveal()
    assert (await open_key(in_file(file), has_records=True)).reveal() == key
    assert (key == KEY) is is_there


# --- the OS keyring ---


class Small(KeyringBackend):
    """A keyring that works, with a dictionary as its memory."""

    priority = 5.0

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.entries: dict[tuple[str, str], str] = {}

    def get_password(self, service: str, username: str) -> str | None:
        return self.entries.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.entries[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        if self.entries.pop((service, username), None) is None:
            raise PasswordDeleteError("no such entry")


class Failing(Small):
    """Each call raises the given error."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def get_password(self, service: str, username: str) -> str | None:
        raise self.error

    def set_password(self, service: str, username: str, password: str) -> None:
        raise self.error


class Forgetful(Small):
    """Accepts everything, but stores something else."""

    def set_password(self, service: str, username: str, password: str) -> None:
        super().set_password(service, username, password[:20])


class Undeletable(Small):
    """Cannot delete."""

    def delete_password(self, service: str, username: str) -> None:
        raise PasswordDeleteError("denied")


class Plain(Small):
    """As keyrings.alt's plain-text file, which is chosen without any warning."""

    priority = 0.5


class Hanging(Small):
    """Waits for a person to unlock it."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.unlocked = threading.Event(), threading.Event()

    def get_password(self, service: str, username: str) -> str | None:
        self.asked.set()
        self.unlocked.wait(60)
        return super().get_password(service, username)


class Windows(Small):
    """Has the attribute that makes entries roam or not."""

    persist = "enterprise"


class Several(chainer.ChainerBackend):
    """As on a desktop with several keyrings: an entry is written to the first one that accepts it."""

    backends = (Plain(), Small(), Small())


NULL = null.Keyring()  # type: ignore[no-untyped-call]
FAIL = fail.Keyring()  # type: ignore[no-untyped-call]


@pytest.fixture(autouse=True)
def _keyring_of_before() -> Iterator[None]:
    before = keyring.get_keyring()
    yield
    keyring.set_keyring(before)


def use(backend: KeyringBackend) -> KeyringBackend:
    keyring.set_keyring(backend)
    return backend


async def test_trap_38_an_empty_store_gets_a_new_key_in_the_keyring_and_nothing_else_stays_there() -> None:
    use(backend := Small())
    made = await open_key(IN_KEYRING, has_records=False)
    assert list(backend.entries) == [(KEY_SERVICE, KEY_USER)]
    text = backend.entries[KEY_SERVICE, KEY_USER]
    assert base64.b64decode(text) == made.reveal()
    assert len(text) <= 1280  # the most that Windows accepts
    for has_records in (False, True):
        assert await open_key(IN_KEYRING, has_records=has_records) == made


async def test_of_several_keyrings_the_best_that_protects_what_it_keeps_has_the_key_alone() -> None:
    use(Several())  # type: ignore[no-untyped-call]
    made = await open_key(IN_KEYRING, has_records=False)
    plain, best, other = Several.backends
    assert best.entries == {(KEY_SERVICE, KEY_USER): base64.b64encode(made.reveal()).decode()}
    assert (plain.entries, other.entries) == ({}, {})


async def test_a_missing_entry_of_a_store_with_records_is_not_replaced() -> None:
    use(backend := Small())
    with pytest.raises(StoreCorrupt, match=r"has no key for them \(entry 'mail-bridge store key'\).*now.*key_file"):
        await open_key(IN_KEYRING, has_records=True)
    assert backend.entries == {}


@pytest.mark.parametrize("text", ["", "CANARY", "é" * 44])
async def test_an_entry_that_is_no_key_is_named_and_not_replaced(text: str) -> None:
    use(backend := Small())
    backend.entries[KEY_SERVICE, KEY_USER] = text
    with pytest.raises(StoreCorrupt, match=r"the entry '.* store key' in the .* keyring holds") as caught:
        await open_key(IN_KEYRING, has_records=False)
    assert "CANARY" not in str(caught.value)
    assert backend.entries == {(KEY_SERVICE, KEY_USER): text}


@pytest.mark.parametrize(
    ("backend", "reason"),
    [
        (NULL, r"is switched off \(keyring's null backend\), and would lose the key"),
        (FAIL, "there is no OS keyring here"),
        (Plain(), "the only keyring here, Plain, does not protect what it keeps"),
        (Failing(KeyringLocked("CANARY")), "the OS keyring is locked; unlock it"),
        (Failing(InitError("CANARY")), "not set up or not unlocked; unlock it"),
        (Failing(RuntimeError("CANARY")), "the OS keyring fails: RuntimeError"),
        (Forgetful(), "does not keep what is written to it"),
        (Undeletable(), "the OS keyring fails: PasswordDeleteError"),
    ],
    ids=["null", "fail", "plain", "locked", "not set up", "other", "forgetful", "undeletable"],
)
async def test_trap_39_a_keyring_that_cannot_be_trusted_gets_no_key(backend: KeyringBackend, reason: str) -> None:
    use(backend)
    with pytest.raises(
        StoreUnavailable, match=rf"{reason}.*\. A file may hold the key instead: `store: {{key_file"
    ) as caught:
        await open_key(IN_KEYRING, has_records=False)
    assert "CANARY" not in str(caught.value)
    does_waiting_help = isinstance(backend, Failing | Undeletable)
    assert type(caught.value) is (StoreUnavailable if does_waiting_help else KeyringMissing)
    assert (KEY_SERVICE, KEY_USER) not in getattr(backend, "entries", {})


async def test_a_backend_that_finds_no_keyring_itself_is_none() -> None:
    use(Failing(NoKeyringError("CANARY")))
    with pytest.raises(KeyringMissing, match="there is no OS keyring here"):
        await open_key(IN_KEYRING, has_records=False)


async def test_trap_40_the_error_of_a_windows_logon_without_a_keyring_is_explained() -> None:
    error = Exception(1312, "CredRead", "CANARY")
    error.winerror = 1312  # type: ignore[attr-defined]  # as pywintypes.error has it
    use(Failing(error))
    with pytest.raises(StoreUnavailable, match="this Windows logon has none"):
        await open_key(IN_KEYRING, has_records=False)


async def test_the_error_of_a_mac_that_may_ask_nobody_is_explained() -> None:
    error = KeyringError("Can't get password from keychain: CANARY")
    error.__cause__ = Exception(-25308, "Unknown Error")  # as keyring.backends.macOS raises it
    use(Failing(error))
    with pytest.raises(StoreUnavailable, match="`security unlock-keychain`") as caught:
        await open_key(IN_KEYRING, has_records=False)
    assert "CANARY" not in str(caught.value)


async def test_on_windows_the_key_does_not_roam() -> None:
    use(backend := Windows())
    await open_key(IN_KEYRING, has_records=False)
    assert backend.persist == "local machine"


async def test_a_keyring_that_hangs_is_given_up_and_found_again_once_it_is_unlocked() -> None:
    use(backend := Hanging())
    for _ in range(2):  # the second fails at once, since only one call runs at a time
        with pytest.raises(
            StoreUnavailable, match=r"the OS keyring does not answer; unlock it\. A file may hold the key"
        ):
            await open_key(IN_KEYRING, has_records=False, limit=0.05)
    (thread,) = [one for one in threading.enumerate() if one.name == "keyring"]
    assert thread.daemon, "the process does not wait for it at its end"
    backend.unlocked.set()
    thread.join(10)  # the call that was given up ends in the background
    found = await open_key(IN_KEYRING, has_records=False)
    assert base64.b64decode(backend.entries[KEY_SERVICE, KEY_USER]) == found.reveal()


def test_whoever_has_more_patience_gets_the_answer_that_others_have_given_up() -> None:
    use(backend := Hanging())
    backend.entries[NAMED_SERVICE, "office365"] = "CANARY"
    with ThreadPoolExecutor(1) as pool:
        patient = pool.submit(read_named_secret, "office365", limit=60)
        assert backend.asked.wait(60)
        for _ in range(2):
            with pytest.raises(StoreUnavailable, match="does not answer"):
                read_named_secret("office365", limit=0.05)
        backend.unlocked.set()
        assert patient.result() == "CANARY"
    assert read_named_secret("office365") == "CANARY"


def test_to_ask_the_keyring_leaves_nothing_open() -> None:
    use(Small())
    read_named_secret("office365")
    before = free_descriptor()
    read_named_secret("office365")
    assert free_descriptor() <= before


def test_a_keyring_that_could_not_be_asked_for_want_of_a_thread_is_asked_the_next_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    use(Small())
    write_named_secret("office365", Secret("CANARY"))
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        with pytest.raises(StoreUnavailable, match=r"no more threads .* now: .can't start new thread"):
            read_named_secret("office365")
    assert read_named_secret("office365") == "CANARY"


def test_a_keyring_that_could_not_be_asked_for_want_of_a_descriptor_is_asked_the_next_time() -> None:
    use(Small())
    write_named_secret("office365", Secret("CANARY"))
    with out_of_descriptors(1), pytest.raises(StoreUnavailable, match=f"{os.strerror(errno.EMFILE)}.*Or use") as short:
        read_named_secret("office365")
    assert not isinstance(short.value, KeyringMissing)
    assert read_named_secret("office365") == "CANARY"


class Slow(Hanging):
    """Looks first, and only then waits for a person."""

    def get_password(self, service: str, username: str) -> str | None:
        found = Small.get_password(self, service, username)
        self.unlocked.wait(60)
        return found


async def test_a_call_that_was_given_up_does_not_replace_the_key_of_who_came_after_it() -> None:
    """That other process has sealed records with its key by now, and nothing else opens them."""
    use(backend := Slow())
    with pytest.raises(StoreUnavailable):
        await open_key(IN_KEYRING, has_records=False, limit=0.05)
    (thread,) = [one for one in threading.enumerate() if one.name == "keyring"]
    backend.entries[KEY_SERVICE, KEY_USER] = TEXT.decode()
    backend.unlocked.set()
    thread.join(10)
    assert backend.entries == {(KEY_SERVICE, KEY_USER): TEXT.decode()}
    assert (await open_key(IN_KEYRING, has_records=True)).reveal() == KEY


def test_a_setting_that_names_no_keyring_is_named() -> None:
    script = (
        "import asyncio; from bridge.config.schema import StoreConfig; from bridge.stores.keys import open_key; "
        "asyncio.run(open_key(StoreConfig(path=None, url=None, key_file=None), has_records=False))"
    )
    environment = {**os.environ, "PYTHON_KEYRING_BACKEND": "no.such.Keyring"}
    run = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert "KeyringMissing: the keyring that PYTHON_KEYRING_BACKEND or keyringrc.cfg names" in run.stderr


async def test_a_keyring_has_a_name_in_each_language() -> None:
    use(backend := Small())
    assert (await check_key_home(IN_KEYRING)).told(translation("fr")) == "trousseau test_keys"
    backend.entries[KEY_SERVICE, KEY_USER] = base64.b64encode(b"short").decode()
    with pytest.raises(StoreCorrupt) as caught:
        await open_key(IN_KEYRING, has_records=True)
    assert caught.value.said is not None
    assert f"«\u00a0{KEY_SERVICE}\u00a0» du trousseau test_keys contient" in caught.value.said.told(translation("fr"))


def test_a_named_secret_is_read_or_absent() -> None:
    use(backend := Small())
    assert read_named_secret("office365") is None
    write_named_secret("office365", Secret("CANARY"))
    assert backend.entries == {(NAMED_SERVICE, "office365"): "CANARY"}
    assert read_named_secret("office365") == "CANARY"


async def test_a_home_is_tried_before_it_is_needed_and_nothing_stays_there(tmp_path: Path) -> None:
    use(backend := Small())
    assert check_named_secrets() == str(await check_key_home(IN_KEYRING)) == "test_keys keyring"
    assert backend.entries == {}
    assert str(await check_key_home(in_file(tmp_path / "key"))) == f"the file {tmp_path / 'key'}"
    assert os.listdir(tmp_path) == []
    use(Forgetful())
    with pytest.raises(StoreUnavailable, match=r"does not keep what is written to it\. A file may hold the key"):
        await check_key_home(IN_KEYRING)
    with pytest.raises(StoreUnavailable, match=r"does not keep what is written to it$"):
        check_named_secrets()


async def test_a_key_file_is_tried_before_it_is_needed_as_it_will_be_by_then(tmp_path: Path) -> None:
    home = tmp_path / "made" / "later"
    with pytest.raises(KeyFileUnusable, match="cannot be created"):
        await check_key_home(in_file(home / "key"))
    with pytest.raises(KeyFileUnusable, match="cannot be created"):
        await check_key_home(in_file(home / "key"), made_first=tmp_path / "made" / "elsewhere")
    for made_first in (home, home / "store"):  # including the directories above it
        await check_key_home(in_file(home / "key"), made_first=made_first)
    assert not home.exists()
    (tmp_path / "key").write_text("no key")
    (tmp_path / "key").chmod(0o600)
    with pytest.raises(StoreCorrupt, match="holds 6 bytes"):
        await check_key_home(in_file(tmp_path / "key"))


WITHOUT_WRITING = """
import os, tempfile
from bridge.errors import KeyFileUnusable
from bridge.stores.key_file import check_key_file, key_from_file

if os.geteuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)  # root may write what is read-only

with tempfile.TemporaryDirectory() as home:
    present, absent = f"{home}/key", f"{home}/other"
    key_from_file(present, has_records=False)
    os.chmod(home, 0o555)
    check_key_file(present, None)
    try:
        check_key_file(absent, None)
    except KeyFileUnusable as problem:
        print(problem)
    os.chmod(home, 0o755)
"""


@posix
def test_where_nothing_can_be_made_a_key_that_is_there_will_do_and_another_is_refused() -> None:
    run = subprocess.run([sys.executable, "-c", WITHOUT_WRITING], capture_output=True, text=True, check=True)
    assert re.match(f"the key file .*/other cannot be created: {os.strerror(errno.EACCES)}; make its dir", run.stdout)


def test_a_named_secret_has_its_own_remedy() -> None:
    use(Failing(KeyringLocked()))
    with pytest.raises(
        StoreUnavailable, match=r"is locked; unlock it\. Or use \$\{file:…\} or an environment variable"
    ) as locked:
        read_named_secret("office365")
    assert locked.value.said is not None
    french = locked.value.said.told(translation("fr"))
    assert french.startswith("le trousseau du système est verrouillé")
    assert "Ou bien utilisez ${file:…}" in french


@pytest.mark.parametrize("has_key_file", [True, False])
async def test_without_a_thread_a_key_is_unavailable_and_not_its_home_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, has_key_file: bool
) -> None:
    use(Small())
    config = StoreConfig(key_file=str(tmp_path / "key")) if has_key_file else IN_KEYRING
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        with pytest.raises(StoreUnavailable, match="start new thread"):
            await open_key(config, has_records=False)
    assert len((await open_key(config, has_records=False)).reveal()) == len(KEY)
