"""mail-bridge as a service under a real systemd: installed, queried and removed as the administrator of a terminal
server does it."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge import __version__
from bridge.host.systemd import MARK, UNIT_FILE, Systemd
from tests.servers.machine import PROGRAM, Machine, machine
from tests.servers.packages import needs

pytestmark = pytest.mark.servers

ALICE = "alice@contoso.com"
GOOGLE = ("1", "1234.apps.googleusercontent.com", "CANARY-secret", "")
ANSWERS = (*GOOGLE, "1", "*@contoso.com", "", "")
DIRECTORY, STORE = "/etc/mail-bridge", "/var/lib/mail-bridge"
CONFIG = f"{DIRECTORY}/config.yaml"
CALLER = "1000"
"""The uid of the user who calls sudo."""

LOGIN = """
import imaplib, sys
server = imaplib.IMAP4("localhost", int(sys.argv[1]))
try:
    print(server.login(sys.argv[2], sys.argv[3]))
except imaplib.IMAP4.error as refused:
    print(refused)
"""


@pytest.fixture
def terminal_server(tmp_path: Path) -> Iterator[Machine]:
    with machine(tmp_path) as found:
        yield found


def sudo(machine: Machine, *command: str, code: int = 0) -> str:
    """The output of a command that an administrator with their own account runs with sudo."""
    return machine.run(PROGRAM, *command, code=code, SUDO_UID=CALLER)


def as_user(machine: Machine, *command: str, code: int | None = 0) -> str:
    return machine.run("setpriv", f"--reuid={CALLER}", f"--regid={CALLER}", "--clear-groups", *command, code=code)


def owners(machine: Machine) -> set[str]:
    """The owners of all files of the service."""
    return set(machine.run("sh", "-c", f"find {DIRECTORY} $(ls -d {STORE} 2> /dev/null) -printf '%u\n'").split())


def process(machine: Machine) -> str:
    """The service's process id; 0 if it does not run."""
    return machine.run("systemctl", "show", "--property=MainPID", "--value", "mail-bridge").strip()


def seen(machine: Machine, link: str, user: str) -> str:
    """The page that a browser of this user gets for a link of the console."""
    browser = ("curl", "--silent", "--show-error", "--location", "--cookie-jar", "-", link)
    return machine.run("setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", *browser)


def test_a_terminal_servers_service_from_its_first_question_to_its_end(terminal_server: Machine) -> None:
    server = terminal_server
    assert f"sudo {PROGRAM} init --output {CONFIG}" in sudo(server, "service", "install", code=2)
    said = server.run(PROGRAM, "init", "--output", CONFIG, typed="\n".join(ANSWERS) + "\n")
    assert f"sudo {PROGRAM} service install" in said
    assert f"sudo {PROGRAM} accounts password ADDRESS" in said

    said = sudo(server, "service", "install")
    assert "the user mail-bridge was created" in said
    assert said.count("The bridge is now a service of this machine, and it is running.") == 1
    assert sudo(server, "service", "show") == server.run("cat", str(UNIT_FILE))
    assert owners(server) == {"mail-bridge"}
    assert server.run("systemctl", "is-enabled", "mail-bridge") == "enabled\n"
    server.run("systemd-analyze", "security", "--threshold=45", "mail-bridge")  # of 100; fails above that
    policy = server.run("systemctl", "show", "--property=OOMPolicy", "mail-bridge")
    assert policy == "OOMPolicy=continue\n", "a worker that is killed for want of memory is replaced by the bridge"

    is_up = f"mail-bridge {__version__} is running"
    assert is_up in sudo(server, "status")
    assert sudo(server, "check").count("a bridge is running with this configuration and holds it") == 4
    said = sudo(server, "check", "--report", "/root/report.txt", code=1)
    assert "the service's user, as whom this command acts, may not write there: name a new file in /tmp\n" in said
    assert "The report is in /tmp/report.txt." in sudo(server, "check", "--report", "/tmp/report.txt")
    server.run("touch", "/tmp/of-root.txt")  # there, nobody replaces another user's
    assert "name a new file in /tmp\n" in sudo(server, "check", "--report", "/tmp/of-root.txt", code=1)
    password = sudo(server, "accounts", "password", ALICE).strip()
    assert "must sign in" in server.run("python3", "-c", LOGIN, "1143", ALICE, password), "the service's own password"

    assert "AUTHENTICATIONFAILED" in server.run("python3", "-c", LOGIN, "1143", ALICE, "wrong")
    server.run("journalctl", "--sync")
    journal = ("journalctl", "--unit=mail-bridge", "--output=cat")
    assert {"login.refused", "listener.up"} <= set(re.findall(r"\] ([a-z._]+)", server.run(*journal)))
    assert set(re.findall(r"\] ([a-z._]+)", server.run(*journal, "--priority=warning"))) == {
        "login.refused",
        "sign_in.needed",
    }
    assert "<4>" not in server.run(*journal)

    link, late = (
        re.findall(r"http://localhost:3017/admin/\S+", sudo(server, "console", "--no-browser"))[0] for _ in "ab"
    )
    assert "@contoso.com" not in seen(server, link, "1001"), "a colleague who has seen it"
    assert "@contoso.com" in seen(server, late, CALLER)

    server.run(
        "sh", "-c", f"touch {DIRECTORY}/made-by-root /root/a; ln /root/a {DIRECTORY}/hard; ln -s /root {DIRECTORY}/soft"
    )
    sudo(server, "service", "install")
    assert server.run(
        "stat", "--format=%U", f"{DIRECTORY}/made-by-root", f"{DIRECTORY}/hard", "/root/a", "/root"
    ).split() == [*("mail-bridge", "root", "root", "root")]
    server.run("rm", f"{DIRECTORY}/hard", f"{DIRECTORY}/soft")

    killed = process(server)
    server.run("systemctl", "kill", "--signal=KILL", "mail-bridge")
    deadline = time.monotonic() + 60
    while (
        process(server) in {killed, "0"} or server.run("systemctl", "is-active", "mail-bridge", code=None) != "active\n"
    ):
        assert time.monotonic() < deadline, "it was not started again"
        time.sleep(0.1)
    assert is_up in sudo(server, "status")
    assert password in sudo(server, "accounts", "password", ALICE)
    assert owners(server) == {"mail-bridge"}

    said = sudo(server, "service", "remove")
    assert "it is stopped, and does not start again" in said
    assert not (server.root / str(UNIT_FILE)[1:]).exists()
    assert "there is no" in sudo(server, "service", "remove", code=1)
    assert "sudo systemctl start mail-bridge" in sudo(server, "status", code=1)
    assert password in sudo(server, "accounts", "password", ALICE), "nothing that was stored is gone"
    assert owners(server) == {"mail-bridge"}, "and what was made without a service is the service's"


YAML = """
providers:
  office365: {kind: microsoft, tenant: contoso.com, client_id: 11111111-2222-3333-4444-555555555555}
accounts:
  - {address: "*@contoso.com", provider: office365}
store: {path: /var/lib/mail-bridge/store.sqlite, key_file: /var/lib/mail-bridge/store.key}
"""


def configure(machine: Machine, more: str = "") -> None:
    machine.run("sh", "-c", f"umask 077; mkdir -p {DIRECTORY}; cat > {CONFIG}", typed=YAML + more)


LINKED = "mkdir -m 757 /srv/shared; mv {interpreter} /srv/shared/python; ln -s /srv/shared/python {interpreter}"

LIST_A_COLLEAGUE = """
import os, struct, sys
entries = [(1, 7, -1), (2, 7, 1001), (4, 5, -1), (16, 7, -1), (32, 5, -1)]
content = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)
os.setxattr(sys.argv[1], "system.posix_acl_access", content)
"""
"""Does what setfacl --modify user:1001:rwx does, which not every machine has (linux/posix_acl_xattr.h)."""


def test_what_cannot_be_or_should_not_be_is_told_and_changes_nothing(terminal_server: Machine) -> None:
    server = terminal_server
    configure(server)
    assert "this needs an administrator's rights: run it with sudo" in as_user(
        server, PROGRAM, "service", "remove", code=1
    )
    server.run("chmod", "o+w", "/opt/mail-bridge/bridge")
    assert "/opt/mail-bridge/bridge does not belong to root alone" in sudo(server, "service", "install", code=1)
    server.run("chmod", "o-w", "/opt/mail-bridge/bridge")
    server.run("sh", "-c", "cd /opt/mail-bridge/.venv/lib/python*/site-packages; chgrp staff .; chmod g+w .")
    assert "site-packages does not belong to root alone" in sudo(server, "service", "install", code=1), (
        "those of the group"
    )
    server.run("sh", "-c", "chgrp root /opt/mail-bridge/.venv/lib/python*/site-packages")
    server.run("chmod", "o+w", "/opt/mail-bridge/.venv/bin")
    assert "/opt/mail-bridge/.venv/bin does not belong to root alone" in sudo(server, "service", "install", code=1)
    server.run("chmod", "o-w", "/opt/mail-bridge/.venv/bin")
    server.run("sh", "-c", LINKED.format(interpreter="/opt/mail-bridge/.venv/bin/python"))
    assert "/srv/shared does not belong to root alone" in sudo(server, "service", "install", code=1), (
        "a link on the way"
    )
    server.run("chmod", "o-w", "/srv/shared")
    server.run("python3", "-c", LIST_A_COLLEAGUE, "/opt/mail-bridge")
    assert "/opt/mail-bridge does not belong to root alone" in sudo(server, "service", "install", code=1), (
        "by an access list"
    )
    server.run("chmod", "g-w", "/opt/mail-bridge")

    server.run("sh", "-c", "cp -a /opt/mail-bridge/.venv /home/venv; ln -s /home/venv /opt/venv")
    for place in ("/home/venv", "/opt/venv"):
        said = server.run(f"{place}/bin/python", "-P", "-m", "bridge", "service", "install", code=1)
        assert "the program is in /home/venv, which a system service does not see" in said
    server.run("sh", "-c", "rm /opt/venv; mkdir -m 777 /srv/all; mv /home/venv /srv/all; ln -s /srv/all/venv /opt")
    said = server.run("/opt/venv/bin/python", "-P", "-m", "bridge", "service", "install", code=1)
    assert "/srv/all does not belong to root alone" in said, "who may exchange what the link leads to"

    server.run("sh", "-c", f"echo '[Service]' > {UNIT_FILE}")
    for command in ("install", "remove"):
        assert "already exists, and was not made by this command: it is left alone" in sudo(
            server, "service", command, code=1
        )
    server.run("rm", str(UNIT_FILE))
    assert "a service reads /etc/mail-bridge/config.yaml" in sudo(
        server, "--config", "/tmp/other.yaml", "service", "show", code=2
    )
    assert owners(server) == {"root"}, "nothing was given away"
    assert server.run("getent", "passwd", "mail-bridge", code=2) == ""


@pytest.mark.parametrize(
    ("closed", "named"),
    [
        ("/opt/mail-bridge", "/opt/mail-bridge"),
        ("/opt/mail-bridge/bridge/app.py", "/opt/mail-bridge/bridge/app.py"),
        ("/opt/mail-bridge/.venv/lib/python*/site-packages/aiohttp", "/site-packages/aiohttp"),
    ],
    ids=["installed so", "updated so", "a package updated so"],
)
def test_a_program_that_root_has_installed_for_itself_alone_is_told_with_what_opens_it(
    terminal_server: Machine, closed: str, named: str
) -> None:
    """As happens with umask 077, which root has on hardened machines."""
    server = terminal_server
    configure(server)
    server.run("sh", "-c", f"chmod -R go-rwx {closed}")
    said = sudo(server, "service", "install", code=1)
    assert re.search(rf"mail-bridge: the service's user mail-bridge may not read \S*{named}, perhaps", said)
    assert not (server.root / str(UNIT_FILE)[1:]).exists()
    (command,) = re.findall("`(chmod [^`]*)`", said)
    server.run("sh", "-c", command)
    assert "and it is running." in sudo(server, "service", "install")


def test_a_secret_that_cannot_be_given_to_the_service_just_now_is_told(terminal_server: Machine) -> None:
    """If it were skipped, it would stay root's, and the service could not read it."""
    needs("strace")
    server = terminal_server
    configure(server)
    server.run("sh", "-c", f"mkdir -m 700 {DIRECTORY}/secrets; echo CANARY > {DIRECTORY}/secrets/gmail.txt")
    failing = ("strace", "-P", "gmail.txt", "-e", "trace=openat", "-e", "inject=openat:error=EIO", "-o", "/dev/null")
    said = server.run(*failing, PROGRAM, "service", "install", code=1)
    assert f'{DIRECTORY}/secrets/gmail.txt cannot be changed: "Input/output error"' in said
    assert "and it is running." in sudo(server, "service", "install")
    assert owners(server) == {"mail-bridge"}


def test_root_who_calls_another_copy_of_the_program_is_told_so(terminal_server: Machine) -> None:
    server = terminal_server
    configure(server)
    sudo(server, "service", "install")
    server.run("chmod", "o-rx", "/opt/mail-bridge/bridge")
    assert "the service's user cannot read /opt/mail-bridge/bridge" in sudo(server, "status", code=1)


def test_a_service_that_does_not_start_says_why_and_starts_once_it_can(terminal_server: Machine) -> None:
    server = terminal_server
    configure(server, "listeners: {imap: localhost:143, pop3: off}\n")
    server.run("sh", "-c", f"mkdir -m 700 {STORE}; touch {STORE}/left-by-root")  # as if root had tried a bridge
    server.run("sh", "-c", f"mount --bind {DIRECTORY} {DIRECTORY}; mount -o remount,bind,ro {DIRECTORY}")
    assert f"{DIRECTORY} cannot be changed: " in sudo(server, "service", "install", code=1)
    server.run("umount", DIRECTORY)
    units = UNIT_FILE.parent
    server.run("sh", "-c", f"mount -t tmpfs -o size=4k tmpfs {units}; yes > {units}/other || true")
    assert f"{UNIT_FILE} cannot be changed: No space left on device" in sudo(server, "service", "install", code=1)
    assert server.run("ls", "-A", str(units)) == "other\n"
    server.run("umount", str(units))
    server.run("systemd-run", "--quiet", "--unit=other", "python3", "-m", "http.server", "--bind=127.0.0.1", "1587")
    server.run("sh", "-c", "until curl --silent localhost:1587; do sleep 0.1; done")
    said = sudo(server, "service", "install", code=1)
    assert "the service does not start; its log says:\n" in said
    assert re.search(r"cannot start: 127\.0\.0\.1:1587 \(.*\) is in use by another program", said)
    server.run("systemctl", "stop", "other")
    assert "and it is running." in sudo(server, "service", "install")
    assert "OK" in server.run("python3", "-c", "import imaplib; print(imaplib.IMAP4('localhost', 143).noop())")
    assert owners(server) == {"mail-bridge"}


WORDS = ("/opt/mail bridge/run", "100%", "$HOME", r"a\b", 'a"b', "it's", "%n", "--a=b,c:d@e", "plain")


def test_systemd_starts_the_program_by_the_very_words(terminal_server: Machine) -> None:
    unit = Systemd(["/usr/bin/printf", r"<%s>\n", *WORDS], Path(CONFIG), []).definition()
    (command,) = re.findall("^ExecStart=.*$", unit, re.MULTILINE)
    lines = f"[Service]\nType=oneshot\nStandardOutput=file:/run/said\n{command}\n"
    terminal_server.run("sh", "-c", "cat > /run/systemd/system/said.service", typed=lines)
    terminal_server.run("systemctl", "start", "said")
    assert terminal_server.run("cat", "/run/said") == "".join(f"<{word}>\n" for word in WORDS)


def test_the_mark_by_which_a_unit_is_known_as_ours_is_its_first_line() -> None:
    assert Systemd(["mail-bridge", "run"], Path(CONFIG), []).definition().startswith(MARK)


def failing(call: str, file: str, *command: str) -> tuple[str, ...]:
    """The command, run so that a system call on this file fails: `openat EMFILE 2` makes the second openat fail."""
    name, error, times = call.split()
    inject = f"inject={name}:error={error}:when={times}"
    return ("strace", "-o", "/dev/null", "-P", file, "-e", f"trace={name}", "-e", inject, PROGRAM, *command)


def test_a_call_that_fails_on_the_way_is_told_and_the_next_try_works(terminal_server: Machine) -> None:
    """A disk that reports an error, or a user that useradd has made but the system does not know yet."""
    needs("strace")
    server = terminal_server
    configure(server)
    library = "/opt/mail-bridge/.venv/lib"
    said = server.run(*failing("newfstatat EIO 1+", library, "service", "install"), code=1)
    assert said == f'mail-bridge: {library} cannot be read: "Input/output error"\n'
    said = server.run(*failing("openat EIO 1+", CONFIG, "service", "install"), code=1)
    assert said == f'{CONFIG}: this file cannot be read: "Input/output error"\n'
    said = server.run(*failing("openat EMFILE 2", "/etc/passwd", "service", "install"), code=1)
    assert said == (
        "the user mail-bridge was created, without a password and without rights\n"
        "mail-bridge: the system does not know the user mail-bridge yet: run this command again\n"
    )
    told = " ".join(failing("write ENOSPC 1+", "/told", "service", "install")) + " > /told"
    said = server.run("sh", "-c", told, code=1)
    assert said == "mail-bridge: standard output cannot be written: No space left on device\n"
    assert owners(server) == {"mail-bridge"}

    assert "it is running." in sudo(server, "service", "install")
    said = server.run(*failing("newfstatat EIO 1", str(UNIT_FILE), "service", "remove"), code=1)
    assert said == f'mail-bridge: {UNIT_FILE} cannot be read: "Input/output error"\n'
    said = server.run(*failing("newfstatat EIO 1", STORE, "status"), code=1)
    assert said == f'mail-bridge: {STORE} cannot be read: "Input/output error"\n', "as root it would find no service"
    assert "it is stopped" in sudo(server, "service", "remove")


REFUSES_TO_RESTART = """\
#!/bin/sh
test "$1" = restart && echo 'Failed to restart: Connection timed out' && exit 1
exec /usr/bin/systemctl "$@"
"""


def test_a_restart_that_never_came_to_a_start_is_told_in_its_own_words(terminal_server: Machine) -> None:
    """The old bridge still runs, so the service's log would be about that one."""
    server = terminal_server
    configure(server)
    sudo(server, "service", "install")
    server.run("sh", "-c", "mkdir /fake; cat > /fake/systemctl; chmod 755 /fake/systemctl", typed=REFUSES_TO_RESTART)
    said = server.run(PROGRAM, "service", "install", code=1, PATH="/fake:/usr/sbin:/usr/bin:/sbin:/bin")
    words = "Failed to restart: Connection timed out"
    assert said.splitlines()[-1] == f'mail-bridge: `systemctl restart mail-bridge.service` says: "{words}"'
    assert "it is running." in sudo(server, "service", "install")


DOES_NOT_RELOAD = REFUSES_TO_RESTART.replace("= restart", "= daemon-reload").replace("restart:", "reload:")


def test_what_a_remove_has_done_is_told_though_systemd_does_not_hear_of_it(terminal_server: Machine) -> None:
    """Otherwise the next `remove` says that there is no such file, and nobody knows why."""
    server = terminal_server
    configure(server)
    sudo(server, "service", "install")
    server.run("sh", "-c", "mkdir /fake; cat > /fake/systemctl; chmod 755 /fake/systemctl", typed=DOES_NOT_RELOAD)
    said = server.run(PROGRAM, "service", "remove", code=1, PATH="/fake:/usr/sbin:/usr/bin:/sbin:/bin")
    assert said.splitlines() == [
        "it is stopped, and does not start again",
        f"{UNIT_FILE} is removed",
        'mail-bridge: `systemctl daemon-reload` says: "Failed to reload: Connection timed out"',
    ]
