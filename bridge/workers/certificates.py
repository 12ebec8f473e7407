"""A worker's certificates: those of the ports whose mail clients it has had, read beside its sessions."""

from __future__ import annotations

from functools import partial

from bridge.observe.logs import trouble
from bridge.relay.tls import ListenerCertificate
from bridge.threads import NotDone, Threads
from bridge.workers.wire import Port

READ_SECONDS = 10.0
"""For the files of one, which wait for those of another."""


class Certificates:
    """In a thread: on a network drive whose server is gone that takes minutes, and nobody's session may stand still."""

    def __init__(self) -> None:
        self._files = Threads("certificates", at_once=1, limit=READ_SECONDS)
        self._of_port: dict[int, ListenerCertificate] = {}

    async def of(self, port: Port) -> ListenerCertificate:
        """The port's, which has TLS. Raises: ConfigError for files that cannot be used; NotDone."""
        found = self._of_port.get(port.number)
        if found is None:
            read = await self._files.run(partial(ListenerCertificate, port.certificate, port.key))
            return self._of_port.setdefault(port.number, read)
        if found.is_unread:
            await self._files.run(found.look)  # the bridge says once that it is another one
        return found

    async def look(self) -> None:
        """The bridge has found that some are others now. What does not answer in time is taken up when it does."""
        held = list(self._of_port.values())
        try:
            await self._files.run(lambda: [certificate.look() for certificate in held])
        except NotDone as problem:
            trouble("certificate.unusable", reason=f"{problem}; the old one stays in use")

    def forget(self, number: int) -> None:
        """The port with this number is closed, and its last session over."""
        self._of_port.pop(number, None)
