"""Random faults on the way to the real servers, drawn from a seed, and the scene in which they happen."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.e2e import errands
from tests.e2e.bridge import Bridge, running
from tests.e2e.clients import Login
from tests.e2e.conftest import ALICE, BOB, World
from tests.e2e.errands import End, Errand, Leave, Post, Shelf, letter
from tests.e2e.settled import Settled, observed
from tests.servers.daemons import free_ports, members
from tests.servers.faulty import Fault, FaultyRelay, Kind, Way, faulty_relay

PREFIX = "chaos-"
SHELF = 600_000
"""Octets of the message that is fetched."""
LETTER = 200_000
AT_ONCE = 4
"""Errands at the same time in one round."""
CRASHES = ("imap-login", "pop3-login", "imap", "pop3", "smtpd")
"""Processes of the servers that can be killed, since the servers start new ones. An `imap-login` holds the TLS of all
IMAP connections."""


WORKER = "worker"
"""A worker of the bridge, which starts another one."""


@dataclass
class Chaos:
    """A bridge between mail programs and relays that fail."""

    world: World
    bridge: Bridge
    relays: dict[tuple[str, str], FaultyRelay]
    """By provider and protocol."""
    logins: tuple[Login, ...] = ()
    shelves: dict[str, Shelf] = field(default_factory=dict)
    over_tls: dict[str, Login] = field(default_factory=dict)
    """By address: logins at the bridge's ports with TLS."""
    settled: Settled | None = None
    post: Post = field(init=False)

    def __post_init__(self) -> None:
        self.post = Post(self.world)

    def sign_in(self) -> None:
        """Sign in both people, and put a message to be fetched into each mailbox."""
        for address in (ALICE, BOB):
            self.bridge.sign_in(self.world.provider, address)
            subject = f"shelf-{os.urandom(4).hex()}"
            self.shelves[address] = Shelf(subject, letter(subject, SHELF, random.Random(subject)))
            self.shelves[address].put(self.world, address)
        self.logins = tuple(self.bridge.login(address) for address in (ALICE, BOB))

    def trust(self, ports: dict[str, int]) -> None:
        """Also use these ports, by protocol: implicit TLS, with the certificate that the bridge makes."""
        authority = self.bridge.directory / "authority.crt"
        self.bridge.run("certificate", "--export", str(authority))
        tls = ssl.create_default_context(cafile=str(authority))
        imap, pop3, smtp = ports["imap"], ports["pop3"], ports["smtp"]
        self.over_tls = {
            login.username: replace(login, imap=imap, pop3=pop3, smtp=smtp, tls=tls) for login in self.logins
        }

    def perhaps_over_tls(self, login: Login, chance: random.Random) -> Login:
        """Half of the logins, at random, use TLS."""
        return self.over_tls[login.username] if chance.random() < 0.5 else login

    def relays_of(self, errand: Errand) -> FaultyRelay:
        provider = "gmail" if errand.login.username == ALICE else "office365"
        return self.relays[provider, errand.protocol]

    def round(self, chance: random.Random, name: str) -> list[tuple[str, End]]:
        """Run some errands at once, each with or without a fault; a server may crash too. Returns: how each ended."""
        chosen = [self._errand(chance, f"{PREFIX}{name}-{number}") for number in range(AT_ONCE)]
        for errand in chosen:
            if (fault := _fault(chance)) is not None and errand.leave is None:
                self.relays_of(errand).plan(fault)
        crash = chance.choice(self.crashes) if chance.random() < 0.3 else None
        delay = chance.random() * 0.4
        over = threading.Event()
        with ThreadPoolExecutor(AT_ONCE + 1) as pool:
            ends = [pool.submit(errand.run) for errand in chosen]
            if crash is not None:
                over.wait(delay)
                self.crash(crash)
            found = [(errand.name, end.result()) for errand, end in zip(chosen, ends, strict=True)]
        for relay in self.relays.values():
            relay.heal()
        return found

    @property
    def crashes(self) -> tuple[str, ...]:
        """Processes that may be killed: those of the servers, and the bridge's workers if it has any."""
        return (*CRASHES, WORKER, WORKER) if self.bridge.config["workers"] > 1 else CRASHES

    def crash(self, name: str) -> int:
        """SIGKILL to the servers' processes of this name, or to one of our workers. Returns: how many."""
        killed = 0
        if name == WORKER:
            for pid in self.bridge.workers[:1]:
                os.kill(pid, signal.SIGKILL)
                killed += 1
            return killed
        for group in (self.world.dovecot.daemon.pid, self.world.postfix.daemon.pid):
            for pid in members(group):
                with contextlib.suppress(OSError):
                    if Path(f"/proc/{pid}/comm").read_text().strip() == name:
                        os.kill(pid, signal.SIGKILL)
                        killed += 1
        return killed

    def _errand(self, chance: random.Random, subject: str) -> Errand:
        login = self.perhaps_over_tls(chance.choice(self.logins), chance)
        leave = None
        if chance.random() < 0.2:
            leave = Leave(chance.randrange(LETTER), chance.random() < 0.5)
        message = letter(subject, LETTER, chance)
        shelf = self.shelves[login.username]
        match chance.choice(("fetch", "append", "data", "retr", "idle")):
            case "fetch":
                return errands.fetching(login, shelf, leave)
            case "append":
                return errands.appending(login, self.post, message, subject, leave)
            case "data":
                return errands.submitting(login, self.post, message, subject, leave)
            case "retr":
                return errands.retrieving(login, shelf, leave)
            case _:
                return errands.idling(login, leave)


def _fault(chance: random.Random) -> Fault | None:
    """A random fault or none. Its position is uniform on a logarithmic scale, so that handshake, dialogue and message
    are hit about equally often."""
    if chance.random() < 0.2:
        return None
    kind = chance.choice((Kind.RESET, Kind.FIN, Kind.PAUSE, Kind.TRICKLE))
    return Fault(kind, chance.choice(list(Way)), int(10 ** chance.uniform(0, 5.9)))


@contextmanager
def chaos(world: World, directory: Path, *, level: str = "debug", workers: int = 1) -> Iterator[Chaos]:
    """A running bridge at rest, with both accounts signed in and a separate relay before each mail server."""
    bridge = world.bridge(directory)
    bridge.config["workers"] = workers
    bridge.config["log"]["level"] = level
    with ExitStack() as stack:
        relays: dict[tuple[str, str], FaultyRelay] = {}
        for name, provider in bridge.config["providers"].items():
            for protocol in ("imap", "pop3", "smtp"):
                relay = stack.enter_context(faulty_relay(provider[protocol]["port"]))
                provider[protocol]["port"] = relay.port
                relays[name, protocol] = relay
        tls_ports = dict(zip(("imap", "pop3", "smtp"), free_ports(3), strict=True))
        for protocol, port in tls_ports.items():
            plain = bridge.config["listeners"][protocol]
            with_tls = {"address": f"localhost:{port}", "tls": "implicit"}
            bridge.config["listeners"][protocol] = [{"address": plain}, with_tls]
        stack.enter_context(observed(bridge))
        stack.enter_context(running(bridge))
        scene = Chaos(world, bridge, relays)
        scene.sign_in()
        scene.trust(tls_ports)
        scene.settled = Settled.of(bridge, *scene.logins, *scene.over_tls.values())
        yield scene
