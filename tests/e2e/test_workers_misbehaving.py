"""`workers: 2` when a process runs out of descriptors, or hangs."""

from __future__ import annotations

import imaplib
import itertools
import os
import resource
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import pytest

from tests.e2e.bridge import Bridge, running
from tests.e2e.clients import PROTOCOLS
from tests.e2e.conftest import ALICE, BOB, World
from tests.e2e.logins import Dialogue, connection_of, is_accepted, log_in, port
from tests.e2e.test_workers import imap, with_workers
from tests.servers.os_user import OsUser, os_user

pytestmark = pytest.mark.servers


@pytest.fixture
def pair(world: World, tmp_path: Path) -> Iterator[Bridge]:
    """A bridge with two workers; Alice's mailbox is for the user that runs the tests."""
    bridge = with_workers(world, tmp_path)
    bridge.config["accounts"][0]["os_user"] = "root"
    with running(bridge):
        bridge.sign_in(world.provider, ALICE)
        yield bridge


@contextmanager
def out_of_descriptors(pid: int) -> Iterator[None]:
    """The process keeps its open descriptors but gets no new ones."""
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


def test_a_worker_that_dies_while_the_bridge_is_out_of_descriptors_takes_nobody_along(pair: Bridge) -> None:
    login = pair.login(ALICE)
    with ExitStack() as stack:
        sessions = [stack.enter_context(imap(login)) for _ in range(2)]  # one at each worker
        victim, other = pair.workers
        with out_of_descriptors(pair.pid):
            os.kill(victim, signal.SIGKILL)
            pair.wait_for_log("worker.not_started")
            assert pair.workers == [other]
            assert sum(is_alive(session) for session in sessions) == 1
        pair.wait_until(lambda: len(pair.workers) == 2, "a worker in its place")
    assert "helper.bug" not in pair.log


def is_alive(session: imaplib.IMAP4) -> bool:
    with suppress(imaplib.IMAP4.abort, OSError):
        return session.noop()[0] == "OK"
    return False


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_login_that_cannot_be_looked_up_for_want_of_a_descriptor_may_come_again(
    world: World, tmp_path: Path, protocol: str
) -> None:
    """It must not be told that its password is wrong: a CRM would forget the right one, or ask its user for another."""
    bridge = with_workers(world, tmp_path)
    with ExitStack() as stack:
        person = stack.enter_context(os_user(f"mb-new-{os.getpid()}"))  # the bridge has not seen this uid yet
        bridge.config["accounts"][0]["os_user"] = person.name
        stack.enter_context(running(bridge))
        for address in (ALICE, BOB):
            bridge.sign_in(world.provider, address)
        password = bridge.password(ALICE)
        assert is_accepted(log_in(None, bridge, protocol, BOB, bridge.password(BOB)))
        dialogues = [stack.enter_context(closing(connected(bridge, protocol, person))) for _ in range(3)]
        said = answers_without_descriptors(bridge, dialogues, password)
        assert len(set(said)) == 1, "what was right is told to whoever it is"
        assert said[0].startswith(("* BYE [UNAVAILABLE]", "-ERR [SYS/TEMP]", "421 "))
        assert is_accepted(log_in(person, bridge, protocol, ALICE, password))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_whose_program_was_known_as_it_came_is_no_question_without_descriptors(pair: Bridge, protocol: str) -> None:
    """After the first login that depended on the caller, the bridge knows the owner of each new connection. These get
    the usual answers."""
    password = pair.password(ALICE)
    with ExitStack() as stack:
        colleague = stack.enter_context(os_user(f"mb-known-{os.getpid()}"))
        assert is_accepted(log_in(None, pair, protocol, ALICE, password))
        refused = log_in(colleague, pair, protocol, ALICE, password)
        ours = [stack.enter_context(closing(connected(pair, protocol))) for _ in range(3)]
        theirs = [stack.enter_context(closing(connected(pair, protocol, colleague))) for _ in range(3)]
        right, *wrong = answers_without_descriptors(pair, [*ours, *theirs], password)
    assert not is_accepted(refused)
    assert is_accepted(right)
    assert wrong == [refused] * 5, "Alice's mailbox is not the colleague's, who learns nothing of its password"


def answers_without_descriptors(bridge: Bridge, dialogues: list[Dialogue], password: str) -> list[str]:
    """The answers to Alice's right password, to a wrong one, and to her password with an unknown name; repeated if
    there are more than three dialogues. The bridge gets no descriptor meanwhile."""
    names = [(ALICE, password), (ALICE, "CANARY-wrong"), ("nobody@example.com", password)]
    said = []
    with out_of_descriptors(bridge.pid):
        for dialogue, name in zip(dialogues, itertools.cycle(names), strict=False):
            dialogue.ask(*name)
            said.append(dialogue.answer())
    return said


def connected(bridge: Bridge, protocol: str, user: OsUser | None = None) -> Dialogue:
    """Connect as this user; None is the user who runs the tests."""
    return Dialogue(connection_of(user, port(bridge, protocol)), protocol)


@pytest.mark.parametrize(
    ("protocol", "later"), [("imap", b"* BYE [UNAV"), ("pop3", b"-ERR [SYS/TEMP]"), ("smtp", b"421 ")]
)
def test_a_client_that_a_worker_has_no_descriptor_for_is_told_to_come_again(
    pair: Bridge, protocol: str, later: bytes
) -> None:
    password = pair.password(ALICE)
    first, second = pair.workers
    where = ("127.0.0.1", port(pair, protocol))
    with (
        out_of_descriptors(first),
        out_of_descriptors(second),
        socket.create_connection(where, timeout=60) as client,
    ):
        said = client.recv(200)
        assert said.startswith(later), said
        assert client.recv(200) == b""
    pair.wait_for_log("worker.no_socket")
    assert is_accepted(log_in(None, pair, protocol, ALICE, password))
