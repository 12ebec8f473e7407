"""A crash leaves nothing behind; what the configuration has taken stays with us."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bridge.host.environment import TakenEnvironment, environment_of_programs

DIE = (
    "import os, signal, sys; signal.signal({number}, signal.SIG_DFL); {first}; "
    "sys.stdout.write('here'); sys.stdout.flush(); os.kill(os.getpid(), {number})"
)
FORBID = "from bridge.host.hardening import forbid_dumps; forbid_dumps()"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc and prctl(2) of Linux")


def crash(directory: Path, first: str, number: int = signal.SIGABRT) -> list[str]:
    """A Python process that may write a core of any size and dies. Returns: the files that it left."""
    command = [sys.executable, "-c", DIE.format(first=first, number=int(number))]
    limited = ["sh", "-c", 'ulimit -c unlimited && exec "$@"', "sh", *command]
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(limited, cwd=directory, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == -number, done.stderr
    assert done.stdout == "here"
    return [path.name for path in directory.iterdir()]


@pytest.mark.parametrize("name", ["SIGABRT", "SIGSEGV", "SIGQUIT"])
def test_a_crash_leaves_no_core(tmp_path: Path, name: str) -> None:
    assert crash(tmp_path, FORBID, signal.Signals[name]) == []


def test_without_it_a_core_would_be_there(tmp_path: Path) -> None:
    """Else the test above shows nothing; where cores go elsewhere, or nowhere, the next one still does."""
    pattern = Path("/proc/sys/kernel/core_pattern").read_text().strip()
    if "/" in pattern or pattern.startswith("|"):
        assert crash(tmp_path, "pass") == []
    else:
        assert any(name.startswith("core") for name in crash(tmp_path, "pass"))


def test_the_kernel_says_that_this_process_is_not_dumped() -> None:
    script = (
        f"{FORBID}; import ctypes, resource; "
        "print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0), *resource.getrlimit(resource.RLIMIT_CORE))"  # PR_GET_DUMPABLE
    )
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", script], env=environ, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "0", "0"]


def test_what_was_looked_up_is_not_inherited_and_can_be_looked_up_again(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in os.environ.items():  # values() takes all there is, and this process has other tests to run
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("OFFICE_SECRET", "CANARY")
    monkeypatch.setenv("OTHER", "seen")
    taken = TakenEnvironment()
    assert taken.get("OFFICE_SECRET") == "CANARY"
    assert "OFFICE_SECRET" not in os.environ
    assert os.environ["OTHER"] == "seen"
    assert taken["OFFICE_SECRET"] == "CANARY"
    assert "OFFICE_SECRET" in taken
    assert "CANARY" in taken.values()
    assert len(taken) == len(list(taken))


def test_what_others_need_stays_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy.example.com:3128")
    taken = TakenEnvironment()
    assert taken["PATH"] == os.environ["PATH"]
    assert taken["https_proxy"] == os.environ["https_proxy"]
    assert taken.get("NOT_SET") is None


@pytest.mark.parametrize(
    "name",
    [
        *("CREDENTIALS_DIRECTORY", "STATE_DIRECTORY", "CONFIGURATION_DIRECTORY", "LOGS_DIRECTORY", "RUNTIME_DIRECTORY"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "OPENSSL_CONF", "REQUESTS_CA_BUNDLE", "HTTPS_PROXY", "NO_PROXY"),
        *("PYTHON_KEYRING_BACKEND", "PYTHONASYNCIODEBUG", "XDG_DATA_HOME", "XDG_CURRENT_DESKTOP", "LC_MESSAGES"),
        *("LANGUAGE", "PYSTRAY_BACKEND", "MAIL_BRIDGE_CONFIG", "SUDO_UID", "BROWSER", "RES_OPTIONS", "PGSSLROOTCERT"),
    ],
)
def test_what_we_go_by_ourselves_stays_and_is_given_to_no_program(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A path to which the configuration refers is no secret; it is the program that would not find it any more."""
    monkeypatch.setenv(name, "/run/somewhere")
    taken = TakenEnvironment()
    taken.take([name])
    assert taken[name] == os.environ[name] == "/run/somewhere"
    assert name not in environment_of_programs()


@pytest.mark.parametrize(
    "name", ["MAIL_BRIDGE_SECRET", "PGPASSWORD", "SSL_KEY_PASSWORD", "PYTHON_CLIENT_SECRET", "KEYRING_PROPERTY_KEY"]
)
def test_a_secret_is_taken_whatever_its_name_begins_with(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "CANARY")
    TakenEnvironment().take([name])
    assert name not in os.environ


def test_programs_get_a_handful_of_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OFFICE_SECRET", "CANARY")
    assert "CANARY" not in environment_of_programs().values()
    assert environment_of_programs()["PATH"] == os.environ["PATH"]
