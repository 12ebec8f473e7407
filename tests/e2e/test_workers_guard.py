"""`workers: 2`: who may log in, clients behind a balancer, and renewed certificates work as with one process."""

from __future__ import annotations

import base64
import imaplib
import re
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest

from bridge.relay.limits import SHARE, UNAUTHENTICATED_CONNECTIONS
from tests.e2e.bridge import Bridge, running
from tests.e2e.clients import PROTOCOLS
from tests.e2e.conftest import ALICE, BOB, CAROL, World
from tests.e2e.logins import TOO_MANY, Dialogue, is_accepted, log_in, port
from tests.e2e.test_first_use import must_sign_in, signed_in
from tests.e2e.test_os_users import guess_until_it_is_enough, log_in_behind_a_flood
from tests.e2e.test_workers import with_workers
from tests.servers.ca import Authority
from tests.servers.daemons import free_ports
from tests.servers.os_user import OsUser

pytestmark = pytest.mark.servers

CHOSEN = "CANARY-chosen-by-bob"
AT_BOTH = 4
"""So many logins one after the other give each worker two of them."""


@pytest.fixture(scope="module")
def shared(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bridge]:
    """A bridge where Alice's mailbox is for the user that runs the tests, also behind a balancer, and Bob's for
    everybody."""
    bridge = with_workers(world, tmp_path_factory.mktemp("guard"))
    bridge.config["accounts"][0]["os_user"] = "root"
    behind = {"address": f"127.0.0.1:{free_ports(1)[0]}", "proxy_protocol_from": ["127.0.0.1"]}
    bridge.config["listeners"]["pop3"] = [bridge.config["listeners"]["pop3"], behind]
    with running(bridge):
        for address in (ALICE, BOB):
            bridge.sign_in(world.provider, address)
        bridge.run("accounts", "password", BOB, "--set-from-stdin", stdin=CHOSEN)
        yield bridge


# --- os_user --------------------------------------------------------------------------------------------------------


def test_what_both_workers_have_allowed_to_one_user_they_do_not_allow_to_another(
    shared: Bridge, colleague: OsUser
) -> None:
    password = shared.password(ALICE)
    for _ in range(AT_BOTH):
        assert is_accepted(log_in(None, shared, "imap", ALICE, password))
    refused = {log_in(colleague, shared, "imap", ALICE, password) for _ in range(2)}
    nobody = log_in(colleague, shared, "imap", "nobody@example.com", "CANARY-wrong")
    assert refused == {nobody}, "the colleague learns that the password was right"
    assert not is_accepted(nobody)
    assert f"os_user: {ALICE} is not for programs of {colleague.name} (the local password was right)" in shared.log
    assert is_accepted(log_in(None, shared, "imap", ALICE, password))


def test_who_says_the_password_and_hangs_up_is_not_taken_for_root(shared: Bridge, colleague: OsUser) -> None:
    plain = base64.b64encode(f"\0{ALICE}\0{shared.password(ALICE)}".encode()).decode()
    for _ in range(6):
        with colleague.connect(port(shared, "smtp")) as sock:
            lines = ["EHLO crm.example", f"AUTH PLAIN {plain}", f"MAIL FROM:<{ALICE}>", f"RCPT TO:<{ALICE}>", "DATA"]
            sock.sendall("\r\n".join([*lines, "Subject: forged-too", "", "x", ".", "QUIT", ""]).encode())
    smtp = f"127.0.0.1:{port(shared, 'smtp')}"
    shared.wait_until(
        lambda: {one["address"]: one["sessions"] for one in shared.json("status")["listeners"]}[smtp] == 0,
        "the end of those sessions",
    )
    with imaplib.IMAP4("127.0.0.1", port(shared, "imap"), timeout=60) as imap:
        imap.login(ALICE, shared.password(ALICE))
        imap.select("INBOX", readonly=True)
        assert imap.search(None, "SUBJECT", "forged-too")[1] == [b""]


# --- wrong passwords ------------------------------------------------------------------------------------------------


def test_guesses_at_both_workers_are_counted_together_and_a_right_one_too_many_is_not_remembered_either(
    shared: Bridge, colleague: OsUser
) -> None:
    for _ in range(AT_BOTH):
        assert is_accepted(log_in(None, shared, "imap", BOB, CHOSEN)), "root's: a password that could be guessed"
    guess_until_it_is_enough(shared, colleague)
    for _ in range(2):
        assert log_in(colleague, shared, "imap", BOB, CHOSEN) == TOO_MANY, "this caller has never shown it"
    for protocol in PROTOCOLS:
        if protocol != "pop3":  # POP3 has two ports here
            assert is_accepted(log_in(None, shared, protocol, BOB, CHOSEN))


def test_wrong_logins_wait_for_their_answers_whichever_worker_has_them(shared: Bridge) -> None:
    """Three are answered at once and eight wait. If each worker counted alone, none of sixteen would be sent away."""
    name = "somebody@example.com"
    with ExitStack() as stack:
        said = []
        for _ in range(16):
            sock = socket.create_connection(("127.0.0.1", port(shared, "imap")), timeout=90)
            said.append(stack.enter_context(closing(Dialogue(sock, "imap"))))
        for dialogue in said:
            dialogue.ask(name, "CANARY-of-last-year")
        answers = [dialogue.answer() for dialogue in said]
    assert TOO_MANY in answers
    assert any("AUTHENTICATIONFAILED" in answer for answer in answers)
    assert "wrong logins wait for their answer already" in shared.log


# --- connections ----------------------------------------------------------------------------------------------------


def test_who_connects_without_end_keeps_nobody_else_waiting(shared: Bridge, colleague: OsUser) -> None:
    log_in_behind_a_flood(shared, colleague)


def test_one_user_cannot_take_all_places_of_both_workers(shared: Bridge, colleague: OsUser) -> None:
    with ExitStack() as stack:
        held = 0
        for _ in range(UNAUTHENTICATED_CONNECTIONS):
            sock = stack.enter_context(colleague.connect(port(shared, "imap")))
            held += sock.recv(512).startswith(b"* OK")
        # Wrong logins of earlier tests may still hold places.
        assert UNAUTHENTICATED_CONNECTIONS // 2 - 50 <= held <= UNAUTHENTICATED_CONNECTIONS // 2 + SHARE
        assert f"{SHARE} more of user {colleague.uid}" in shared.log
        assert is_accepted(log_in(None, shared, "smtp", ALICE, shared.password(ALICE)))


# --- first use ------------------------------------------------------------------------------------------------------


def test_the_page_knows_whose_program_it_was_and_keeps_its_password(
    world: World, tmp_path: Path, colleague: OsUser
) -> None:
    bridge = with_workers(world, tmp_path)
    bridge.config["local_password"] = "first-use"
    with running(bridge):
        for user, password in ((colleague, "CANARY-of-the-colleague"), (None, "CANARY-of-the-crm")):
            assert log_in(user, bridge, "imap", ALICE, password).startswith(must_sign_in(bridge, "imap", ALICE))
        visitor, page = signed_in(bridge, world, ALICE)
        choices = dict(re.findall(r'name="program" value="([\w-]+)" required> ([^<]*)', page))
        (mine,) = [name for name, who in choices.items() if "user root" in who]
        (theirs,) = [who for name, who in choices.items() if name != mine]
        assert f"user {colleague.name}" in theirs
        assert re.search(r"\w+, run by the user root", choices[mine]), "the program's name, too"
        assert "opens this mailbox from now on" in visitor.send({"program": mine})
        for _ in range(2):
            assert is_accepted(log_in(None, bridge, "imap", ALICE, "CANARY-of-the-crm"))
            assert not is_accepted(log_in(colleague, bridge, "imap", ALICE, "CANARY-of-the-colleague"))


def test_the_page_tells_a_colleague_of_his_own_programs_only(shared: Bridge, colleague: OsUser) -> None:
    password = shared.password(CAROL)
    assert log_in(colleague, shared, "imap", CAROL, password).startswith(must_sign_in(shared, "imap", CAROL))
    page = f"http://localhost:{shared.console_port}/sign-in/{CAROL}"
    assert f"run by the user {colleague.name}" in colleague.run("curl", "-s", page).stdout
    assert "run by the user" not in shared.browser().open(f"/sign-in/{CAROL}")


# --- balancers ------------------------------------------------------------------------------------------------------


def test_whom_a_balancer_speaks_for_is_in_the_log_and_is_no_user_of_this_machine(shared: Bridge) -> None:
    where = int(shared.config["listeners"]["pop3"][1]["address"].rpartition(":")[2])
    for username, password, is_right in ((BOB, shared.password(BOB), True), (ALICE, shared.password(ALICE), False)):
        sock = socket.create_connection(("127.0.0.1", where), timeout=60)
        sock.sendall(f"PROXY TCP4 192.0.2.7 192.0.2.1 5{is_right:04} 110\r\n".encode())
        with closing(Dialogue(sock, "pop3")) as dialogue:
            dialogue.ask(username, password)
            assert is_accepted(dialogue.answer()) is is_right
        assert re.search(rf"session\.open .*192\.0\.2\.7:5{is_right:04}", shared.log)
    shared.wait_for_log("os_user: it cannot be known whose program this is: the connection comes from another machine")
    with socket.create_connection(("127.0.0.1", where), timeout=60) as direct:
        direct.sendall(b"USER alice@example.com\r\n")
        assert heard(direct) == b""
    shared.wait_for_log("no PROXY protocol header")


def test_what_a_balancer_asks_for_itself_is_no_line_of_an_ordinary_day(shared: Bridge) -> None:
    where = int(shared.config["listeners"]["pop3"][1]["address"].rpartition(":")[2])
    for header in (b"PROXY UNKNOWN\r\n", b"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"):
        with socket.create_connection(("127.0.0.1", where), timeout=60) as check:
            check.sendall(header)
            assert heard(check).startswith(b"+OK")
            itself = f"127.0.0.1:{check.getsockname()[1]}"
        introduced = re.search(rf"session\.introduced balancer={itself} client={itself} conn=(\S+)", shared.log)
        assert introduced is not None
        shared.wait_for_log(f"session.closed conn={introduced[1]} ")
        told = [line for line in shared.log.splitlines() if f"conn={introduced[1]} " in line]
        assert all("[debug" in line for line in told), told


def heard(sock: socket.socket) -> bytes:
    """The next octets received; empty if the connection has ended, by FIN or by RST."""
    try:
        return sock.recv(4096)
    except ConnectionResetError:
        return b""


# --- certificates ---------------------------------------------------------------------------------------------------


def test_a_renewed_certificate_is_every_workers(world: World, authority: Authority, tmp_path: Path) -> None:
    bridge = with_workers(world, tmp_path)
    certificate, key = authority.write_pair(tmp_path)
    plain = bridge.config["listeners"]
    made = {"address": f"localhost:{port(bridge, 'pop3')}", "tls": "implicit"}
    own = {"address": plain["imap"], "tls": "implicit", "certificate": str(certificate), "key": str(key)}
    bridge.config["listeners"] = {"imap": own, "pop3": made, "smtp": plain["smtp"]}
    with running(bridge):
        at = ("127.0.0.1", int(plain["imap"].rpartition(":")[2]))
        assert {ssl.get_server_certificate(at) for _ in range(AT_BOTH)} == {certificate.read_text()}
        trusted = tmp_path / "authority.crt"
        bridge.run("certificate", "--export", str(trusted))
        context = ssl.create_default_context(cafile=str(trusted))
        for _ in range(AT_BOTH):
            with (
                socket.create_connection(("127.0.0.1", int(made["address"].rpartition(":")[2])), timeout=60) as sock,
                context.wrap_socket(sock, server_hostname="localhost") as tls,
            ):
                assert tls.recv(3) == b"+OK"
        authority.write_pair(tmp_path)
        bridge.wait_until(lambda: bridge.log.count("certificate.renewed") == 3, "the bridge and two workers")
        assert {ssl.get_server_certificate(at) for _ in range(AT_BOTH)} == {certificate.read_text()}


# --- what a worker leaves -------------------------------------------------------------------------------------------


def test_a_worker_that_dies_leaves_no_core(shared: Bridge) -> None:
    pids = shared.workers
    assert len(pids) == 2
    for pid in pids:
        assert re.search(r"Max core file size +0 +0 ", Path(f"/proc/{pid}/limits").read_text())


def memory_of(pid: int) -> bytes:
    """All writable memory of a process; needs root."""
    found = []
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, rights, *_ = line.split()
            start, end = (int(number, 16) for number in span.split("-"))
            if rights.startswith("rw"):
                with suppress(OSError):  # a device's memory cannot be read
                    memory.seek(start)
                    found.append(memory.read(end - start))
    return b"".join(found)


def test_a_worker_has_the_logins_that_it_serves_and_no_grant_and_no_key(world: World, tmp_path: Path) -> None:
    bridge = with_workers(world, tmp_path)
    with running(bridge):
        bridge.sign_in(world.provider, ALICE)
        password = bridge.password(ALICE)
        for _ in range(AT_BOTH):
            assert is_accepted(log_in(None, bridge, "imap", ALICE, password))
        grants = [secret for secret in world.provider.secrets if secret.startswith("CANARY-refresh")]
        key = base64.b64decode((tmp_path / "key").read_bytes())
        client_secret = bridge.config["providers"]["gmail"]["client_secret"]
        kept = {"key": key, "client secret": client_secret.encode()}
        kept |= {grant: grant.encode() for grant in grants}
        of_bridge = memory_of(bridge.pid)
        assert {name for name in ("key", "client secret", grants[-1]) if kept[name] not in of_bridge} == set()
        for pid in bridge.workers:
            memory = memory_of(pid)
            assert password.encode() in memory, "so far it can be looked into"
            assert {name for name, secret in kept.items() if secret in memory} == set()
