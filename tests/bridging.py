"""The whole bridge in this process, against the demo's servers: composed as in real life, but on free ports."""

from __future__ import annotations

import asyncio
import imaplib
import secrets
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import parse_qs, urlsplit

import aiohttp

from bridge.app import App
from bridge.config.load import parse_config
from bridge.demo.world import DemoWorld, demo_world
from bridge.host.sockets import bind
from bridge.notices import Notice
from bridge.secret import Secret
from bridge.stores.base import Store
from bridge.stores.memory import MemoryStore
from bridge.stores.sealed import KEY_BYTES, SealedStore
from tests.surroundings import surroundings

ALICE, BOB = "alice@example.com", "bob@example.com"
T = TypeVar("T")


@dataclass
class Running:
    app: App
    ports: dict[str, int]
    notices: list[Notice]

    async def sign_in(self, address: str, person: str | None = None, decision: str = "accept") -> str:
        begun = await self.app.control.begin_authorization(address)
        url = urlsplit(begun.url)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        form = {**query, "address": person or address, "decision": decision}
        async with (
            aiohttp.ClientSession() as http,
            http.post(begun.url.partition("?")[0], data=form, allow_redirects=False) as answer,
        ):
            back = parse_qs(urlsplit(answer.headers["Location"]).query)
        return await self.app.control.complete_authorization({key: values[0] for key, values in back.items()})

    async def password(self, address: str) -> str:
        return (await self.app.control.local_password(address)).reveal()

    async def imap(self, address: str, password: str, talk: Callable[[imaplib.IMAP4], T]) -> T:
        def work() -> T:
            with imaplib.IMAP4("localhost", self.ports["imap"], timeout=60) as session:
                session.login(address, password)
                return talk(session)

        return await asyncio.to_thread(work)


def bind_anywhere(host: str, port: int, what: str) -> list[socket.socket]:
    return bind(host, 0, what=what)


@asynccontextmanager
async def running(change: Callable[[str], str] = lambda text: text) -> AsyncIterator[Running]:
    async with demo_world() as world, bridging(world, change) as it:
        yield it


@asynccontextmanager
async def bridging(
    world: DemoWorld, change: Callable[[str], str] = lambda text: text, store: Store | None = None
) -> AsyncIterator[Running]:
    loaded = parse_config(change(world.yaml), name="test", directory=Path.cwd())
    sealed = SealedStore(store or MemoryStore(), Secret(secrets.token_bytes(KEY_BYTES)))
    app = App(loaded, surroundings(sealed, bind_anywhere))
    notices: list[Notice] = []
    app.on_notice(notices.append)
    async with app.opened():
        app.bind()
        async with asyncio.TaskGroup() as group:
            serving = group.create_task(app.serve())
            status = await app.control.status()
            ports = {listener.protocol: int(listener.address.rsplit(":", 1)[1]) for listener in status.listeners}
            try:
                yield Running(app, ports, notices)
            finally:
                app.stop()
                await serving
                for sock in app.console_sockets:
                    sock.close()
