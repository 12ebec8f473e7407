"""What mail clients are told when the program is stopped, with one process and with workers."""

from __future__ import annotations

import imaplib
import re
import signal
import smtplib
import socket
import ssl
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.bridge import running
from tests.e2e.conftest import ALICE, World
from tests.e2e.logins import to_the_end
from tests.servers.daemons import free_ports

pytestmark = pytest.mark.servers

LAST_WORDS = {
    "imap": b"* BYE [UNAVAILABLE] mail-bridge is being stopped. Try again later.\r\n",
    "pop3": b"-ERR [SYS/TEMP] mail-bridge is being stopped. Try again later.\r\n",
    "smtp": b"421 4.3.2 mail-bridge is being stopped. Try again later.\r\n",
}


@pytest.mark.parametrize("workers", [1, 2])
def test_who_has_not_logged_in_is_told_and_who_has_is_left_in_peace(world: World, tmp_path: Path, workers: int) -> None:
    bridge = world.bridge(tmp_path)
    bridge.config["workers"] = workers
    certificate, key = world.authority.write_pair(tmp_path)
    files = {"certificate": str(certificate), "key": str(key)}
    over_tls, starttls = free_ports(2)
    plain = bridge.config["listeners"]
    ports = {name: int(str(where).rpartition(":")[2]) for name, where in plain.items()}
    bridge.config["listeners"] = {
        **plain,
        "pop3": [plain["pop3"], {"address": f"127.0.0.1:{over_tls}", "tls": "implicit", **files}],
        "smtp": [plain["smtp"], {"address": f"127.0.0.1:{starttls}", "tls": "starttls", **files}],
    }
    with running(bridge), ExitStack() as clients:
        bridge.sign_in(world.provider, ALICE)
        session = imaplib.IMAP4("localhost", ports["imap"], timeout=30)
        clients.callback(session.shutdown)
        session.login(ALICE, bridge.password(ALICE))
        assert session.noop()[0] == "OK"

        waiting: list[tuple[str, socket.socket]] = []
        for protocol in ("imap", "pop3", "smtp") * 2:  # one for each worker
            sock = clients.enter_context(socket.create_connection(("127.0.0.1", ports[protocol]), timeout=30))
            assert sock.recv(500)
            waiting.append((protocol, sock))
        context = world.authority.client_context()
        raw = clients.enter_context(socket.create_connection(("127.0.0.1", over_tls), timeout=30))
        pop3 = clients.enter_context(context.wrap_socket(raw, server_hostname="localhost"))
        assert pop3.recv(500).startswith(b"+OK")
        smtp = smtplib.SMTP("localhost", starttls, "crm.example", timeout=30)
        clients.callback(smtp.close)
        smtp.starttls(context=context)
        smtp.ehlo()
        assert isinstance(smtp.sock, ssl.SSLSocket)
        waiting += [("pop3", pop3), ("smtp", smtp.sock)]
        in_handshake = clients.enter_context(socket.create_connection(("127.0.0.1", over_tls), timeout=30))

        assert bridge.process is not None
        bridge.process.send_signal(signal.SIGTERM)
        for protocol, sock in waiting:
            assert to_the_end(sock) == LAST_WORDS[protocol]
            sock.close()
        assert in_handshake.recv(500) == b""
        assert to_the_end(session.sock) == b""
        assert bridge.process.wait(30) == 0
    (done,) = re.findall(r"session\.done .*", bridge.log)
    assert f" account={ALICE} " in done
    assert " ended_by=bridge " in done
    assert re.search(r" to_client=[1-9]\d* to_upstream=[1-9]\d*$", done), done
    assert "Traceback" not in bridge.log
