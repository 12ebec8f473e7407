"""The certificate of a worker's port: read beside the sessions, while only those who come by this port wait."""

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
"""For the first reading, without which nobody gets in by this port."""
WAIT_SECONDS = 1.0
"""Of a mail client, for another look, while there is something to go by."""


class PortCertificate:
    """One port's: read for its first mail client, and looked at again when the bridge says that some are others now.

    In a thread: on a network drive whose server is gone that takes minutes, and a worker that does not stir for so long
    is ended, with all its sessions.
    """

    def __init__(self, port: Port) -> None:
        self._files = port.certificate, port.key
        self._kept: ListenerCertificate | None = None
        self._looks = Threads("certificates", at_once=1, limit=READ_SECONDS)

    async def look(self) -> None:
        """It may be another one now. What does not answer in time is taken up when it does."""
        with suppress(NotDone):
            await self._looks.run(self._look)

    async def context(self) -> Callable[[], ssl.SSLContext]:
        """What gives the one of the moment. Raises: ConfigError for files that cannot be used, or do not answer."""
        if self._kept is None:
            try:
                await self._looks.run(self._read)
            except NoThread as problem:
                raise ConfigError([problem.said]) from problem
            except NotDone as problem:
                raise ConfigError([f"listeners: the certificate {self._files[0]} does not answer"]) from problem
        elif self._kept.is_unread:  # the bridge tells only once that the certificate has changed
            with suppress(TimeoutError):
                async with asyncio.timeout(WAIT_SECONDS):
                    await self.look()
        assert self._kept is not None  # noqa: S101  a first reading that has found nothing raises
        return self._kept.context

    def _read(self) -> None:
        """In a thread; others may have waited for the same."""
        if self._kept is None:
            self._kept = ListenerCertificate(*self._files)

    def _look(self) -> None:
        """In a thread; behind the first reading, which may have begun before there was another one."""
        if self._kept is not None:
            self._kept.look()
