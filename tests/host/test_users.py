"""The system's users: from this machine's user directory, and what a C library may say if it does not answer."""

from __future__ import annotations

import ctypes
import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bridge.host import users
from bridge.host.callers import own_user_id
from bridge.host.machine import has_user
from bridge.threads import NotDone
from tests.host.limits import out_of_descriptors

NOBODYS = str(users.NOBODYS_NUMBER)

pwd = pytest.importorskip("pwd", reason="Windows has no such directory")


def library(answer: Callable[[], int]) -> Callable[[object], object]:
    """Replaces ctypes.CDLL: a C library that returns this number and no entry."""

    class Library:
        def getpwuid_r(self, *_: object) -> int:
            return answer()

        getpwnam_r = getpwuid_r

    return lambda _: Library()


def test_all_users_of_the_machine_by_number_and_by_name() -> None:
    for user in pwd.getpwall():
        assert users.name_of(str(user.pw_uid)) == pwd.getpwuid(user.pw_uid).pw_name
        assert users.id_of(user.pw_name) == str(pwd.getpwnam(user.pw_name).pw_uid)


def test_a_number_and_a_name_that_nobody_has_are_known_not_to_have_one() -> None:
    assert users.name_of(NOBODYS) == ""
    assert users.name_of(str(2**32)) == "", "and is not root's"
    assert users.id_of("mb-nobody-at-all") == ""


@pytest.mark.parametrize("problem", [errno.ECONNREFUSED, errno.EAGAIN, errno.EIO, errno.EMFILE])
def test_a_directory_that_does_not_answer_is_not_taken_for_one_without_that_user(
    monkeypatch: pytest.MonkeyPatch, problem: int
) -> None:
    monkeypatch.setattr(ctypes, "CDLL", library(lambda: problem))
    for ask in (users.name_of, users.id_of):
        with pytest.raises(NotDone, match=os.strerror(problem)):
            ask(NOBODYS)
    assert has_user("alice") is None, "nor does `check` say that there is none"


@pytest.mark.parametrize("problem", sorted(users.NOBODY))
def test_what_else_means_nobody(monkeypatch: pytest.MonkeyPatch, problem: int) -> None:
    monkeypatch.setattr(ctypes, "CDLL", library(lambda: problem))
    assert users.name_of(NOBODYS) == ""


def test_a_signal_does_not_end_the_question(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [0, 0, errno.EINTR]
    monkeypatch.setattr(ctypes, "CDLL", library(answers.pop))
    assert users.name_of(NOBODYS) == ""
    assert answers == []


def test_an_entry_of_any_length_has_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Uses the machine's own library, which says that the buffer is too small."""
    monkeypatch.setattr(users, "FIRST_ROOM", 1)
    assert users.name_of("0") == "root"


def test_without_a_descriptor_nobody_is_looked_up() -> None:
    assert users.name_of(NOBODYS) == "", "all of the directory is in memory"
    with out_of_descriptors(), pytest.raises(NotDone, match=os.strerror(errno.EMFILE)):
        users.name_of(NOBODYS)
    assert users.name_of(NOBODYS) == ""


def test_a_descriptor_that_comes_back_meanwhile_does_not_make_a_user_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no descriptor while the files are read, but there is one when the code checks if that was the reason."""
    real, limits = users._looked_up, [3]
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)

    def looked_up(function: str, wanted: ctypes.c_uint | ctypes.c_char_p) -> tuple[str, int] | None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limits.pop() if limits else before[0], before[1]))
        try:
            return real(function, wanted)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)

    daemon = pwd.getpwnam("daemon")
    try:
        looked_up("getpwuid_r", ctypes.c_uint(daemon.pw_uid))
    except NotDone as problem:
        assert str(problem) == os.strerror(errno.EMFILE)
        pytest.skip("this C library says itself that it could not look, as glibc 2.43 does")
    limits.append(3)
    monkeypatch.setattr(users, "_looked_up", looked_up)
    assert users.name_of(str(daemon.pw_uid)) == "daemon"
    assert limits == []


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc and nsswitch.conf(5)")
def test_all_parts_of_the_directory_are_loaded_before_a_descriptor_may_be_missing() -> None:
    """Each service of nsswitch.conf that is not part of the C library is a library that has to be loaded."""
    script = (
        "import socket, threading; from pathlib import Path; from bridge.host import users; "
        "loaded = lambda: {part for part in Path('/proc/self/maps').read_text().split() if '/libnss_' in part}; "
        "before = loaded(); users.load_directory(); "
        "[thread.join() for thread in threading.enumerate() if thread.name == 'users']; "
        "print(*sorted(Path(name).name for name in loaded() - before))"
    )
    lines = Path("/etc/nsswitch.conf").read_text().splitlines()
    services = next((line.split()[1:] for line in lines if line.startswith("passwd:")), [])
    wanted = {f"libnss_{name}.so.2" for name in services if not name.startswith("[") and name != "files"}
    there = {name for name in wanted if any(Path("/lib").rglob(name)) or any(Path("/usr/lib").rglob(name))}
    if not there:
        pytest.skip("this machine's directory is files alone")
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", script], env=environ, capture_output=True, text=True, check=True)
    assert there <= set(done.stdout.split())


@pytest.mark.parametrize(
    ("effective", "sudo", "expected"),
    [(0, "1000", "1000"), (0, "", "0"), (0, None, "0"), (1001, "1000", "1001"), (1001, None, "1001")],
)
def test_who_has_started_us_by_sudo_too(
    monkeypatch: pytest.MonkeyPatch, effective: int, sudo: str | None, expected: str
) -> None:
    """SUDO_UID is believed only if this process is root."""
    monkeypatch.setattr(os, "geteuid", lambda: effective)
    monkeypatch.delenv("SUDO_UID", raising=False)
    if sudo is not None:
        monkeypatch.setenv("SUDO_UID", sudo)
    assert own_user_id() == expected
