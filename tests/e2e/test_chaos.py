"""Random faults, drawn from a seed that is printed: `--chaos-seed N` plays them again, `N:ROUND` one round of them.

MAIL_BRIDGE_CHAOS_ROUNDS says how many. What must hold after each is in tests/e2e/settled.py.
"""

from __future__ import annotations

import os
import random
import secrets
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.e2e.chaos import PREFIX, Chaos, chaos
from tests.e2e.conftest import World

pytestmark = [pytest.mark.servers, pytest.mark.timeout(3600)]

ROUNDS = int(os.environ.get("MAIL_BRIDGE_CHAOS_ROUNDS", "12"))
ROUNDS_BETWEEN_COUNTS = 20
"""After so many the mailboxes are compared with what was sent, and emptied."""


@pytest.fixture(scope="module")
def scene(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chaos]:
    with chaos(world, tmp_path_factory.mktemp("chaos")) as scene:
        yield scene


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
