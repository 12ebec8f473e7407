"""The certificate authorities trusted for mail servers: a CA file's, or this machine's; read again when changed."""

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
"""Between two looks at a file: a look takes a thread, which for each login would be a twentieth of the login's cost."""
FIRST_SECONDS = 10.0
"""For the first reading, without which no login is possible."""
WAIT_SECONDS = 1.0
"""For a later look, when the authorities of before can be used meanwhile."""
REST_SECONDS = 30.0
"""Pause after a look that was not answered, because the logins of that second had to wait for it."""
SESSION_SECONDS, LONGEST_SESSION_SECONDS = 60.0, 24 * 3600.0
"""Between two readings of a connection's TLS session, for each server. Each reading leaks 7 KiB in Python 3.11, and in
3.12 and 3.13 before 3.12.8 and 3.13.1 (CPython issue 116810): with one for each login, a gigabyte in a busy day. For a
server that resumes hardly any session, such as many machines behind one name that do not share their keys, one reading
a minute would still leak 10 MB a day, so the interval doubles each time."""

OLD_ONES = "the old ones stay in use"


@dataclass(slots=True)
class _Kept:
    """A session to resume, and how often that has worked so far."""

    session: ssl.SSLSession
    taken: float
    seconds: float
    """How long to keep this session before another one may be read."""
    resumed: int = 0
    refused: int = 0

    def seconds_of_next(self) -> float:
        """How long to keep the session that takes this one's place."""
        return SESSION_SECONDS if self.resumed >= self.refused else min(2 * self.seconds, LONGEST_SESSION_SECONDS)


class Authorities:
    """The authorities of one CA file, and the TLS sessions made with them: a session can be resumed only in its
    context.

    The file is read in a thread: on a network drive whose server is gone that takes minutes, and other sessions must
    not stand still meanwhile.
    """

    def __init__(self, file: str | None, now: Callable[[], float]) -> None:
        """`file`: None for this machine's."""
        self._file = file
        self._now = now
        self._context: ssl.SSLContext | None = None
        self._stamp: Stamp = None
        self._is_unread = False
        """True if the file has changed and could not be read since; see ListenerCertificate."""
        self._next_look = -math.inf
        self._unanswered = -math.inf
        """When a first reading was last given up."""
        self._looks = Threads("authorities", at_once=1)
        self._first: tuple[Stamp, ssl.SSLContext] | None = None
        """What the first reading found: its login may have given up before, and the next one need not read again."""
        self._turn = asyncio.Lock()
        self._sessions: dict[tuple[str, int], _Kept] = {}

    async def context(self) -> ssl.SSLContext:
        """TLS 1.2 or better; certificate and name are always verified. Raises: UpstreamUnavailable for a bad CA file.

        A file that has changed, even this machine's own, is read again; if it cannot be used or does not answer, the
        authorities of before stay trusted.
        """
        if (asked := self._now()) >= self._next_look:
            async with self._turn:
                if self._unanswered > asked:  # waiting one after the other, logins would blame their mail server
                    raise self._unusable(_no_answer())
                if self._now() >= self._next_look:  # otherwise another login has looked meanwhile
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
        """In a thread. Returns: the file's stamp now, and its content if it has to be read."""
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
        if not (is_told and self._is_unread):  # that a file can be read at last, but is no good, is news, too
            trouble("authorities.unusable", ca_file=self._file, reason=f"{problem}; {OLD_ONES}")

    def _unusable(self, problem: OSError) -> UpstreamUnavailable:
        return UpstreamUnavailable(diagnosis=unusable(self._file, problem))

    def session(self, host: str, port: int) -> ssl.SSLSession | None:
        """The last session with this server: resuming it halves the CPU of a login."""
        kept = self._sessions.get((host, port))
        return kept.session if kept is not None else None

    def keep_session(self, host: str, port: int, tls: ssl.SSLSocket | ssl.SSLObject) -> None:
        """See UpstreamContexts."""
        if tls.context is not self._context:
            return  # this session was made with authorities that have been replaced
        now, seconds, kept = self._now(), SESSION_SECONDS, self._sessions.get((host, port))
        if kept is not None and tls.session_reused:
            kept.resumed += 1  # the session that we keep is still good
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
    """The authorities of each CA file of the configuration. They are kept apart, so that a session made under one CA
    file is never resumed for an endpoint with another."""

    def __init__(self, *, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._of_file: dict[str | None, Authorities] = {}

    def _of(self, endpoint: Endpoint) -> Authorities:
        file = endpoint.ca_file
        if file not in self._of_file:
            self._of_file[file] = Authorities(file, self._now)
        return self._of_file[file]

    async def context(self, endpoint: Endpoint) -> ssl.SSLContext:
        """The context for a connection to it. Raises: UpstreamUnavailable for a CA file that cannot be used."""
        return await self._of(endpoint).context()

    def session(self, endpoint: Endpoint) -> ssl.SSLSession | None:
        """The session to resume, if there is one."""
        return self._of(endpoint).session(endpoint.host, endpoint.port)

    def keep_session(self, endpoint: Endpoint, tls: ssl.SSLSocket | ssl.SSLObject | None) -> None:
        """Call after the first bytes have arrived: TLS 1.3 tickets come after the handshake."""
        if tls is not None:
            self._of(endpoint).keep_session(endpoint.host, endpoint.port, tls)
