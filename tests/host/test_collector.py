"""The garbage collector for cycles; tested in a separate process, because a process has only one."""

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
    """Python delays a full collection until new objects are a quarter of those that survived the last one, and those
    include everything that the start has made."""
    most = int(subprocess.check_output((sys.executable, "-c", CODE), text=True))
    assert 1000 < most < 20_000
