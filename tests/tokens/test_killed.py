"""SIGKILL at every step of a refresh in turn: the real service, store and msal, in a process for each step."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bridge.secret import Secret
from tests.servers.authorization import AuthorizationServer
from tests.tokens import killed

pytestmark = [pytest.mark.timeout(300), pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")]

BOB = "bob@example.com"


@dataclass
class Run:
    """The outcome of one process."""

    token: str | None = None
    """The access token that was handed out."""
    problem: str | None = None
    killed: str | None = None
    """The step at which it was killed."""


@dataclass
class Trial:
    """The program, its store, and the server that records what it was sent."""

    server: AuthorizationServer
    setting: killed.Setting
    process: subprocess.Popen[str]

    def run(self, step: int = 0) -> Run:
        """Run a process that is killed at this step, or at none."""
        self.begin(step)
        return self.finish()

    def begin(self, step: int = 0) -> int:
        """Start such a process. Returns: its process id."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{step}\n")
        self.process.stdin.flush()
        return int(self._said()["pid"])

    def finish(self) -> Run:
        found: dict[str, Any] = {}
        while "ended" not in found:
            found |= self._said()
        assert found["ended"] in (0, -signal.SIGKILL)
        self._ten_seconds_pass()
        return Run(found.get("token"), found.get("problem"), found.get("killed"))

    def _said(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        said: dict[str, Any] = json.loads(self.process.stdout.readline())
        return said

    def sign_in(self) -> None:
        """Store a new grant, as by a sign-in."""
        asyncio.run(self._adopt())

    async def _adopt(self) -> None:
        async with killed.running(self.setting) as (_, tokens):
            await tokens.adopt(killed.account(self.setting), Secret(self.server.issue_refresh_token(BOB)))

    def on_disk(self) -> tuple[str, str]:
        """The access token and the refresh token in the store."""

        async def load() -> tuple[str, str]:
            async with killed.running(self.setting) as (vault, _):
                entry = (await vault.load(BOB)).entry
                assert entry is not None
                (refresh,) = json.loads(entry.tokens.grant.reveal())["RefreshToken"].values()
                return entry.tokens.access.value.reveal(), refresh["secret"]

        return asyncio.run(load())

    def _ten_seconds_pass(self) -> None:
        """End the lease of the killed process at once, instead of waiting ten seconds for its expiry."""
        with closing(sqlite3.connect(self.setting["store"])) as database, database:
            database.execute("DELETE FROM bridge_leases")


@pytest.fixture
def trial(authorization_server: AuthorizationServer, tmp_path: Path) -> Iterator[Trial]:
    """Signed in with a token that is stale at once, so that every run refreshes it."""
    authorization_server.lifetime = 0
    setting = {
        "provider": authorization_server.microsoft_config(),
        "store": str(tmp_path / "store.sqlite"),
        "key_file": str(tmp_path / "key"),
        "account": BOB,
    }
    file = tmp_path / "setting.json"
    file.write_text(json.dumps(setting))
    command = [sys.executable, "-m", "tests.tokens.killed", str(file)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        found = Trial(authorization_server, setting, process)
        found.sign_in()
        yield found


def test_a_kill_at_every_step_of_a_refresh_loses_no_grant_and_uses_none_twice(trial: Trial) -> None:
    """The provider leaves the last refresh token valid, as Microsoft and Google do."""
    trial.server.rotates = False
    used_up: set[str] = set()
    step, killed_at = 0, []
    while True:
        step += 1
        _, before = trial.on_disk()
        asked = len(trial.server.presented)
        run = trial.run(step)
        access, after = trial.on_disk()
        used_up |= {before} - {after}
        assert set(trial.server.presented[asked:]) <= {before}
        assert run.token in (None, access), f"handed out, and not on the disk: {run}"
        if run.killed is None:
            break
        killed_at.append(run.killed)
        asked = len(trial.server.presented)
        again = trial.run()
        access, newest = trial.on_disk()
        assert again.token == access, f"{run} and then {again}"
        assert trial.server.presented[asked:] == [after]
        assert not used_up & {after, newest}
        used_up.add(after)
    assert run.token == access
    assert {"before Connection.execute", "behind Connection.execute", "before _SSLSocket.read"} <= set(killed_at)
    assert len(killed_at) > 60


def test_with_a_strict_provider_one_window_is_left_and_it_ends_in_one_prompt(trial: Trial) -> None:
    """A refresh token that works once is lost when the process ends after the provider's answer and before our write.
    No client can close that window: it cannot store what it has not received. Before and after it nothing is lost."""
    killed_at: list[str] = []
    lost: list[int] = []
    while True:
        run = trial.run(len(killed_at) + 1)
        if run.killed is None:
            break
        asked = len(trial.server.presented)
        again = trial.run()
        if again.token is None:
            assert again.problem == "AuthorizationRequired", (run, again)
            presented = trial.server.presented[asked:]
            assert len(set(presented)) == 1
            assert len(presented) <= 2  # the server may read the killed process's request late
            assert trial.run() == again
            assert trial.server.presented[asked:] == presented  # the record says that the grant has ended: no request
            lost.append(len(killed_at))
            trial.sign_in()
        killed_at.append(run.killed)
    asked_by = _last(killed_at, "behind _SSLSocket.write")
    answered_by = _last(killed_at, "behind _SSLSocket.read")
    saved_by = killed_at.index("behind Cursor.fetchall", answered_by)
    # Between these two it depends on whether the provider has read the request of the killed process.
    assert asked_by <= min(lost)
    assert [step for step in lost if step >= answered_by] == list(range(answered_by, saved_by))


@pytest.mark.parametrize("rotates", [False, True])
def test_a_kill_while_the_provider_holds_its_answer_back(trial: Trial, rotates: bool) -> None:
    trial.server.rotates = rotates
    with trial.server.holding_back():
        asked = len(trial.server.presented)
        process = trial.begin()
        while len(trial.server.presented) == asked:
            threading.Event().wait(0.005)
        os.kill(process, signal.SIGKILL)
        assert trial.finish() == Run()
    again = trial.run()
    assert again.problem == ("AuthorizationRequired" if rotates else None)
    assert (again.token is None) is rotates


def _last(steps: list[str], step: str) -> int:
    return len(steps) - 1 - steps[::-1].index(step)
