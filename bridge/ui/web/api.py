"""JSON for control.remote: the control contract under /api/, for holders of the admin token."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web

from bridge.control import wire
from bridge.control.contract import Control, SignInStarted
from bridge.errors import AuthorizationFailed, BridgeError, LoginRefused
from bridge.observe.logs import trouble
from bridge.secret import Secret
from bridge.ui.web import guards

Body = Mapping[str, Any]
Method = Callable[[Body], Awaitable[dict[str, Any]]]

NONCE = re.compile(r"[0-9a-f]{64}")
PIECES = 50
"""Pieces of a status that are written in one turn of the loop, which takes a millisecond; all of thousands of accounts
would take a tenth of a second."""
WAITING = 256
"""Lines kept for one slow reader; beyond them the bus keeps as many, and drops the oldest."""


class Api:
    """All methods of Control. Secrets travel in bodies, never in a URL."""

    def __init__(
        self,
        control: Control,
        token: Secret[str],
        hosts: frozenset[str],
        *,
        remember: Callable[[SignInStarted], None],
        issue_ticket: Callable[[str], Secret[str]],
        keep_alive: float,
    ) -> None:
        """`remember` is told of each sign-in that begins here; `keep_alive` as in Console."""
        self._control = control
        self._token = token
        self._hosts = hosts
        self._remember = remember
        self._issue_ticket = issue_ticket
        self._keep_alive = keep_alive
        self._closing = asyncio.Event()

    def routes(self) -> list[web.RouteDef]:
        """For the application's router."""
        methods: dict[str, Method] = {
            "begin": self._begin,
            "complete": self._complete,
            "cancel": self._cancel,
            "forget": self._forget,
            "adopt": self._adopt,
            "check": self._check,
            "diagnose": self._diagnose,
            "local-password": self._local_password,
            "local-password/rotate": self._rotate_local_password,
            "local-password/set": self._set_local_password,
        }
        return [
            web.get("/api/hello", self._hello, allow_head=False),
            web.get("/api/status", self._guarded(self._status), allow_head=False),
            web.get("/api/notices", self._guarded(self._notices), allow_head=False),
            web.post("/api/console-ticket", self._guarded(self._console_ticket)),
            *(web.post(f"/api/{name}", self._guarded(self._with_body(method))) for name, method in methods.items()),
        ]

    def close(self) -> None:
        """End the streams of notices, so that the server can stop."""
        self._closing.set()

    # --- around each method -------------------------------------------------------------------------------------

    def _guarded(self, handler: guards.Handler) -> guards.Handler:
        async def guarded(request: web.Request) -> web.StreamResponse:
            # No program of ours sends an Origin; a browser does, and no page has any business here.
            if guards.is_foreign(request, self._hosts) or request.headers.get("Origin") == "null":
                return _answer({"error": "Forbidden", "text": "Not for pages of other sites.", "fields": {}}, 403)
            scheme, _, value = request.headers.get("Authorization", "").partition(" ")
            if scheme.lower() != "bearer" or not self._token or not self._token.matches(Secret(value.strip())):
                refusal = _answer({"error": "Unauthorized", "text": "The admin token is needed.", "fields": {}}, 401)
                refusal.headers["WWW-Authenticate"] = "Bearer"
                return refusal
            try:
                return await handler(request)
            except _Unsuitable as problem:
                return _answer(wire.encode_error(ValueError(str(problem))), 400)
            except BridgeError as problem:
                return _answer(wire.encode_error(problem), _status_code(problem))

        return guarded

    def _with_body(self, method: Method) -> guards.Handler:
        async def handler(request: web.Request) -> web.StreamResponse:
            if request.content_type != "application/json":  # which a form of another site cannot send
                raise wire.WireError("no application/json")
            try:
                async with asyncio.timeout(guards.BODY_SECONDS):
                    content = await request.read()
            except TimeoutError:
                raise wire.WireError("the body did not arrive") from None
            return _answer(await method(wire.loads(content)))

        return handler

    # --- methods ------------------------------------------------------------------------------------------------

    async def _hello(self, request: web.Request) -> web.StreamResponse:
        """Prove that we know the token, to a caller who has not shown it yet (see RemoteControl.hello)."""
        nonce = request.query.get("nonce", "")
        if guards.is_foreign(request, self._hosts) or not NONCE.fullmatch(nonce):
            return _answer({"error": "Forbidden", "text": "A nonce is needed.", "fields": {}}, 403)
        return _answer({"proof": wire.proof(self._token, nonce)})

    async def _status(self, request: web.Request) -> web.StreamResponse:
        text = []
        for number, piece in enumerate(wire.dumped(await self._control.status())):
            if number % PIECES == 0:
                await request[guards.TURNS].mine()
            text.append(piece)
        return web.Response(text="".join(text), content_type="application/json")

    async def _begin(self, body: Body) -> dict[str, Any]:
        address, asker = wire.take_text(body, "address"), wire.take_text(body, "asker")
        started = await self._control.begin_authorization(address, asker)
        self._remember(started)
        return dict(wire.encode(started))

    async def _complete(self, body: Body) -> dict[str, Any]:
        return {"address": await self._control.complete_authorization(wire.take_texts(body, "parameters"))}

    async def _cancel(self, body: Body) -> dict[str, Any]:
        await self._control.cancel_authorization(wire.take_text(body, "address"))
        return {}

    async def _forget(self, body: Body) -> dict[str, Any]:
        return dict(wire.encode(await self._control.forget(wire.take_text(body, "address"))))

    async def _adopt(self, body: Body) -> dict[str, Any]:
        refresh_token = Secret(wire.take_text(body, "refresh_token"))
        return dict(wire.encode(await self._control.adopt(wire.take_text(body, "address"), refresh_token)))

    async def _check(self, body: Body) -> dict[str, Any]:
        return dict(wire.encode(await self._control.check_account(wire.take_text(body, "address"))))

    async def _diagnose(self, body: Body) -> dict[str, Any]:
        return wire.encode_findings(await self._control.diagnose())

    async def _local_password(self, body: Body) -> dict[str, Any]:
        return {"password": (await self._control.local_password(wire.take_text(body, "address"))).reveal()}

    async def _rotate_local_password(self, body: Body) -> dict[str, Any]:
        address, at_once = wire.take_text(body, "address"), wire.take_switch(body, "at_once")
        return {"password": (await self._control.rotate_local_password(address, at_once=at_once)).reveal()}

    async def _set_local_password(self, body: Body) -> dict[str, Any]:
        address, password = wire.take_text(body, "address"), Secret(wire.take_text(body, "password"))
        try:
            await self._control.set_local_password(address, password, at_once=wire.take_switch(body, "at_once"))
        except ValueError as problem:
            raise _Unsuitable(str(problem)) from problem
        return {}

    async def _console_ticket(self, request: web.Request) -> web.StreamResponse:
        """A ticket for a browser of the caller, or of the user whom the caller names: a command run as a service's user
        is seldom for that user's browser."""

        async def issued(body: Body) -> dict[str, Any]:
            user = (wire.take_text(body, "user") if body else "") or guards.user_of(request)
            return {"ticket": self._issue_ticket(user).reveal()}

        return await self._with_body(issued)(request)

    # --- notices ------------------------------------------------------------------------------------------------

    async def _notices(self, request: web.Request) -> web.StreamResponse:
        """One JSON object on each line, an empty line after each silence; ends when the bridge stops."""
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        lines: asyncio.Queue[str | None] = asyncio.Queue(WAITING)
        try:
            async with asyncio.TaskGroup() as group:
                # Before the head of the answer goes out: a reader who has seen it misses nothing from then on.
                sources = [group.create_task(self._follow(lines)), group.create_task(self._end(lines))]
                await response.prepare(request)
                await response.write(b"\n")  # the head waits for a first byte
                while (line := await self._next(lines)) is not None:
                    await response.write(line.encode())
                for source in sources:
                    source.cancel()
        except* ConnectionError:
            pass  # the reader has gone
        except* BridgeError as group_of:
            trouble("console.notices_ended", reason=str(group_of.exceptions[0]))
        return response

    async def _follow(self, lines: asyncio.Queue[str | None]) -> None:
        async with contextlib.aclosing(self._control.notices()) as notices:
            async for notice in notices:
                await lines.put(wire.encode_notice(notice))
            await lines.put(None)

    async def _end(self, lines: asyncio.Queue[str | None]) -> None:
        await self._closing.wait()
        await lines.put(None)

    async def _next(self, lines: asyncio.Queue[str | None]) -> str | None:
        try:
            async with asyncio.timeout(self._keep_alive):
                return await lines.get()
        except TimeoutError:
            return "\n"


class _Unsuitable(BridgeError):
    """Carries the text of set_local_password()'s ValueError to the place where errors become answers."""


def _answer(content: Mapping[str, Any], status: int = 200) -> web.Response:
    return web.Response(status=status, text=wire.dumps(content), content_type="application/json")


def _status_code(problem: BridgeError) -> int:
    if isinstance(problem, LoginRefused):
        return 404
    if isinstance(problem, wire.WireError):
        return 400
    if isinstance(problem, AuthorizationFailed):
        return 409
    return 503 if problem.temporary else 500
