"""Python's garbage collector, tuned for a process that runs for weeks."""

from __future__ import annotations

import gc

COLLECT_AFTER = 5000
"""New objects between two looks; Python's 700 are one or two logins. After 50,000 all of it is looked through: what
ends badly (an attack, a server that is down) leaves cycles, which are 80 MiB after two million."""


def spare_the_collector() -> None:
    """What the start has made lives as long as the process: looking through it again and again is 10 % of a login."""
    gc.collect()
    gc.freeze()
    # Finds nothing, and resets the count of survivors: else a full collection waits for a quarter of what was frozen.
    gc.collect()
    gc.set_threshold(COLLECT_AFTER, 5, 2)
