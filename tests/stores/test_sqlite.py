"""The SQLite file: who may read it, and what happens when it is locked, full, damaged, or its writer is killed."""

from __future__ import annotations

import asyncio
import errno
import importlib
import os
import random
import re
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from bridge.errors import StoreCorrupt, StoreFileUnusable, StoreUnavailable
from bridge.files.replacing import PAUSES
from bridge.host.disks import copies_on_write
from bridge.stores import sqlite
from bridge.stores.base import NEW, SCHEMA_VERSION, Record
from bridge.stores.sqlite import SqliteStore
from tests.host.limits import out_of_descriptors
from tests.servers.disks import copying_disk, full, small_disk, without_places
from tests.servers.packages import needs

posix = pytest.mark.skipif(os.name != "posix", reason="POSIX only")

BUSY = 0.1
"""Seconds; the program waits longer."""

Open = Callable[..., SqliteStore]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "data" / "store.sqlite"


@pytest.fixture
async def open_store(file: Path) -> AsyncIterator[Open]:
    opened = []

    def open_store(path: Path = file) -> SqliteStore:
        store = SqliteStore(path, busy_limit=BUSY)
        opened.append(store)
        return store

    yield open_store
    for store in opened:
        await store.close()


@pytest.fixture
async def filled(open_store: Open, file: Path) -> Path:
    """The file of a closed store with one record."""
    store = open_store()
    await store.put("a", b"value", expected=NEW)
    await store.close()
    return file


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@contextmanager
def python(script: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Another process, which is killed at the end."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


# --- who may read it ---


@posix
@pytest.mark.parametrize("umask", [0o000, 0o022])
async def test_all_files_are_for_their_owner_alone(open_store: Open, file: Path, umask: int) -> None:
    before, file = os.umask(umask), file.parent / "of a new user" / file.name
    try:
        await open_store(file).put("a", b"value", expected=NEW)
    finally:
        os.umask(before)
    assert mode(file.parent) == 0o700
    assert {path.name: mode(path) for path in file.parent.iterdir()} == {
        "store.sqlite": 0o600,
        "store.sqlite-wal": 0o600,
        "store.sqlite-shm": 0o600,
    }


@posix
async def test_a_file_that_others_could_read_is_closed_to_them(open_store: Open, filled: Path) -> None:
    filled.chmod(0o644)
    assert await open_store().get("a") == Record(b"value", 1)
    assert mode(filled) == 0o600


async def test_nothing_is_touched_before_the_first_operation(open_store: Open, tmp_path: Path) -> None:
    open_store()
    assert list(tmp_path.iterdir()) == []


async def test_a_closed_store_says_so(open_store: Open) -> None:
    store = open_store()
    await store.close()
    with pytest.raises(StoreUnavailable, match="has been closed"):
        await store.get("a")


# --- what cannot be written ---

HOLD = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute(sys.argv[2])
print("held", flush=True)
sys.stdin.readline()
connection.execute("COMMIT")
connection.close()
print("free", flush=True)
"""


async def test_a_file_locked_by_another_process_is_unavailable_soon_and_works_again_after(
    open_store: Open, filled: Path
) -> None:
    store = open_store()
    await store.get("a")
    with python(HOLD, filled, "BEGIN IMMEDIATE") as other:
        assert line(other) == "held"
        began = time.monotonic()
        with pytest.raises(StoreUnavailable, match=r"store\.sqlite is locked by another program"):
            await store.put("a", b"other", expected=1)
        assert time.monotonic() - began < 5
        assert await store.get("a") == Record(b"value", 1)  # readers do not wait
        other.communicate("go\n")
    assert await store.put("a", b"other", expected=1) == 2


@pytest.mark.skipif(sys.platform != "win32", reason="elsewhere nobody can keep others from opening a file")
async def test_a_program_that_has_the_file_for_a_moment_is_waited_for(
    open_store: Open, filled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A virus scanner, or one that copies it. Windows says "permission denied" to us, for which a service's start
    ended; SQLite waits by itself."""
    held = [taken(filled)]
    monkeypatch.setattr("time.sleep", lambda seconds: _winapi().CloseHandle(held.pop()))
    assert await open_store().get("a") == Record(b"value", 1)
    assert not held


@pytest.mark.skipif(sys.platform != "win32", reason="elsewhere nobody can keep others from opening a file")
async def test_only_the_first_operation_waits_for_one_that_keeps_it(
    open_store: Open, filled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a right is lacking Windows says the same, and all logins would wait for nothing, one after the other."""
    store, handle, waits = open_store(), taken(filled), list[float]()
    monkeypatch.setattr("time.sleep", waits.append)
    for _ in range(2):
        with pytest.raises(StoreFileUnusable, match="Permission denied"):
            await store.get("a")
        assert waits == list(PAUSES)
    _winapi().CloseHandle(handle)
    assert await store.get("a") == Record(b"value", 1)


def _winapi() -> Any:
    return importlib.import_module("_winapi")


def taken(file: Path) -> int:
    """A handle of Windows; nobody else can open the file until it is closed."""
    api = _winapi()
    return int(api.CreateFile(str(file), api.GENERIC_READ, 0, 0, api.OPEN_EXISTING, 0, 0))


async def test_a_new_file_locked_by_another_process_is_unavailable_soon(open_store: Open, file: Path) -> None:
    file.parent.mkdir()
    with python(HOLD, file, "BEGIN EXCLUSIVE") as other:
        assert line(other) == "held"
        store = open_store()
        with pytest.raises(StoreUnavailable, match="is locked by another program"):
            await store.put("a", b"value", expected=NEW)
        other.communicate("go\n")
    assert await store.put("a", b"value", expected=NEW) == 1


class Noting(SqliteStore):
    """Notes the statements that waited for the lock of another program, in vain."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, busy_limit=BUSY, copies_on_write=lambda directory: True)
        self.waited: list[str] = []

    def _execute(self, statement: str, values: Sequence[object] = ()) -> list[Any]:
        try:
            return super()._execute(statement, values)
        except sqlite3.OperationalError:
            self.waited.append(statement)
            raise


async def test_each_operation_on_a_locked_file_waits_once(filled: Path) -> None:
    """For the lock of a backup, say. An operation that waited twice would take as long as a mail program is patient."""
    store = Noting(filled)
    await store.get("a")
    with python(HOLD, filled, "BEGIN EXCLUSIVE") as other:
        assert line(other) == "held"
        for count in (1, 2, 3):
            with pytest.raises(StoreUnavailable, match="is locked by another program"):
                await store.get("a")
            assert len(store.waited) == count, store.waited
        other.communicate("go\n")
    assert await store.get("a") == Record(b"value", 1)
    await store.close()


AS_ANOTHER_USER = """
import asyncio, os, sys
from pathlib import Path
from bridge.errors import StoreUnavailable
from bridge.stores.sqlite import SqliteStore

if os.geteuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)  # root may write what is read-only

async def main():
    store = SqliteStore(Path(sys.argv[1]), busy_limit=0.1)
    try:
        record = await store.get("a")
        print("got", record and record.value.decode())
        await store.put("a", b"value", expected=record.version if record else 0)
        print("put", flush=True)
    except StoreUnavailable as error:
        print(error, flush=True)
    if "die" in sys.argv:
        os._exit(0)
    await store.close()

asyncio.run(main())
"""


def as_another_user(file: Path, *more: str) -> list[str]:
    """The output of another user's process that reads the store and writes to it."""
    with python(AS_ANOTHER_USER, file, *more) as other:
        return other.communicate()[0].splitlines()


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A directory that another user can access, unlike those of pytest."""
    directory = Path(tempfile.mkdtemp(prefix="store-"))
    directory.chmod(0o755)
    yield directory
    directory.chmod(0o755)
    shutil.rmtree(directory)


@posix
@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("read-only", "cannot be written: it is read-only"),
        ("not even readable", "cannot be opened: Permission denied"),
        ("nothing there", "cannot be created: permission denied"),
    ],
)
async def test_without_the_right_to_write_it_is_unavailable_and_stays_as_it_is(
    open_store: Open, reachable: Path, what: str, words: str
) -> None:
    file = reachable / "store.sqlite"
    before = None
    if what != "nothing there":
        store = open_store(file)
        await store.put("a", b"value", expected=NEW)
        await store.close()
        before = file.read_bytes()
        file.chmod(0o444 if what == "read-only" else 0)
    reachable.chmod(0o555)
    said = as_another_user(file)
    if before is not None:
        file.chmod(0o600)
    assert said[-1] == f"{file} {words}"
    assert (file.read_bytes() if file.exists() else None) == before


@posix
async def test_a_file_that_may_be_written_again_is_written_again(reachable: Path) -> None:
    """SQLite creates its two other files with the store file's mode of that moment, and never changes them."""
    reachable.chmod(0o777)
    file = reachable / "store.sqlite"
    assert as_another_user(file) == ["got None", "put"]
    file.chmod(0o400)
    assert as_another_user(file) == ["got value", f"{file} cannot be written: it is read-only"]
    assert mode(file.with_name("store.sqlite-shm")) == 0o400
    file.chmod(0o600)
    assert as_another_user(file) == ["got value", "put"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize("ending", ["", "-wal", "-shm"])
@pytest.mark.parametrize(
    ("their_mode", "words"),
    [(0o600, "cannot be opened: Permission denied"), (0o644, "cannot be written: it is read-only")],
)
async def test_of_the_files_of_a_store_the_one_that_is_somebody_elses_is_named(
    reachable: Path, ending: str, their_mode: int, words: str
) -> None:
    """As after a `chown` of the store file alone."""
    reachable.chmod(0o777)
    file = reachable / "store.sqlite"
    assert as_another_user(file, "die") == ["got None", "put"]
    theirs = file.with_name(file.name + ending)
    os.chown(theirs, 0, 0)
    theirs.chmod(their_mode)
    assert as_another_user(file)[-1] == f"{theirs} {words}"


@posix
async def test_a_place_that_cannot_be_is_named_with_what_the_system_says(open_store: Open, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    unmounted = tmp_path / "link.sqlite"
    unmounted.symlink_to(tmp_path / "unmounted" / "store.sqlite")
    for place, reason in (
        (tmp_path, "Is a directory"),
        (tmp_path / "file" / "below" / "store.sqlite", "Not a directory"),
        (unmounted, "No such file or directory"),
    ):
        with pytest.raises(StoreFileUnusable, match=rf"{re.escape(str(place))} cannot be opened: {reason}$"):
            await open_store(place).get("a")


@posix
async def test_a_pipe_or_a_device_is_no_store_and_keeps_its_mode(open_store: Open, tmp_path: Path) -> None:
    """By `store.path: /dev/null` root's mail-bridge seemed to work, kept nothing, and took it from everybody else."""
    pipe, link = tmp_path / "pipe", tmp_path / "link.sqlite"
    os.mkfifo(pipe)
    pipe.chmod(0o666)
    link.symlink_to(pipe)
    for place in (pipe, link):
        with pytest.raises(StoreFileUnusable, match=f"{place} is a pipe or a device; the store must be an ordinary"):
            await open_store(place).get("a")
    assert stat.S_IMODE(pipe.stat().st_mode) == 0o666


FULL = """
import asyncio, resource, sys
from pathlib import Path
from bridge.errors import StoreUnavailable
from bridge.stores.sqlite import SqliteStore

async def main():
    store = SqliteStore(Path(sys.argv[1]), busy_limit=0.1)
    await store.get("a")
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 * 1024, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    for _ in range(3):
        try:
            await store.put("a", bytes(1024 * 1024), expected=1)
        except StoreUnavailable as error:
            print(error)
    print((await store.get("a")).value)
    print(await store.put("b", b"small", expected=0))
    await store.close()

asyncio.run(main())
"""


@posix
async def test_a_full_disk_is_unavailable_and_keeps_the_old_record(open_store: Open, filled: Path) -> None:
    with python(FULL, filled) as other:
        *problems, value, version = other.communicate()[0].splitlines()
    assert len(problems) == 3
    for problem in problems:
        assert problem.startswith(f"{filled} cannot be ")
        assert "disk" in problem
    assert (value, version) == ("b'value'", "1")
    store = open_store()
    assert await store.get("a") == Record(b"value", 1)
    assert await store.get("b") == Record(b"small", 1)


@pytest.mark.parametrize("spared", [0, 4096, 16384, 28672, 32768])
async def test_a_disk_without_room_is_called_full_whatever_sqlite_calls_it(
    open_store: Open, tmp_path: Path, spared: int
) -> None:
    """SQLite itself reports "disk I/O error" if there is no room for its -shm file."""
    with small_disk(tmp_path / "disk") as disk:
        file = disk / "store.sqlite"
        store = open_store(file)
        await store.put("a", b"value", expected=NEW)
        await store.close()
        store = open_store(file)
        is_told = pytest.raises(StoreUnavailable, match=r"store\.sqlite cannot be written: the disk is full")
        with full(file, spared=spared), is_told as caught:
            await store.put("a", b"other" * 10000, expected=1)
        assert not isinstance(caught.value, StoreFileUnusable)
        assert await store.put("a", b"other", expected=1) == 2
        await store.close()


async def test_a_disk_without_room_for_another_file_is_called_full(open_store: Open, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "nr_inodes=20") as disk:
        file = disk / "store.sqlite"
        store = open_store(file)
        await store.put("a", b"value", expected=NEW)
        await store.close()
        store = open_store(file)
        with without_places(file):
            with pytest.raises(StoreUnavailable, match=r"store\.sqlite cannot be written: the disk is full") as caught:
                await store.put("a", b"other", expected=1)
            assert not isinstance(caught.value, StoreFileUnusable)
            with pytest.raises(StoreUnavailable, match="cannot be opened: No space left on device") as caught:
                await open_store(disk / "new.sqlite").get("a")
            assert not isinstance(caught.value, StoreFileUnusable)
        assert await store.put("a", b"other", expected=1) == 2
        await store.close()


COPIED = """
import asyncio, os, sys
from pathlib import Path
from bridge.errors import StoreUnavailable
from bridge.host.disks import copies_on_write
from bridge.stores.sqlite import SqliteStore

async def main():
    store = SqliteStore(Path(sys.argv[1]), busy_limit=0.1, copies_on_write=copies_on_write)
    print(await store.put("a", b"value", expected=0), flush=True)
    os.sync()  # from here on nothing that is there is written to in its old place
    for answer in ("full", "there is room"):
        sys.stdin.readline()
        print((await store.get("a")).value, flush=True)
        try:
            print(await store.put("b", bytes(100_000), expected=0), flush=True)
        except StoreUnavailable as error:
            print(error, flush=True)
    await store.close()

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="btrfs is Linux'")
@pytest.mark.parametrize(
    ("quota", "words"), [("", "the disk is full"), ("2M", "the quota of its disk is used up")], ids=["disk", "quota"]
)
async def test_a_full_disk_that_writes_nothing_over_ends_no_process(tmp_path: Path, quota: str, words: str) -> None:
    """SQLite maps the index of a WAL into memory; if btrfs has no new block for a page of it, a write raises SIGBUS."""
    with copying_disk(tmp_path / "disk", quota=quota) as disk:
        file = disk / "store.sqlite"
        with python(COPIED, file) as other:
            assert line(other) == "1"
            with full(file):
                os.sync()
                print(file=other.stdin, flush=True)
                assert line(other) == "b'value'"
                assert line(other) == f"{file} cannot be written: {words}"
            os.sync()
            print(file=other.stdin, flush=True)
            assert (line(other), line(other)) == ("b'value'", "1")
            assert other.wait() == 0
        file.with_name("store.sqlite-journal").unlink()
        store = SqliteStore(file, busy_limit=BUSY, copies_on_write=lambda directory: True)
        with full(file):
            os.sync()
            with pytest.raises(StoreUnavailable, match=f"cannot be written: {words}") as caught:
                await store.put("b", b"other", expected=1)
            assert not isinstance(caught.value, StoreFileUnusable)
        assert await store.put("b", b"other", expected=1) == 2
        await store.close()


OPENED = """
import asyncio, sys
from pathlib import Path
from bridge.errors import BridgeError
from bridge.stores.sqlite import SqliteStore

async def main():
    store = SqliteStore(Path(sys.argv[1]), busy_limit=0.1)
    try:
        await store.put("a", b"value", expected=0)
    except BridgeError as error:
        print(type(error).__name__, error)
    await store.close()

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="strace is Linux'")
@pytest.mark.parametrize(
    ("error", "told"),
    [
        ("ENODEV", "StoreFileUnusable {} is on a drive that cannot map files into memory"),
        ("ENOMEM", "StoreUnavailable {} "),
    ],
)
def test_a_drive_that_maps_no_file_is_told_as_that_and_want_of_memory_passes(file: Path, error: str, told: str) -> None:
    """For example FUSE with direct_io: "the disk reports an error", as it said earlier, had somebody replace a disk."""
    needs("strace")
    file.parent.mkdir()
    index = file.with_name("store.sqlite-shm")
    failing = ["-f", "-o", "/dev/null", "-P", str(index), "-e", "trace=mmap", "-e", f"inject=mmap:error={error}"]
    command = ["strace", *failing, sys.executable, "-c", OPENED, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith(told.format(file)), done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="btrfs is Linux'")
async def test_of_a_store_behind_a_link_the_disk_counts_that_it_is_on(tmp_path: Path) -> None:
    link = tmp_path / "store.sqlite"
    with copying_disk(tmp_path / "disk") as disk:
        link.symlink_to(disk / "store.sqlite")
        store = SqliteStore(link, busy_limit=BUSY, copies_on_write=copies_on_write)
        assert await store.put("a", b"value", expected=NEW) == 1
        assert {one.name for one in disk.iterdir()} == {"store.sqlite", "store.sqlite-journal"}
        await store.close()


@posix
async def test_a_store_that_has_a_wal_is_used_with_it_until_nobody_else_has_it_open(
    open_store: Open, file: Path
) -> None:
    """The WAL is from an earlier mail-bridge, or from another disk."""
    before, index = open_store(), file.with_name("store.sqlite-shm")
    await before.put("a", b"value", expected=NEW)
    store = SqliteStore(file, busy_limit=BUSY, copies_on_write=lambda directory: True)
    assert await store.put("a", b"other", expected=1) == 2
    assert index.exists()
    await store.close()
    await before.close()
    store = SqliteStore(file, busy_limit=BUSY, copies_on_write=lambda directory: True)
    assert await store.put("a", b"last", expected=2) == 3
    assert not index.exists()
    await store.close()


@posix
async def test_an_error_of_the_disk_is_no_full_disk(open_store: Open, filled: Path) -> None:
    """To SQLite, a file that may not grow looks like a disk that cannot write."""
    with python(FULL, filled) as other:
        first = other.communicate()[0].splitlines()[0]
    assert first == f"{filled} cannot be read or written: the disk reports an error"


async def test_what_pythons_own_module_says_is_no_bug(open_store: Open, filled: Path) -> None:
    """Such an error has no SQLite code."""
    store = open_store(filled)
    with closing(sqlite3.connect(filled)) as other:  # else get() would reconnect, as the last close removes the log
        other.execute("SELECT count(*) FROM sqlite_master").fetchall()
        await store.get("a")
        connection = store._connection
        assert connection is not None
        await store._worker.run(connection.close)
        with pytest.raises(StoreUnavailable, match=r"does not work \(SQLite error 0\)"):
            await store.get("a")


async def test_a_commit_is_on_the_disk_on_a_mac_too(open_store: Open) -> None:
    """There fsync() leaves it in the drive's own cache. Elsewhere SQLite accepts the setting, and does nothing."""
    store = open_store()
    await store.put("a", b"value", expected=NEW)
    assert await store._rows("PRAGMA synchronous") == [(2,)]
    assert await store._rows("PRAGMA fullfsync") == [(1,)]


# --- what is not ours, or not whole ---


@pytest.mark.parametrize("content", [b"not a database at all\n" * 100, b"short", bytes(8192)])
async def test_a_file_that_is_no_database_is_not_overwritten(open_store: Open, file: Path, content: bytes) -> None:
    file.parent.mkdir()
    file.write_bytes(content)
    store = open_store()
    for _ in range(2):
        with pytest.raises(StoreCorrupt, match=r"is not a database; move it away or choose another `store\.path`"):
            await store.put("a", b"value", expected=NEW)
    await store.close()
    assert file.read_bytes() == content


async def test_another_programs_database_is_left_alone(open_store: Open, file: Path) -> None:
    file.parent.mkdir()
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    store = open_store()
    with pytest.raises(StoreCorrupt, match=r"belongs to another program; choose another `store\.path`"):
        await store.put("a", b"value", expected=NEW)
    await store.close()
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("theirs",)]


@pytest.mark.parametrize("seed", range(8))
async def test_damage_is_reported_in_words_and_never_repaired_by_writing(
    open_store: Open, filled: Path, seed: int
) -> None:
    store = open_store()
    for n in range(200):
        await store.put(f"more/{n}", bytes(500), expected=NEW)
    await store.close()
    chance = random.Random(seed)
    content = bytearray(filled.read_bytes())
    pages = range(4096 * (seed % 2), len(content), 4096)  # all pages, or all but the first one
    for page in pages:
        content[page : page + 4096] = chance.randbytes(4096)
    filled.write_bytes(content)
    broken = open_store()
    what = "is damaged; restore a copy" if seed % 2 else "is not a database; move it away"
    with pytest.raises(StoreCorrupt, match=rf"store\.sqlite {what}"):
        await broken.put("a", b"other", expected=1)
    await broken.close()
    assert filled.read_bytes()[4096:] == bytes(content[4096:])


@posix
@pytest.mark.parametrize("is_new", [False, True])
@pytest.mark.parametrize("left", [1, 2])
async def test_descriptors_for_some_of_its_files_are_no_missing_directory(
    open_store: Open, filled: Path, left: int, *, is_new: bool
) -> None:
    """SQLite has three files; and a shortage that passes must not end a start for good."""
    store = open_store(filled.with_name("another.sqlite") if is_new else filled)
    await store._worker.run(int)  # starts its thread
    with out_of_descriptors(left), pytest.raises(StoreUnavailable, match=os.strerror(errno.EMFILE)) as short:
        await store.get("a")
    assert type(short.value) is StoreUnavailable
    assert (await store.get("a") is None) is is_new


async def test_what_a_newer_mail_bridge_wrote_is_refused_and_left_alone(open_store: Open, filled: Path) -> None:
    with closing(sqlite3.connect(filled)) as connection, connection:
        connection.execute("INSERT INTO bridge_schema VALUES (?)", (SCHEMA_VERSION + 1,))
    store, descriptors = open_store(), list[int]()
    for operation in (store.get("a"), store.put("a", b"other", expected=1), store.acquire_lease("a", "me", 30)):
        with pytest.raises(StoreCorrupt, match=r"newer mail-bridge \(format 2; this one knows 1\); install that"):
            await operation
        descriptors.append(os.open(os.devnull, os.O_RDONLY))
        os.close(descriptors[-1])
    assert max(descriptors) == descriptors[0], "each try closes what it has opened"
    with closing(sqlite3.connect(filled)) as connection:
        assert connection.execute("SELECT value, version FROM bridge_records").fetchall() == [(b"value", 1)]
        formats = connection.execute("SELECT version FROM bridge_schema").fetchall()
    assert formats == [(SCHEMA_VERSION,), (SCHEMA_VERSION + 1,)], "each has noted its own"


async def test_tables_that_cannot_be_made_leave_nothing_and_no_lock(
    open_store: Open, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store()
    monkeypatch.setattr(sqlite, "TABLES", (*sqlite.TABLES[:2], "CREATE TABLE half ("))
    with pytest.raises(StoreUnavailable, match="does not work"):
        await store.get("a")
    monkeypatch.undo()
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == []
    assert await store.put("a", b"value", expected=NEW) == 1


@posix
@pytest.mark.parametrize("is_linked", [False, True])
async def test_a_log_that_somebody_has_tidied_away_takes_nothing_with_it(
    open_store: Open, file: Path, tmp_path: Path, is_linked: bool
) -> None:
    named = file
    if is_linked:  # SQLite keeps the log beside the file, not beside the link
        named = tmp_path / "link"
        named.symlink_to(file)
        file.parent.mkdir(exist_ok=True)
    store = open_store(named)
    await store.put("before", b"value", expected=NEW)
    for suffix in ("-wal", "-shm"):
        file.with_name(file.name + suffix).unlink()
    await store.put("after", b"value", expected=NEW)
    as_after_a_crash = tmp_path / "copy"
    shutil.copytree(file.parent, as_after_a_crash)
    found = open_store(as_after_a_crash / file.name)
    assert await found.keys("") == ["after", "before"]
    assert await store.keys("") == ["after", "before"]


@posix
async def test_a_file_that_is_removed_or_replaced_under_us_is_not_written_to_in_the_dark(
    open_store: Open, filled: Path
) -> None:
    store = open_store()
    await store.get("a")
    moved = filled.rename(filled.with_name("moved"))
    with pytest.raises(StoreUnavailable, match="is gone; put it back"):
        await store.put("a", b"other", expected=1)
    shutil.copy(moved, filled)
    with pytest.raises(StoreUnavailable, match="was replaced by another file; restart"):
        await store.put("a", b"other", expected=1)
    moved.rename(filled)
    assert await store.put("a", b"other", expected=1) == 2


@posix
async def test_a_file_that_is_gone_after_an_error_is_not_made_anew(open_store: Open, filled: Path) -> None:
    """Its drive has been unmounted, for instance: everybody would be asked to sign in, and the new file hidden when the
    drive is back."""
    store = open_store()
    await store.get("a")
    with python(HOLD, filled, "BEGIN IMMEDIATE") as other:
        assert line(other) == "held"
        with pytest.raises(StoreUnavailable, match="is locked by another program"):  # it has closed its connection
            await store.put("a", b"other", expected=1)
        other.communicate("go\n")
    filled.parent.rename(filled.parent.with_name("elsewhere"))
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="is gone; put it back"):
            await store.get("a")
    assert not filled.parent.exists()
    filled.parent.with_name("elsewhere").rename(filled.parent)
    assert await store.put("a", b"other", expected=1) == 2


@posix
async def test_what_stood_in_the_log_goes_with_its_file_and_not_into_the_one_that_replaced_it(
    open_store: Open, file: Path, tmp_path: Path
) -> None:
    """SQLite goes only by file names, so the next start would mix the two, page by page."""
    backup = open_store(tmp_path / "backup")
    for number in range(50):
        await backup.put(f"backup/{number}", bytes(500), expected=NEW)
    await backup.close()
    store = open_store()
    await store.put("a", b"value", expected=NEW)
    moved = file.rename(file.with_name("moved"))
    shutil.copy(tmp_path / "backup", file)
    with pytest.raises(StoreUnavailable, match="was replaced by another file; restart"):
        await store.get("a")
    as_after_a_kill = tmp_path / "copy"
    shutil.copytree(file.parent, as_after_a_kill)
    with closing(sqlite3.connect(file, isolation_level=None)) as another_program:
        another_program.execute("DELETE FROM bridge_records WHERE key = 'backup/0'")
        with pytest.raises(StoreUnavailable, match="was replaced by another file; restart"):
            await store.get("a")
        await store.close()
    for found, count in ((file, 49), (as_after_a_kill / file.name, 50)):
        with closing(sqlite3.connect(found)) as database:
            assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert database.execute("SELECT count(*) FROM bridge_records").fetchone() == (count,)
    assert await open_store(moved).get("a") == Record(b"value", 1)


@posix
async def test_a_log_that_somebody_still_reads_stays_with_the_file_that_was_moved_away(
    open_store: Open, file: Path
) -> None:
    """What is in it may not all have got into the file; whoever puts the file back finds it again."""
    store = open_store()
    await store.put("a", b"value", expected=NEW)
    with closing(sqlite3.connect(file, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM bridge_records").fetchall()
        await store.put("b", b"value", expected=NEW)
        moved = file.rename(file.with_name("moved"))
        with pytest.raises(StoreUnavailable, match="is gone; put it back"):
            await store.get("a")
        moved.rename(file)
        assert await store.get("b") == Record(b"value", 1)
        assert await open_store().get("b") == Record(b"value", 1)


# --- several processes ---

ADD = """
import asyncio, sys
from pathlib import Path
from bridge.errors import VersionConflict
from bridge.stores.sqlite import SqliteStore

async def main():
    store = SqliteStore(Path(sys.argv[1]))
    print("ready", flush=True)
    sys.stdin.readline()
    left, lost = int(sys.argv[2]), 0
    while left:
        record = await store.get("sum")
        try:
            if record is None:
                await store.put("sum", b"1", expected=0)
            else:
                await store.put("sum", b"%d" % (int(record.value) + 1), expected=record.version)
            left -= 1
        except VersionConflict:
            lost += 1
    await store.close()
    print("done", flush=True)

asyncio.run(main())
"""


async def test_two_processes_lose_no_update(open_store: Open, file: Path) -> None:
    with python(ADD, file, 40) as one, python(ADD, file, 40) as other:
        for process in (one, other):
            assert line(process) == "ready"
        for process in (one, other):
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        for process in (one, other):
            assert line(process) == "done"
    assert await open_store().get("sum") == Record(b"80", 80)


WRITE_ON = """
import asyncio, sys
from pathlib import Path
from bridge.stores.sqlite import SqliteStore

async def main():
    store = SqliteStore(Path(sys.argv[1]))
    record = await store.get("count")
    version = record.version if record else 0
    while True:
        version = await store.put("count", b"%d " % (version + 1) * 999, expected=version)
        print(version, flush=True)

asyncio.run(main())
"""


@posix
async def test_a_writer_that_is_killed_loses_nothing_that_it_acknowledged(open_store: Open, file: Path) -> None:
    chance = random.Random(0)
    for _ in range(20):
        with python(WRITE_ON, file) as writer:
            acknowledged = 0
            for _ in range(chance.randrange(1, 30)):
                acknowledged = int(line(writer))
            writer.send_signal(signal.SIGKILL)
            assert writer.stdout is not None
            rest = writer.stdout.read().split()  # communicate() would miss what readline() has buffered
            acknowledged = int(rest[-1]) if rest else acknowledged
        store = open_store()
        record = await store.get("count")
        await store.close()
        assert record is not None
        assert record.version - acknowledged in (0, 1)  # the last may have been written but not yet printed
        assert record.value == b"%d " % record.version * 999


async def test_the_loop_runs_on_while_the_file_is_locked(filled: Path) -> None:
    """The loop itself has the file unlocked here: if it were blocked, the writer would wait in vain."""
    store = SqliteStore(filled, busy_limit=30)
    await store.get("a")
    with python(HOLD, filled, "BEGIN IMMEDIATE") as other:
        assert line(other) == "held"
        async with asyncio.TaskGroup() as group:
            writing = group.create_task(store.put("a", b"other", expected=1))
            for _ in range(10):  # turns of the loop
                await asyncio.sleep(0)
            assert not writing.done()
            other.communicate("go\n")
            assert await writing == 2
    await store.close()
