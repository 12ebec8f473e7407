"""A bridge for the libraries that programs use: each protocol in plain text and, on another port, with STARTTLS."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.e2e.bridge import Bridge, running
from tests.e2e.clients import PROTOCOLS
from tests.e2e.conftest import ALICE, BOB, CAROL, World
from tests.servers.daemons import free_ports


@contextmanager
def serving_both_ways(world: World, directory: Path) -> Iterator[Bridge]:
    """It is running, and Alice and Bob have signed in; the configuration names no certificate."""
    bridge = world.bridge(directory)
    for protocol, extra in zip(PROTOCOLS, free_ports(3), strict=True):
        bridge.config["listeners"][protocol] = [
            {"address": bridge.config["listeners"][protocol]},
            {"address": f"localhost:{extra}", "tls": "starttls"},
        ]
    with running(bridge):
        for address in (ALICE, BOB):
            bridge.sign_in(world.provider, address)
        yield bridge


def port(bridge: Bridge, protocol: str, which: int) -> str:
    """Args: which, 0 for plain text, 1 for STARTTLS."""
    return str(bridge.config["listeners"][protocol][which]["address"]).rpartition(":")[2]


def must_sign_in(bridge: Bridge) -> str:
    """The whole sentence that the bridge answers to Carol's mail program."""
    return f"Open http://localhost:{bridge.console_port}/sign-in/{CAROL} ({CAROL} must sign in)"
