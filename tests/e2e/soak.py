"""Mail programs, faults, outages and expiring tokens, for as long as one likes; a line of figures each minute.

`python3 scripts/soak.py --minutes 20`. It is built from the parts of the chaos suite.
"""

from __future__ import annotations

import argparse
import functools
import random
import re
import secrets
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.e2e import clients, errands
from tests.e2e.chaos import Chaos, chaos
from tests.e2e.clients import ClientFailed, Login
from tests.e2e.conftest import World, whole_world
from tests.e2e.errands import End, Leave, letter
from tests.e2e.settled import Look, figures
from tests.servers.authorization_controls import Fault as ProviderFault
from tests.servers.ca import Authority
from tests.servers.faulty import Fault, Kind, Way

PREFIX = "soak-"
WORKERS = 4
TOKEN_SECONDS = 30
"""Lifetime of a token: each is renewed after half of it, so that 20 minutes see more refreshes than a month."""
WARM_UP = 4
"""Minutes that the slope of memory leaves out, because allocators, caches and pools are still filling."""
FLAT = 64 * 1024
"""Octets by which memory may grow per minute (slope): at most a hundred octets per session. This includes the
fragmentation that peaks leave, which takes half an hour to reach its full size."""
FLAT_BLOCKS = 128
"""Memory blocks of objects by which a minute may grow (slope): of a thousand logins and more, one in ten may leave an
object behind. Fragmentation and C libraries are not counted here."""
FLAT_HEAP = 32 * 1024
"""Octets by which memory in use outside these blocks may grow per minute (slope): if each session left its smallest
buffer or its TLS state behind, that would be megabytes. Fragmentation is not counted. What CPython leaks on each look
at a TLS session is: 7 KiB per minute for each server that is killed in it (relay.authorities)."""
GONE_SECONDS = 30.0
PROGRAM_SECONDS = 300
"""Limit for one run of a mail program that meets such an outage on a busy machine; one that hangs fails the soak."""
FOR_GOOD = re.compile(r"error=(LoginRefused|TokenRefused|UpstreamRefused|AuthorizationRequired|StoreCorrupt)")
"""Refusals on which a mail program gives up or asks a person: the soak gives no reason for any of them."""
LETTER = 60_000


@dataclass
class Minute:
    """The figures of one minute."""

    seconds: float
    ends: Counter[str]
    logins: int
    later: int
    refused: int
    megabytes: float
    refreshes: int
    faults: int
    sessions: int
    look: Look
    pss: int
    own: int
    """Resident octets of the bridge's own process. Workers do not count, since some are killed and start again."""

    TITLES = (
        "  min  errands done later  cut left |  logins later no |   MB  tokens faults open |"
        "  RSS   PSS   own MB blocks heap KiB  fds thr"
    )

    def row(self) -> str:
        ends = self.ends
        return (
            f"{self.seconds / 60:5.1f}  {sum(ends.values()):7} {ends['done']:4} {ends['later']:5} {ends['cut']:4} "
            f"{ends['left']:4} | {self.logins:7} {self.later:5} {self.refused:2} | {self.megabytes:4.0f} "
            f"{self.refreshes:7} {self.faults:6} {self.sessions:4} | {self.look.memory / 1e6:5.1f} "
            f"{self.pss / 1e6:5.1f} {self.own / 1e6:5.1f} {self.look.blocks:6} "
            f"{self.look.heap / 1024:8.1f} {self.look.descriptors.total():4} {self.look.threads:3}"
        )


@dataclass
class Soak:
    """Threads that run errands, and one that breaks things."""

    scene: Chaos
    chance: random.Random
    directory: Path
    ends: Counter[str] = field(default_factory=Counter)
    faults: int = 0
    problems: list[BaseException] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)
    _goes: threading.Event = field(default_factory=threading.Event)
    _busy: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(WORKERS))
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _counting: threading.Lock = field(default_factory=threading.Lock)
    """Held while the mail at the servers is counted: nothing kills the servers meanwhile."""
    _number: int = 0
    _log_read: int = 0
    _asked: int = 0

    # --- mail programs ------------------------------------------------------------------------------------------

    def work(self, seed: int) -> None:
        """Run errands until the soak is over; the body of one thread."""
        chance = random.Random(seed)
        directory = self.directory / str(seed)
        directory.mkdir()
        while not self.over.is_set():
            self._goes.wait()
            with self._busy:
                if not self._goes.is_set():
                    continue
                try:
                    end = self._errand(chance, directory)
                except BaseException as problem:  # noqa: BLE001  ends the soak, which raises it at the end
                    self.problems.append(problem)
                    self.over.set()
                    return
            with self._lock:
                self.ends[end.value] += 1

    def _errand(self, chance: random.Random, directory: Path) -> End:
        scene = self.scene
        login = chance.choice(scene.logins)
        by_line = scene.perhaps_over_tls(login, chance)
        with self._lock:
            self._number += 1
            subject = f"{PREFIX}{self._number}"
        message = letter(subject, chance.choice((2_000, LETTER, LETTER)), chance)
        leave = Leave(chance.randrange(LETTER), chance.random() < 0.5) if chance.random() < 0.1 else None
        shelf = scene.shelves[login.username]
        by_msmtp = functools.partial(clients.msmtp, login, login.username, message, directory, "plain")
        by_curl = functools.partial(clients.curl_send, login, login.username, message, directory)
        choices: list[Callable[[], End]] = [
            lambda: errands.fetching(by_line, shelf, leave).run(),
            lambda: errands.retrieving(by_line, shelf, leave).run(),
            lambda: errands.appending(by_line, scene.post, message, subject, leave).run(),
            lambda: errands.submitting(by_line, scene.post, message, subject, leave).run(),
            lambda: errands.idling(by_line, leave).run(),
            lambda: self._sends(login, subject, message, by_msmtp),
            lambda: self._sends(login, subject, message, by_curl),
            lambda: _reads(lambda: clients.curl_fetch(login, directory, 1, chance.choice(("imap", "pop3")))),
            lambda: _reads(lambda: clients.mbsync(login, _new(directory))),
            lambda: _reads(lambda: clients.fetchmail(login, _new(directory), chance.choice(("POP3", "IMAP")))),
        ]
        weights = (4, 4, 4, 4, 4, 2, 2, 2, 1, 1)
        return chance.choices(choices, weights)[0]()

    def _sends(self, login: Login, subject: str, message: bytes, send: Callable[[], None]) -> End:
        """Send with a mail program. One that ends with an error may still have delivered its message."""
        self.scene.post.note(subject, login.username, message, is_taken=False)
        try:
            send()
        except ClientFailed:
            return End.CUT
        self.scene.post.note(subject, login.username, message, is_taken=True)
        return End.DONE

    # --- what goes wrong ----------------------------------------------------------------------------------------

    def break_things(self) -> None:
        """Cause a fault every second or two; now and then an outage of half a minute."""
        chance = random.Random(self.chance.random())
        began = time.monotonic()
        next_outage = 90.0
        while not self.over.wait(chance.uniform(0.5, 2.0)):
            self.faults += 1
            if time.monotonic() - began > next_outage:
                next_outage += 240
                self._network_gone()
                continue
            relay = chance.choice(list(self.scene.relays.values()))
            match chance.choice(("plan", "plan", "strike", "strike", "stall", "crash", "provider")):
                case "plan":
                    kind = chance.choice((Kind.RESET, Kind.FIN, Kind.PAUSE, Kind.TRICKLE))
                    relay.plan(Fault(kind, chance.choice(list(Way)), int(10 ** chance.uniform(0, 5))))
                case "strike":
                    relay.strike(Fault(chance.choice((Kind.RESET, Kind.FIN, Kind.PAUSE)), chance.choice(list(Way))))
                case "stall":
                    relay.strike(Fault(Kind.STALL))
                    self.over.wait(3)
                    relay.heal()
                case "crash":
                    with self._counting:
                        self.scene.crash(chance.choice(self.scene.crashes))
                case "provider":
                    faults = [fault for fault in ProviderFault if fault is not ProviderFault.SLOW]
                    with self.scene.world.provider.failing("token", chance.choice(faults)):
                        self.over.wait(chance.uniform(1, 8))

    def _network_gone(self) -> None:
        relays = list(self.scene.relays.values())
        for relay in relays:
            relay.freeze()
        self.over.wait(GONE_SECONDS)
        for relay in relays:
            relay.thaw()

    # --- figures ------------------------------------------------------------------------------------------------

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """Hold all errands back, after those under way have ended."""
        self._goes.clear()
        for _ in range(WORKERS):
            assert self._busy.acquire(timeout=PROGRAM_SECONDS + 30), "an errand does not end"
        try:
            yield
        finally:
            for _ in range(WORKERS):
                self._busy.release()
            if not self.over.is_set():
                self._goes.set()

    def start(self) -> None:
        self._goes.set()

    def minute(self, seconds: float) -> Minute:
        """Count the mail, read the new part of the log, look at the process. Call it inside quiet()."""
        with self._counting:
            self.scene.post.verify(PREFIX)
        text = self.scene.bridge.log
        lines, self._log_read = text[self._log_read :], len(text)
        moved = sum(int(count) for count in re.findall(r"to_(?:client|upstream)=(\d+)", lines))
        refused = [line for line in lines.splitlines() if "login.refused" in line]
        for_good = [line for line in refused if FOR_GOOD.search(line)]
        ends, self.ends = self.ends, Counter()
        faults, self.faults = self.faults, 0
        asked = self.scene.world.provider.count("refresh_token")
        refreshes, self._asked = asked - self._asked, asked
        look = Look.at(self.scene.bridge)
        return Minute(
            seconds,
            ends,
            lines.count("session.ready"),
            len(refused) - len(for_good),
            len(for_good),
            moved / 1e6,
            refreshes,
            faults,
            look.tasks["Service.__call__"] + look.tasks["_Worker._serve"],
            look,
            sum(map(proportional, (self.scene.bridge.pid, *self.scene.bridge.workers))),
            figures(self.scene.bridge.pid)[2],
        )


def _reads(read: Callable[[], object]) -> End:
    try:
        read()
    except ClientFailed:
        return End.CUT
    return End.DONE


def _new(directory: Path) -> Path:
    return Path(tempfile.mkdtemp(dir=directory))


def proportional(pid: int) -> int:
    """Proportional set size (PSS) of a process, in octets."""
    found = re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M)
    assert found is not None
    return int(found[1]) * 1024


def slope(points: list[tuple[float, int]]) -> float:
    """Slope of the line that fits best (least squares), per minute."""
    if len(points) < 3:
        return 0.0
    x = sum(minute for minute, _ in points) / len(points)
    y = sum(value for _, value in points) / len(points)
    spread = sum((minute - x) ** 2 for minute, _ in points)
    return sum((minute - x) * (value - y) for minute, value in points) / spread


def soak(
    world: World, directory: Path, seconds: float, seed: int, *, each: float = 60.0, workers: int = 1
) -> list[Minute]:
    """Run, print the figures, and judge them. Raises: AssertionError that says what is wrong."""
    print(f"--seed {seed}", flush=True)
    minutes: list[Minute] = []
    patience, clients.TIMEOUT_SECONDS = clients.TIMEOUT_SECONDS, PROGRAM_SECONDS
    lifetime, world.provider.lifetime = world.provider.lifetime, TOKEN_SECONDS
    world.provider.retry_after = 3
    with chaos(world, directory, level="info", workers=workers) as scene:
        soaking = Soak(scene, random.Random(seed), directory)
        jobs = [threading.Thread(target=soaking.work, args=(seed + number,)) for number in range(WORKERS)]
        jobs.append(threading.Thread(target=soaking.break_things))
        for job in jobs:
            job.start()
        began = time.monotonic()
        soaking.start()
        print(Minute.TITLES, flush=True)
        try:
            while (passed := time.monotonic() - began) < seconds and not soaking.over.is_set():
                soaking.over.wait(min(each, seconds - passed))
                with soaking.quiet():
                    minutes.append(soaking.minute(time.monotonic() - began))
                    print(minutes[-1].row(), flush=True)
        finally:
            soaking.over.set()
            soaking.start()
            for job in jobs:
                job.join(PROGRAM_SECONDS)
            for relay in scene.relays.values():
                relay.heal()
            world.provider.lifetime, world.provider.retry_after = lifetime, None
            clients.TIMEOUT_SECONDS = patience
        if soaking.problems:
            print(scene.bridge.log[-10_000:], flush=True)
            raise soaking.problems[0]
        assert scene.settled is not None
        counts = scene.post.verify(PREFIX)
        look = scene.settled.check(are_grants_kept=False)
        # RSS rather than PSS, because PSS changes as other processes that share memory come and go.
        late = [minute for minute in minutes if minute.seconds / 60 > WARM_UP]
        grows = slope([(minute.seconds / 60, minute.own) for minute in late])
        grows_by_blocks = slope([(minute.seconds / 60, minute.look.blocks) for minute in late])
        print(f"mail: {dict(counts)}, none lost, doubled or partial")
        print(f"tasks, objects, sockets, threads at rest as before; {look.memory / 1e6:.1f} MB RSS")
        heap_grows = slope([(minute.seconds / 60, minute.look.heap) for minute in late])
        whose = "the bridge's own memory" if workers > 1 else "memory"
        print(
            f"{whose} after {WARM_UP} minutes: {grows / 1024:+.1f} KiB (RSS), {grows_by_blocks:+.1f} blocks, "
            f"{heap_grows / 1024:+.1f} KiB of the heap in use a minute"
        )
        assert grows < FLAT, "memory is not flat"
        assert grows_by_blocks < FLAT_BLOCKS, "objects are left behind"
        assert heap_grows < FLAT_HEAP, "buffers, or what libraries take, are left behind"
        refused = sum(minute.refused for minute in minutes)
        assert refused == 0, f"{refused} logins were refused for good"
    return minutes


def main() -> int:
    parser = argparse.ArgumentParser(prog="soak.py", description="Mail programs and faults, for as long as you like.")
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--workers", type=int, default=1, help="of the bridge; from two on they are killed, too")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6))
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        directory = Path(name)
        (directory / "authority").mkdir()
        (directory / "bridge").mkdir(mode=0o700)
        try:
            with whole_world(Authority(directory / "authority")) as world:
                soak(world, directory / "bridge", chosen.minutes * 60, chosen.seed, workers=chosen.workers)
        except AssertionError as problem:
            print(f"FAILED: {problem}", flush=True)
            return 1
    print("PASSED")
    return 0


if __name__ == "__main__":
    sys.exit(main())
