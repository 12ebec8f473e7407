"""Typed notices (AuthorizationNeeded, Authorized, RefreshFailed, ListenerUp…) and their bus."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bridge.advice.diagnosis import Diagnosis

QUEUE_LIMIT = 256
"""Notices kept for one slow subscriber; beyond that the oldest is dropped, because a UI can always ask for the
status."""


@dataclass(frozen=True, slots=True)
class AuthorizationNeeded:
    """A person must sign in for this account at this local URL."""

    address: str
    url: str
    reason: str
    """English; `diagnosis` can be told in any language."""
    diagnosis: Diagnosis | None = None


@dataclass(frozen=True, slots=True)
class Authorized:
    """A sign-in was completed, checked and saved."""

    address: str
    subject: str


@dataclass(frozen=True, slots=True)
class ServersChecked:
    """After a sign-in, or on request, every mail server was tried; `failed` names the protocols that do not open."""

    address: str
    failed: str


@dataclass(frozen=True, slots=True)
class MailServerAnswered:
    """A mail server has begun to let an account's mail programs in, or to keep them out, or gives another reason."""

    address: str
    protocol: str
    reason: str
    """English; empty if they get in."""
    temporary: bool = False
    """True if they may get in again without anybody doing anything."""
    diagnosis: Diagnosis | None = None
    """The reason, to be told in any language."""


@dataclass(frozen=True, slots=True)
class AuthorizationEnded:
    """A sign-in ended without a grant. `code` as in errors.AuthorizationFailed, or `bug`; or `unsaved` if there is a
    grant, but the store could not save it yet."""

    address: str
    code: str
    reason: str
    diagnosis: Diagnosis | None = None
    attempt: str = ""
    """As in SignInStarted; other sign-ins for this account may go on."""


@dataclass(frozen=True, slots=True)
class Refreshed:
    """The account has a new access token."""

    address: str
    expires_at: float


@dataclass(frozen=True, slots=True)
class RefreshFailed:
    """A refresh has failed. If that is temporary, it is tried again; otherwise a person or an administrator must
    act."""

    address: str
    reason: str
    temporary: bool
    diagnosis: Diagnosis | None = None


@dataclass(frozen=True, slots=True)
class Forgotten:
    """The account's grant was removed on request."""

    address: str


@dataclass(frozen=True, slots=True)
class PasswordReplaced:
    """The account has another local password; the old one may work on."""

    address: str


@dataclass(frozen=True, slots=True)
class SecretExpiring:
    """A provider's client secret expires soon, or has expired; the administrator must act."""

    provider: str
    day: str
    """Its last day, ISO 8601."""
    days: int
    """Days until then; negative once it is over."""


@dataclass(frozen=True, slots=True)
class ListenerUp:
    """A port is open."""

    protocol: str
    address: str


@dataclass(frozen=True, slots=True)
class Reloaded:
    """A changed configuration is in force."""

    summary: str


Notice = (
    AuthorizationNeeded
    | Authorized
    | ServersChecked
    | MailServerAnswered
    | AuthorizationEnded
    | Refreshed
    | RefreshFailed
    | Forgotten
    | PasswordReplaced
    | SecretExpiring
    | ListenerUp
    | Reloaded
)


class NoticeBus:
    """Publishes to callbacks (same loop, must not block) and to streams (queues)."""

    def __init__(self) -> None:
        self._queues: set[asyncio.Queue[Notice]] = set()
        self._callbacks: list[Callable[[Notice], None]] = []

    def publish(self, notice: Notice) -> None:
        """Hand the notice to all subscribers; never blocks."""
        for callback in list(self._callbacks):
            callback(notice)
        for queue in self._queues:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(notice)

    def on_notice(self, callback: Callable[[Notice], None]) -> None:
        """Call `callback` for each notice from now on."""
        self._callbacks.append(callback)

    @contextmanager
    def subscription(self) -> Iterator[asyncio.Queue[Notice]]:
        """A queue that receives every notice published while the context is open."""
        queue: asyncio.Queue[Notice] = asyncio.Queue(QUEUE_LIMIT)
        self._queues.add(queue)
        try:
            yield queue
        finally:
            self._queues.discard(queue)

    async def stream(self) -> AsyncGenerator[Notice, None]:
        """Every notice from the first `anext` on."""
        with self.subscription() as queue:
            while True:
                yield await queue.get()
