"""The bridge as a service: what the system is told about it, and how the system's errors are reported.
tests/e2e/test_service.py installs one on a machine with systemd."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bridge.host import program_rights, system_service, task_scheduler
from bridge.host.access_lists import EVERYBODY, AccessLists
from bridge.host.system_service import ServiceTrouble, ask_system, parts_of_program, service_command
from bridge.host.systemd import Systemd
from bridge.host.task_scheduler import TaskScheduler
from bridge.ui.i18n import translation
from tests.closed import NOBODY
from tests.servers.daemons import short_directory

TASK = "{http://schemas.microsoft.com/windows/2004/02/mit/task}"
CONFIG = Path("nowhere", "config.yaml")


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on a file's size")
def test_a_disk_without_room_is_no_program_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The program's output goes into a temporary file, for which there is no usable directory then."""
    import resource

    monkeypatch.setattr(tempfile, "tempdir", None)  # makes tempfile search for a directory again
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        with pytest.raises(ServiceTrouble, match=r"cannot be run: .*No usable temporary directory"):
            ask_system(sys.executable, "-c", "pass")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("directory", [r"C:\Program Files\mail-bridge", r"C:\Program Files\R&D <new>", "C:\\Büro ☺"])
def test_a_task_of_windows_names_the_program_by_its_very_words(directory: str) -> None:
    program = directory + r"\mail-bridge.exe"
    written = TaskScheduler([program, "run", "two words"], CONFIG, []).definition().encode("utf-16")
    task = ElementTree.fromstring(written)
    told = {
        name: task.findtext(f".//{TASK}{name}") for name in ("Command", "Arguments", "UserId", "ExecutionTimeLimit")
    }
    assert told == {
        "Command": program,
        "Arguments": 'run "two words"',
        "UserId": "S-1-5-18",
        "ExecutionTimeLimit": "PT0S",  # a task's default is three days
    }
    assert [child.tag.removeprefix(TASK) for child in task] == [
        *("RegistrationInfo", "Triggers", "Principals", "Settings", "Actions")
    ]


def test_it_is_started_by_its_own_name_where_it_is_installed_with_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interpreter = tmp_path / ("python.exe" if os.name == "nt" else "python")
    monkeypatch.setattr(sys, "executable", str(interpreter))
    assert service_command()[-4:] == ["-P", "-m", "bridge", "run"]
    script = tmp_path / ("mail-bridge.exe" if os.name == "nt" else "mail-bridge")
    script.touch()
    assert service_command() == [str(script), "run"]


@pytest.mark.parametrize(("platform", "kind"), [("linux", Systemd), ("win32", TaskScheduler)])
def test_each_system_has_its_own_kind_of_service(
    platform: str, kind: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    assert type(system_service.system_service(tmp_path / "config.yaml")) is kind


def test_a_mac_is_told_where_it_is_said_how_to_make_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(ServiceTrouble, match=r"docs/guides/en/terminal-server\.md says what a service must run"):
        system_service.system_service(tmp_path / "config.yaml")


def test_its_parts_are_the_interpreter_its_library_and_ours() -> None:
    """The interpreter is the one that runs in the end: in a virtual environment `python` is usually a link to it."""
    parts = parts_of_program()
    assert {Path(os.__file__).parent, Path(sys.executable).resolve(), Path(sys.prefix)} < set(parts)
    assert all(part.exists() for part in parts)


@pytest.mark.skipif(sys.platform != "linux" or os.getuid() != 0, reason="only root may become another user")
@pytest.mark.parametrize(
    ("closed", "command"), [("", "go+rX {}"), ("mail-bridge", "go+rX {}"), ("mail-bridge/bridge", "-R go+rX {}")]
)
def test_what_opens_the_program_opens_nothing_else_that_is_beside_it(
    monkeypatch: pytest.MonkeyPatch, closed: str, command: str
) -> None:
    """For instance below /srv/apps, where other programs keep their own secrets."""
    with short_directory("apps") as apps:
        program = apps / "mail-bridge" / "bridge"
        program.mkdir(parents=True)
        (apps / closed).chmod(0o700)
        monkeypatch.setattr(program_rights, "parts_of_program", lambda: (program,))
        with pytest.raises(ServiceTrouble) as told:
            program_rights.check_open_to(NOBODY, NOBODY)
        assert f"Run `chmod {command.format(apps / closed)}`" in str(told.value)


@pytest.mark.skipif(sys.platform != "linux" or os.getuid() != 0, reason="only root may become another user")
def test_a_link_that_leads_nowhere_is_closed_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """For instance an editor's lock file: no chmod could open it."""
    with short_directory("apps") as apps:
        program = apps / "bridge"
        program.mkdir()
        (program / ".#app.py").symlink_to("root@server.example.com:1700000000")
        monkeypatch.setattr(program_rights, "parts_of_program", lambda: (program,))
        program_rights.check_open_to(NOBODY, NOBODY)
        secret = apps / "secret"
        secret.mkdir(0o700)
        (secret / "app.py").touch()
        (program / "app.py").symlink_to(secret / "app.py")
        with pytest.raises(ServiceTrouble, match=r"may not read \S*bridge/app\.py"):
            program_rights.check_open_to(NOBODY, NOBODY)


def test_what_the_system_says_is_passed_on_and_its_refusal_told() -> None:
    assert ask_system(sys.executable, "-c", "print('done', 'whole', sep='\\n')") == "done\nwhole"
    with pytest.raises(ServiceTrouble, match=r"says: \"not like this\"$"):
        ask_system(sys.executable, "-c", "import sys; sys.exit('not like\\nthis')")
    with pytest.raises(ServiceTrouble, match=r"says: \"?7\"?$"):
        ask_system(sys.executable, "-c", "raise SystemExit(7)")
    with pytest.raises(ServiceTrouble, match="`mb-no-such-program` cannot be run: No such file") as gone:
        ask_system("mb-no-such-program")
    assert gone.value.said is not None
    assert "aucun fichier" in gone.value.said.told(translation("fr"))


STAYS = """
import os, pathlib, subprocess, sys, time
if len(sys.argv) == 2:
    subprocess.Popen([sys.executable, "-c", os.environ["STAYS"], sys.argv[1], "stay"])
else:
    directory = pathlib.Path(sys.argv[1])
    while not (directory / "over").exists():
        time.sleep(0.01)
    (directory / "ended").touch()
"""


def test_what_it_starts_in_the_background_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAYS", STAYS)
    try:
        ask_system(sys.executable, "-c", STAYS, str(tmp_path))
        assert not (tmp_path / "ended").exists()
    finally:
        (tmp_path / "over").touch()


def test_a_program_of_the_systems_that_does_not_end_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system_service, "SECONDS", 0.01)
    with pytest.raises(ServiceTrouble, match="does not end"):
        ask_system(sys.executable, "-c", "import time; time.sleep(60)")


@pytest.fixture
def schtasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fake schtasks in place of Windows' own. Returns: the file in which it logs what it was told to do."""
    if os.name == "nt":
        pytest.skip("Windows has its own")
    schtasks, log = tmp_path / "schtasks", tmp_path / "log"
    schtasks.write_text('#!/bin/sh\necho "$1" >> "$LOG"\n')
    schtasks.chmod(0o700)
    for name, value in (("PATH", f"{tmp_path}:{os.environ['PATH']}"), ("LOG", str(log)), ("PROGRAMFILES", "/")):
        monkeypatch.setenv(name, value)
    return log


def test_an_update_ends_the_old_program_before_the_new_one_is_started(schtasks: Path) -> None:
    """While the task runs, Windows silently starts no second instance of it."""
    TaskScheduler(["mail-bridge.exe", "run"], CONFIG, []).install(lambda said: None)
    assert schtasks.read_text().split() == ["/End", "/Create", "/Run"]


@pytest.mark.skipif(sys.platform != "linux", reason="all of 127.0.0.0/8 is this machine's on Linux alone")
@pytest.mark.parametrize("host", ["127.0.0.3", "localhost", "0.0.0.0", "::1", "::"])
def test_each_port_of_a_task_is_waited_for_at_its_own_address(
    schtasks: Path, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that Windows knows about the task is that it was started."""
    monkeypatch.setattr(task_scheduler, "START_SECONDS", 0)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as listening:
        address = host, listening.getsockname()[1]
        TaskScheduler(["mail-bridge.exe", "run"], CONFIG, [address]).install(lambda said: None)
    with pytest.raises(ServiceTrouble, match=f"nothing answers at port {address[1]}"):
        TaskScheduler(["mail-bridge.exe", "run"], CONFIG, [address]).install(lambda said: None)


def test_a_disk_that_has_no_room_for_a_task_is_told_with_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's error of a failed write does not name the file."""
    resource = pytest.importorskip("resource")
    monkeypatch.setenv("PROGRAMFILES", "/")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        with pytest.raises(ServiceTrouble, match=r"^task\.xml cannot be changed: "):
            TaskScheduler(["mail-bridge.exe", "run"], CONFIG, []).install(lambda said: None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_no_service_is_made_whose_key_everybody_may_read(schtasks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Below ProgramData every user may read a directory unless somebody has closed it."""
    monkeypatch.setattr(AccessLists, "everybody_reads", lambda lists, directory: directory == CONFIG.parent)
    with pytest.raises(
        ServiceTrouble, match=r"^every user .*: icacls \"nowhere\" /inheritance:r /grant \"\*S-1-5-18:"
    ) as told:
        TaskScheduler(["mail-bridge.exe", "run"], CONFIG, []).install(lambda said: None)
    # /inheritance:r keeps explicit entries: without /remove:g the same command would be advised again and again.
    _, _, removed = str(told.value).partition(" /remove:g ")
    assert {sid.strip('"*') for sid in removed.split()} == EVERYBODY
    assert not schtasks.exists()


def test_a_task_that_is_made_is_started_though_a_virus_scanner_reads_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows does not remove a file that is open. The test makes no real task, which would belong to the machine."""
    asked: list[str] = []
    with contextlib.ExitStack() as scanner:

        def ask(*command: str) -> str:
            asked.append(command[1])
            if "/XML" in command:
                scanner.enter_context(open(command[command.index("/XML") + 1], "rb"))
            return ""

        monkeypatch.setattr(task_scheduler, "ask_system", ask)
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        monkeypatch.setenv("PROGRAMFILES", Path(sys.executable).anchor)
        TaskScheduler(["mail-bridge.exe", "run"], CONFIG, []).install(lambda said: None)
    assert asked == ["/End", "/Create", "/Run"]


@pytest.mark.skipif(sys.platform != "win32", reason="Windows' own program")
def test_windows_takes_the_task(tmp_path: Path) -> None:
    """Creates a real task, harmless because its program does not exist, and removes it again."""
    name, file = "mail-bridge of the tests", tmp_path / "task.xml"
    file.write_text(TaskScheduler([str(tmp_path / "no program.exe"), "run"], CONFIG, []).definition(), "utf-16")
    ask_system("schtasks", "/Create", "/TN", name, "/XML", str(file), "/F")
    try:
        with pytest.raises(ServiceTrouble):
            ask_system("schtasks", "/Create", "/TN", name, "/XML", str(file))
    finally:
        subprocess.run(["schtasks", "/Delete", "/TN", name, "/F"], check=True)
