"""One running worker, as the bridge sees it: its clients and questions, whether it still responds, and its end."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from bridge.clock import Clock
from bridge.errors import PeerGone
from bridge.model import Account
from bridge.observe.logs import trouble
from bridge.workers.clients import Client
from bridge.workers.link import Link
from bridge.workers.process import Process

LOOK_SECONDS = 10.0
"""Seconds between two pings of a worker that has clients, owes an answer or is still starting; an idle one is left
asleep."""
SILENCES = 6
"""After this many pings without an answer the worker is killed, because its mail clients hang. Pings are counted, not
seconds: if the machine was asleep, or the bridge itself was stopped, it has pinged only once in that time."""
END_SECONDS = 5.0
"""For a worker to end its sessions and itself, before it is killed."""
DESCRIPTORS_PER_SESSION = 2
"""One for the mail client, one for the upstream."""
DESCRIPTORS_KEPT = 16
"""A worker's descriptors for all else: seven are its streams, loop and link; the rest are for name lookups and for a
server's second address. A login that finds none left is told to try again later, as in the bridge itself."""


@dataclass
class RunningWorker:
    """A worker from its start to its end; `link` is set once its messages are handled."""

    number: int
    process: Process
    group: asyncio.TaskGroup
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    room: int = 0
    """Sessions that its descriptors suffice for; 0 until it is ready, and once it has gone."""
    silences: int = 0
    """Pings since its last answer."""
    clients: dict[str, Client] = field(default_factory=dict)
    requests: dict[int, asyncio.Task[None]] = field(default_factory=dict)
    accounts: dict[str, Account] = field(default_factory=dict)
    """The accounts as the worker knows them, by address: each is sent once, and again when it has changed."""
    link: Link = field(init=False)
    is_asked: bool = False
    """It owes the answer to ask()."""
    seconds_ready: float = 0.0
    """How long it was ready; known once it has ended."""
    _ready_since: float | None = None

    @property
    def is_full(self) -> bool:
        """True if it has no room for one more."""
        return len(self.clients) >= self.room

    @property
    def burden(self) -> tuple[bool, int]:
        """The lower, the better. A worker that seems to hang sorts last: otherwise, as its clients give up, it would
        seem the emptiest."""
        return self.silences > 1, len(self.clients)

    def ready(self, descriptors: int) -> None:
        """The worker is ready, and may have this many descriptors."""
        self.room = max(1, (descriptors - DESCRIPTORS_KEPT) // DESCRIPTORS_PER_SESSION)
        self._ready_since = asyncio.get_running_loop().time()

    def lose(self) -> None:
        """The worker has ended, or sends nonsense: no client is handed over to it any more."""
        self.room = 0
        if self._ready_since is not None and not self.gone.is_set():
            self.seconds_ready = asyncio.get_running_loop().time() - self._ready_since
        self.gone.set()

    def hand_over(self, client: Client) -> None:
        """Hand the client over to this worker."""
        whose = client.caller.key if client.caller is not None else ""
        words = client.conn, str(client.port), client.peer, client.named, client.no_place, whose
        self.link.hand_over(client.held, *words)
        self.clients[client.conn] = client
        client.end_it = self._end_client

    def ask(self) -> None:
        """Have the worker answer once it has begun the sessions that it was given."""
        if not self.is_asked:
            self.is_asked = True
            self.link.send("here?")

    def answered(self) -> None:
        """The worker is there."""
        self.silences = 0
        self.is_asked = False

    def _end_client(self, conn: str) -> None:
        self.link.send("end", conn)

    def told(self, entered: list[str], over: list[str]) -> None:
        """Take news of its mail clients: which have logged in, and whose session is over, with or without a login."""
        for conn in entered:
            if (client := self.clients.get(conn)) is not None:
                client.release()
        for conn in over:
            if (client := self.clients.pop(conn, None)) is not None:
                client.end()

    def client_of(self, conn: str) -> Client:
        """The client of this connection. Raises: PeerGone if it has gone."""
        if (client := self.clients.get(conn)) is None:
            raise PeerGone("that client has gone")
        return client

    def give_up(self) -> int:
        """Forget its clients and questions. Returns: how many sessions have ended with it."""
        self.link.close()
        for request in self.requests.values():
            request.cancel()
        clients, self.clients = self.clients, {}
        for client in clients.values():
            client.end()
        return len(clients)

    async def watch(self, clock: Clock) -> None:
        """Kill the worker if it no longer responds (a bug of ours or of a library, or a SIGSTOP); it is then replaced
        as if it had died."""
        while self.silences < SILENCES:
            await clock.pause(LOOK_SECONDS)
            if self.clients or self.is_asked or not self.room:
                self.silences += 1
                self.link.send("here?")
        trouble("worker.stands_still", worker=self.number, pid=self.process.pid)
        self.process.kill()

    async def ended(self) -> str:
        """Wait for its end; kill it if that takes too long. Returns: how it ended."""
        try:
            async with asyncio.timeout(END_SECONDS):
                return await self.process.wait()
        except TimeoutError:
            self.process.kill()
            return await self.process.wait()
