"""One running worker, as the bridge sees it: what it serves and asks, whether it is still there, and its end."""

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
"""How often a worker that serves somebody, or still starts, is asked whether it is there; an idle one may sleep on."""
SILENCES = 6
"""So many questions without an answer, and it is killed: its mail clients hang. Questions are counted, not seconds: a
machine that was asleep, or a bridge that was stopped itself, has asked once in that time."""
END_SECONDS = 5.0
"""For a worker to end its sessions and itself, before it is killed."""
DESCRIPTORS_PER_SESSION = 2
"""Mail client and upstream."""
DESCRIPTORS_KEPT = 16
"""Of a worker, for all else: seven are its streams, loop and link; the rest are for looking names up and for a server's
second address. A login that finds none left is told to come again, as in the bridge itself."""


@dataclass
class RunningWorker:
    """From its start to its end; `link` is set once somebody takes what it says."""

    number: int
    process: Process
    group: asyncio.TaskGroup
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    room: int = 0
    """Sessions that its descriptors are enough for; 0 until it is ready, and when it has gone."""
    silences: int = 0
    """Questions whether it is there that it has not answered yet."""
    clients: dict[str, Client] = field(default_factory=dict)
    requests: dict[int, asyncio.Task[None]] = field(default_factory=dict)
    accounts: dict[str, Account] = field(default_factory=dict)
    """As it knows them, by address: each is told once, and again when it has changed."""
    link: Link = field(init=False)
    seconds_ready: float = 0.0
    """From the moment that it was, to its end; once it has ended."""
    _ready_since: float | None = None

    @property
    def is_full(self) -> bool:
        """True if it has no room for one more."""
        return len(self.clients) >= self.room

    @property
    def burden(self) -> tuple[bool, int]:
        """The less the better. One that seems to stand still comes last: it gives none back, and would seem empty."""
        return self.silences > 1, len(self.clients)

    def ready(self, descriptors: int) -> None:
        """It has said so, and how many descriptors it may have."""
        self.room = max(1, (descriptors - DESCRIPTORS_KEPT) // DESCRIPTORS_PER_SESSION)
        self._ready_since = asyncio.get_running_loop().time()

    def lose(self) -> None:
        """It has ended, or makes no sense: nobody is handed over to it any more."""
        self.room = 0
        if self._ready_since is not None and not self.gone.is_set():
            self.seconds_ready = asyncio.get_running_loop().time() - self._ready_since
        self.gone.set()

    def hand_over(self, client: Client) -> None:
        """From now on it is this worker's."""
        whose = client.caller.key if client.caller is not None else ""
        words = client.conn, str(client.port), client.peer, client.named, client.no_place, whose
        self.link.hand_over(client.held, *words)
        self.clients[client.conn] = client
        client.end_it = self._end_client

    def _end_client(self, conn: str) -> None:
        self.link.send("end", conn)

    def told(self, entered: list[str], over: list[str]) -> None:
        """News of its mail clients: who has logged in, and whose session is over, whether he had or not."""
        for conn in entered:
            if (client := self.clients.get(conn)) is not None:
                client.release()
        for conn in over:
            if (client := self.clients.pop(conn, None)) is not None:
                client.end()

    def client_of(self, conn: str) -> Client:
        """Raises: PeerGone."""
        if (client := self.clients.get(conn)) is None:
            raise PeerGone("that client has gone")
        return client

    def give_up(self) -> int:
        """Forget what it served and asked. Returns: how many sessions have ended with it."""
        self.link.close()
        for request in self.requests.values():
            request.cancel()
        clients, self.clients = self.clients, {}
        for client in clients.values():
            client.end()
        return len(clients)

    async def watch(self, clock: Clock) -> None:
        """Kill it if it stands still: a bug of ours or a library's, or a SIGSTOP. Then it is as if it had died."""
        while self.silences < SILENCES:
            await clock.pause(LOOK_SECONDS)
            if self.clients or not self.room:
                self.silences += 1
                self.link.send("here?")
        trouble("worker.stands_still", worker=self.number, pid=self.process.pid)
        self.process.kill()

    async def ended(self) -> str:
        """Its end, by itself or, if that takes too long, by force. Returns: how."""
        try:
            async with asyncio.timeout(END_SECONDS):
                return await self.process.wait()
        except TimeoutError:
            self.process.kill()
            return await self.process.wait()
