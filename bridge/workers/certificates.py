"""The certificate of a worker's port: read in a thread, while only clients of this port wait."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from contextlib import suppress

from bridge.errors import ConfigError
from bridge.relay.tls import ListenerCertificate
from bridge.threads import NotDone, NoThread, Threads
from bridge.workers.wire import Port

READ_SECONDS = 10.0
"""For the first reading, without which no client can use this port."""
WAIT_SECONDS = 1.0
"""How long a mail client waits for another look, when there is a certificate to go on with."""


class PortCertificate:
    """One port's certificate: read for its first mail client, and again when the bridge says that some have changed.

    In a thread: on a network drive whose server is gone that takes minutes, and a worker that does not respond for so
    long is killed, with all its sessions.
    """

    def __init__(self, port: Port) -> None:
        self._files = port.certificate, port.key
        self._kept: ListenerCertificate | None = None
        self._looks = Threads("certificates", at_once=1, limit=READ_SECONDS)

    async def look(self) -> None:
        """Look whether the files have changed. If they do not answer in time, they are taken up when they do."""
        with suppress(NotDone):
            await self._looks.run(self._look)

    async def context(self) -> Callable[[], ssl.SSLContext]:
        """Returns what gives the current context. Raises: ConfigError for files that cannot be used or do not
        answer."""
        if self._kept is None:
            try:
                await self._looks.run(self._read)
            except NoThread as problem:
                raise ConfigError([problem.said]) from problem
            except NotDone as problem:
                raise ConfigError([f"listeners: the certificate {self._files[0]} does not answer"]) from problem
        elif self._kept.is_unread:  # try again here, because the bridge reports a changed certificate only once
            with suppress(TimeoutError):
                async with asyncio.timeout(WAIT_SECONDS):
                    await self.look()
        assert self._kept is not None  # noqa: S101  a first reading that has found nothing raises
        return self._kept.context

    def _read(self) -> None:
        """In a thread; another client's call may have read it meanwhile."""
        if self._kept is None:
            self._kept = ListenerCertificate(*self._files)

    def _look(self) -> None:
        """In a thread; after the first reading, which may have begun before the files changed."""
        if self._kept is not None:
            self._kept.look()
