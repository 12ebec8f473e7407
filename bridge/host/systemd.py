"""The service of a machine with systemd: its unit, the user that it runs as, and what belongs to that user."""

from __future__ import annotations

import contextlib
import os
import re
import stat
import sys
from collections.abc import Sequence
from pathlib import Path

from bridge.advice.said import said
from bridge.files.drafts import staged
from bridge.files.existing import exists
from bridge.files.replacing import replace
from bridge.host.paths import service_data_dir
from bridge.host.program_rights import check_open_to, check_roots_alone
from bridge.host.service_user import SYSTEMD
from bridge.host.sockets import LOWEST_FREE_PORT
from bridge.host.system_service import (
    NAME,
    Address,
    ServiceTrouble,
    Told,
    ask_system,
    changing,
    looking,
    needs_administrator,
)
from bridge.shortage import may_pass

UNIT_FILE = Path("/etc/systemd/system") / f"{NAME}.service"
UNIT_MODE = 0o644
MARK = "# Made by `mail-bridge service install`, which replaces it; changes of your own: systemctl edit mail-bridge"
LINES = "15"
"""Lines of the log that are shown if a start has failed."""

UNIT = """{mark}
[Unit]
Description=mail-bridge: plain IMAP, POP3 and SMTP logins for OAuth 2.0 mailboxes
Wants=network-online.target
After=network-online.target

[Service]
Type=notify
WatchdogSec=60
User={user}
ExecStart={command}
ExecReload=/bin/kill -HUP $MAINPID
SyslogIdentifier=mail-bridge
Restart=on-failure
RestartSec=5
RestartPreventExitStatus=2
OOMPolicy=continue
ConfigurationDirectory=mail-bridge
StateDirectory=mail-bridge
StateDirectoryMode=0700
UMask=0077
NoNewPrivileges=yes
PrivateTmp=yes
ProtectHome=yes
ProtectSystem=strict
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectHostname=yes
LockPersonality=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
CapabilityBoundingSet=
{more}
[Install]
WantedBy=multi-user.target
"""
LOW_PORTS = "AmbientCapabilities=CAP_NET_BIND_SERVICE\nCapabilityBoundingSet=CAP_NET_BIND_SERVICE\n"
"""For a configuration with a port such as 143."""


class Systemd:
    """A SystemService."""

    def __init__(self, command: Sequence[str], config: Path, addresses: Sequence[Address]) -> None:
        self._command = command
        self._config = config
        self._addresses = addresses

    def definition(self) -> str:
        """See SystemService; systemd.service(5), systemd.exec(5)."""
        more = LOW_PORTS if any(port < LOWEST_FREE_PORT for _, port in self._addresses) else ""
        command = " ".join(map(_quoted, self._command))
        return UNIT.format(mark=MARK, user=NAME, command=command, more=more)

    def install(self, told: Told) -> None:
        """See SystemService."""
        _check_rights()
        check_roots_alone()
        _check_unit()
        number, group = _user(told)
        check_open_to(number, group)
        with changing(self._config.parent):
            is_given = _give(self._config.parent, number, group)
        if is_given:
            told(said("{place} belongs to the user {user} now", place=self._config.parent, user=NAME))
        with changing(UNIT_FILE):
            _write(UNIT_FILE, self.definition())
        told(said("{file} is written", file=UNIT_FILE))
        ask_system("systemctl", "daemon-reload")
        ask_system("systemctl", "enable", UNIT_FILE.name)
        told(said("it starts with the machine"))
        before = _last_start()
        try:
            ask_system("systemctl", "restart", UNIT_FILE.name)
        except ServiceTrouble as problem:
            if before and _last_start() in {before, ""}:  # it was not even started: the log is of the run before
                raise
            raise ServiceTrouble(
                said("the service does not start; its log says:\n{log}", log=_log() or str(problem))
            ) from problem

    def remove(self, told: Told) -> None:
        """See SystemService."""
        _check_rights()
        with looking():
            is_there = exists(UNIT_FILE)
        if not is_there:
            raise ServiceTrouble(said("there is no {file}", file=UNIT_FILE))
        _check_unit()
        ask_system("systemctl", "disable", "--now", UNIT_FILE.name)
        told(said("it is stopped, and does not start again"))
        with changing(UNIT_FILE):
            UNIT_FILE.unlink()
        told(said("{file} is removed", file=UNIT_FILE))
        ask_system("systemctl", "daemon-reload")
        told(
            said(
                "not removed: {config}, {data} and the user {user}",
                config=self._config.parent,
                data=service_data_dir(),
                user=NAME,
            )
        )


def _quoted(word: str) -> str:
    """Quoted for a command line of systemd.service(5): in quotes, with %, $ and backslash doubled."""
    doubled = re.sub(r"[%$\\]", lambda found: found[0] * 2, word)
    return doubled if re.fullmatch(r"[\w/.%$@:=+,-]+", doubled) else '"' + doubled.replace('"', r"\"") + '"'


def _check_rights() -> None:
    if sys.platform == "win32" or os.geteuid() != 0:
        raise needs_administrator()
    if not SYSTEMD.is_dir():
        raise ServiceTrouble(said("this machine does not run systemd; see docs/guides/en/terminal-server.md"))


def _check_unit() -> None:
    """Check that the unit file is ours, or does not exist."""
    with looking():
        try:
            text = UNIT_FILE.read_text("utf-8", "replace")
        except FileNotFoundError:
            return
    if not text.startswith(MARK[: MARK.index(",")]):
        raise ServiceTrouble(
            said(
                "{file} already exists, and was not made by this command: it is left alone. Move it away, or do "
                "without this command",
                file=UNIT_FILE,
            )
        )


def _user(told: Told) -> tuple[int, int]:
    """Number and group of the service's user, which is created if needed."""
    if sys.platform == "win32":
        raise needs_administrator()
    import pwd

    with contextlib.suppress(KeyError):
        entry = pwd.getpwnam(NAME)
        return entry.pw_uid, entry.pw_gid
    ask_system("useradd", "--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin", NAME)
    told(said("the user {user} was created, without a password and without rights", user=NAME))
    try:
        entry = pwd.getpwnam(NAME)
    except KeyError:  # a cache of users learns of a new one late; or the file cannot be opened just now
        raise ServiceTrouble(
            said("the system does not know the user {user} yet: run this command again", user=NAME)
        ) from None
    return entry.pw_uid, entry.pw_gid


def _give(directory: Path, number: int, group: int) -> bool:
    """Give root's files there to the user. Returns: whether there were any. Raises: OSError, with the file's name.

    At the second call the directory belongs to the user, who could exchange files while we look. So each file is opened
    relative to its directory's descriptor, no link is followed, and a file with a second hard link is not given away.
    """
    if sys.platform == "win32":
        return False
    is_any = False
    for root, directories, files, handle in os.fwalk(directory, onerror=_pass_over):
        for name in (".", *directories, *files):
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
            try:
                found = os.open(name, flags, dir_fd=handle)
            except OSError as problem:
                _pass_over(problem, os.path.normpath(os.path.join(root, name)))
                continue
            try:
                status = os.fstat(found)
                if status.st_uid == 0 and (stat.S_ISDIR(status.st_mode) or status.st_nlink == 1):
                    os.fchown(found, number, group)
                    is_any = True
            except OSError as problem:
                raise OSError(problem.errno, problem.strerror, os.path.normpath(os.path.join(root, name))) from problem
            finally:
                os.close(found)
    return is_any


def _pass_over(problem: OSError, name: str = "") -> None:
    """Pass over a link, a socket, or a file that is gone by now. Raises: OSError for a file that merely cannot be
    opened just now: it would stay root's, although the service must read it."""
    if may_pass(problem):
        raise OSError(problem.errno, problem.strerror, name or problem.filename) from problem


def _write(file: Path, text: str) -> None:
    """Raises: OSError, with the file's name."""
    try:
        with staged(file, text) as draft:
            draft.chmod(UNIT_MODE)
            replace(draft, file)
    except OSError as problem:
        raise OSError(problem.errno, problem.strerror, str(file)) from problem


def _last_start() -> str:
    """The invocation ID of the last start, for the log; empty where there was none, or it cannot be told."""
    with contextlib.suppress(ServiceTrouble):
        return ask_system("systemctl", "show", "--property=InvocationID", "--value", UNIT_FILE.name).strip()
    return ""


def _log() -> str:
    """The log of the start that has failed."""
    last = _last_start()
    which = [f"_SYSTEMD_INVOCATION_ID={last}"] if last else [f"--unit={UNIT_FILE.name}"]
    with contextlib.suppress(ServiceTrouble):
        return ask_system("journalctl", "--no-pager", "--output=cat", f"--lines={LINES}", *which).strip()
    return ""
