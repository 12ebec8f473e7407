"""The commands as an admin uses them, mistakes included; these need no mail server and no provider."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from bridge.ui.cli.calling import own_program, with_config
from bridge.ui.cli.main import run_command_line
from tests.e2e.bridge import PYTHON, Bridge, configuration, running
from tests.interrupting import OWN_TERMINAL, interrupt
from tests.servers.packages import needs_root

ALICE, BOB = "alice@example.com", "bob@contoso.com"
PATTERN = "*@fabrikam.com"
COMMANDS = ("init", "run", "check", "authorize", "accounts", "status", "console", "service", "import", "schema")


@pytest.fixture
def admin(tmp_path: Path) -> Bridge:
    """A configuration with the store's key in a file; no bridge runs."""
    providers = {
        "gmail": {"kind": "google", "client_id": "1234.apps", "client_secret": "CANARY-secret"},
        "office365": {"kind": "microsoft", "tenant": "contoso.com", "client_id": "1111"},
    }
    accounts = [
        {"address": ALICE, "provider": "gmail"},
        {"address": BOB, "provider": "office365"},
        {"address": PATTERN, "provider": "office365"},
    ]
    return Bridge(tmp_path, configuration(tmp_path, providers, accounts))


def separate(bridge: Bridge, *arguments: str, stdin: str = "", cwd: Path | None = None) -> tuple[int, str, str]:
    """Run one command. Returns: exit code, standard output, standard error."""
    bridge.write_config()
    done = subprocess.run(
        bridge.command(*arguments),
        input=stdin,
        capture_output=True,
        text=True,
        env=bridge.environ,
        cwd=cwd or bridge.directory,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def without_config(bridge: Bridge, *arguments: str) -> tuple[int, str]:
    """Run one command that has to look for its configuration. Returns: exit code, everything that it printed."""
    done = subprocess.run(
        [*bridge.command()[:3], *arguments],
        capture_output=True,
        text=True,
        env=bridge.environ,
        cwd=bridge.directory,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.skipif(os.name == "nt", reason="there the environment does not say where the user's directories are")
def test_who_asks_for_the_password_of_another_users_bridge_is_warned(admin: Bridge) -> None:
    admin.config["store"].pop("path", None)
    home = str(admin.directory / "home")
    admin.environment |= {"HOME": home, "XDG_DATA_HOME": home, "LOCALAPPDATA": home}
    with socket.create_server(("127.0.0.1", int(admin.config["console"].partition(":")[2]))):
        code, shown, said = separate(admin, "accounts", "password", ALICE)
        assert (code, len(shown.split())) == (0, 1)
        assert "run this command as that user" in said
        admin.config["store"]["path"] = str(admin.directory / "shared.sqlite")
        assert "as that user" not in separate(admin, "accounts", "password", ALICE)[2]
    del admin.config["store"]["path"]
    assert "as that user" not in separate(admin, "accounts", "password", ALICE)[2]


# --- no configuration, or not that one ---------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["run", "check", "status", f"authorize {ALICE}"])
def test_where_there_is_no_configuration_the_places_are_named(admin: Bridge, command: str) -> None:
    code, said = without_config(admin, *command.split())
    assert code == 2
    assert "there is no configuration yet" in said
    assert str(admin.directory / "config.yaml") in said
    assert "mail-bridge init, or in the browser: " in said
    assert "mail-bridge init --browser\n" in said
    assert "run --demo" in said
    assert "Traceback" not in said


def test_what_the_output_has_no_letters_for_is_written_in_plain_ones(admin: Bridge) -> None:
    """As on Windows, where files and pipes use the old 8-bit character set."""
    admin.environment["PYTHONIOENCODING"] = "cp1252:surrogateescape"
    assert f"o {ALICE}" in admin.run("accounts", "list")
    assert "\\u0141\\u0144\\u017a: there is no such file" in admin.run("check", "--config", "Łńź", code=2)
    with running(admin):
        assert f"-> http://localhost:{admin.console_port}/sign-in/" in admin.run("status")


@pytest.mark.parametrize("command", ["run", "check", "status", f"authorize {ALICE}"])
def test_a_file_that_does_not_exist_is_said_to_be_missing(admin: Bridge, command: str) -> None:
    code, said = without_config(admin, *command.split(), "--config", "tpyo.yaml")
    assert code == 2
    assert "tpyo.yaml: there is no such file" in said


@pytest.mark.parametrize("given", ["--help", "0", "77", "-1", "9" * 30])
def test_what_a_worker_is_called_with_by_hand_is_a_sentence(admin: Bridge, given: str) -> None:
    code, said = without_config(admin, "worker", given)
    assert code == 2
    assert said.endswith(f"the bridge: {own_program()} run\n")
    assert "Traceback" not in said


@pytest.mark.skipif(os.name != "posix", reason="no FIFO in a directory")
@pytest.mark.parametrize("command", ["run", "check", "status", "accounts list"])
def test_a_configuration_that_can_be_read_only_once_is_refused(admin: Bridge, command: str) -> None:
    """Such as `--config <(…)`, and a pipe that nobody writes to."""
    pipe = admin.directory / "pipe.yaml"
    os.mkfifo(pipe)
    code, said = without_config(admin, *command.split(), "--config", str(pipe))
    assert code == 2
    assert f"{pipe} is a pipe or a device; mail-bridge reads its configuration more than once" in said


@pytest.mark.skipif(os.name != "posix", reason="Windows removes no directory in which somebody stands")
@pytest.mark.parametrize("command", ["init --output first.yaml", "run --demo", "tray --control control.json"])
def test_who_stands_in_a_directory_that_is_gone_is_told_so(admin: Bridge, command: str) -> None:
    gone = ["sh", "-c", 'mkdir gone && cd gone && rmdir ../gone && exec "$@"', "sh", PYTHON, "-P", "-m", "bridge"]
    done = subprocess.run(
        [*gone, *command.split()],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=admin.environ,
        cwd=admin.directory,
        timeout=60,
        check=False,
    )
    sentence = "mail-bridge: the current directory no longer exists: change to another one, and run this"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"{sentence} command again\n")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names of files are Unicode")
@pytest.mark.parametrize("command", ["run", "accounts list"])
def test_a_name_that_the_locale_has_no_letters_for_is_told(admin: Bridge, command: str) -> None:
    """A locale from before UTF-8, such as `LANG=fr_FR`; here the locale C stands for all of them."""
    admin.environment |= {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    admin.config["store"]["path"] = str(admin.directory / "Łódź" / "store.sqlite")
    said = admin.run(*command.split(), code=2)
    assert (
        "has only the characters of ascii, but the name of a file has others ('\\u0141\\xf3'): set one "
        "with UTF-8, such as" in said
    )
    assert "Traceback" not in said


@pytest.mark.skipif(os.name != "posix", reason="there are terminals of this kind on POSIX only")
def test_at_a_terminal_a_page_is_offered_and_ctrl_c_ends_it(admin: Bridge) -> None:
    """The page is at the usual port. If another program has that at the moment, the message names `--port` instead."""
    import pty

    keyboard, terminal = pty.openpty()
    process = subprocess.Popen(
        [*admin.command()[:3], "run"],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env=admin.environ | {"BROWSER": "true"},
        cwd=admin.directory,
    )
    os.close(terminal)
    said = ""
    try:
        while "/admin/" not in said and "--port" not in said:
            said += os.read(keyboard, 4096).decode()
        if "/admin/" in said:
            process.send_signal(signal.SIGINT)
        assert process.wait(60) == (0 if "/admin/" in said else 2)
    finally:
        process.kill()
        process.wait()
        os.close(keyboard)
    assert "Traceback" not in said
    assert not (admin.directory / "config.yaml").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ("init --port 4000", 2, "--browser"),
        ("init --no-open", 2, "--browser"),
        ("init --browser --port 0", 2, "--port"),
    ],
)
def test_what_belongs_to_the_page_needs_the_page(admin: Bridge, arguments: str, code: int, words: str) -> None:
    found, said = without_config(admin, *arguments.split())
    assert found == code
    assert words in said


def test_the_page_does_not_begin_where_there_is_a_configuration(admin: Bridge) -> None:
    admin.write_config()
    before = (admin.directory / "config.yaml").read_text()
    code, said = without_config(admin, "--config", "config.yaml", "init", "--browser", "--no-open")
    assert code == 1
    assert "already exists, and is left as it is" in said
    assert (admin.directory / "config.yaml").read_text() == before


def test_the_environment_may_name_the_file(admin: Bridge) -> None:
    elsewhere = admin.directory / "elsewhere.yaml"
    admin.write_config().rename(elsewhere)
    admin.environment["MAIL_BRIDGE_CONFIG"] = str(elsewhere)
    code, said = without_config(admin, "accounts", "list")
    assert code == 0
    assert ALICE in said


@pytest.mark.parametrize("command", ["run", "check", "accounts list", f"authorize {BOB}"])
def test_all_errors_of_a_configuration_are_printed_by_every_command(admin: Bridge, command: str) -> None:
    admin.config["accounts"][0]["provider"] = "gmial"
    admin.config["listenerz"] = {}
    admin.config["providers"]["gmail"]["client_secret"] = "${NOT_SET_ANYWHERE}"
    said = admin.run(*command.split(), code=2)
    assert "accounts[0].provider: no provider named 'gmial' (did you mean 'gmail'?)" in said
    assert "listenerz: unknown key (did you mean 'listeners'?)" in said
    assert "NOT_SET_ANYWHERE" in said
    assert "config.yaml:" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("group", "command", "words"),
    [
        ("accounts", "list", "tpyo.yaml: there is no such file"),
        ("service", "show", "and no other configuration"),
    ],
)
def test_the_file_is_named_in_any_place_of_a_command(admin: Bridge, group: str, command: str, words: str) -> None:
    mine, other = ("--config", "tpyo.yaml"), ("--config", "other.yaml")
    for once in [(*mine, group, command), (group, *mine, command), (group, command, *mine)]:
        code, said = without_config(admin, *once)
        assert (code, words in said) == (2, True), said
    for twice in [(*other, group, *mine, command), (group, *other, command, *mine)]:
        said = without_config(admin, *twice)[1]
        assert words in said, "the nearest wins"
        assert "other.yaml" not in said
    assert "is not one of 'debug'" in without_config(admin, group, "--log-level", "loud", command)[1]


# --- usage --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (f"accounts password {ALICE} --rotate --set-from-stdin", "cannot be used together"),
        (f"accounts password {ALICE} --at-once", "--at-once needs --rotate or --set-from-stdin"),
        (f"accounts forget {ALICE}", "add --yes if you are sure"),
        (f"accounts adopt {ALICE}", "there is no refresh token on standard input"),
    ],
)
def test_wrong_usage_is_explained_with_exit_code_2(admin: Bridge, arguments: str, words: str) -> None:
    assert words in admin.run(*arguments.split(), code=2)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("", "Usage: mail-bridge [OPTIONS] COMMAND"),
        ("nonsense", "No such command 'nonsense'"),
        ("authorize", "Missing argument 'ADDRESS'"),
        ("run --nonsense", "No such option"),
        ("--log-level loud check", "is not one of 'debug', 'info', 'warning', 'error'"),
    ],
)
def test_what_is_no_command_is_explained(capsys: pytest.CaptureFixture[str], arguments: str, words: str) -> None:
    assert run_command_line(arguments.split()) == 2
    assert words in capsys.readouterr().err


def test_help_lists_the_commands_and_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command_line(["--help"]) == 0
    said = capsys.readouterr().out
    assert all(f"\n  {command} " in said for command in COMMANDS)
    assert "0 done, 1 failed, 2 usage or configuration" in said


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert run_command_line([command, "--help"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"Usage: mail-bridge {command}")
    assert "Options:" in said
    assert "..." not in said.partition("Options:")[2]  # no sentence is cut off
    assert "--config" in said


def test_a_command_in_the_help_is_whole_to_be_copied(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines must not break at the hyphen in our name."""
    for width in range(50, 100):
        monkeypatch.setenv("COLUMNS", str(width))
        assert run_command_line(["--help"]) == 0
        said = capsys.readouterr().out
        assert "mail-bridge init" in " ".join(said.split()), said
        assert "mail-\n" not in said


def test_output_into_a_pipe_that_closes_ends_quietly(admin: Bridge) -> None:
    with subprocess.Popen(
        admin.command("schema"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=admin.environ
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert "Traceback" not in process.stderr.read()


@pytest.mark.skipif(sys.platform != "linux", reason="needs something that cannot be written")
def test_it_does_so_where_the_system_calls_that_an_invalid_argument(admin: Bridge) -> None:
    """Windows reports EINVAL for a closed pipe; Linux does so for a write to an epoll descriptor."""
    with select.epoll() as unwritable:
        done = subprocess.run(
            admin.command("schema"),
            stdout=unwritable.fileno(),
            stderr=subprocess.PIPE,
            text=True,
            env=admin.environ,
            timeout=60,
            check=False,
        )
    assert (done.returncode, done.stderr) == (1, "")


# --- accounts -----------------------------------------------------------------------------------------------------


def test_accounts_are_listed_in_columns_with_what_to_do(admin: Bridge) -> None:
    mark = "o" if os.name == "nt" else "○"  # a pipe on Windows has no "○"
    lines = admin.run("accounts", "list").splitlines()
    assert lines[0] == f"{mark} {ALICE}  sign-in needed  gmail      Nobody has signed in yet. Please sign in."
    assert lines[1] == f"{mark} {BOB}    sign-in needed  office365  Nobody has signed in yet. Please sign in."
    assert lines[2].strip().startswith(PATTERN)
    config = admin.directory / "config.yaml"
    assert lines[-1] == f"To sign in: {with_config(own_program(), config)} authorize ADDRESS"


def test_a_password_is_all_that_is_on_standard_output(admin: Bridge) -> None:
    code, shown, _ = separate(admin, "--log-level", "debug", "accounts", "password", ALICE)
    assert code == 0
    assert len(shown.split()) == 1
    assert len(shown.strip()) >= 22  # at least 128 bits
    assert separate(admin, "accounts", "password", ALICE.upper())[1] == shown
    assert separate(admin, "accounts", "password", "anna@fabrikam.com")[1] not in {"", shown}


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("nobody@example.com", "nobody@example.com is not in the configuration"),
        (PATTERN, f"{PATTERN} stands for everybody in its domain; name one address of that domain"),
    ],
)
@pytest.mark.parametrize("command", ["accounts password", "accounts forget --yes"])
def test_an_address_that_is_no_account_is_a_failure(admin: Bridge, command: str, address: str, words: str) -> None:
    said = admin.run(*command.split(), address, code=1)
    assert words in said
    assert "Traceback" not in said


def test_a_password_is_set_from_standard_input_and_an_easy_one_refused(admin: Bridge) -> None:
    said = admin.run("accounts", "password", ALICE, "--set-from-stdin", stdin="chosen by an admin\r\n")
    assert "keeps working for a week" in said
    assert admin.password(ALICE) == "chosen by an admin"
    assert "at least 12" in admin.run("accounts", "password", ALICE, "--set-from-stdin", stdin="short\n", code=2)
    assert admin.password(ALICE) == "chosen by an admin"
    assert admin.run("accounts", "password", ALICE, "--rotate").strip() != "chosen by an admin"


def test_an_address_that_changes_takes_the_crms_user_name_and_password_along(admin: Bridge) -> None:
    """As docs/guides/en/maintenance.md describes it."""
    before, new = admin.password(ALICE), "alice@new.example"
    admin.config["accounts"][0] = {"address": new, "provider": "gmail", "aliases": [ALICE]}
    admin.run("accounts", "password", new, "--set-from-stdin", stdin=f"{before}\n")
    assert admin.password(ALICE) == before, "by the name that the CRM has, too"
    assert "Everything that was stored for it has been removed" in admin.run("accounts", "forget", ALICE, "--yes")
    assert admin.password(new) == before, "what was forgotten is the account before, not the one that has its name now"


def test_what_powershell_puts_before_a_password_is_none_of_its_characters(admin: Bridge) -> None:
    """`$OutputEncoding = [Text.Encoding]::UTF8` sends a byte order mark before a pipe's first line."""
    command = ("accounts", "password", ALICE, "--set-from-stdin")
    admin.run(*command, stdin="\ufeffchosen by an admin\r\n")
    assert admin.password(ALICE) == "chosen by an admin"
    assert "there is no new local password" in admin.run(*command, stdin="\ufeff\r\n", code=2)


def test_what_is_stored_of_somebody_who_has_left_is_shown_and_can_be_removed(admin: Bridge) -> None:
    password = admin.password(BOB)
    assert (
        BOB not in admin.run("accounts", "list").partition("Stored for addresses that are not in the configuration")[2]
    )
    (left,) = [account for account in admin.config["accounts"] if account["address"] == BOB]
    admin.config["accounts"].remove(left)
    assert f"  {BOB}: a local password, which no longer opens anything\n" in admin.run("accounts", "list")
    assert BOB not in admin.run("check")  # a password that opens nothing is no problem, and works again if Bob returns
    assert [account["address"] for account in admin.json("accounts", "list")] == [ALICE]
    said = admin.run("accounts", "forget", "--yes", BOB.upper())
    assert "is not in the configuration. Everything that was stored for it has been removed." in said
    assert BOB not in admin.run("accounts", "list")
    assert f"{BOB} is not in the configuration\n" in admin.run("accounts", "forget", "--yes", BOB, code=1)
    mistyped = PATTERN.replace("*", "alcie")
    assert f"Nobody was signed in for {mistyped}" in admin.run("accounts", "forget", "--yes", mistyped)
    admin.config["accounts"].append(left)
    assert admin.password(BOB) != password


@pytest.mark.parametrize(("answer", "code"), [("n", 1), ("y", 0)])
@pytest.mark.parametrize(
    ("has_left", "question", "outcome"),
    [
        (
            False,
            "must sign in again afterwards. Continue?",
            f"Nobody was signed in for {ALICE}: there was nothing to remove.",
        ),
        (
            True,
            "is not in the configuration. Remove everything that is stored for it?",
            "stored for it has been removed.",
        ),
    ],
    ids=["account", "nobody's"],
)
def test_forget_asks_on_a_terminal(
    admin: Bridge, answer: str, code: int, has_left: bool, question: str, outcome: str
) -> None:
    if has_left:
        admin.password(ALICE)
        admin.config["accounts"] = [one for one in admin.config["accounts"] if one["address"] != ALICE]
    pty = pytest.importorskip("pty", reason="there are terminals of this kind on POSIX only")
    keyboard, terminal = pty.openpty()
    try:
        os.write(keyboard, f"{answer}\n".encode())
        admin.write_config()
        done = subprocess.run(
            admin.command("accounts", "forget", ALICE),
            stdin=terminal,
            capture_output=True,
            text=True,
            env=admin.environ,
            timeout=60,
            check=False,
        )
    finally:
        os.close(keyboard)
        os.close(terminal)
    assert done.returncode == code
    assert f"{ALICE} {question}" in done.stdout
    assert (outcome in done.stdout) is (code == 0)


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells that a program waits for its input")
@pytest.mark.parametrize("arguments", [("adopt", ALICE), ("password", ALICE, "--set-from-stdin")])
def test_one_ctrl_c_ends_a_command_that_waits_for_a_secret(admin: Bridge, arguments: Sequence[str]) -> None:
    import pty

    admin.write_config()
    keyboard, terminal = pty.openpty()
    process = subprocess.Popen(
        admin.command("accounts", *arguments),
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env=admin.environ,
        start_new_session=True,  # otherwise getpass asks at the terminal of whoever runs the tests
    )
    os.close(terminal)
    said, state = "", Path(f"/proc/{process.pid}/stat")
    try:
        while not said.endswith(": "):
            said += os.read(keyboard, 4096).decode()
        while ") S " not in (seen := state.read_text()):  # a signal that comes just before the read would not wake it
            assert ") Z " not in seen, said
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 1
    finally:
        process.kill()
        process.wait()
        os.close(keyboard)
    assert "Traceback" not in said


# --- the store ----------------------------------------------------------------------------------------------------


def test_a_store_that_is_no_database_is_trouble_and_no_reason_to_sign_in(admin: Bridge) -> None:
    store = admin.directory / "store.sqlite"
    store.write_text("CANARY")
    (listed, *_) = admin.json("accounts", "list")
    assert (listed["state"], listed["turn"]) == ("trouble", "app-admin")
    assert "is not a database; move it away" in listed["detail"]
    for command in (["run"], ["check"]):
        assert "is not a database; move it away" in admin.run(*command, code=2)
    assert "is not a database" in admin.run("accounts", "password", ALICE, code=1)
    assert store.read_text() == "CANARY"


def test_a_store_url_that_no_library_takes_is_one_of_the_checks_findings(admin: Bridge) -> None:
    admin.config["store"] = {"url": "mysql://CANARY@host/database"}
    (found,) = admin.json_of("check", code=2)
    assert (found["check"], found["outcome"], found["turn"]) == ("configuration", "failed", "app-admin")
    assert "store.url: no store named 'mysql'; possible here: postgresql, sqlite" in found["detail"]
    report = admin.directory / "report.txt"
    assert "FAILED" in admin.run("check", "--report", str(report), code=2)
    assert "no store named 'mysql'" in report.read_text("utf-8")
    assert "CANARY" not in report.read_text("utf-8")


def test_a_log_file_that_would_end_the_start_fails_the_check_too(admin: Bridge) -> None:
    admin.config["log"]["file"] = "."
    admin.write_config()
    for command in ("run", "check"):
        assert f"log.file: {admin.directory} cannot be written: " in admin.run(command, code=2)


@pytest.mark.skipif(os.name != "posix", reason="needs links, and their owners")
def test_why_the_log_does_not_go_where_another_users_link_leads_is_told(admin: Bridge) -> None:
    needs_root()
    link = admin.directory / "mail-bridge.log"
    link.symlink_to(admin.directory / "elsewhere")
    os.chown(link, 65534, 65534, follow_symlinks=False)
    admin.config["log"]["file"] = str(link)
    admin.write_config()
    told = f"log.file: {link} cannot be written: it is a link that another user has made"
    for command in ("run", "check"):
        assert told in admin.run(command, code=2)
    assert not link.exists()


@pytest.mark.skipif(os.name == "nt", reason="there the environment does not say where the user's directories are")
def test_a_user_without_a_place_for_the_word_to_others_fails_the_check_too(admin: Bridge) -> None:
    """Such as a service's user without a home and without STATE_DIRECTORY."""
    admin.config["store"]["path"] = str(admin.directory / "shared.sqlite")
    admin.write_config()
    (admin.directory / "file").touch()
    admin.environment |= {"XDG_DATA_HOME": str(admin.directory / "file")}
    for command in ("run", "check"):
        assert "without it, the other commands do not find the running mail-bridge" in admin.run(command, code=2)


@pytest.mark.parametrize(
    ("key", "words"), [("no key\n", "holds 7 bytes; a key has 32 bytes"), (None, "does not exist; put it back")]
)
def test_a_key_that_is_damaged_or_gone_is_named_by_every_command(admin: Bridge, key: str | None, words: str) -> None:
    admin.password(ALICE)
    file = admin.directory / "key"
    good = file.read_text()
    file.unlink()
    if key is not None:
        file.write_text(key, newline="\n")
        file.chmod(0o600)
    for command, code in (("run", 2), ("check", 2), (f"accounts password {ALICE}", 1), ("accounts list", 0)):
        assert words in admin.run(*command.split(), code=code), command
    assert file.exists() is (key is not None), "no other one is made in its place"
    assert [account["state"] for account in admin.json("accounts", "list")] == ["trouble", "trouble"]
    file.write_text(good)
    file.chmod(0o600)
    assert [account["state"] for account in admin.json("accounts", "list")] == ["sign-in", "sign-in"]


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another program holds a write transaction open."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("BEGIN IMMEDIATE")
        yield


def test_a_store_that_another_program_has_locked_is_said_to_be_and_nothing_changes(admin: Bridge) -> None:
    before = admin.password(ALICE)
    with locked(admin.directory / "store.sqlite"):
        said = admin.run("accounts", "password", ALICE, "--rotate", code=1)
    assert "lock" in said
    assert "Traceback" not in said
    assert admin.password(ALICE) == before


@pytest.mark.parametrize(
    ("backend", "words"), [("fail", "there is no OS keyring here"), ("null", "the OS keyring is switched off")]
)
def test_trap_39_without_a_keyring_the_remedy_is_a_sentence(admin: Bridge, backend: str, words: str) -> None:
    admin.environment["PYTHON_KEYRING_BACKEND"] = f"keyring.backends.{backend}.Keyring"
    del admin.config["store"]["key_file"]
    for command in ("run", "check"):
        said = admin.run(command, code=2)
        assert words in said
        assert ". A file may hold the key instead: `store: {key_file: …}`" in said


# --- beside a running bridge, and without one ---------------------------------------------------------------------


def test_check_names_the_port_that_is_taken(admin: Bridge) -> None:
    taken = int(admin.config["listeners"]["pop3"].rsplit(":", 1)[1])
    with socket.create_server(("127.0.0.1", taken)):
        said = admin.run("check", code=2)
        assert f"FAILED  port pop3 127.0.0.1:{taken}: in use by" in said
        assert "FAILED  store" not in said


def test_authorize_needs_the_consoles_port_and_says_so(admin: Bridge) -> None:
    with socket.create_server(("127.0.0.1", admin.console_port)):
        said = admin.run("authorize", ALICE, "--no-browser", code=1)
    assert f"127.0.0.1:{admin.console_port} (console) is in use by another program" in said


@pytest.mark.parametrize("is_beside", [True, False], ids=["beside a bridge", "alone"])
def test_a_sign_in_that_is_interrupted_leaves_the_account_as_it_was(admin: Bridge, is_beside: bool) -> None:
    with running(admin) if is_beside else contextlib.nullcontext():
        admin.write_config()
        with subprocess.Popen(
            admin.command("authorize", ALICE, "--no-browser"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=admin.environ,
            cwd=admin.directory,
            creationflags=OWN_TERMINAL,
        ) as process:
            try:
                assert process.stdout is not None
                assert process.stdout.readline() == f"To sign in for {ALICE}, open this page in your browser:\n"
                assert process.stdout.readline() == "\n"
                assert process.stdout.readline().startswith("  https://accounts.google.com/o/oauth2/v2/auth?")
                interrupt(process)
                said, problems = process.communicate(timeout=60)
            finally:
                process.kill()  # otherwise a failure above would be reported only once the sign-in has timed out
            assert process.returncode == 1
        assert "Traceback" not in problems
        assert said.strip() == ""
    assert admin.json("accounts", "list")[0]["state"] == "sign-in"


def test_a_browser_that_cannot_be_started_leaves_the_link(admin: Bridge) -> None:
    """Here BROWSER is even a line that Python cannot parse."""
    admin.environment["BROWSER"] = "/home/o'brien/browser %s"
    with running(admin):
        said = admin.run("console")
    assert f"http://localhost:{admin.console_port}/admin/" in said
    assert "No browser could be started here" in said


def test_status_and_accounts_ask_the_running_bridge(admin: Bridge) -> None:
    assert "is not running" in admin.run("status", code=1)
    assert admin.run("status", "--json", code=1).strip() == "null"
    assert "is not running" in admin.run("console", code=1)
    with socket.create_server(("127.0.0.1", admin.console_port)):
        assert f"a program listens at localhost:{admin.console_port}" in admin.run("status", code=1)
    with running(admin):
        said = admin.run("status")
        assert "is running" in said
        assert f"imap  {admin.config['listeners']['imap']}" in said
        assert "0 sessions" in said
        with socket.create_connection(("127.0.0.1", int(admin.config["listeners"]["imap"].rsplit(":", 1)[1]))) as sock:
            sock.recv(100)
            assert "1 session\n" in admin.run("status")
        assert f"/sign-in/{ALICE}" in said
        found = admin.json("status")
        assert found["listeners"][0]["protocol"] == "imap"
        assert [(one["diagnosis"]["key"], one["turn"]) for one in found["accounts"]] == [("sign_in.first", "user")] * 2
        assert admin.json("accounts", "list") == found["accounts"]
        said_by_check = admin.run("check")
        assert said_by_check.count("holds it") == 4
        assert "FAILED" not in said_by_check
        assert "is in use by another program" in admin.run("run", code=1)


def test_ctrl_c_ends_a_bridge_which_tells_who_is_there(admin: Bridge) -> None:
    admin.creationflags = OWN_TERMINAL
    admin.start()
    assert admin.process is not None
    port = int(admin.config["listeners"]["imap"].rsplit(":", 1)[1])
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=60) as sock, sock.makefile("rb") as heard:
            assert heard.readline().startswith(b"* OK")
            interrupt(admin.process)
            assert heard.read() == b"* BYE [UNAVAILABLE] mail-bridge is being stopped. Try again later.\r\n"
        assert admin.process.wait(60) == 0
    finally:
        admin.stop()
    assert "Traceback" not in admin.log
    assert "is not running" in admin.run("status", code=1)


def test_a_second_bridge_with_the_same_file_does_not_take_the_first_ones_place(admin: Bridge) -> None:
    with running(admin):
        admin.run("run", code=1)
        assert "is running" in admin.run("status")


def test_a_service_manager_tries_again_where_the_address_may_come_by_itself(admin: Bridge) -> None:
    """So the exit code is 1: after 2, which means that somebody must change something first, the guides' units do not
    restart it."""
    admin.config["listeners"]["imap"] = {"address": "192.0.2.1:1143", "tls": "implicit", "exposed": True}
    assert "this machine has no such address" in admin.run("run", code=1)


def test_a_certificate_that_cannot_be_kept_wants_somebody_to_act_first(admin: Bridge) -> None:
    admin.config["listeners"]["imap"] = {"address": admin.config["listeners"]["imap"], "tls": "implicit"}
    (admin.directory / "tls").write_text("no directory")
    said = admin.run("run", code=2)
    assert f"mail-bridge cannot start: {admin.directory / 'tls'}, where mail-bridge keeps the certificate" in said
    assert "Traceback" not in said


def test_where_there_can_be_no_icon_only_a_bridge_that_is_to_have_one_does_not_start(admin: Bridge) -> None:
    (admin.directory / "pystray.py").write_text("raise ImportError('no display')\n")
    path = os.pathsep.join([str(admin.directory), admin.environ["PYTHONPATH"]])
    admin.environment |= {"PYTHONPATH": path, "PYSTRAY_BACKEND": "dummy"}
    assert re.match("mail-bridge: (there is no desktop here|the icon needs) ", admin.run("tray", code=2))
    assert "mail-bridge cannot start: " in admin.run("run", "--tray", code=2)


def test_a_warning_comes_with_the_commands_that_are_about_the_file(admin: Bridge) -> None:
    if os.name != "posix":
        pytest.skip("file modes are POSIX's")
    admin.write_config().chmod(0o644)
    for arguments, is_warned in ((["check"], True), (["accounts", "list"], False)):
        done = subprocess.run(
            admin.command(*arguments), capture_output=True, text=True, env=admin.environ, timeout=60, check=False
        )
        assert done.returncode == 0
        said = [line for line in done.stdout.splitlines() if "every user of this machine can read this secret" in line]
        assert [line.split()[0] for line in said] == (["warning"] if is_warned else [])
        assert "every user" not in done.stderr


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX's")
def test_what_a_bridge_that_starts_warns_of_is_in_its_log_as_that_is_configured(admin: Bridge) -> None:
    """A line of plain text would break programs that read the log as JSON, and with a log file nobody may keep standard
    error."""
    admin.launcher = ["sh", "-c", 'chmod 644 config.yaml; exec "$@"', "sh"]
    admin.config["log"] = {"format": "json"}
    with running(admin):
        assert {type(json.loads(line)) for line in admin.log.splitlines()} == {dict}
        assert "every user of this machine can read this secret" in admin.log


def test_the_schema_is_json_that_knows_every_section(admin: Bridge) -> None:
    schema = json.loads(admin.run("schema"))
    assert {"providers", "accounts", "listeners", "console", "store", "log"} <= set(schema["properties"])


@pytest.mark.parametrize("is_before", [True, False])
def test_a_command_that_reads_no_configuration_speaks_its_language(admin: Bridge, is_before: bool) -> None:
    """Like every other command, it accepts `--config` before or after its name."""
    admin.config["language"] = "fr"
    option, old = ["--config", str(admin.write_config())], admin.directory / "emailproxy.config"
    old.write_text("[alice@example.com]\n")
    words = [*option, "import"] if is_before else ["import", *option]
    command = [PYTHON, "-m", "bridge", *words, str(old)]
    done = subprocess.run(command, capture_output=True, text=True, env=admin.environ, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "emailproxy.config:1: [alice@example.com]: il n’a ni permission_url" in done.stderr


def test_two_commands_at_once_make_one_password(admin: Bridge) -> None:
    config = str(admin.write_config())  # written once, so that no command finds it half written
    found: list[tuple[int, str]] = []
    command = ("accounts", "password", ALICE, "--config", config)
    threads = [threading.Thread(target=lambda: found.append(without_config(admin, *command))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1, found
    assert found[0][0] == 0


def test_who_must_sign_in_is_told_the_command_while_no_bridge_serves_the_page(admin: Bridge) -> None:
    told = admin.run("accounts", "check", ALICE, code=1)
    assert re.search(rf"{ALICE} must sign in: .+ authorize {ALICE} \(Nobody has signed in yet\.", told), told
    assert "http://" not in told
