"""Whom we believe to be a mail server: the authorities of a CA file, or this machine's, as of the last look at them."""

from __future__ import annotations

import asyncio
import errno
import math
import os
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass

from bridge.errors import UpstreamUnavailable
from bridge.model import Endpoint
from bridge.observe.logs import event, trouble
from bridge.threads import NoThread, Threads
from bridge.trust import Stamp, client_context, stamp, unusable

LOOK_SECONDS = 1.0
"""From one look at a file to the next: it takes a thread, which would be a twentieth of each login's cost."""
FIRST_SECONDS = 10.0
"""For the first reading, without which there is no login."""
WAIT_SECONDS = 1.0
"""For a look, while there is something to go by."""
REST_SECONDS = 30.0
"""After a look that was not answered, which the logins of that second have waited for."""
SESSION_SECONDS, LONGEST_SESSION_SECONDS = 60.0, 24 * 3600.0
"""From one look at a connection's session to the next, for each server. Each look loses 7 KiB in Python 3.11, and in
3.12 and 3.13 before 3.12.8 and 3.13.1 (CPython issue 116810): with one for each login, a gigabyte in a busy day. Of a
server that resumes hardly any, as where many machines behind one name do not share their keys, one each minute would
still be 10 MB a day: twice as long each time."""

OLD_ONES = "the old ones stay in use"


@dataclass(slots=True)
class _Kept:
    """A session to be resumed, and what has come of that so far."""

    session: ssl.SSLSession
    taken: float
    seconds: float
    """Until another one may be taken."""
    resumed: int = 0
    refused: int = 0

    def seconds_of_next(self) -> float:
        """Until another one may be taken after that which takes its place."""
        return SESSION_SECONDS if self.resumed >= self.refused else min(2 * self.seconds, LONGEST_SESSION_SECONDS)


class Authorities:
    """Those of one CA file, and the TLS sessions that they have vouched for: a session is good in its context alone.

    The file is asked for in a thread: on a network drive whose server is gone that takes minutes, and nobody's session
    may stand still for it.
    """

    def __init__(self, file: str | None, now: Callable[[], float]) -> None:
        """`file`: None for this machine's."""
        self._file = file
        self._now = now
        self._context: ssl.SSLContext | None = None
        self._stamp: Stamp = None
        self._is_unread = False
        """The file has changed, and could not be read since; see ListenerCertificate."""
        self._next_look = -math.inf
        self._unanswered = -math.inf
        """When the last first reading was given up."""
        self._looks = Threads("authorities", at_once=1)
        self._first: tuple[Stamp, ssl.SSLContext] | None = None
        """What the first reading has found: its login may not have waited for it, and the next one would begin anew."""
        self._turn = asyncio.Lock()
        self._sessions: dict[tuple[str, int], _Kept] = {}

    async def context(self) -> ssl.SSLContext:
        """TLS 1.2 or better, certificate and name verified: always. Raises: UpstreamUnavailable for a bad CA file.

        A file that has changed, this machine's too, is read anew; if it cannot be used, or does not answer, the
        authorities of before are believed on.
        """
        if (asked := self._now()) >= self._next_look:
            async with self._turn:
                if self._unanswered > asked:  # one after the other would wait until its mail server is blamed for it
                    raise self._unusable(_no_answer())
                if self._now() >= self._next_look:  # else somebody has looked meanwhile
                    await self._look()
        assert self._context is not None  # noqa: S101  a first look that has found nothing raises
        return self._context

    async def _look(self) -> None:
        seconds = FIRST_SECONDS if self._context is None else WAIT_SECONDS
        try:
            async with asyncio.timeout(seconds):
                now, found = await self._looks.run(self._read)
        except (TimeoutError, NoThread) as problem:
            shortage = str(problem.__cause__) if isinstance(problem, NoThread) else ""
            if self._context is None:
                self._unanswered = self._now()
                why = OSError(errno.EAGAIN, shortage) if shortage else _no_answer()
                raise self._unusable(why) from problem
            self._next_look = self._now() + REST_SECONDS
            reason = shortage or f"no answer within {seconds:g} s"
            trouble("authorities.unusable", ca_file=self._file, reason=f"{reason}; {OLD_ONES}")
            return
        if isinstance(found, OSError):
            self._keep(now, found)
        elif found is not None:
            self._take(now, found)
        self._next_look = self._now() + LOOK_SECONDS

    def _read(self) -> tuple[Stamp, ssl.SSLContext | OSError | None]:
        """In a thread. Returns: what the file is now, and what is in it if that is to be known."""
        now = stamp(self._file)
        if self._context is not None and not self._is_to_be_read(now):
            return now, None
        if self._context is None and self._first is not None and self._first[0] == now:
            return self._first
        try:
            found = now, client_context(self._file)
        except OSError as problem:  # SSLError is a subclass
            return now, problem
        if self._context is None:
            self._first = found
        return found

    def _is_to_be_read(self, now: Stamp) -> bool:
        if self._file is None and now is None:
            return False  # the system's own file is away just now: keep what was read
        return now != self._stamp or self._is_unread

    def _take(self, now: Stamp, context: ssl.SSLContext) -> None:
        is_first = self._context is None
        self._context, self._stamp, self._is_unread, self._first = context, now, False, None
        self._sessions.clear()
        if not is_first:
            event("authorities.renewed", ca_file=self._file)

    def _keep(self, now: Stamp, problem: OSError) -> None:
        """Raises: UpstreamUnavailable if there is nothing to keep."""
        if self._context is None:
            raise self._unusable(problem) from problem
        is_told, self._stamp = self._stamp == now, now
        self._is_unread = not isinstance(problem, ssl.SSLError)
        if not (is_told and self._is_unread):  # readable at last, and no good: that is new
            trouble("authorities.unusable", ca_file=self._file, reason=f"{problem}; {OLD_ONES}")

    def _unusable(self, problem: OSError) -> UpstreamUnavailable:
        found = unusable(self._file, problem)
        return UpstreamUnavailable(found.told(), diagnosis=found)

    def session(self, host: str, port: int) -> ssl.SSLSession | None:
        """The last session with this server: resuming it halves the CPU of a login."""
        kept = self._sessions.get((host, port))
        return kept.session if kept is not None else None

    def keep_session(self, host: str, port: int, tls: ssl.SSLSocket | ssl.SSLObject) -> None:
        """See UpstreamContexts."""
        if tls.context is not self._context:
            return  # a session under authorities that have been replaced
        now, seconds, kept = self._now(), SESSION_SECONDS, self._sessions.get((host, port))
        if kept is not None and tls.session_reused:
            kept.resumed += 1  # what we have is still good
            return
        if kept is not None:
            kept.refused += 1
            if now - kept.taken < kept.seconds:
                return
            seconds = kept.seconds_of_next()
        if (session := tls.session) is not None:
            self._sessions[host, port] = _Kept(session, now, seconds)


def _no_answer() -> OSError:
    return TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))


class UpstreamContexts:
    """The authorities of each CA file of the configuration. A session must not stand in for another CA's trust."""

    def __init__(self, *, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._of_file: dict[str | None, Authorities] = {}

    def _of(self, endpoint: Endpoint) -> Authorities:
        file = endpoint.ca_file
        if file not in self._of_file:
            self._of_file[file] = Authorities(file, self._now)
        return self._of_file[file]

    async def context(self, endpoint: Endpoint) -> ssl.SSLContext:
        """What a connection to it is made with. Raises: UpstreamUnavailable for a CA file that cannot be used."""
        return await self._of(endpoint).context()

    def session(self, endpoint: Endpoint) -> ssl.SSLSession | None:
        """One to resume."""
        return self._of(endpoint).session(endpoint.host, endpoint.port)

    def keep_session(self, endpoint: Endpoint, tls: ssl.SSLSocket | ssl.SSLObject | None) -> None:
        """Call after the first bytes have arrived: TLS 1.3 tickets come behind the handshake."""
        if tls is not None:
            self._of(endpoint).keep_session(endpoint.host, endpoint.port, tls)
