"""The collector of garbage in cycles, in a process of its own: it is one for all of a process."""

from __future__ import annotations

import subprocess
import sys

CODE = """
from collections import deque
from bridge.host.collector import spare_the_collector

of_the_start = [[] for _ in range(200_000)]
spare_the_collector()
alive = most = 0

class Served:
    def __init__(self):
        global alive, most
        self.itself = self
        alive += 1
        most = max(most, alive)

    def __del__(self):
        global alive
        alive -= 1

being_served = deque(maxlen=1000)
for _ in range(1_000_000):
    being_served.append(Served())
print(most)
"""


def test_what_the_start_has_made_does_not_let_garbage_wait() -> None:
    """Python waits for a fourth as much again as it has looked through the last time, which was all of the start's."""
    most = int(subprocess.check_output((sys.executable, "-c", CODE), text=True))
    assert 1000 < most < 20_000
