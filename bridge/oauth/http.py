"""HTTPS to one provider, for us and the OAuth libraries: proxy, CA bundle, time limits.

The libraries that we use for OAuth all use requests. Their requests go through our transport, which is imported with
the first request, in that request's thread: a bridge whose tokens are fresh does without it.
"""

from __future__ import annotations

import errno
import json
import os
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from bridge.advice.said import said
from bridge.errors import ProviderNotAsked, ProviderUnavailable
from bridge.oauth.limits import Limits
from bridge.shortage import lacking
from bridge.threads import NotBegun, NotDone, Threads
from bridge.trust import Stamp, client_context, stamp, unusable

if TYPE_CHECKING:
    import requests

    from bridge.oauth.transport import Transport

T = TypeVar("T")


AT_ONCE = 32
"""Calls to one provider at the same time. After a restart in the night, all tokens may have expired when an office's
mail programs come back at once: with eight calls, and a second for an answer, 190 of 290 were told "later" although the
provider was well. A provider that hangs holds no more threads than this, some 7 MiB. Each provider has its own threads,
so that none starves another."""
LOOK_SECONDS = 10.0
"""For a look at the CA file. If it took longer, nothing is sent: the caller may have given up and sent the same refresh
token again, and a server that rotates them would take the second use for a thief's."""
WAIT_SECONDS = 1.0
"""How long a request waits for another one's look at the CA file, when it has a transport to go on with."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer that has arrived as a whole; also all that msal needs of an HTTP response."""

    status_code: int
    text: str
    headers: Mapping[str, str]

    @property
    def is_good(self) -> bool:
        """True if the request has succeeded. OAuth's RFCs say 200, but some frameworks answer any POST with 201, or
        with 204 if there is no content; and a new refresh token in such an answer must not be lost, as it is the only
        one."""
        return 200 <= self.status_code < 300

    def json(self) -> dict[str, Any]:
        """The JSON object in the body; see json_object()."""
        return json_object(self.text)


def json_object(text: str) -> dict[str, Any]:
    """Read an answer that must be a JSON object.

    Raises: ProviderUnavailable for all else: a captive portal, the page of a wrong URL, an answer cut short. The text
    is not quoted, because a token may be in it.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):  # RecursionError: deeply nested brackets
        value = None
    if not isinstance(value, dict):
        raise not_the_provider()
    return value


def not_the_provider() -> ProviderUnavailable:
    """The error to raise for an answer that is not the provider's."""
    return ProviderUnavailable(
        said("The answer is not from the provider: a proxy or a captive portal is in between, or a URL is wrong.")
    )


class Https:
    """Requests to one provider, in its own threads, through its own proxy and with its own trusted CAs."""

    def __init__(
        self, name: str, *, ca_file: str | None = None, proxy: str | None = None, limits: Limits | None = None
    ) -> None:
        self._ca_file = ca_file
        self._proxy = proxy
        self._limits = limits or Limits()
        self._threads = Threads(name, limit=self._limits.call, wait=self._limits.overall, at_once=AT_ONCE)
        self._looking = threading.Lock()
        """Held by the thread that looks at the CA file."""
        self._lock = threading.Lock()
        self._transport: Transport | None = None
        self._stamp: Stamp = None
        """Stamp of the CA file that the transport was made with."""

    async def run(self, work: Callable[[], T]) -> T:
        """Call a blocking function in a thread, for as long as the limits allow; see Threads.run().

        Raises: ProviderUnavailable if it does not return in time; ProviderNotAsked if it was not called, or if a
        library cannot be loaded that it wants: that happens before any request, whose own errors Transport maps.
        """
        try:
            return await self._threads.run(work)
        except (OSError, ImportError) as problem:
            if (reason := lacking(problem)) is None:
                raise
            raise ProviderNotAsked(reason) from problem
        except NotBegun as problem:
            raise ProviderNotAsked(problem.said) from problem
        except NotDone as problem:
            raise ProviderUnavailable(problem.said) from problem

    def equip(self, session: requests.Session) -> None:
        """Make a session (ours or a library's) use our transport, and no settings from the environment by itself.

        Raises: ProviderUnavailable if ca_file cannot be used; ProviderNotAsked if it does not answer.
        """
        self._ready().equip(session)

    def get(
        self, url: str, *, params: Any = None, headers: Mapping[str, str] | None = None, follows: bool = True
    ) -> Reply:
        """Blocking GET. Args: follows, whether to follow redirects to the same origin. Raises: ProviderUnavailable."""
        return self._request("GET", url, params=params, headers=headers, allow_redirects=follows)

    def post(
        self, url: str, *, data: Any = None, params: Any = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """Blocking POST of a form. Raises: ProviderUnavailable."""
        return self._request("POST", url, data=data, params=params, headers=headers)

    def close(self) -> None:
        """Release the connections; threads that still wait for an answer end by themselves."""
        self._replace(None)

    def _request(self, method: str, url: str, **arguments: Any) -> Reply:
        answer = self._ready().request(method, url, **arguments)
        return Reply(answer.status_code, answer.text, answer.headers)

    def _ready(self) -> Transport:
        kept, began = self._transport, time.monotonic()
        # On a network drive whose server is gone a look takes minutes: only the request that began it waits so long.
        if self._looking.acquire(timeout=LOOK_SECONDS if kept is None else WAIT_SECONDS):
            try:
                kept = self._looked_at()
            finally:
                self._looking.release()
        if kept is None or time.monotonic() - began > LOOK_SECONDS:
            late = TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
            raise ProviderNotAsked(diagnosis=unusable(self._ca_file, late))
        return kept

    def _looked_at(self) -> Transport:
        """A transport that trusts what is in the CA file now. A half-written file is read again at the next request."""
        from bridge.oauth.transport import Transport  # late: requests and urllib3 are a tenth of start and memory

        kept, now = self._transport, stamp(self._ca_file)
        if kept is not None and now in (self._stamp, None):
            return kept
        try:  # reading the system's certificates takes tens of milliseconds, so it is done late, and only once
            made = Transport(trust(self._ca_file), self._proxy, self._limits)
        except ProviderUnavailable:
            if kept is None:
                raise
            return kept
        self._stamp = now
        self._replace(made)
        return made

    def _replace(self, transport: Transport | None) -> None:
        with self._lock:
            before, self._transport = self._transport, transport
        if before is not None:
            before.close()  # closes idle connections; requests under way keep theirs


def trust(ca_file: str | None) -> ssl.SSLContext:
    """See bridge.trust. Raises: ProviderUnavailable if the file cannot be used."""
    try:
        return client_context(ca_file)
    except OSError as problem:
        raise ProviderUnavailable(diagnosis=unusable(ca_file, problem)) from problem
