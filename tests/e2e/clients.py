"""Real mail programs, each logging in to the bridge with a user name and a local password."""

from __future__ import annotations

import socket
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

TIMEOUT_SECONDS = 60
PROTOCOLS = ("imap", "pop3", "smtp")


@dataclass(frozen=True, slots=True)
class Login:
    """Where the bridge is, and what a person types into the mail program."""

    imap: int
    pop3: int
    smtp: int
    username: str
    password: str
    tls: ssl.SSLContext | None = None
    """Set if the ports have implicit TLS. The mail programs below ignore it."""

    def connect(self, protocol: str, seconds: float) -> socket.socket:
        """Connect to the protocol's port, with TLS if it has that. Raises: OSError."""
        return self.secured(self.reached(protocol, seconds))

    def reached(self, protocol: str, seconds: float) -> socket.socket:
        """Connect to the protocol's port, without TLS so far. Raises: OSError."""
        return socket.create_connection(("127.0.0.1", getattr(self, protocol)), timeout=seconds)

    def secured(self, sock: socket.socket) -> socket.socket:
        """Start TLS on the socket if the port has that. Raises: OSError, after closing the socket."""
        if self.tls is None:
            return sock
        try:
            return self.tls.wrap_socket(sock, server_hostname="localhost")
        except OSError:
            sock.close()
            raise


class ClientFailed(AssertionError):
    """A mail program ended with an error; its whole output is the message."""


def run(command: list[str], *, stdin: bytes = b"", cwd: Path | None = None, expect_failure: bool = False) -> bytes:
    """Run a mail program and return its standard output."""
    done = subprocess.run(
        command,
        input=stdin,
        capture_output=True,
        cwd=cwd,
        timeout=TIMEOUT_SECONDS,
        check=False,
        env={"PATH": PATH, "HOME": "/nonexistent"},
    )
    if (done.returncode != 0) is not expect_failure:
        raise ClientFailed(f"{command[0]} exited with {done.returncode}\n{done.stdout!r}\n{done.stderr!r}")
    return done.stdout + (done.stderr if expect_failure else b"")


PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"


def curl_send(login: Login, recipient: str, message: bytes, directory: Path) -> None:
    """curl, SMTP with AUTH PLAIN."""
    file = directory / "message.eml"
    file.write_bytes(message)
    run(
        ["curl", "-sS", f"smtp://localhost:{login.smtp}/crm.example", "--mail-from", login.username]
        + ["--mail-rcpt", recipient, "--upload-file", str(file), "--config", str(_curl_user(login, directory))]
    )


def curl_fetch(login: Login, directory: Path, number: int = 1, protocol: str = "imap") -> bytes:
    """curl, one message by IMAP or POP3."""
    urls = {
        "imap": f"imap://localhost:{login.imap}/INBOX;MAILINDEX={number}",
        "pop3": f"pop3://localhost:{login.pop3}/{number}",
    }
    return run(["curl", "-sS", urls[protocol], "--config", str(_curl_user(login, directory))])


def _curl_user(login: Login, directory: Path) -> Path:
    file = directory / "curl.conf"
    password = login.password.replace("\\", "\\\\").replace('"', '\\"')
    file.write_text(f'user = "{login.username}:{password}"\n', encoding="utf-8")
    return file


def mbsync(login: Login, directory: Path) -> list[bytes]:
    """isync: the whole INBOX into a maildir, twice, so that the second run finds nothing new."""
    mail = directory / "mail"
    mail.mkdir(exist_ok=True)
    config = directory / "mbsyncrc"
    config.write_text(
        f"IMAPAccount bridge\nHost localhost\nPort {login.imap}\nUser {login.username}\nPass {login.password}\n"
        "SSLType None\nAuthMechs LOGIN\n\n"
        "IMAPStore remote\nAccount bridge\n\n"
        f"MaildirStore local\nPath {mail}/\nInbox {mail}/INBOX\n\n"
        "Channel all\nFar :remote:\nNear :local:\nPatterns INBOX\nCreate Near\nSync Pull\n"
        f"SyncState {directory}/state-\n"
    )
    for _ in range(2):
        run(["mbsync", "-c", str(config), "all"])
    files = [*(mail / "INBOX" / "new").iterdir(), *(mail / "INBOX" / "cur").iterdir()]
    return [file.read_bytes() for file in files]


def msmtp(login: Login, recipient: str, message: bytes, directory: Path, mechanism: str) -> None:
    """msmtp, with AUTH by `plain` or `login`."""
    config = directory / "msmtprc"
    config.write_text(
        f"account default\nhost localhost\nport {login.smtp}\nauth on\ntls off\nuser {login.username}\n"
        f"password {login.password}\nfrom {login.username}\n"
    )
    config.chmod(0o600)
    run(["msmtp", "-C", str(config), f"--auth={mechanism}", recipient], stdin=message)


def swaks(login: Login, recipient: str, subject: str, *more: str) -> bytes:
    """swaks: shows the dialogue."""
    return run(
        ["swaks", "--server", "localhost", "--port", str(login.smtp), "--auth", "LOGIN", "--auth-user", login.username]
        + ["--auth-password", login.password, "--from", login.username, "--to", recipient]
        + ["--header", f"Subject: {subject}", "--hide-informational", *more]
    )


def fetchmail(login: Login, directory: Path, protocol: str = "POP3") -> list[bytes]:
    """fetchmail: fetches all mail by POP3 or IMAP, leaves it on the server, and hands each message to a program."""
    delivered = directory / f"fetched-{protocol}"
    delivered.mkdir(exist_ok=True)
    agent = directory / "deliver.sh"
    agent.write_text(f'#!/bin/sh\ncat > "$(mktemp {delivered}/XXXXXXXX)"\n')
    agent.chmod(0o755)
    port = login.pop3 if protocol == "POP3" else login.imap
    config = directory / "fetchmailrc"
    config.write_text(
        f'poll localhost protocol {protocol} port {port} auth password user "{login.username}" '
        f'password "{login.password}" mda "{agent}" keep fetchall sslproto ""\n'
    )
    config.chmod(0o600)
    done = subprocess.run(
        ["fetchmail", "-f", str(config), "--pidfile", str(directory / "pid"), "-i", str(directory / "ids"), "-v"],
        capture_output=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
        env={"PATH": PATH, "HOME": str(directory), "LOGNAME": "root", "USER": "root"},
    )
    if done.returncode not in {0, 1}:  # 1: no mail
        raise ClientFailed(f"fetchmail exited with {done.returncode}\n{done.stdout!r}\n{done.stderr!r}")
    return [file.read_bytes() for file in sorted(delivered.iterdir())]
