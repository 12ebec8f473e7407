"""SIGKILL at a random moment, under load: no grant is lost, no message is lost, doubled or partial, the store is whole.

The provider keeps the previous refresh token valid, as Microsoft and Google do. tests/tokens/test_killed.py shows, for
each step of a refresh, what happens with a provider that does not.
"""

from __future__ import annotations

import contextlib
import os
import random
import secrets
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.e2e import errands
from tests.e2e.bridge import running
from tests.e2e.chaos import PREFIX, Chaos
from tests.e2e.conftest import World, ever_expired
from tests.e2e.errands import End, Errand, letter
from tests.e2e.settled import grant, opens

pytestmark = [pytest.mark.servers, pytest.mark.timeout(1800)]

KILLS = int(os.environ.get("MAIL_BRIDGE_CHAOS_KILLS", "2"))
LETTER = 300_000
WORKERS = 4


def test_a_kill_at_any_moment_loses_nothing(world: World, tmp_path: Path, pytestconfig: pytest.Config) -> None:
    seed = str(pytestconfig.getoption("--chaos-seed") or secrets.randbelow(10**6)).partition(":")[0]
    print(f"--chaos-seed {seed}")
    bridge = world.bridge(tmp_path)
    scene = Chaos(world, bridge, {})
    world.provider.rotates = False
    try:
        with ever_expired(world):  # each login needs a refresh, so half of the kills hit one
            with running(bridge):
                scene.sign_in()
            for number in range(KILLS):
                chance = random.Random(f"{seed}:{number}")
                bridge.start()
                over = threading.Event()
                with ThreadPoolExecutor(WORKERS) as pool:
                    workers = [
                        pool.submit(work, scene, over, f"{PREFIX}{seed}-{number}-{worker}") for worker in range(WORKERS)
                    ]
                    over.wait(chance.random() * 2)
                    over.set()
                    bridge.stop_hard()
                    ends = [end.value for worker in workers for end in worker.result()]
                with contextlib.closing(sqlite3.connect(tmp_path / "store.sqlite")) as database:
                    assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
                print(f"kill {number}: {ends}")
            with running(bridge):
                for login in scene.logins:
                    opens(login)
                    grant(bridge, login.username)
            assert "sign_in.needed" not in bridge.log
            assert "Traceback" not in bridge.log
            print(dict(scene.post.verify(PREFIX)))
    finally:
        world.provider.rotates = True


def work(scene: Chaos, over: threading.Event, tag: str) -> list[End]:
    """Errands one after the other, until the bridge is gone."""
    chance = random.Random(tag)
    ends: list[End] = []
    while not over.is_set():
        subject = f"{tag}-{len(ends)}"
        login, message = chance.choice(scene.logins), letter(subject, LETTER, chance)
        chosen: list[Errand] = [
            errands.fetching(login, scene.shelves[login.username]),
            errands.appending(login, scene.post, message, subject),
            errands.submitting(login, scene.post, message, subject),
        ]
        with contextlib.suppress(ConnectionError):  # the bridge is gone
            ends.append(chance.choice(chosen).run())
    return ends
