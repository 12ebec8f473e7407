"""Random faults, drawn from a seed that is printed: `--chaos-seed N` repeats them, `N:ROUND` repeats one round.

MAIL_BRIDGE_CHAOS_ROUNDS sets the number of rounds. What must hold after each one is in tests/e2e/settled.py.
"""

from __future__ import annotations

import os
import random
import secrets
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.e2e import errands
from tests.e2e.chaos import LETTER, PREFIX, Chaos, chaos
from tests.e2e.conftest import World
from tests.e2e.errands import End, Shelf, letter
from tests.servers.faulty import Fault, Kind, Way

pytestmark = [pytest.mark.servers, pytest.mark.timeout(3600)]

ROUNDS = int(os.environ.get("MAIL_BRIDGE_CHAOS_ROUNDS", "8"))
MIDDLE = 100_000
"""Octets of a connection: a point after the login and before the end of the message."""
ROUNDS_BETWEEN_COUNTS = 20
"""After so many rounds the mailboxes are compared with what was sent, and emptied."""


@pytest.fixture(scope="module", params=[1, 2], ids=["one process", "two workers"])
def scene(request: pytest.FixtureRequest, world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chaos]:
    with chaos(world, tmp_path_factory.mktemp("chaos"), workers=request.param) as scene:
        yield scene


@pytest.fixture(scope="module")
def heavy(scene: Chaos) -> dict[str, Shelf]:
    """A message larger than all socket buffers on the way, so that a server that is killed has not sent all of it."""
    message = letter("heavy", 8_000_000, random.Random(8))
    return {login.username: Shelf("heavy", message).put(scene.world, login.username) for login in scene.logins}


@pytest.mark.parametrize("login", [0, 1], ids=["implicit", "starttls"])
@pytest.mark.parametrize(
    ("kind", "process", "way"),
    [
        ("fetch", "imap-login", Way.DOWN),
        ("fetch", "imap", Way.DOWN),
        ("append", "imap-login", Way.UP),
        ("data", "smtpd", Way.UP),
        ("retr", "pop3-login", Way.DOWN),
    ],
)
def test_a_server_that_is_killed_in_the_middle_of_a_message_ends_the_session_and_no_part_is_taken_for_the_whole(
    scene: Chaos, heavy: dict[str, Shelf], kind: str, process: str, way: Way, login: int
) -> None:
    subject = f"{PREFIX}killed-{kind}-{login}"
    who = scene.logins[login]
    message = letter(subject, LETTER, random.Random(subject))
    shelf = heavy[who.username]
    errand = {
        "fetch": errands.fetching(who, shelf),
        "append": errands.appending(who, scene.post, message, subject),
        "data": errands.submitting(who, scene.post, message, subject),
        "retr": errands.retrieving(who, shelf),
    }[kind]
    relay = scene.relays_of(errand)
    relay.plan(Fault(Kind.STALL, way, MIDDLE))
    with ThreadPoolExecutor(1) as pool:
        end = pool.submit(errand.run)
        while not any(link.passed[way] == MIDDLE for link in relay.links):
            assert not end.done(), end.result()
            threading.Event().wait(0.01)
        assert scene.crash(process) > 0
        relay.resume()
        assert end.result() is End.CUT
    assert scene.settled is not None
    scene.settled.check()
    scene.post.verify(PREFIX)
    assert subject not in scene.post.arrived


def test_whatever_fails_nothing_is_left_behind_and_no_message_is_lost_doubled_or_partial(
    scene: Chaos, pytestconfig: pytest.Config
) -> None:
    seed, _, only = str(pytestconfig.getoption("--chaos-seed") or secrets.randbelow(10**6)).partition(":")
    print(f"--chaos-seed {seed}")
    ends: Counter[str] = Counter()
    assert scene.settled is not None
    look = scene.settled.rest
    for number in [int(only)] if only else range(ROUNDS):
        try:
            for name, end in scene.round(random.Random(f"{seed}:{number}"), f"{seed}-{number}"):
                ends[f"{name} {end.value}"] += 1
            look = scene.settled.check()
            if number % ROUNDS_BETWEEN_COUNTS == ROUNDS_BETWEEN_COUNTS - 1:
                scene.post.verify(PREFIX)
        except BaseException as problem:
            problem.add_note(f"play it again: --chaos-seed {seed}:{number}")
            raise
    ends += scene.post.verify(PREFIX)
    print(f"{dict(sorted(ends.items()))}; {(look.memory - scene.settled.rest.memory) / 1e6:+.1f} MB")
