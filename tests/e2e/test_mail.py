"""Mail through the bridge over XOAUTH2, on Dovecot and Postfix: what is sent is what is read."""

from __future__ import annotations

import base64
import imaplib
import smtplib
import socket
from pathlib import Path

import pytest

from tests.e2e import clients
from tests.e2e.bridge import Bridge
from tests.e2e.conftest import ALICE, BOB, World
from tests.e2e.mailing import found_by_imap, found_by_pop3, imap, send_bytes, smtp, without_trace
from tests.e2e.messages import awkward, digest, heavy
from tests.servers.packages import needs

pytestmark = pytest.mark.servers


@pytest.mark.parametrize("address", [ALICE, BOB])
def test_a_message_sent_through_the_bridge_is_read_back_byte_for_byte(bridge: Bridge, address: str) -> None:
    """Alice: implicit TLS upstream on all three protocols; Bob: STARTTLS."""
    login = bridge.login(address)
    message = awkward(f"awkward-{address}")
    with smtp(login) as session:
        send_bytes(session, address, address, message)
    assert without_trace(found_by_imap(login, f"awkward-{address}")) == message
    assert without_trace(found_by_pop3(login, f"awkward-{address}")) == message


def test_append_with_literals_of_both_kinds_is_byte_exact(bridge: Bridge) -> None:
    login = bridge.login(ALICE)
    message = awkward("one-by-literal")
    with socket.create_connection(("localhost", login.imap), timeout=30) as sock, sock.makefile("rb") as lines:
        lines.readline()
        word = login.password.encode()
        sock.sendall(b"a LOGIN {%d+}\r\n%s {%d+}\r\n%s\r\n" % (len(ALICE), ALICE.encode(), len(word), word))
        while not (line := lines.readline()).startswith(b"a "):
            assert line
        assert line.startswith(b"a OK")
        sock.sendall(b"b APPEND INBOX {%d}\r\n" % len(message))
        assert lines.readline().startswith(b"+")
        sock.sendall(message + b"\r\n")
        assert b"b OK" in lines.readline()
        sock.sendall(b"c APPEND INBOX {%d+}\r\n%s\r\n" % (len(message), message.replace(b"one-by-", b"two-by-")))
        assert b"c OK" in lines.readline()
    assert found_by_imap(login, "one-by-literal") == message
    assert found_by_imap(login, "two-by-literal") == message.replace(b"one-by-", b"two-by-")


def test_idle_pushes_new_mail(bridge: Bridge, world: World) -> None:
    login = bridge.login(ALICE)
    with imap(login) as session:
        session.send(b"x1 IDLE\r\n")
        assert session.readline().startswith(b"+")
        world.dovecot.deliver(ALICE, awkward("pushed"))
        while b"EXISTS" not in (line := session.readline()):
            assert line
        session.send(b"DONE\r\n")
        while not session.readline().startswith(b"x1 OK"):
            pass


def test_commands_pipelined_behind_the_login_reach_the_upstream(bridge: Bridge) -> None:
    login = bridge.login(BOB)
    with socket.create_connection(("localhost", login.imap), timeout=30) as sock:
        sock.sendall(f'1 LOGIN {BOB} "{login.password}"\r\n2 SELECT INBOX\r\n3 LOGOUT\r\n'.encode())
        said = b"".join(iter(lambda: sock.recv(65536), b""))
    assert b"\r\n1 OK" in said
    assert b"2 OK [READ-WRITE]" in said
    assert b"3 OK" in said


def test_the_capabilities_after_the_login_are_the_upstreams(bridge: Bridge) -> None:
    login = bridge.login(BOB)
    with socket.create_connection(("localhost", login.imap), timeout=30) as sock, sock.makefile("rb") as lines:
        assert b"AUTH=LOGIN" in lines.readline()
        sock.sendall(f'1 LOGIN {BOB} "{login.password}"\r\n'.encode())
        answer = lines.readline()
        while not answer.startswith(b"1 "):
            answer += lines.readline()
            if b"\r\n1 " in answer:
                break
    assert b"CAPABILITY" in answer
    assert b"LITERAL+" in answer
    assert b"AUTH=" not in answer


@pytest.mark.parametrize("address", [ALICE, BOB])
def test_fifty_megabytes_both_ways_are_byte_exact_in_constant_memory(
    bridge: Bridge, address: str, record_property: pytest.TestReport
) -> None:
    login = bridge.login(address)
    subject = f"heavy-{address}"
    message = heavy(subject, 50_000_000)
    with imap(login):
        pass  # the first session loads modules, which must not count as the cost of a message
    before = bridge.reset_peak()
    with smtp(login) as session:
        send_bytes(session, address, address, message)
    assert digest(without_trace(found_by_imap(login, subject))) == digest(message)
    assert digest(without_trace(found_by_pop3(login, subject))) == digest(message)
    with imap(login) as inbox:
        assert inbox.append("INBOX", "", "", message.replace(subject.encode(), b"upload", 1))[0] == "OK"
        inbox.store("1:*", "+FLAGS", r"\Deleted")
        inbox.expunge()
    growth = bridge.peak() - before
    print(f"peak growth {growth / 1e6:.1f} MB over {before / 1e6:.1f} MB")
    record_property("growth_mb", round(growth / 1e6, 1))  # type: ignore[operator]
    assert growth < 16_000_000


# --- mail programs ------------------------------------------------------------------------------------------------


def test_curl_sends_and_reads(bridge: Bridge, tmp_path: Path) -> None:
    needs("curl")
    login = bridge.login(ALICE)
    clients.curl_send(login, ALICE, awkward("by-curl"), tmp_path)
    assert without_trace(found_by_imap(login, "by-curl")) == awkward("by-curl")
    with imap(login) as session:
        count = int(session.select("INBOX")[1][0] or 0)
    assert b"Subject:" in clients.curl_fetch(login, tmp_path, count)
    assert b"Subject:" in clients.curl_fetch(login, tmp_path, count, "pop3")


def test_mbsync_synchronizes_a_mailbox(bridge: Bridge, world: World, tmp_path: Path) -> None:
    needs("mbsync")
    world.dovecot.deliver(BOB, awkward("for-mbsync"))
    login = bridge.login(BOB)
    found_by_imap(login, "for-mbsync")
    subjects = [message.count(b"Subject: for-mbsync") for message in clients.mbsync(login, tmp_path)]
    assert sum(subjects) == 1  # once, although it ran twice


def test_msmtp_sends_by_plain_and_by_login(bridge: Bridge, tmp_path: Path) -> None:
    needs("msmtp")
    login = bridge.login(BOB)
    for mechanism in ("plain", "login"):
        clients.msmtp(login, BOB, awkward(f"by-msmtp-{mechanism}"), tmp_path, mechanism)
        assert without_trace(found_by_imap(login, f"by-msmtp-{mechanism}")) == awkward(f"by-msmtp-{mechanism}")


def test_swaks_sends(bridge: Bridge) -> None:
    needs("swaks")
    login = bridge.login(ALICE)
    assert b"235 2.7.0" in clients.swaks(login, ALICE, "by-swaks")
    assert b"This is a test mailing" in found_by_imap(login, "by-swaks")


@pytest.mark.parametrize("protocol", ["POP3", "IMAP"])
def test_fetchmail_takes_mail_away(bridge: Bridge, world: World, tmp_path: Path, protocol: str) -> None:
    needs("fetchmail")
    world.dovecot.deliver(ALICE, awkward(f"for-fetchmail-{protocol}"))
    login = bridge.login(ALICE)
    found_by_imap(login, f"for-fetchmail-{protocol}")
    fetched = clients.fetchmail(login, tmp_path, protocol)
    assert any(f"for-fetchmail-{protocol}".encode() in message for message in fetched)


def test_every_way_to_log_in_that_the_standard_library_has(bridge: Bridge) -> None:
    login = bridge.login(ALICE)
    with imaplib.IMAP4("localhost", login.imap, timeout=30) as session:
        session.authenticate("PLAIN", lambda _: f"\0{ALICE}\0{login.password}".encode())
        assert session.select("INBOX")[0] == "OK"
    for method in ("PLAIN", "LOGIN"):
        with smtplib.SMTP("localhost", login.smtp, timeout=30) as session:
            session.ehlo("crm")
            session.user, session.password = ALICE, login.password
            authenticate = {"PLAIN": session.auth_plain, "LOGIN": session.auth_login}[method]
            assert session.auth(method, authenticate)[0] == 235
    with socket.create_connection(("localhost", login.pop3), timeout=30) as sock, sock.makefile("rb") as lines:
        lines.readline()
        sock.sendall(b"AUTH PLAIN " + base64.b64encode(f"\0{ALICE}\0{login.password}".encode()) + b"\r\nQUIT\r\n")
        assert lines.readline().startswith(b"+OK")


def test_user_names_match_without_regard_to_case(bridge: Bridge) -> None:
    login = bridge.login(ALICE)
    with imaplib.IMAP4("localhost", login.imap, timeout=30) as session:
        session.login("ALICE@Example.COM", login.password)
