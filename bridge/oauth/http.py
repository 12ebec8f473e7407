"""the one HTTPS session: proxy, CA bundle, time limits.

The libraries that we use for OAuth all speak through requests. Whatever they ask for goes through our transport, which
is imported with the first request, in that request's thread: a bridge whose tokens are fresh does without it.
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
from bridge.advice.system import too_little
from bridge.errors import ProviderNotAsked, ProviderUnavailable
from bridge.oauth.limits import Limits
from bridge.shortage import is_short
from bridge.threads import NotBegun, NotDone, Threads
from bridge.trust import Stamp, client_context, stamp, unusable

if TYPE_CHECKING:
    import requests

    from bridge.oauth.transport import Transport

T = TypeVar("T")


AT_ONCE = 32
"""Calls to one provider at the same time. All tokens may have ended when an office's mail programs come back at once,
behind a night's restart: with eight, and a second for an answer, 190 of 290 were told "later" though the provider was
well. A provider that hangs holds no more threads than this, some 7 MiB. Each has its own, so that none starves another.
"""
LOOK_SECONDS = 10.0
"""For a look at the CA file. After a longer one nothing goes out: whoever asked may have been told that nothing came of
it, and have sent the same refresh token again, which to a server that rotates them is a thief's."""
WAIT_SECONDS = 1.0
"""For another request's look at the CA file, while there is something to go by."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer that has arrived as a whole; also all that msal wants to see of one."""

    status_code: int
    text: str
    headers: Mapping[str, str]

    @property
    def is_good(self) -> bool:
        """True of what has succeeded: 200 in every RFC of OAuth, but whole frameworks say 201 of any POST, or 204 where
        there is nothing to say, and a new refresh token in such an answer is the only one that is left."""
        return 200 <= self.status_code < 300

    def json(self) -> dict[str, Any]:
        """The JSON object in the body; see json_object()."""
        return json_object(self.text)


def json_object(text: str) -> dict[str, Any]:
    """Read an answer that must be a JSON object.

    Raises: ProviderUnavailable for all else: a captive portal, the page of a wrong URL, an answer cut short. The text
    is not repeated, since a token may be in it.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):  # RecursionError: brackets in brackets in brackets
        value = None
    if not isinstance(value, dict):
        raise not_the_provider()
    return value


def not_the_provider() -> ProviderUnavailable:
    """What to raise for an answer that is none of the provider's."""
    return ProviderUnavailable(
        said("The answer is not from the provider: a proxy or a captive portal is in between, or a URL is wrong.")
    )


class Https:
    """Requests to one provider, in its own threads, through its own proxy and trust."""

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
        """Of the CA file that it was made with."""

    async def run(self, work: Callable[[], T]) -> T:
        """Call a blocking function in a thread, for as long as the limits allow; see Threads.run().

        Raises: ProviderUnavailable if it does not come back in time; ProviderNotAsked if it was not called, or found
        no descriptor for a library that is loaded only now: before the first request, whose troubles are Transport's.
        """
        try:
            return await self._threads.run(work)
        except (OSError, ImportError) as problem:
            if not is_short(problem):
                raise
            raise ProviderNotAsked(too_little(problem)) from problem
        except NotBegun as problem:
            raise ProviderNotAsked(problem.said) from problem
        except NotDone as problem:
            raise ProviderUnavailable(problem.said) from problem

    def equip(self, session: requests.Session) -> None:
        """Make a session (ours or a library's) use our transport and nothing of the environment by itself.

        Raises: ProviderUnavailable if ca_file cannot be used; ProviderNotAsked if it does not answer.
        """
        self._ready().equip(session)

    def get(
        self, url: str, *, params: Any = None, headers: Mapping[str, str] | None = None, follows: bool = True
    ) -> Reply:
        """Blocking GET. Args: follows, redirects to the same place. Raises: ProviderUnavailable."""
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
        # On a network drive whose server is gone a look takes minutes: whoever began it waits, and nobody else.
        if self._looking.acquire(timeout=LOOK_SECONDS if kept is None else WAIT_SECONDS):
            try:
                kept = self._looked_at()
            finally:
                self._looking.release()
        if kept is None or time.monotonic() - began > LOOK_SECONDS:
            found = unusable(self._ca_file, TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)))
            raise ProviderNotAsked(found.told(), diagnosis=found)
        return kept

    def _looked_at(self) -> Transport:
        """As the CA file is now. One that is half-written is looked at again with the next request."""
        from bridge.oauth.transport import Transport  # late: requests and urllib3 are a tenth of start and memory

        kept, now = self._transport, stamp(self._ca_file)
        if kept is not None and now in (self._stamp, None):
            return kept
        try:  # reading the system's certificates takes tens of milliseconds: late, and once
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
            before.close()  # idle connections; requests that are under way have theirs


def trust(ca_file: str | None) -> ssl.SSLContext:
    """See bridge.trust. Raises: ProviderUnavailable if the file cannot be used."""
    try:
        return client_context(ca_file)
    except (OSError, ssl.SSLError) as problem:
        found = unusable(ca_file, problem)
        raise ProviderUnavailable(found.told(), diagnosis=found) from problem
