"""Standard input that is closed, or has what an editor or another program has put around a token; standard output that
cannot be written."""

from __future__ import annotations

import json
import locale
import os
import shlex
import subprocess
import sys
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from bridge.ui.cli.calling import own_program, with_config
from tests.e2e.bridge import Bridge, configuration
from tests.interrupting import OWN_TERMINAL
from tests.oauth.raw import certificates, http, serving

ALICE = "alice@example.com"


@pytest.fixture
def admin(tmp_path: Path) -> Bridge:
    """A configuration with the store's key in a file; no bridge runs."""
    providers = {"gmail": {"kind": "google", "client_id": "1234.apps", "client_secret": "CANARY-secret"}}
    return Bridge(tmp_path, configuration(tmp_path, providers, [{"address": ALICE, "provider": "gmail"}]))


def redirected(bridge: Bridge, redirection: str, *arguments: str) -> tuple[int, str]:
    """Run a command by a POSIX shell. Returns: exit code, and standard error with what is left of standard output."""
    bridge.write_config()
    done = subprocess.run(
        ["sh", "-c", f"{shlex.join(bridge.command(*arguments))} {redirection}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=bridge.environ,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout


@pytest.mark.skipif(os.name != "posix", reason="a POSIX shell closes it")
@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (f"accounts forget {ALICE}", 2, "add --yes if you are sure"),
        (f"accounts password {ALICE} --set-from-stdin", 2, "there is no new local password on standard input"),
        (f"accounts adopt {ALICE}", 2, "there is no refresh token on standard input"),
        ("init --output new.yaml", 1, ""),
    ],
)
def test_a_closed_standard_input_is_an_empty_one(admin: Bridge, arguments: str, code: int, words: str) -> None:
    ended, said = redirected(admin, "<&-", *arguments.split())
    assert ended == code, said
    assert words in said
    assert "Traceback" not in said


@pytest.mark.skipif(os.name != "posix", reason="a POSIX shell writes it")
def test_an_answer_that_is_no_text_is_refused_and_asked_for_again(admin: Bridge) -> None:
    """From a terminal or a file with another encoding: in most locales Python's decoding error ended the program."""
    admin.environment["PYTHONIOENCODING"] = "utf-8:strict"
    answers = admin.directory / "answers"
    answers.write_bytes("été\n".encode("cp1252") * 2)
    ended, said = redirected(admin, f"<{shlex.quote(str(answers))}", "init", "--output", f"{admin.directory}/new.yaml")
    assert ended == 1, said
    assert said.count("This cannot be used: enter a number from 1 to") == 2
    assert "Nothing was written." in said
    assert "Traceback" not in said


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names of files are Unicode")
def test_a_name_that_is_no_utf8_is_written_as_well_as_it_can_be(admin: Bridge) -> None:
    """A directory from the time when names were in Latin-1; in most locales Python's output is strict UTF-8."""
    admin.environment |= {"PYTHONIOENCODING": "utf-8:strict", "HOME": str(admin.directory)}
    admin.config["store"] = {"path": "store.sqlite", "key_file": "key"}
    directory = admin.directory / os.fsdecode(b"andr\xe9")
    directory.mkdir()
    old = Bridge(directory, admin.config, admin.environment)
    assert r"andr\udce9/store.sqlite" in old.run("check", "--report", str(directory / "report.txt"))
    assert r"andr\udce9/store.sqlite" in (directory / "report.txt").read_text("utf-8")


@pytest.mark.skipif(os.name != "posix" or not Path("/dev/full").exists(), reason="this system has no full disk at hand")
def test_a_full_disk_for_the_output_is_named(admin: Bridge) -> None:
    for arguments in ("accounts list", "check", "schema", "--help", "accounts --help"):
        code, said = redirected(admin, ">/dev/full", *arguments.split())
        assert code == 1, arguments
        assert said == "mail-bridge: standard output cannot be written: No space left on device\n"


@pytest.mark.skipif(os.name != "posix" or not Path("/dev/full").exists(), reason="this system has no full disk at hand")
def test_the_exit_code_is_the_same_where_a_full_disk_takes_no_reason(admin: Bridge) -> None:
    """For a service manager, 2 means that somebody must change something first; after any other failure it restarts."""
    assert redirected(admin, "2>/dev/full", "accounts", "nonsense") == (2, "")
    assert redirected(admin, "2>/dev/full", "status")[0] == 1
    admin.config["accounts"] = 3
    assert redirected(admin, "2>/dev/full", "run") == (2, "")


@pytest.mark.skipif(os.name != "posix" or not Path("/dev/full").exists(), reason="this system has no full disk at hand")
def test_a_stop_is_one_where_a_full_disk_takes_no_log(admin: Bridge) -> None:
    admin.write_config()
    command = ["sh", "-c", 'exec "$@" 2> /dev/full', "sh", *admin.command("run")]
    process = subprocess.Popen(command, env=admin.environ, cwd=admin.directory)
    admin.wait_until(lambda: "is running" in admin.run("status", code=None), "it serves")
    process.terminate()
    assert process.wait(60) == 0


@pytest.mark.skipif(os.name != "posix", reason="a POSIX shell closes it")
def test_a_password_that_is_shown_to_nobody_is_a_sentence(admin: Bridge) -> None:
    """A script or a scheduler may have closed standard output because it does not want any."""
    sentence = 'mail-bridge: standard output cannot be written: "Bad file descriptor"\n'
    assert redirected(admin, ">&-", "accounts", "password", ALICE) == (1, sentence)


@pytest.mark.skipif(os.name != "posix" or not Path("/dev/full").exists(), reason="this system has no full disk at hand")
@pytest.mark.parametrize("redirection", [">/dev/full", ">&-"])
def test_a_new_password_that_could_not_be_shown_is_told_of(admin: Bridge, redirection: str) -> None:
    before = admin.password(ALICE)
    code, said = redirected(admin, redirection, "accounts", "password", ALICE, "--rotate")
    assert code == 1
    assert f"The local password of {ALICE} has been replaced, but the new one could not be shown" in said
    assert (
        f"This shows it: {with_config(own_program(), admin.directory / 'config.yaml')} accounts password {ALICE}\n"
        in said
    )
    assert "Traceback" not in said
    assert "xception" not in said
    after = admin.run("accounts", "password", ALICE).strip()
    assert after not in (before, "")
    assert after not in said


@pytest.mark.parametrize(
    "given",
    [b"\xef\xbb\xbf1//good-token\r\n", b" 1//good-token \n", b"\t1//good-token", b"1//good-token\n\n"],
)
def test_what_is_around_a_token_is_no_part_of_it(admin: Bridge, tmp_path: Path, given: bytes) -> None:
    answer = http(json.dumps({"error": "invalid_grant"}).encode(), "400 Bad Request")
    with serving(answer, *certificates(tmp_path)) as raw:
        admin.config["providers"]["gmail"] = {
            "kind": "oauth2",
            "client_id": "x",
            "authorization_url": raw.url,
            "token_url": raw.url,
            "scopes": ["mail"],
            "imap": {"host": "localhost", "port": 1},
            "ca_file": raw.ca_file,
        }
        code, said = adopted(admin, given)
    (request,) = raw.requests
    assert parse_qs(request.rpartition(b"\r\n")[2].decode())["refresh_token"] == ["1//good-token"]
    assert code == 1
    assert "does not accept this token" in said


@pytest.mark.parametrize("encoding", ["utf-8:strict", "utf-8:surrogateescape", "cp1252:strict"])
@pytest.mark.parametrize(
    "given", [b"1//good\xff\n", "1//goodé\n".encode(), b"\xff\xfe1\x00/\x00\n\x00", b"1//good token\n"]
)
def test_what_no_token_can_hold_is_not_sent(admin: Bridge, encoding: str, given: bytes) -> None:
    admin.environment["PYTHONIOENCODING"] = encoding
    code, said = adopted(admin, given)
    assert code == 2
    assert "the line from standard input is not a refresh token: it has characters that no token contains" in said
    assert "good" not in said


def adopted(bridge: Bridge, given: bytes) -> tuple[int, str]:
    """Run `accounts adopt` with this standard input. Returns: exit code, and everything that it printed."""
    bridge.write_config()
    done = subprocess.run(
        bridge.command("accounts", "adopt", ALICE),
        input=given,
        capture_output=True,
        env=bridge.environ,
        timeout=60,
        check=False,
    )
    return done.returncode, (done.stdout + done.stderr).decode()


@pytest.mark.skipif(sys.platform != "win32", reason="consoles with letters of their own")
def test_a_pipe_has_the_letters_of_the_console(admin: Bridge) -> None:
    """As in `mail-bridge check | more`, or with any `>` of PowerShell: cp850 in French, while files are in cp1252."""
    environment = {**os.environ, **admin.environ, "LC_ALL": "fr_FR"}
    environment.pop("PYTHONIOENCODING", None)
    environment.pop("LANGUAGE", None)  # commands that other tests call in this process set it

    def piped(*arguments: str) -> bytes:
        return subprocess.run(
            [sys.executable, *arguments],
            capture_output=True,
            env=environment,
            timeout=60,
            check=True,
            creationflags=OWN_TERMINAL,
        ).stdout

    number = int(piped("-c", "import ctypes; print(ctypes.windll.kernel32.GetConsoleOutputCP())"))
    helped = piped("-m", "bridge", "--help").decode(f"cp{number}")
    assert "Démarrer mail-bridge" in helped
    assert "\\u" not in helped
    with open(admin.directory / "help.txt", "wb") as file:
        command = [sys.executable, "-m", "bridge", "--help"]
        subprocess.run(command, stdout=file, env=environment, timeout=60, check=True, creationflags=OWN_TERMINAL)
    assert "é" in (admin.directory / "help.txt").read_text(locale.getpreferredencoding(False))
