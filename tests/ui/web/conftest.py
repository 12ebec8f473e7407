"""A console on a real socket, and a client that behaves like a browser where it matters."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from html.parser import HTMLParser

import aiohttp
import pytest

from bridge.control.contract import Attendants, Visitors
from bridge.control.wire import KEEP_ALIVE
from bridge.host.loop import new_event_loop
from bridge.relay.limits import console_cap
from bridge.secret import Secret
from bridge.ui.cli.reaching import Served
from tests.consoles import Console, no_numbers
from tests.fakes_control import FakeControl
from tests.forms import form_of
from tests.tokens.fakes import HandClock


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The event loop that the program itself uses."""
    return {"program": new_event_loop}


TOKEN = "CANARY-admin-token"


class Buttons(HTMLParser):
    """For each button that sends a form: the target URL, and the fields that a browser would send with it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.sent: dict[str, dict[str, str]] = {}
        self.boxes: dict[str, str] = {}
        self._action: str | None = None
        self._fields: dict[str, str] = {}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self._action, self._fields = given["action"] if given["method"] == "post" else None, {}
        elif tag == "input" and given["type"] == "checkbox":
            self.boxes[given["name"]] = given["value"]
        if tag == "input" and (given["type"] == "hidden" or "checked" in given):
            self._fields[given["name"]] = given["value"]
        elif tag == "button" and self._action is not None:
            self.sent[given.get("formaction", self._action)] = self._fields


class Browser:
    """Follows redirects and keeps cookies, as a browser on http://localhost would."""

    def __init__(self, session: aiohttp.ClientSession, port: int) -> None:
        self.session = session
        self.port = port
        self.base = f"http://127.0.0.1:{port}"

    @asynccontextmanager
    async def get(self, path: str, **options: object) -> AsyncIterator[aiohttp.ClientResponse]:
        async with self.session.get(self.base + path, **options) as response:  # type: ignore[arg-type]
            yield response

    @asynccontextmanager
    async def post(self, path: str, **options: object) -> AsyncIterator[aiohttp.ClientResponse]:
        async with self.session.post(self.base + path, **options) as response:  # type: ignore[arg-type]
            yield response

    async def text(self, path: str) -> str:
        async with self.get(path) as response:
            return await response.text()

    async def form(self, path: str) -> str:
        """The hidden field of the form on this page."""
        return form_of(await self.text(path))

    async def press(self, path: str, headers: dict[str, str] | None = None) -> tuple[int, str]:
        """Open the sign-in page and press its button. Returns: status and text of the answer."""
        data = {"form": await self.form(path)}
        async with self.post(path, data=data, headers=headers or {"Origin": "null"}) as response:
            return response.status, await response.text()

    async def as_administrator(self) -> None:
        async with self.get(f"/admin/{TOKEN}") as response:
            assert response.status == 200
            assert response.url.path == "/"


@asynccontextmanager
async def serving(
    control: FakeControl,
    clock: HandClock | None = None,
    language: str = "auto",
    keep_alive: float = KEEP_ALIVE,
    visitors: Visitors | None = None,
    attendants: Attendants | None = None,
    hosts: frozenset[str] = frozenset(),
    metrics: Callable[[], Awaitable[str]] = no_numbers,
) -> AsyncIterator[Browser]:
    sock = socket.create_server(("127.0.0.1", 0))
    port = sock.getsockname()[1]
    console = Console(
        control,
        admin_token=Secret(TOKEN),
        places=console_cap(),
        hosts=hosts or Served(port, Secret(TOKEN)).hosts,
        clock=clock,
        keep_alive=keep_alive,
        language=lambda: language,
        visitors=visitors,
        attendants=attendants,
        metrics=metrics,
    )
    async with console.serving([sock]), browsing(port) as browser:
        yield browser


@asynccontextmanager
async def browsing(port: int) -> AsyncIterator[Browser]:
    """Another browser, with cookies of its own."""
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
        yield Browser(session, port)


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def control(clock: HandClock) -> FakeControl:
    return FakeControl("alice@example.com", "bob@example.com", clock=clock)


@pytest.fixture
async def browser(control: FakeControl, clock: HandClock) -> AsyncIterator[Browser]:
    async with serving(control, clock) as browser:
        yield browser
