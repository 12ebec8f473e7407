"""The files that make the program start at login. In tests/e2e/test_tray.py a real session starts it."""

from __future__ import annotations

import plistlib
import re
import sys
from pathlib import Path

import pytest

from bridge.errors import BridgeError
from bridge.host.autostart import StartupFile, autostart, desktop_entry, launch_agent, program, run_value

COMMAND = [
    "/opt/mail bridge/python3",
    "-P",
    "-m",
    "bridge",
    "--config",
    '/home/é/a "b" $HOME `id` 100% \\x.yaml',
    "tray",
]


def exec_words(entry: bytes) -> list[str]:
    """Parse the Exec key: first the escapes of any value, then quoted words with their escapes, then field codes."""
    line = next(line for line in entry.decode().splitlines() if line.startswith("Exec=")).removeprefix("Exec=")
    words = re.findall(r'"((?:\\.|[^"\\])*)"', line.replace("\\\\", "\\"))
    return [re.sub(r'\\(["`$\\])', r"\1", word).replace("%%", "%") for word in words]


def test_a_desktop_entry_starts_exactly_this_command() -> None:
    assert exec_words(desktop_entry(COMMAND)) == COMMAND
    assert desktop_entry(["/a b", "50%"]).decode().splitlines()[3] == 'Exec="/a b" "50%%"'
    assert desktop_entry(["$"]).decode().splitlines()[3] == 'Exec="\\\\$"', "the specification's own example"


def test_a_path_cannot_add_a_line_to_a_desktop_entry() -> None:
    with pytest.raises(ValueError, match="control character"):
        desktop_entry(["/tmp/x\nExec=rm"])


def test_a_launch_agent_starts_exactly_this_command_in_a_session_with_a_menu_bar() -> None:
    agent = plistlib.loads(launch_agent(COMMAND))
    assert agent["ProgramArguments"] == COMMAND
    assert agent["RunAtLoad"] is True
    assert agent["LimitLoadToSessionType"] == "Aqua"
    assert "KeepAlive" not in agent, "Quit would start it again"


@pytest.mark.parametrize(
    ("command", "line"),
    [
        (["C:\\x\\pythonw.exe", "-P"], "C:\\x\\pythonw.exe -P"),
        (["C:\\Program Files\\mail bridge\\pythonw.exe", "-m"], '"C:\\Program Files\\mail bridge\\pythonw.exe" -m'),
        (["x.exe", 'say "hi"'], 'x.exe "say \\"hi\\""'),
        (["x.exe", "C:\\my dir\\"], 'x.exe "C:\\my dir\\\\"'),
    ],
)
def test_a_run_value_is_quoted_as_windows_reads_it(command: list[str], line: str) -> None:
    assert run_value(command) == line


def test_a_command_that_windows_would_silently_leave_out_is_refused() -> None:
    with pytest.raises(BridgeError, match="260 characters"):
        run_value(["x" * 261])


def test_it_is_started_by_this_interpreter_whatever_lies_in_the_directory_it_starts_in() -> None:
    command = program(["tray"])
    assert Path(command[0]).name.startswith("python")
    assert command[1:] == ["-P", "-m", "bridge", "tray"]


def test_turned_on_and_off_nothing_is_left(tmp_path: Path) -> None:
    path = tmp_path / "config" / "autostart" / "mail-bridge.desktop"
    entry = StartupFile(path, desktop_entry(COMMAND))
    assert not entry.is_on()
    entry.turn(False)
    entry.turn(True)
    assert entry.is_on()
    assert path.read_bytes() == desktop_entry(COMMAND)
    StartupFile(path, desktop_entry(["/new"])).turn(True)
    assert path.read_bytes() == desktop_entry(["/new"])
    assert [found.name for found in path.parent.iterdir()] == [path.name]
    entry.turn(False)
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("line", ["Hidden=true", "X-GNOME-Autostart-enabled=false", "Hidden = true"])
def test_an_entry_that_the_desktop_has_switched_off_is_off_until_it_is_turned_on_again(
    tmp_path: Path, line: str
) -> None:
    path = tmp_path / "mail-bridge.desktop"
    entry = StartupFile(path, desktop_entry(COMMAND))
    path.write_text(f"[Desktop Entry]\nType=Application\n{line}\n")
    assert not entry.is_on()
    entry.turn(True)
    assert entry.is_on()


def test_what_cannot_be_written_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "autostart").write_text("a file in the way")
    with pytest.raises(OSError, match="autostart"):
        StartupFile(tmp_path / "autostart" / "x.desktop", b"").turn(True)
    directory = tmp_path / "in the way"
    (directory / "mail-bridge.desktop" / "more").mkdir(parents=True)
    with pytest.raises(OSError, match="mail-bridge"):
        StartupFile(directory / "mail-bridge.desktop", b"").turn(True)
    assert [found.name for found in directory.iterdir()] == ["mail-bridge.desktop"]


@pytest.mark.skipif(sys.platform == "win32", reason="a command line, which takes any character of a path")
@pytest.mark.parametrize("path", ["/home/alice/a\tb/config.yaml", "/home/\udce9lise/config.yaml"])
def test_a_path_that_no_file_for_the_login_can_name_costs_that_switch_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    entry = autostart(["run", "--tray", "--config", path])
    assert not entry.is_on()
    with pytest.raises(BridgeError, match=r"control character.*another path"):
        entry.turn(True)
    assert list(tmp_path.iterdir()) == []
    autostart(["tray"]).turn(True)
    entry.turn(False)
    assert not autostart(["tray"]).is_on(), "what stands there for another configuration can be turned off"


@pytest.mark.skipif(sys.platform != "linux", reason="XDG")
def test_linux_writes_where_the_session_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    autostart(["tray"]).turn(True)
    assert (tmp_path / "autostart" / "mail-bridge.desktop").exists()
