"""The service of a Windows machine: a task that starts with the machine, runs as SYSTEM, and never ends."""

from __future__ import annotations

import contextlib
import ctypes
import ipaddress
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import escape

from bridge.advice.said import said
from bridge.host.access_lists import AccessLists, closing
from bridge.host.sockets import answers
from bridge.host.system_service import (
    NAME,
    Address,
    ServiceTrouble,
    Told,
    ask_system,
    changing,
    needs_administrator,
    parts_of_program,
)

TASK_FILE = "task.xml"
START_SECONDS = 60.0
"""Within this time all its ports must answer; the first start of a day may be slow."""

TASK = """<?xml version="1.0" encoding="UTF-16"?>
<Task version="1.2" xmlns="http://schemas.microsoft.com/windows/2004/02/mit/task">
  <RegistrationInfo>
    <Description>mail-bridge: plain IMAP, POP3 and SMTP logins for OAuth 2.0 mailboxes</Description>
  </RegistrationInfo>
  <Triggers>
    <BootTrigger><Enabled>true</Enabled></BootTrigger>
    <TimeTrigger>
      <Repetition><Interval>PT5M</Interval></Repetition>
      <StartBoundary>2020-01-01T00:00:00</StartBoundary>
      <Enabled>true</Enabled>
    </TimeTrigger>
  </Triggers>
  <Principals>
    <Principal id="Author"><UserId>S-1-5-18</UserId><RunLevel>HighestAvailable</RunLevel></Principal>
  </Principals>
  <Settings>
    <MultipleInstancesPolicy>IgnoreNew</MultipleInstancesPolicy>
    <DisallowStartIfOnBatteries>false</DisallowStartIfOnBatteries>
    <StopIfGoingOnBatteries>false</StopIfGoingOnBatteries>
    <StartWhenAvailable>true</StartWhenAvailable>
    <ExecutionTimeLimit>PT0S</ExecutionTimeLimit>
    <Priority>5</Priority>
    <RestartOnFailure><Interval>PT1M</Interval><Count>255</Count></RestartOnFailure>
    <Enabled>true</Enabled>
  </Settings>
  <Actions Context="Author">
    <Exec>
      <Command>{command}</Command>
      <Arguments>{arguments}</Arguments>
      <WorkingDirectory>{directory}</WorkingDirectory>
    </Exec>
  </Actions>
</Task>
"""
"""[MS-TSCH] section 2.5. The task is triggered every five minutes, which has no effect while it runs: otherwise a task
that has ended is restarted only if Windows takes its end for a failure. Priority: a task's default is below normal."""


class TaskScheduler:
    """A SystemService."""

    def __init__(self, command: Sequence[str], config: Path, addresses: Sequence[Address]) -> None:
        self._command = command
        self._config = config
        self._addresses = addresses

    def definition(self) -> str:
        """See SystemService."""
        program, *arguments = self._command
        return TASK.format(
            command=escape(program),
            arguments=escape(subprocess.list2cmdline(arguments)),
            directory=escape(str(Path(program).parent)),
        )

    def install(self, told: Told) -> None:
        """See SystemService."""
        _check_rights()
        _check_program()
        _check_directory(self._config.parent)
        with (
            changing(TASK_FILE),
            # A file that a virus scanner still reads is left behind; the task is made by then.
            tempfile.TemporaryDirectory(prefix=f"{NAME}.", ignore_cleanup_errors=True) as directory,
        ):
            written = Path(directory, TASK_FILE)
            written.write_text(self.definition(), "utf-16")
            _end()  # otherwise the old program runs on, and the new one is not started beside it
            ask_system("schtasks", "/Create", "/TN", NAME, "/XML", str(written), "/F")
        told(said("the task {name} was created; it starts with the machine, as SYSTEM", name=NAME))
        ask_system("schtasks", "/Run", "/TN", NAME)
        self._wait()

    def remove(self, told: Told) -> None:
        """See SystemService."""
        _check_rights()
        _end()
        ask_system("schtasks", "/Delete", "/TN", NAME, "/F")
        told(said("it is stopped, and does not start again"))

    def _wait(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        for host, port in self._addresses:
            while not answers(_seen_from_here(host), port):
                if time.monotonic() > deadline:
                    raise ServiceTrouble(
                        said(
                            "the service has been started, but nothing answers at port {port}. Look at the log file "
                            "that `log` in the configuration names; if there is none, `mail-bridge run` shows what it "
                            "says",
                            port=port,
                        )
                    )
                time.sleep(0.2)


def _seen_from_here(host: str) -> str:
    """The address to connect to: Windows does not connect to a wildcard address."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:  # localhost: a port there listens at 127.0.0.1, and at ::1 where there is one
        return "127.0.0.1"
    if not address.is_unspecified:
        return host
    return "127.0.0.1" if address.version == 4 else "::1"


def _end() -> None:
    with contextlib.suppress(ServiceTrouble):  # it has ended, or there is none
        ask_system("schtasks", "/End", "/TN", NAME)


def _check_rights() -> None:
    if sys.platform == "win32" and not ctypes.windll.shell32.IsUserAnAdmin():
        raise needs_administrator()


def _check_program() -> None:
    """Check that all of the program, Python included, is below "Program Files", where only administrators can change
    it."""
    safe = [Path(os.environ[name]) for name in ("PROGRAMFILES", "PROGRAMFILES(X86)") if name in os.environ]
    for part in parts_of_program():
        if not any(part.is_relative_to(place) for place in safe):
            raise ServiceTrouble(
                said(
                    "{place} is not in C:\\Program Files: others could change what the service runs. Install Python "
                    "for all users, and mail-bridge as docs/guides/en/terminal-server.md shows",
                    place=part,
                )
            )


def _check_directory(directory: Path) -> None:
    """Check the directory of the configuration, and usually of the store and its key: everybody may read what is below
    ProgramData, unless somebody has closed it."""
    if AccessLists().everybody_reads(directory):
        raise ServiceTrouble(
            said(
                "every user of this machine may read {directory}, and with it the key of the stored sign-ins; to close "
                "it to them, run: {command}",
                directory=directory,
                command=closing(directory),
            )
        )
