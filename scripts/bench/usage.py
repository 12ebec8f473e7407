"""What a process and all below it use, from /proc: CPU seconds and memory."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
SAMPLE_SECONDS = 0.05
KIB = 1024


def tree(root: int) -> list[int]:
    """The process and its descendants that are alive."""
    found = [root]
    for pid in found:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{pid}/task").iterdir():
                found += [int(word) for word in (task / "children").read_text().split()]
    return found


@dataclass(frozen=True)
class Cpu:
    """User and system time of a tree so far, in the two ways in which the kernel tells it."""

    seconds: float
    """In ticks of 10 ms, with ended children and threads."""
    threads: Mapping[tuple[int, int], float]
    """Exact to the nanosecond, but for the living threads (process, thread) only."""

    @classmethod
    def of(cls, root: int) -> Cpu:
        seconds, threads = 0.0, {}
        for pid in tree(root):
            with contextlib.suppress(OSError):
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                seconds += sum(map(int, fields[11:15])) / TICKS
                for task in Path(f"/proc/{pid}/task").iterdir():
                    threads[pid, int(task.name)] = int((task / "schedstat").read_text().split()[0]) / 1e9
        return cls(seconds, threads)

    def since(self, before: Cpu) -> float:
        """Exact, unless threads or processes have ended in between."""
        in_ticks = self.seconds - before.seconds
        exact = sum(self.threads.values()) - sum(before.threads.values())
        is_complete = before.threads.keys() <= self.threads.keys() and exact > in_ticks - 3 / TICKS
        return exact if is_complete else in_ticks


def memory(root: int) -> int:
    """Octets, as PSS: memory shared among processes is counted once. As RSS where only root may read PSS (mail-bridge
    closes that part of /proc to others)."""
    return sum(_figure(pid, ("smaps_rollup", "Pss:"), ("status", "VmRSS:")) for pid in tree(root))


def own_memory(root: int) -> int:
    """Octets of that which no file backs: what sessions add. The pages of a program and its libraries count less while
    another process uses them too: one more mail-bridge takes 6.5 MiB off memory() of an idle one."""
    return sum(_figure(pid, ("smaps_rollup", "Pss_Anon:"), ("status", "RssAnon:")) for pid in tree(root))


def _figure(pid: int, *places: tuple[str, str]) -> int:
    """Octets, from the first file and line that can be read."""
    for name, word in places:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/{name}").read_text().splitlines():
                if line.startswith(word):
                    return int(line.split()[1]) * KIB
    return 0


class Peak:
    """The most memory that was seen."""

    def __init__(self, root: int) -> None:
        self._root = root
        self.before = self.most = own_memory(root)

    @property
    def extra(self) -> int:
        """Octets above what it was at first."""
        return self.most - self.before

    @contextlib.contextmanager
    def watched(self) -> Iterator[Peak]:
        """Look again and again, beside what is done inside."""
        over = threading.Event()

        def look() -> None:
            while not over.wait(SAMPLE_SECONDS):
                self.most = max(self.most, own_memory(self._root))

        thread = threading.Thread(target=look)
        thread.start()
        try:
            yield self
        finally:
            over.set()
            thread.join()
