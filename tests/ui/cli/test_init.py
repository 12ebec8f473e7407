"""`mail-bridge init` as a process, with answers from a pipe and typed at a terminal."""

from __future__ import annotations

import contextlib
import json
import os
import select
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from bridge.config.load import load_config
from bridge.host.paths import service_store
from bridge.model import Protocol
from bridge.ui.cli.calling import own_program, with_config
from tests.conftest import COVERAGE

CANARY = "CANARY-secret"
GUID = "11111111-2222-3333-4444-555555555555"
HOST = "https://login.microsoftonline.com"
GOOGLE = ["1", "1234.apps.googleusercontent.com", CANARY, ""]
ALICE = ["1", "alice@example.com", "", ""]
WRITE = [""]
SECONDS = 60
AS_THE_MACHINES = """
import pathlib, sys
from bridge.host import paths
paths.machine_config_dir = lambda: pathlib.Path(sys.argv[2]).parent
from bridge.__main__ import main
sys.exit(main())
"""
"""Runs the command as if the machine-wide configuration were the one that `--config` names."""


@dataclass
class Desk:
    """A home directory, and the place in it where the configuration will be written."""

    home: Path
    language: str = "C"
    keyring: str = ""
    is_machine: bool = False
    """True if its configuration is the machine-wide one."""

    @property
    def config(self) -> Path:
        return self.home / "bridge" / "config.yaml"

    @property
    def environ(self) -> dict[str, str]:
        keyring = {"PYTHON_KEYRING_BACKEND": self.keyring or "keyring.backends.fail.Keyring"}
        home = {"HOME": str(self.home), "USERPROFILE": str(self.home)}
        kept = {"PATH": os.environ["PATH"], "LC_ALL": self.language, "PYTHONIOENCODING": "utf-8"}
        return {**COVERAGE, **kept, **home, **keyring, "PYTHONPATH": str(Path(__file__).parents[3])}

    def command(self, *arguments: str) -> list[str]:
        program = ["-c", AS_THE_MACHINES] if self.is_machine else ["-m", "bridge"]
        return [sys.executable, *program, "--config", str(self.config), *arguments]

    def init(self, *answers: str, code: int = 0, options: Sequence[str] = ()) -> str:
        """Run `init` with these answers from a pipe. Returns: everything that it printed."""
        done = subprocess.run(
            self.command("init", *options),
            input="".join(f"{answer}\n" for answer in answers).encode(),
            capture_output=True,
            env=self.environ,
            cwd=self.home,
            timeout=SECONDS,
            check=False,
        )
        said = (done.stdout + done.stderr).decode().replace("\r\n", "\n")
        assert done.returncode == code, said
        assert CANARY not in said
        assert "Traceback" not in said
        return said

    def files(self) -> list[str]:
        return sorted(path.relative_to(self.home).as_posix() for path in self.home.rglob("*") if path.is_file())


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_a_few_answers_make_a_configuration_and_the_next_steps_are_told(desk: Desk) -> None:
    said = desk.init(*GOOGLE, *ALICE, *WRITE)
    loaded = load_config(desk.config, environ={})
    (gmail,) = loaded.config.providers.values()
    assert gmail.client_secret is not None
    assert gmail.client_secret.reveal() == CANARY
    assert not loaded.warnings
    assert CANARY not in desk.config.read_text("utf-8")
    assert desk.files() == ["bridge/config.yaml", "bridge/secrets/gmail.txt"]
    for words in ("check --online", "run\n", "1143", "1110", "1587", "accounts password ADDRESS"):
        assert words in said


@pytest.mark.skipif(os.name != "posix", reason="Windows takes a name that is too long for one that is free")
@pytest.mark.parametrize("options", [(), ("--browser", "--no-open")])
def test_a_place_that_cannot_even_be_looked_at_is_told_before_the_first_question(
    desk: Desk, options: tuple[str, ...]
) -> None:
    """As in a directory that is closed to us. The test uses too long a name, because no directory is closed to root."""
    output = desk.home / ("n" * 300)
    said = desk.init(code=1, options=(*options, "--output", str(output)))
    assert f"{output} cannot be written" in said


@pytest.mark.parametrize("options", [(), ("--browser", "--no-open")])
def test_a_place_where_nothing_can_be_made_is_told_before_the_first_question(
    desk: Desk, options: tuple[str, ...], without_files: Path
) -> None:
    """Such as /etc for somebody who has forgotten sudo, or C:\\ for somebody who is no administrator."""
    file = without_files / "mail-bridge" / "config.yaml"
    said = desk.init(code=1, options=(*options, "--output", str(file)))
    assert said.startswith(f"mail-bridge: {file} cannot be written: ")
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize("options", [(), ("--browser", "--no-open")])
def test_a_directory_in_the_place_of_the_file_is_told_before_the_first_question(
    desk: Desk, options: tuple[str, ...]
) -> None:
    desk.config.mkdir(parents=True)
    said = desk.init(code=1, options=(*options, "--output", str(desk.config)))
    assert f"{desk.config} cannot be written: Is a directory" in said
    assert "Replace it" not in said


@pytest.mark.skipif(os.name != "posix", reason="Windows has access lists of directories instead")
def test_what_it_writes_is_for_its_owner_alone(desk: Desk) -> None:
    desk.init(*GOOGLE, *ALICE, *WRITE)
    modes = {stat.S_IMODE((desk.home / name).stat().st_mode) for name in desk.files()}
    assert modes == {0o600}
    assert stat.S_IMODE((desk.config.parent / "secrets").stat().st_mode) == 0o700


@pytest.mark.parametrize("taken", ["config.yaml", "secrets/gmail.txt"])
def test_what_somebody_else_has_written_meanwhile_is_left_alone(desk: Desk, taken: str) -> None:
    """Two administrators at once, or one with two windows: the file was not there when `init` asked, so nobody has
    agreed to replace it."""
    with subprocess.Popen(
        desk.command("init"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=desk.environ,
        cwd=desk.home,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("".join(f"{answer}\n" for answer in (*GOOGLE, *ALICE)))
        process.stdin.flush()
        said = ""
        while f"Write {desk.config}?" not in said:
            said += process.stdout.read(1)
        theirs = desk.config.parent / taken
        theirs.parent.mkdir(parents=True)
        theirs.write_text("theirs")
        _, problems = process.communicate("\n", timeout=SECONDS)
    assert process.returncode == 1
    assert f"{theirs} already exists, and is left as it is." in problems
    assert theirs.read_text() == "theirs"
    assert desk.files() == [f"bridge/{taken}"]


def test_a_v1_url_is_refused_at_once_with_the_right_one(desk: Desk) -> None:
    said = desk.init(
        *("3", "contoso.com", GUID),
        *(f"{HOST}/contoso.com/oauth2/authorize", f"{HOST}/contoso.com/oauth2/v2.0/authorize"),
        *(f"{HOST}/fabrikam.com/oauth2/v2.0/token", f"{HOST}/contoso.com/oauth2/v2.0/token"),
        *("0a1b2c3d-1111-2222-3333-444455556666", CANARY, "31.1.2027", "2027-01-31", ""),
        *("1", "alice", "sales@contoso.com", "alice@contoso.com", "SALES@contoso.com", "", *WRITE),
    )
    assert f"use the v2 one: {HOST}/contoso.com/oauth2/v2.0/authorize" in said
    assert "different hosts or tenants" in said
    assert "Secret ID" in said
    assert "must be a day such as" in said
    assert "must be an address such as" in said
    assert "in the list already" in said
    config = load_config(desk.config, environ={}).config
    assert str(config.providers["office365"].client_secret_expires) == "2027-01-31"
    assert config.accounts[0].sign_in_as == "alice@contoso.com"


def test_two_providers_and_a_list_whose_first_version_is_wrong(desk: Desk) -> None:
    bad, good = desk.home / "bad.csv", desk.home / "good.csv"
    bad.write_bytes(b"adresse;fournisseur\r\nalice@example.com;gmail\r\nbob@contoso.com;gmial\r\n")
    good.write_bytes("\ufeffadresse;fournisseur\r\nalice@example.com;gmail\r\nbob@contoso.com;office365\r\n".encode())
    device = ["4", GUID, "contoso.com", "n"]
    said = desk.init(*GOOGLE[:3], "y", *device, "2", "no.csv", str(bad), str(good), *WRITE)
    assert "this file cannot be read" in said
    assert "line 3: there is no provider with this name; choose from: gmail, office365" in said
    accounts = load_config(desk.config, environ={}).config.accounts
    assert [(one.address, one.provider) for one in accounts] == [
        ("alice@example.com", "gmail"),
        ("bob@contoso.com", "office365"),
    ]


def test_a_path_in_the_quotes_of_copy_as_path_is_that_path(desk: Desk) -> None:
    """Windows' "Copy as path" puts the path into "…", and terminals put that of a dropped file into '…'."""
    key, people = desk.home / "the key.json", desk.home / "the people.csv"
    key.write_text(json.dumps({"type": "service_account", "client_email": "a@b.example", "private_key": CANARY}))
    people.write_text("alice@example.com\n")
    said = desk.init("2", f'"{key}"', "", "2", f"'{people}'", *WRITE)
    assert "cannot be" not in said
    loaded = load_config(desk.config, environ={}).config
    assert [account.address for account in loaded.accounts] == ["alice@example.com"]


def test_a_whole_domain_may_be_typed_as_the_advice_writes_it(desk: Desk) -> None:
    """The advice shows it in the quotes that YAML needs. Typed with them, it used to get the same advice again."""
    said = desk.init(*GOOGLE, "1", "alice", '"*@example.com"', "", *WRITE)
    assert said.count('"*@example.com" for a whole domain') == 1
    assert [account.address for account in load_config(desk.config, environ={}).config.accounts] == ["*@example.com"]


def test_the_key_file_of_a_service_account_is_looked_into_at_once(desk: Desk) -> None:
    (desk.home / "empty.json").write_text("{}")
    key = {"type": "service_account", "client_email": "a@b.example", "private_key": CANARY}
    (desk.home / "key.json").write_text(json.dumps(key))
    said = desk.init("2", "empty.json", "key.json", "", "1", "*@example.com", "", *WRITE)
    assert "service_account_file: " in said
    assert load_config(desk.config, environ={}).config.accounts[0].is_pattern


def test_another_provider_is_asked_for_its_urls_scopes_and_servers(desk: Desk) -> None:
    urls = ["http://a.example/authorize", "https://a.example/authorize", "https://a.example/token", "openid mail"]
    said = desk.init("10", "1234", *urls, "nowhere", "a.example:993", "", "a.example:587", "", "", *ALICE, *WRITE)
    assert "must begin with https://" in said
    assert "must be a host and a port" in said
    provider = load_config(desk.config, environ={}).config.providers["mail"]
    assert provider.effective_scopes == ("openid", "mail")
    assert [protocol for protocol in Protocol if provider.override(protocol)] == [Protocol.IMAP, Protocol.SMTP]


def test_without_a_keyring_the_stores_key_gets_a_file_and_check_is_content(desk: Desk) -> None:
    desk.init(*GOOGLE, *ALICE, *WRITE)
    done = subprocess.run(
        desk.command("check"), capture_output=True, env=desk.environ, cwd=desk.home, timeout=SECONDS, check=False
    )
    assert b"store.key" in done.stdout
    assert b"FAILED  store" not in done.stdout


def test_with_a_keyring_the_secret_goes_there_and_the_file_names_it(desk: Desk) -> None:
    desk.keyring = "tests.servers.good_keyring.GoodKeyring"
    desk.init(*GOOGLE[:3], "1", "", *ALICE, *WRITE)
    assert "client_secret: ${keyring:gmail}" in desk.config.read_text("utf-8")
    assert "key_file" not in desk.config.read_text("utf-8")
    assert desk.files() == ["bridge/config.yaml", "keyring.json"]
    assert json.loads((desk.home / "keyring.json").read_text()) == {"mail-bridge/gmail": CANARY}
    assert "already has an entry mail-bridge/gmail." in desk.init("y", *GOOGLE[:3], "1", "", *ALICE, "n", code=1)


@pytest.mark.skipif(os.name != "posix", reason="Windows has no such pipes")
def test_the_secret_of_the_machines_configuration_goes_into_no_persons_keyring(desk: Desk) -> None:
    """The person who writes it is not the user that the service runs as; the store's key, too, must be readable for the
    service."""
    desk.keyring, desk.is_machine = "tests.servers.good_keyring.GoodKeyring", True
    said = desk.init(*GOOGLE, *ALICE, *WRITE)
    assert "because a service will read it, and a service has no keyring" in said
    assert desk.files() == ["bridge/config.yaml", "bridge/secrets/gmail.txt"]
    assert "\nstore:\n  path: " in desk.config.read_text("utf-8")
    assert f"\n  key_file: {service_store()[1]}\n" in desk.config.read_text("utf-8")
    assert "mail-bridge service install\n" in said
    assert " run\n" not in said, "the service does"


@pytest.mark.skipif(os.name != "posix", reason="Windows has no pipe in a directory")
def test_who_may_replace_an_entry_of_the_keyring_replaces_no_file_that_comes_while_that_is_opened(desk: Desk) -> None:
    desk.keyring = "tests.servers.waiting_keyring.WaitingKeyring"
    answers = (*GOOGLE[:3], "1", "", *ALICE)
    desk.init(*answers, *WRITE)
    desk.config.unlink()
    pipe = desk.home / "opened"
    os.mkfifo(pipe)
    with subprocess.Popen(
        desk.command("init"),
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env=desk.environ | {"KEYRING_OPENED": str(pipe)},
        cwd=desk.home,
    ) as process:
        assert process.stdin is not None
        process.stdin.write("".join(f"{answer}\n" for answer in (*answers, "y", *WRITE)))  # "y": replace the entry
        process.stdin.close()
        process.stdin = None
        with pipe.open("wb"):  # the keyring waits for its owner
            desk.config.write_text("theirs")
        _, problems = process.communicate(timeout=SECONDS)
    assert process.returncode == 1
    assert 'config.yaml cannot be written: "File exists"' in problems
    assert desk.config.read_text() == "theirs"


def test_what_is_there_is_kept_unless_somebody_says_yes(desk: Desk) -> None:
    desk.config.parent.mkdir()
    desk.config.write_text("mine")
    assert "Nothing was written" in desk.init("", code=1)
    assert "Nothing was written" in desk.init("y", *GOOGLE, *ALICE, "n", code=1)
    assert desk.config.read_text() == "mine"
    assert desk.files() == ["bridge/config.yaml"]
    desk.init("y", *GOOGLE, *ALICE, *WRITE)
    assert desk.config.read_text() != "mine"
    assert "secrets/gmail.txt already exists." in desk.init("y", *GOOGLE, *ALICE, "n", code=1).replace("\\", "/")


@pytest.mark.parametrize("count", range(len([*GOOGLE, *ALICE])))
def test_the_end_of_input_at_any_question_leaves_nothing(desk: Desk, count: int) -> None:
    assert "Nothing was written" in desk.init(*[*GOOGLE, *ALICE][:count], code=1)
    assert desk.files() == []


def test_a_place_that_cannot_be_written_leaves_no_secret_behind(desk: Desk) -> None:
    output = desk.home / ("n" * 250)  # the longer name of the temporary file beside it is not allowed
    said = desk.init(*GOOGLE, *ALICE, *WRITE, code=1, options=("--output", str(output)))
    assert "cannot be written" in said
    assert desk.files() == []


@pytest.mark.skipif(os.name != "posix", reason="on Windows this would be the profile of whoever runs the tests")
def test_without_a_place_it_is_written_where_the_other_commands_look_first(desk: Desk) -> None:
    def bridge(*arguments: str, answers: list[str]) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "bridge", *arguments],
            input="".join(f"{answer}\n" for answer in answers),
            capture_output=True,
            text=True,
            env=desk.environ,
            cwd=desk.home,
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert f"\n  {own_program()} run\n" in bridge("init", answers=[*GOOGLE, *ALICE, *WRITE])
    assert "alice@example.com" in bridge("accounts", "list", answers=[])
    elsewhere = str(desk.home / "else where" / "mine.yaml")
    said = bridge("init", "--output", elsewhere, answers=[*GOOGLE, *ALICE, *WRITE])
    assert f"\n  {with_config(own_program(), Path(elsewhere))} run\n" in said
    assert "alice@example.com" in bridge("--config", elsewhere, "accounts", "list", answers=[])


def test_it_speaks_french_and_takes_oui(desk: Desk) -> None:
    desk.language = "fr_FR.UTF-8"
    said = desk.init(*GOOGLE[:3], "non", *ALICE, "oui")
    assert "Dans le logiciel de messagerie ou le CRM" in said
    assert "accounts password ADRESSE" in said
    assert "docs/guides/fr/google.md" in said
    assert "# Qui délivre les jetons" in desk.config.read_text("utf-8")


# --- at a terminal ------------------------------------------------------------------------------------------------


TAKES_THE_TERMINAL = """\
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""
"""Makes standard input the program's controlling terminal, where passwords are asked for and Ctrl-C is typed. Not
pty.fork(), because a fork of a process with threads may deadlock."""


@contextlib.contextmanager
def typing(desk: Desk) -> Iterator[Terminal]:
    import pty  # POSIX only

    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", TAKES_THE_TERMINAL, *desk.command("init")],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        cwd=desk.home,
        env=desk.environ,
        start_new_session=True,
    )
    os.close(slave)
    try:
        yield Terminal(process, master)
    finally:
        process.kill()
        process.wait()
        os.close(master)


@dataclass
class Terminal:
    """A person at a terminal, who waits for each question before typing."""

    process: subprocess.Popen[bytes]
    master: int
    shown: str = ""

    def type(self, question: str, text: str) -> None:
        self._until(question)
        os.write(self.master, text.encode())

    def interrupt(self, question: str, answer: str) -> None:
        """Type Ctrl-C, and again if nothing happens: a signal that arrives just before a read does not wake it."""
        self._until(question)
        while answer not in self.shown:
            os.write(self.master, b"\x03")
            while answer not in self.shown and select.select([self.master], [], [], 5)[0]:
                assert self._read(), self.shown

    def end(self) -> int:
        """Wait until the program has ended. Returns: its exit code."""
        while self._read():
            pass
        return self.process.wait()

    def _until(self, words: str) -> None:
        begin = len(self.shown)
        while words not in self.shown[begin:]:
            assert self._read(), self.shown

    def _read(self) -> bool:
        deadline = time.monotonic() + SECONDS
        ready, _, _ = select.select([self.master], [], [], max(0, deadline - time.monotonic()))
        assert ready, self.shown
        try:
            data = os.read(self.master, 4096)
        except OSError:  # Linux fails like this once the other side is closed
            return False
        self.shown += data.decode("utf-8", "replace")
        return bool(data)


@pytest.mark.skipif(os.name != "posix", reason="no pseudo-terminals on Windows")
def test_a_secret_that_is_typed_is_not_shown(desk: Desk) -> None:
    with typing(desk) as terminal:
        terminal.type("Number", "1\n")
        terminal.type("Client ID", "1234.apps.googleusercontent.com\n")
        terminal.type("(not shown)", f"{CANARY}\n")
        terminal.type("second provider", "\n")
        terminal.type("Number", "1\n")
        terminal.type("Address of a mailbox", "alice@example.com\n")
        terminal.type("the person who signs in", "\n")
        terminal.type("Another mailbox", "\n")
        terminal.type("Write", "\n")
        assert terminal.end() == 0
        assert "1234.apps.googleusercontent.com" in terminal.shown  # this may be shown
        assert CANARY not in terminal.shown
    assert (desk.config.parent / "secrets" / "gmail.txt").read_text() == f"{CANARY}\n"


@pytest.mark.skipif(os.name != "posix", reason="no pseudo-terminals on Windows")
@pytest.mark.parametrize("question", ["Client ID", "(not shown)"])
def test_ctrl_c_leaves_nothing_and_says_so(desk: Desk, question: str) -> None:
    with typing(desk) as terminal:
        terminal.type("Number", "1\n")
        if question != "Client ID":
            terminal.type("Client ID", "1234.apps.googleusercontent.com\n")
        terminal.interrupt(question, "Nothing was written")
        assert terminal.end() == 1
        assert "Traceback" not in terminal.shown
    assert desk.files() == []


def answer_all(terminal: Terminal, keyring: bool = False) -> None:
    terminal.type("Number", "1\n")
    terminal.type("Client ID", "1234.apps.googleusercontent.com\n")
    terminal.type("(not shown)", f"{CANARY}\n")
    if keyring:
        terminal.type("Number", "1\n")
    terminal.type("second provider", "\n")
    terminal.type("Number", "1\n")
    terminal.type("Address of a mailbox", "alice@example.com\n")
    terminal.type("the person who signs in", "\n")


@pytest.mark.skipif(os.name != "posix", reason="no pseudo-terminals on Windows")
@pytest.mark.parametrize("again", ["", "n"])
def test_what_cannot_be_written_is_tried_again_with_the_same_answers(desk: Desk, again: str) -> None:
    """Otherwise a person would have to give all of them again, the secret included."""
    in_the_way = desk.config.parent / "secrets"
    with typing(desk) as terminal:
        answer_all(terminal)
        terminal.type("Another mailbox", "\n")
        in_the_way.parent.mkdir()
        in_the_way.touch()
        terminal.type("Write", "\n")
        terminal.type("Try again, with the same answers? [Y/n]", "\n")
        terminal.type("Try again, with the same answers? [Y/n]", "")
        in_the_way.unlink()
        os.write(terminal.master, f"{again}\n".encode())
        assert terminal.end() == (1 if again else 0)
        assert terminal.shown.count("gmail.txt cannot be written: ") == 2
        assert terminal.shown.count("Write ") == 1
        assert ("Nothing was written." in terminal.shown) == bool(again)
    assert desk.files() == ([] if again else ["bridge/config.yaml", "bridge/secrets/gmail.txt"])


@pytest.mark.skipif(os.name != "posix", reason="no pseudo-terminals on Windows")
def test_a_keyring_that_fails_at_the_end_is_asked_again_and_so_is_the_disk(desk: Desk) -> None:
    """An entry that was stored by the first attempt does not count as somebody else's at the second."""
    desk.keyring = "tests.servers.good_keyring.GoodKeyring"
    keyring, directory = desk.home / "keyring.json", desk.config.parent
    with typing(desk) as terminal:
        answer_all(terminal, keyring=True)
        terminal.type("Another mailbox", "")
        keyring.unlink()
        keyring.mkdir()
        os.write(terminal.master, b"\n")
        terminal.type("Try again, with the same answers?", "")
        keyring.rmdir()
        os.write(terminal.master, b"\n")
        terminal.type("Write", "")
        directory.touch()
        os.write(terminal.master, b"\n")
        terminal.type("Try again, with the same answers?", "")
        directory.unlink()
        os.write(terminal.master, b"\n")
        assert terminal.end() == 0
        assert "is left as it is" not in terminal.shown
    assert desk.files() == ["bridge/config.yaml", "keyring.json"]


@pytest.mark.skipif(os.name != "posix", reason="no pseudo-terminals on Windows")
def test_what_has_got_into_the_keyring_unheard_is_no_strangers_either(desk: Desk) -> None:
    desk.keyring = "tests.servers.late_keyring.LateKeyring"
    with typing(desk) as terminal:
        answer_all(terminal, keyring=True)
        terminal.type("Another mailbox", "\n")
        terminal.type("Write", "")
        (desk.home / "late").touch()
        os.write(terminal.master, b"\n")
        terminal.type("Try again, with the same answers?", "\n")
        assert terminal.end() == 0
        assert "is left as it is" not in terminal.shown
    assert json.loads((desk.home / "keyring.json").read_text()) == {"mail-bridge/gmail": CANARY}
