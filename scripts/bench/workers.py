"""What several workers cost: `python scripts/bench/workers.py [--workers 2] [--rounds 15] [--json] [--write]`.

Bridges with `workers: 1` and with more; and, to tell what workers cost from what more processes cost whatever they are,
as many bridges of one worker that know nothing of each other and share the load. All stand before the same cheap mail
server (load.c) and provider; rounds are short and interleaved, so that a neighbour's load meets all. What counts is CPU
(user and system) of the whole process tree; ratios are of the same round. --write puts the tables into
docs/performance.md.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import platform
import random
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

from debian import install  # noqa: E402

from bench.load import PROTOCOLS, missing_packages  # noqa: E402
from bench.workers_rig import BOUND, PERSON, Bridge, Client, bridges  # noqa: E402

PAGE = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- workers: made by scripts/bench/workers.py --write -->\n", "<!-- end of workers -->"

GOAL = 1.1
AT_ONCE = 16
"""Logins under way; and bulk downloads, half as many."""
MOST_AT_ONCE = 64
"""Logins under way where they come at a rate; hardly ever so many."""
RATE = 50.0
"""Logins a second for one process, where the load is counted: a twelfth of a core."""
DESCRIPTORS = 1024
"""Open files for each process, where sessions are counted: some systems' limit, and soon reached."""
FULL_SECONDS = 30.0
"""A client that gets no answer for this long is not served: the process has no descriptor left for it."""


# --- load -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Logins:
    """Logins, each followed by the end of its session; bridges take turns."""

    protocol: str
    count: int
    rate: float = 0.0
    """A second, as they come; 0 for AT_ONCE side by side, as fast as that goes."""
    is_new: bool = False
    """Each with another spelling of the user name, so that no worker remembers it."""
    address: str = PERSON
    """The mailbox; BOUND where each login depends on the user of the program."""

    def __call__(self, where: Sequence[Bridge]) -> None:
        """Returns when all are over."""
        where[0].load.log_in(
            [bridge.target(self.protocol, self.address) for bridge in where],
            self.protocol,
            self.address,
            count=self.count,
            at_once=MOST_AT_ONCE if self.rate else AT_ONCE,
            rate=self.rate,
            spelling=random.randrange(1, 1 << 31) if self.is_new else 0,
        )


@dataclass(frozen=True, slots=True)
class Downloads:
    """A few sessions that fetch at the same time; each octet is compared."""

    mebibytes: int

    def __call__(self, where: Sequence[Bridge]) -> None:
        """Returns when all are over."""
        targets = [bridge.target("imap", PERSON) for bridge in where]
        where[0].load.fetch(targets, PERSON, mebibytes=self.mebibytes, at_once=AT_ONCE // 2)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    title: str
    unit: str
    units: float
    """What the load consists of, for a single process."""
    load: Callable[[Sequence[Bridge]], None]
    load_of_all: Callable[[Sequence[Bridge]], None] | None = None
    """Where each of several processes gets as much as the single one."""
    is_bound: bool = False
    """It makes the bridge look up the users of programs; measured after all rows that do not."""
    figures: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    """By system: CPU of the bridge's own process, and of all, in each round."""

    def measure(self, name: str, system: Sequence[Bridge], processes: int) -> None:
        """One round of one system."""
        load, units = self.load, self.units
        if self.load_of_all is not None and processes > 1:
            load, units = self.load_of_all, units * processes
        scale = (1e3 if self.unit == "ms" else 1.0) / units
        own, whole = measured(system, load)
        self.figures.setdefault(name, []).append((own * scale, whole * scale))

    def ratio(self, name: str) -> float:
        """The cost compared with one process; the median of the rounds' ratios."""
        return statistics.median(self._ratios(name))

    def likely(self, name: str) -> tuple[float, float]:
        """Where that median would lie with more rounds, most likely: see most_left_out()."""
        found = self._ratios(name)
        left_out = most_left_out(len(found))
        return found[left_out], found[-1 - left_out]

    def _ratios(self, name: str) -> list[float]:
        one = self.figures["one"]
        return sorted(there / here for (_, there), (_, here) in zip(self.figures[name], one, strict=True))


def most_left_out(count: int) -> int:
    """How many of `count` sorted values to leave out at each end, so that the range of the rest holds the true median,
    whatever the distribution, with a probability of 0.95; or with less, where even all values are too few for that."""
    left_out = 0
    while 2 * sum(math.comb(count, below) for below in range(left_out + 2)) <= 0.05 * 2**count:
        left_out += 1
    return left_out


def rows(options: argparse.Namespace) -> list[Row]:
    count, several = options.logins, options.workers
    found = [Row(f"login, {protocol.upper()}", "ms", count, Logins(protocol, count)) for protocol in PROTOCOLS]
    found.append(Row("login, SMTP, each asked about", "ms", count, Logins("smtp", count, is_new=True)))
    found.append(Row(f"login, IMAP, {RATE * several:.0f} a second", "ms", count, Logins("imap", count, RATE * several)))
    each = Logins("imap", count, RATE), Logins("imap", count * several, RATE * several)
    found.append(Row(f"login, IMAP, {RATE:.0f} a second for each process", "ms", count, *each))
    gigabytes = options.mebibytes * (AT_ONCE // 2) / 1024
    found.append(Row("bulk FETCH, each GB", "s", gigabytes, Downloads(options.mebibytes)))
    found.append(Row("login, IMAP, os_user", "ms", count, Logins("imap", count, address=BOUND), is_bound=True))
    found.append(Row("login, IMAP, beside those", "ms", count, Logins("imap", count), is_bound=True))
    return found


def measured(system: Sequence[Bridge], load: Callable[[Sequence[Bridge]], None]) -> tuple[float, float]:
    """CPU seconds of the bridge's own process, and of all, while other processes are its mail programs and server."""
    before = [bridge.cpu() for bridge in system]
    try:
        load(system)
    except SystemExit as problem:
        logs = [(bridge.directory / "log").read_text()[-2000:] for bridge in system]
        raise SystemExit(f"{problem}: {logs}") from None
    time.sleep(0.2)  # the last sessions' ends
    behind = [bridge.cpu() for bridge in system]
    own = sum(there[0] - here[0] for there, here in zip(behind, before, strict=True))
    return own, sum(map(sum, behind)) - sum(map(sum, before))


# --- sessions -------------------------------------------------------------------------------------------------------


def spread(bridge: Bridge, count: int) -> list[int]:
    """Sessions in each worker while `count` are open."""
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            client = Client(bridge.ports["imap"])
            stack.callback(client.close)
            client.login(PERSON, bridge.passwords[PERSON])
        return bridge.sessions()


def held(workers: int) -> int:
    """How many sessions a bridge holds whose processes may have DESCRIPTORS each: all answer while all are there."""
    with bridges(workers, descriptors=DESCRIPTORS) as (bridge,), contextlib.ExitStack() as stack:
        clients: list[Client] = []
        while (client := logged_in(bridge)) is not None:
            stack.callback(client.socket.close)
            clients.append(client)
        for client in clients:
            client.say("n NOOP", b"n OK")
        return len(clients)


def logged_in(bridge: Bridge) -> Client | None:
    """None if there is no session left for it."""
    client = Client(bridge.ports["imap"])
    client.socket.settimeout(FULL_SECONDS)
    with contextlib.suppress(OSError, SystemExit):
        client.lines.readline()
        if b"a OK" in client.say(f"a LOGIN {PERSON} {bridge.passwords[PERSON]}", b"a "):
            return client
    client.socket.close()
    return None


# --- report ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Report:
    """All that was found."""

    workers: int
    rounds: int
    rows: Sequence[Row]
    spread: Sequence[Sequence[int]]
    memory: Sequence[Sequence[int]]
    held: dict[int, int]
    others: float
    """How many cores other programs kept busy before and behind the rounds."""

    def table(self) -> str:
        """Markdown."""
        several = self.workers
        systems = f"`workers: 1` | `workers: {several}` | of it our own process | ratio | {several} bridges | ratio"
        lines = [f"| what | unit | {systems} |", "|---|---|" + "---:|" * 6]
        for row in self.rows:
            own = statistics.median(own for own, _ in row.figures["several"])
            cells = [_cell(row, "one"), _cell(row, "several"), f"{own:.2g}", f"**{row.ratio('several'):.2f}** "]
            cells[-1] += _span(row.likely("several"))
            cells += [_cell(row, "apart"), f"{row.ratio('apart'):.2f} {_span(row.likely('apart'))}"]
            lines.append(f"| {row.title} | CPU {row.unit} | {' | '.join(cells)} |")
        one, more = (" and ".join(map(str, sessions)) for sessions in self.spread)
        lines.append(f"| 100 sessions, by process | | {one} | {more} | | | | |")
        one, more = (", ".join(f"{size / 1024:.0f}" for size in sizes) for sizes in self.memory)
        lines.append(f"| memory at rest, by process (PSS) | MiB | {one} | {more} | | | | |")
        if self.held:
            lines += self._sessions_held()
        what = (
            f"Medians, lowest and highest of {self.rounds} rounds; for ratios, where the median lies with a probability"
        )
        busy = f"other programs kept {self.others:.1f} of {os.cpu_count()} cores busy before and behind the rounds"
        lines += ["", f"{what} of 0.95. Python {platform.python_version()}; {busy}."]
        return "\n".join(lines) + "\n"

    def _sessions_held(self) -> list[str]:
        numbers, counts = ([f"{number:,}" for number in column] for column in (self.held, self.held.values()))
        title = f"sessions held, {DESCRIPTORS:,} open files for each process"
        return [
            "",
            f"| `workers` | {' | '.join(numbers)} |",
            "|---|" + "---:|" * len(numbers),
            f"| {title} | {' | '.join(counts)} |",
        ]

    def as_json(self) -> str:
        """For programs."""
        found = {row.title: {"figures": row.figures} for row in self.rows}
        return json.dumps({"rows": found, "sessions": self.spread, "memory": self.memory, "held": self.held}, indent=2)


def _cell(row: Row, name: str) -> str:
    values = [whole for _, whole in row.figures[name]]
    return f"{statistics.median(values):.3g} ({min(values):.3g}–{max(values):.3g})"


def _span(ends: tuple[float, float]) -> str:
    return f"({ends[0]:.2f}–{ends[1]:.2f})"


def others_busy(seconds: float = 5.0) -> float:
    """Cores that are busy while we do nothing."""

    def busy() -> int:
        fields = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
        return sum(fields) - fields[3] - fields[4]  # neither idle nor waiting for a disk

    before = busy()
    time.sleep(seconds)
    return (busy() - before) / os.sysconf("SC_CLK_TCK") / seconds


def rounds(systems: Mapping[str, Sequence[Bridge]], table: Sequence[Row], count: int, several: int) -> None:
    """Measure these rows of all systems in turn."""
    for system in systems.values():  # TLS sessions, code paths, caches
        for protocol in PROTOCOLS:
            measured(system, Logins(protocol, 50 * several))
        if any(row.is_bound for row in table):
            measured(system, Logins("imap", 50 * several, address=BOUND))
    for turn in range(count):
        names = list(systems)[turn % 3 :] + list(systems)[: turn % 3]
        for row in table:
            for name in names:
                row.measure(name, systems[name], 1 if name == "one" else several)


def report(options: argparse.Namespace) -> Report:
    """Measure everything."""
    table = rows(options)
    several = options.workers
    with bridges(1, several, *(1,) * (several - 1)) as found:
        systems = {"one": found[:1], "several": found[1:2], "apart": [found[0], *found[2:]]}
        quiet = [others_busy()]
        # Once a login has depended on the program's user, the bridge looks up that of every client, for five minutes.
        for bound in (False, True):
            rounds(systems, [row for row in table if row.is_bound == bound], options.rounds, several)
        quiet.append(others_busy())
        sessions = [spread(bridge, 100) for bridge in found[:2]]
        memory = [bridge.memory() for bridge in found[:2]]
    counts = {count: held(count) for count in (() if options.no_held else (1, 2, 4))}
    return Report(several, options.rounds, table, sessions, memory, counts, statistics.mean(quiet))


def write(table: str) -> None:
    """Into the page, between its marks."""
    page = PAGE.read_text(encoding="utf-8")
    before, rest = page.split(BEGIN)
    PAGE.write_text(before + BEGIN + table + END + rest.split(END, 1)[1], encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--logins", type=int, default=300, help="for each row, round and system")
    parser.add_argument("--mebibytes", type=int, default=128, help="for each of eight sessions and round")
    parser.add_argument("--held", type=int, help="only say how many sessions so many workers hold")
    parser.add_argument("--no-held", action="store_true", help="leave out how many sessions are held; two minutes less")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--write", action="store_true", help="put the table into docs/performance.md")
    options = parser.parse_args()
    install("what the load is built with", missing_packages(), "it will not be built")
    # As many mail programs as sessions: more than a user's open files are, as a rule, until they are asked for.
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if options.held:
        print(held(options.held))
        return 0
    if os.geteuid() != 0:
        sys.exit("as root: nobody else may see how many sessions each process of a bridge has, and how much memory")
    found = report(options)
    print(found.as_json() if options.json else found.table())
    if options.write:
        write(found.table())
    return int(any(row.ratio("several") > GOAL for row in found.rows))


if __name__ == "__main__":
    sys.exit(main())
