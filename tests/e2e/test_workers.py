"""`workers: 2`: the program as several processes, with the real servers."""

from __future__ import annotations

import contextlib
import imaplib
import os
import poplib
import re
import select
import signal
import smtplib
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.e2e.bridge import Bridge, running
from tests.e2e.clients import Login
from tests.e2e.conftest import ALICE, BOB, World, ever_expired
from tests.e2e.logins import assert_replies, imap_says, replies, to_the_end
from tests.e2e.test_token_life import assert_one_refresh_for_fifty_logins
from tests.servers.ca import Authority
from tests.servers.daemons import free_ports

pytestmark = pytest.mark.servers


def with_workers(world: World, directory: Path, count: int = 2) -> Bridge:
    bridge = world.bridge(directory)
    bridge.config["workers"] = count
    return bridge


@pytest.fixture
def pair(world: World, tmp_path: Path) -> Iterator[Bridge]:
    """A bridge with two workers; Alice and Bob have signed in."""
    with running(with_workers(world, tmp_path)) as bridge:
        for address in (ALICE, BOB):
            bridge.sign_in(world.provider, address)
        yield bridge


def served_by(bridge: Bridge) -> list[int]:
    """How many mail clients each worker has."""
    ports = set(map(int, re.findall(r"127\.0\.0\.1:(\d+)", str(bridge.config["listeners"]))))
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    rows = [line.split() for line in lines]
    ours = {f"socket:[{row[9]}]" for row in rows if int(row[1].rpartition(":")[2], 16) in ports and row[3] == "01"}
    return [len(ours & links(pid)) for pid in bridge.workers]


def links(pid: int) -> set[str]:
    found = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            found.add(os.readlink(entry))
    return found


def wait_until_gone(pid: int) -> None:
    """Wait for the end of any process, even if it is not a child of this one."""
    with contextlib.suppress(ProcessLookupError):
        watch = os.pidfd_open(pid)
        try:
            assert select.select([watch], [], [], 30)[0], f"process {pid} is still there"
        finally:
            os.close(watch)


@contextlib.contextmanager
def imap(login: Login) -> Iterator[imaplib.IMAP4]:
    session = imaplib.IMAP4("localhost", login.imap, timeout=30)
    try:
        session.login(login.username, login.password)
        yield session
    finally:
        with contextlib.suppress(OSError):  # it was closed by logout() or by the bridge
            session.shutdown()


def test_sessions_of_three_protocols_are_spread_and_counted_together(pair: Bridge) -> None:
    login = pair.login(ALICE)
    with contextlib.ExitStack() as stack:
        for _ in range(2):
            session = stack.enter_context(imap(login))
            assert session.select("INBOX")[0] == "OK"
            host, number = session.sock.getsockname()[:2]
            assert f"session.open client={host}:{number} " in pair.log
            pop3 = poplib.POP3("localhost", login.pop3, timeout=30)
            stack.callback(pop3.close)
            pop3.user(login.username)
            pop3.pass_(login.password)
            assert pop3.stat()[0] >= 0
            smtp = stack.enter_context(smtplib.SMTP("localhost", login.smtp, "crm.example", timeout=30))
            smtp.login(login.username, login.password)
            assert smtp.sendmail(ALICE, [ALICE], b"Subject: by a worker\r\n\r\nx\r\n") == {}
        assert served_by(pair) == [3, 3]
        listeners = pair.json("status")["listeners"]
        assert [listener["sessions"] for listener in listeners] == [2, 2, 2]


def test_fifty_logins_at_once_on_an_expired_token_make_one_refresh(world: World, tmp_path: Path) -> None:
    with running(with_workers(world, tmp_path)) as bridge:
        assert_one_refresh_for_fifty_logins(bridge, world)


def test_a_grant_that_has_ended_is_told_once(world: World, tmp_path: Path) -> None:
    with running(with_workers(world, tmp_path)) as bridge:
        with ever_expired(world):
            bridge.sign_in(world.provider, BOB)
        world.provider.revoke_person(BOB)
        login = bridge.login(BOB)
        with ThreadPoolExecutor(20) as pool:
            answers = list(pool.map(lambda _: imap_says(login), range(20)))
        assert all("must sign in" in answer for answer in answers)
        assert bridge.log.count("sign_in.needed") == 1
        bridge.sign_in(world.provider, BOB)
        assert imap_says(login).startswith("1 OK")


def test_what_one_worker_has_seen_is_over_for_all_when_somebody_signs_out(pair: Bridge, world: World) -> None:
    login = pair.login(ALICE)
    for _ in range(4):  # so that each worker has accepted and remembers the login
        assert imap_says(login).startswith("1 OK")
    pair.run("accounts", "forget", ALICE, "--yes")
    for _ in range(4):
        assert "must sign in" in imap_says(login)
    pair.sign_in(world.provider, ALICE)
    assert_replies(replies(login), "OK", "+OK", "235")


def test_a_wrong_password_is_refused_and_a_new_one_is_known_to_both(pair: Bridge) -> None:
    old = pair.login(ALICE)
    for _ in range(2):
        assert_replies(replies(pair.login(ALICE, "wrong-CANARY")), "[AUTHENTICATIONFAILED]", "[AUTH]", "535 5.7.8")
    new = pair.run("accounts", "password", ALICE, "--rotate").splitlines()[0]
    assert new != old.password
    for login in (pair.login(ALICE, new), old):
        for _ in range(2):
            assert_replies(replies(login), "OK", "+OK", "235")


def test_a_password_that_somebody_else_knows_is_over_for_all_workers_at_once(pair: Bridge) -> None:
    """Each worker has accepted the password, and remembers it for minutes."""
    old = pair.login(BOB)
    for _ in range(4):
        assert imap_says(old).startswith("1 OK")
    new = pair.run("accounts", "password", BOB, "--rotate", "--at-once").splitlines()[0]
    for _ in range(4):
        assert "[AUTHENTICATIONFAILED]" in imap_says(old)
    assert_replies(replies(pair.login(BOB, new)), "OK", "+OK", "235")


def test_a_password_that_another_bridge_on_the_store_has_stopped_is_over_for_all_workers(
    pair: Bridge, world: World, tmp_path: Path
) -> None:
    directory = tmp_path / "other"
    directory.mkdir()
    other = world.bridge(directory)
    other.config["store"] = pair.config["store"]
    old = pair.login(BOB)
    for _ in range(4):
        assert imap_says(old).startswith("1 OK")
    other.run("accounts", "password", BOB, "--rotate", "--at-once")
    pair.wait_until(lambda: "[AUTHENTICATIONFAILED]" in imap_says(old), "the password is over")
    for _ in range(4):
        assert "[AUTHENTICATIONFAILED]" in imap_says(old)


def test_a_worker_that_is_killed_takes_only_its_sessions_along_and_comes_back(pair: Bridge) -> None:
    login = pair.login(ALICE)
    with imap(login) as one, imap(login) as other:
        before = pair.workers
        assert served_by(pair) == [1, 1]
        os.kill(before[0], signal.SIGKILL)
        pair.wait_for_log("worker.died")
        alive = []
        for session in (one, other):
            with contextlib.suppress(imaplib.IMAP4.abort, OSError):
                session.noop()
                alive.append(session)
        assert len(alive) == 1
        assert_replies(replies(login), "OK", "+OK", "235")  # served by the remaining worker
        while pair.log.count("worker.up") < 3:
            pair.wait_for_log("worker.up")
            threading.Event().wait(0.02)
        assert before[1] in pair.workers
        with imap(login):
            assert served_by(pair) == [1, 1]
        assert alive[0].noop()[0] == "OK"


def test_workers_end_with_a_bridge_that_is_killed_and_leave_no_port(pair: Bridge) -> None:
    login = pair.login(ALICE)
    with imap(login), imap(login):
        pids = pair.workers
        assert len(pids) == 2
        pair.stop_hard()
        for pid in pids:
            wait_until_gone(pid)
        for port in (login.imap, login.pop3, login.smtp):
            with socket.socket() as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.bind(("127.0.0.1", port))
    pair.start()
    assert_replies(replies(login), "OK", "+OK", "235")


def test_a_changed_configuration_reaches_the_workers_and_drops_nobody(pair: Bridge) -> None:
    login = pair.login(ALICE)
    with imap(login) as one, imap(login) as other:
        pids = pair.workers
        port = free_ports(1)[0]
        pair.config["listeners"]["imap"] = f"127.0.0.1:{port}"
        pair.config["accounts"].append({"address": "dave@example.com", "provider": "gmail"})
        pair.config["workers"] = 3
        pair.write_config()
        pair.wait_for_log("workers: takes effect after a restart")
        assert f"imap 127.0.0.1:{port} opened" in pair.log
        assert one.noop()[0] == other.noop()[0] == "OK"
        for _ in range(2):
            assert "must sign in" in replies(pair.login("dave@example.com"))["imap"]
            assert replies(pair.login(ALICE))["imap"] == "OK"
        pair.wait_until_refused(login.imap)
        assert pair.workers == pids


def test_an_account_that_is_taken_out_of_the_configuration_is_unknown_to_both_at_once(pair: Bridge) -> None:
    login = pair.login(BOB)
    for _ in range(4):  # so that each worker has accepted and remembers the login
        assert imap_says(login).startswith("1 OK")
    pair.config["accounts"] = [account for account in pair.config["accounts"] if account["address"] != BOB]
    pair.write_config()
    pair.wait_until(
        lambda: BOB not in {account["address"] for account in pair.json("status")["accounts"]}, "the change"
    )
    for _ in range(4):
        assert "AUTHENTICATIONFAILED" in imap_says(login)
    assert imap_says(pair.login(ALICE)).startswith("1 OK")


def test_a_message_that_is_being_sent_gets_through_when_the_bridge_stops(pair: Bridge) -> None:
    login = pair.login(ALICE)
    with imap(login) as idle, smtplib.SMTP("localhost", login.smtp, "crm.example", timeout=30) as smtp:
        smtp.login(login.username, login.password)
        smtp.docmd("MAIL", f"FROM:<{ALICE}>")
        smtp.docmd("RCPT", f"TO:<{ALICE}>")
        assert smtp.docmd("DATA")[0] == 354
        pids = pair.workers
        assert pair.process is not None
        pair.process.send_signal(signal.SIGTERM)
        pair.wait_for_log("bridge.stopping")
        pair.wait_until_refused(login.imap)
        smtp.send(b"Subject: last\r\n\r\nx\r\n.\r\n")
        assert smtp.getreply()[0] == 250
        smtp.close()
        assert pair.process.wait(30) == 0
        for pid in pids:
            wait_until_gone(pid)
        with pytest.raises((imaplib.IMAP4.abort, OSError)):
            idle.noop()
    assert "worker.died" not in pair.log


def test_signals_that_a_terminal_or_a_service_manager_sends_to_all_end_the_bridge_in_order(pair: Bridge) -> None:
    for pid in pair.workers:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(pid, number)
    assert_replies(replies(pair.login(ALICE)), "OK", "+OK", "235")
    assert pair.stop(signal.SIGINT) == 0
    assert "worker.died" not in pair.log


def test_a_bridge_that_is_stopped_while_its_workers_start_ends_at_once(world: World, tmp_path: Path) -> None:
    bridge = with_workers(world, tmp_path, count=4)
    bridge.start()
    assert bridge.stop() == 0
    assert "Traceback" not in bridge.log
    assert "worker.died" not in bridge.log


def test_no_secret_is_in_a_workers_arguments_or_environment(world: World, tmp_path: Path) -> None:
    bridge = with_workers(world, tmp_path)
    secret = bridge.config["providers"]["gmail"]["client_secret"]
    bridge.environment["GMAIL_SECRET"] = secret
    bridge.config["providers"]["gmail"]["client_secret"] = "${GMAIL_SECRET}"
    with running(bridge):
        bridge.sign_in(world.provider, ALICE)
        login = bridge.login(ALICE)
        assert imap_says(login).startswith("1 OK")
        pids = bridge.workers
        assert len(pids) == 2
        for pid in pids:
            shown = b"".join(Path(f"/proc/{pid}/{name}").read_bytes() for name in ("cmdline", "environ")).decode()
            assert "PYTHONPATH" in shown
            for word in (secret, "CANARY", login.password, *world.provider.secrets):
                assert word not in shown


def test_two_workers_hold_more_sessions_than_one_process_may_and_send_the_next_one_away(
    world: World, tmp_path: Path
) -> None:
    bridge = with_workers(world, tmp_path)
    bridge.launcher = ["prlimit", "--nofile=80:80"]  # (80 - 16) / 2: 32 sessions for each worker
    certificate, key = world.authority.write_pair(tmp_path)
    (over_tls,) = free_ports(1)
    tls = {"tls": "implicit", "certificate": str(certificate), "key": str(key)}
    plain_smtp = bridge.config["listeners"]["smtp"]
    bridge.config["listeners"]["smtp"] = [plain_smtp, {"address": f"127.0.0.1:{over_tls}", **tls}]
    later = {"imap": b"* BYE [UNAVAILABLE] ", "pop3": b"-ERR [SYS/TEMP] ", "smtp": b"421 4.7.0 "}
    with running(bridge):
        bridge.sign_in(world.provider, ALICE)
        where = bridge.config["listeners"] | {"smtp": plain_smtp}
        ports = {name: int(str(address).rpartition(":")[2]) for name, address in where.items()}
        login = Login(ports["imap"], ports["pop3"], ports["smtp"], ALICE, bridge.password(ALICE))
        with contextlib.ExitStack() as stack:
            sessions = [stack.enter_context(imap(login)) for _ in range(64)]
            assert served_by(bridge) == [32, 32]
            for protocol, port in ports.items():
                with socket.create_connection(("127.0.0.1", port), timeout=30) as late:
                    assert to_the_end(late) == later[protocol] + b"Too many connections. Try again later.\r\n"
            with (
                socket.create_connection(("127.0.0.1", over_tls), timeout=30) as raw,
                world.authority.client_context().wrap_socket(raw, server_hostname="localhost") as late,
            ):
                assert to_the_end(late) == b"421 4.7.0 Too many connections. Try again later.\r\n"
            assert all(session.noop()[0] == "OK" for session in sessions)
            sessions[0].logout()
            bridge.wait_for_log("session.done")
            assert bridge.json("status")["listeners"][0]["sessions"] in {63, 64}
        assert "worker.full" in bridge.log


def test_the_cap_on_connections_without_a_login_is_that_of_the_bridge(pair: Bridge) -> None:
    login = pair.login(ALICE)
    with contextlib.ExitStack() as stack:
        for _ in range(500):
            waiting = stack.enter_context(socket.create_connection(("127.0.0.1", login.imap), timeout=60))
            assert waiting.recv(4)
        with socket.create_connection(("127.0.0.1", login.imap), timeout=60) as late:
            assert late.recv(200).startswith(b"* BYE [UNAVAILABLE]")
    while imap_answer(login).startswith("* BYE"):
        threading.Event().wait(0.05)
    assert imap_says(login).startswith("1 OK")


def imap_answer(login: Login) -> str:
    with socket.create_connection(("127.0.0.1", login.imap), timeout=30) as sock:
        return sock.recv(200).decode()


def test_tls_with_the_mail_program_is_the_workers(world: World, authority: Authority, tmp_path: Path) -> None:
    certificate, key = authority.write_pair(tmp_path)
    bridge = with_workers(world, tmp_path)
    keys = {"certificate": str(certificate), "key": str(key)}
    listeners = dict(bridge.config["listeners"])
    bridge.config["listeners"]["imap"] = {"address": listeners["imap"], "tls": "implicit", **keys}
    bridge.config["listeners"]["smtp"] = {"address": listeners["smtp"], "tls": "starttls", **keys}
    imap_port, smtp_port = (int(listeners[name].rsplit(":", 1)[1]) for name in ("imap", "smtp"))
    with running(bridge):
        bridge.sign_in(world.provider, ALICE)
        password = bridge.password(ALICE)
        context = authority.client_context()
        for _ in range(2):
            with imaplib.IMAP4_SSL("localhost", imap_port, ssl_context=context, timeout=30) as session:
                session.login(ALICE, password)
                assert session.select("INBOX")[0] == "OK"
            with smtplib.SMTP("localhost", smtp_port, "crm.example", timeout=30) as smtp:
                smtp.starttls(context=context)
                smtp.login(ALICE, password)
