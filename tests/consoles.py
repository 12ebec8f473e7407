"""The console for tests that need little of it: no mail program has asked for anything, and no user is known."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from bridge.advice.said import Said, as_said
from bridge.control.contract import Attendants, InProcess, Visitors
from bridge.model import Ends, SignInPrompt, WaitingProgram
from bridge.ui.web import server
from bridge.ui.web.console_sockets import ConsoleSockets


class Nobody:
    """Visitors: there are none."""

    async def waiting_programs(self, address: str, browser: Ends | None) -> tuple[WaitingProgram, ...]:
        return ()

    async def keep(self, address: str, key: str) -> None:
        pass

    async def why_none(self, address: str) -> Said:
        return as_said("")


async def nobody_knows(ends: Ends | None) -> str:
    return ""


async def no_numbers() -> str:
    return ""


class NoUser:
    """Attendants of a system that does not tell whose a connection is."""

    async def user_of(self, ends: Ends | None) -> str:
        return ""

    def change_of(self, user_id: str) -> asyncio.Event:
        return asyncio.Event()

    async def prompts(self, user_id: str) -> tuple[SignInPrompt, ...]:
        return ()


class Console(server.Console):
    def __init__(
        self,
        control: InProcess,
        *,
        language: Callable[[], str] = lambda: "auto",
        visitors: Visitors | None = None,
        attendants: Attendants | None = None,
        metrics: Callable[[], Awaitable[str]] = no_numbers,
        **more: Any,
    ) -> None:
        super().__init__(
            control,
            language=language,
            visitors=visitors or Nobody(),
            attendants=attendants or NoUser(),
            metrics=metrics,
            **more,
        )

    @asynccontextmanager
    async def serving(self, sockets: ConsoleSockets | Sequence[socket.socket]) -> AsyncIterator[None]:
        async with super().serving(sockets if isinstance(sockets, ConsoleSockets) else ConsoleSockets(sockets)):
            yield
