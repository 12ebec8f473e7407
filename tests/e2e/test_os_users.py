"""Two users of one machine: what is private to each of them, and what one cannot spoil for the other."""

from __future__ import annotations

import base64
import contextlib
import imaplib
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress

import pytest

from bridge.accounts.failed_logins import GUESSES
from bridge.relay.limits import CONSOLE_CONNECTIONS, SHARE, UNAUTHENTICATED_CONNECTIONS
from tests.e2e.bridge import Bridge, running
from tests.e2e.clients import PROTOCOLS
from tests.e2e.conftest import ALICE, BOB, World
from tests.e2e.logins import TOO_MANY, Dialogue, connection_of, is_accepted, log_in, port
from tests.servers.os_user import OsUser, network_address

pytestmark = pytest.mark.servers

CHOSEN, NEW = "CANARY-chosen-by-bob", "CANARY-chosen-anew"


@pytest.fixture(scope="module")
def shared(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bridge]:
    """A bridge where Alice's mailbox is for the user that runs the tests, and Bob's for everybody on the machine."""
    bridge = world.bridge(tmp_path_factory.mktemp("shared"))
    bridge.config["accounts"][0]["os_user"] = "root"
    with running(bridge):
        for address in (ALICE, BOB):
            bridge.sign_in(world.provider, address)
        bridge.run("accounts", "password", BOB, "--set-from-stdin", stdin=CHOSEN)
        yield bridge


# --- os_user --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_leaked_password_is_of_no_use_to_a_colleague(shared: Bridge, colleague: OsUser, protocol: str) -> None:
    password = shared.password(ALICE)
    assert is_accepted(log_in(None, shared, protocol, ALICE, password))
    refused = log_in(colleague, shared, protocol, ALICE, password)
    wrong = log_in(colleague, shared, protocol, ALICE, "CANARY-wrong")
    nobody = log_in(colleague, shared, protocol, "nobody@example.com", "CANARY-wrong")
    assert refused == wrong == nobody, "the colleague learns that the password was right"
    assert not is_accepted(refused)
    assert f"os_user: {ALICE} is not for programs of {colleague.name} (the local password was right)" in shared.log
    assert is_accepted(log_in(None, shared, protocol, ALICE, password))


def test_a_mail_program_of_the_colleague_is_refused_too(shared: Bridge, colleague: OsUser) -> None:
    login = shared.login(ALICE)
    send = ["--mail-from", BOB, "--mail-rcpt", BOB, "--upload-file", "/etc/hosts"]  # a file that everybody may read
    for url, more in (
        (f"imap://127.0.0.1:{login.imap}/", []),
        (f"pop3://127.0.0.1:{login.pop3}/", []),
        (f"smtp://127.0.0.1:{login.smtp}/crm.example", send),
    ):
        done = colleague.curl(url, ALICE, login.password, *more)
        assert done.returncode == 67, (url, done.stderr)
        done = colleague.curl(url, BOB, CHOSEN, *more)
        assert done.returncode == 0, (url, done.stderr)


@contextlib.contextmanager
def standing_still(bridge: Bridge) -> Iterator[None]:
    assert bridge.process is not None
    bridge.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        bridge.process.send_signal(signal.SIGCONT)


def test_who_says_the_password_and_hangs_up_is_not_taken_for_root(shared: Bridge, colleague: OsUser) -> None:
    """In the kernel's table a closed socket counts as root's, and with SMTP a whole mail can be sent in one piece."""
    plain = base64.b64encode(f"\0{ALICE}\0{shared.password(ALICE)}".encode()).decode()
    before = shared.log.count("os_user: ")
    for _ in range(3):
        sock = colleague.connect(port(shared, "smtp"))
        lines = ["EHLO crm.example", f"AUTH PLAIN {plain}", f"MAIL FROM:<{ALICE}>", f"RCPT TO:<{ALICE}>", "DATA"]
        sock.sendall("\r\n".join([*lines, "Subject: forged", "", "x", ".", "QUIT", ""]).encode())
        sock.close()
    smtp = f"127.0.0.1:{port(shared, 'smtp')}"
    shared.wait_until(
        lambda: {one["address"]: one["sessions"] for one in shared.json("status")["listeners"]}[smtp] == 0,
        "the end of those sessions",
    )
    login = f"a1 LOGIN {ALICE} {shared.password(ALICE)}\r\n".encode()
    sock = colleague.connect(port(shared, "imap"))
    unknown = "os_user: it cannot be known whose program this is"
    before_imap = shared.log.count(unknown)
    sock.recv(1000)  # the whole greeting, so that close() sends a FIN and no reset
    with standing_still(shared):  # otherwise the bridge might ask while the socket is still open
        sock.sendall(login)
        sock.close()
    shared.wait_until(lambda: shared.log.count(unknown) > before_imap, "the refusal")
    log_in(colleague, shared, "smtp", ALICE, "CANARY-behind-them")
    with imaplib.IMAP4("127.0.0.1", port(shared, "imap"), timeout=60) as imap:
        imap.login(ALICE, shared.password(ALICE))
        imap.select("INBOX", readonly=True)
        assert imap.search(None, "SUBJECT", "forged")[1] == [b""]
    assert shared.log.count("os_user: ") > before


def test_a_program_that_forwards_ports_is_its_own_users_program(shared: Bridge, colleague: OsUser) -> None:
    """For instance `ssh -L`: the bridge cannot see who uses it."""
    password, where = shared.password(ALICE), port(shared, "imap")
    for forwarder, user, is_let_in in ((colleague, None, False), (None, colleague, True)):
        with ExitStack() as stack:
            far = stack.enter_context(connection_of(forwarder, where))
            server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            client = connection_of(user, server.getsockname()[1])
            near = stack.enter_context(server.accept()[0])
            for ends in ((near, far), (far, near)):
                threading.Thread(target=pass_on, args=ends, daemon=True).start()
            with closing(Dialogue(client, "imap")) as dialogue:
                dialogue.ask(ALICE, password)
                assert is_accepted(dialogue.answer()) is is_let_in


def pass_on(source: socket.socket, sink: socket.socket) -> None:
    """Pass everything on until `source` ends."""
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


# --- wrong passwords ------------------------------------------------------------------------------------------------


def guess_until_it_is_enough(bridge: Bridge, colleague: OsUser) -> None:
    """The colleague's programs guess Bob's password until the bridge lets them guess no more."""
    with ExitStack() as stack:
        for number in range(GUESSES):
            # An attacker need not wait for the answer, because the missing "yes" says enough.
            guess = stack.enter_context(closing(Dialogue(colleague.connect(port(bridge, "imap")), "imap")))
            guess.ask(BOB, f"CANARY-guess-{number}")
        number = 0
        while "different wrong passwords were tried" not in bridge.log:
            number += 1
            assert number <= GUESSES, "there is no end to guessing"
            assert log_in(colleague, bridge, "imap", BOB, f"CANARY-more-{number}") == TOO_MANY


def test_the_guesses_of_one_user_are_bounded_and_nobody_elses(shared: Bridge, colleague: OsUser) -> None:
    assert is_accepted(log_in(colleague, shared, "imap", BOB, CHOSEN))
    shared.run("accounts", "password", BOB, "--set-from-stdin", stdin=NEW)  # the old one still works for a week
    guess_until_it_is_enough(shared, colleague)
    # The right password could be a guess now, so it gets the same answer.
    assert log_in(colleague, shared, "imap", BOB, NEW) == TOO_MANY
    assert is_accepted(log_in(colleague, shared, "imap", BOB, CHOSEN)), "who has shown it before knows it"
    for protocol in PROTOCOLS:
        assert is_accepted(log_in(None, shared, protocol, BOB, NEW)), "another user's guesses are not mine"
    # A random password cannot be guessed, so it is never held back.
    random = shared.run("accounts", "password", BOB, "--rotate").strip()
    for protocol in PROTOCOLS:
        assert is_accepted(log_in(colleague, shared, protocol, BOB, random))
    shared.run("accounts", "password", BOB, "--set-from-stdin", stdin=CHOSEN)


def test_one_wrong_password_all_night_does_not_slow_the_right_one(shared: Bridge) -> None:
    """Both are for the same account and OS user, and more wrong logins come than may wait for their answers."""
    with ExitStack() as stack:
        crm = [
            stack.enter_context(closing(Dialogue(socket.create_connection(("127.0.0.1", where), timeout=90), "imap")))
            for where in [port(shared, "imap")] * 12
        ]
        for dialogue in crm:
            dialogue.ask(BOB, "CANARY-of-last-year")
        for _ in range(5):
            assert is_accepted(log_in(None, shared, "imap", BOB, CHOSEN))
        said = [dialogue.answer() for dialogue in crm]
    assert {answer.split("]")[0] for answer in said} <= {"a1 NO [AUTHENTICATIONFAILED", "* BYE [UNAVAILABLE"}


# --- connections ----------------------------------------------------------------------------------------------------


def log_in_behind_a_flood(bridge: Bridge, colleague: OsUser) -> None:
    """The kernel has one accept queue per port, and a flood of connections that are already closed fills it."""
    where, flood = port(bridge, "imap"), 200
    before = bridge.log.count("session.open")
    with standing_still(bridge):
        for _ in range(flood):
            colleague.connect(where).close()
        mine = socket.create_connection(("127.0.0.1", where), timeout=60)
    with closing(Dialogue(mine, "imap")) as dialogue:
        name = f"client=127.0.0.1:{mine.getsockname()[1]} "
        dialogue.ask(BOB, bridge.password(BOB))
        assert is_accepted(dialogue.answer())
    begun = [line for line in bridge.log.splitlines() if "session.open" in line][before:]
    assert next(number for number, line in enumerate(begun) if name in line) < flood // 8


def test_who_connects_without_end_keeps_nobody_else_waiting(shared: Bridge, colleague: OsUser) -> None:
    log_in_behind_a_flood(shared, colleague)


def test_one_user_cannot_take_all_places(shared: Bridge, colleague: OsUser) -> None:
    where, held = port(shared, "pop3"), 0
    with ExitStack() as stack:
        for _ in range(UNAUTHENTICATED_CONNECTIONS):
            sock = stack.enter_context(colleague.connect(where))
            held += sock.recv(512).startswith(b"+OK")
        # Wrong logins of earlier tests may still wait for their answers and hold places.
        assert UNAUTHENTICATED_CONNECTIONS // 2 - 50 <= held <= UNAUTHENTICATED_CONNECTIONS // 2 + SHARE
        assert f"{SHARE} more of user {colleague.uid}" in shared.log
        for protocol in PROTOCOLS:
            assert is_accepted(log_in(None, shared, protocol, ALICE, shared.password(ALICE)))

    def is_let_in() -> bool:
        with suppress(ConnectionError):  # the bridge may close the connection before the client has sent anything
            return is_accepted(log_in(colleague, shared, "pop3", BOB, CHOSEN))
        return False

    shared.wait_until(is_let_in, "places for the colleague again", 20)


@pytest.mark.parametrize("way", ["loopback", "network"])
def test_one_user_cannot_take_all_places_of_the_console(shared: Bridge, colleague: OsUser, way: str) -> None:
    """Nor the descriptors that mail programs need, whichever address of this machine the user connects from."""
    where, held = shared.console_port, 0
    source = network_address() if way == "network" else ""
    ask = f"GET /style.css HTTP/1.1\r\nHost: localhost:{where}\r\n\r\n".encode()
    with ExitStack() as stack:
        for _ in range(CONSOLE_CONNECTIONS):
            sock = stack.enter_context(colleague.connect(where, source=source))
            with contextlib.suppress(ConnectionError):
                sock.sendall(ask)
                held += sock.recv(65536).startswith(b"HTTP/1.1 200 ")
        assert CONSOLE_CONNECTIONS // 2 <= held <= CONSOLE_CONNECTIONS // 2 + SHARE
        assert shared.get("/")[0] == 200
        assert shared.json("status")["accounts"], "the administrator's commands get in"
        for protocol in PROTOCOLS:
            assert is_accepted(log_in(None, shared, protocol, ALICE, shared.password(ALICE)))
