"""Python's garbage collector, tuned for a process that runs for weeks."""

from __future__ import annotations

import gc

COLLECT_AFTER = 5000
"""New objects between two collections; Python's 700 are one or two logins. A full collection comes after 50,000:
connections that end badly (an attack, a server that is down) leave cycles, which are 80 MiB after two million."""


def spare_the_collector() -> None:
    """Freeze the objects that the start has made, which live as long as the process: scanning them again and again
    costs 10 % of a login."""
    gc.collect()
    gc.freeze()
    # Finds nothing, but resets the count of survivors: otherwise the next full collection would wait until a quarter as
    # many objects as were frozen have survived.
    gc.collect()
    gc.set_threshold(COLLECT_AFTER, 5, 2)
