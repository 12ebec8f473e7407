"""The transport of every request to a provider; other modules import requests only for its exceptions.

It always verifies certificates, always has time limits, bounds what it reads, follows no redirect to another origin,
keeps no cookies, and turns every network problem into ProviderUnavailable.
"""

from __future__ import annotations

import base64
import codecs
import errno
import http.client
import io
import logging
import math
import os
import socket
import ssl
import time
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.utils import get_auth_from_url, get_environ_proxies, select_proxy
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    LocationParseError,
    NameResolutionError,
    NewConnectionError,
)

from bridge.advice.said import Said, said
from bridge.config.values import is_loopback
from bridge.dialing import connected, look_up
from bridge.errors import ProviderNotAsked, ProviderRedirects, ProviderUnavailable
from bridge.oauth.limits import Limits
from bridge.oauth.retry_after import RetryAfter, says_later
from bridge.oauth.unreached import why_unreached

BODY_LIMIT = 256 * 1024
"""Octets. Token answers have 2 to 16 KiB, discovery documents 2 KiB: anything larger is neither."""

ANSWER_LIMIT = BODY_LIMIT + 64 * 1024
"""Octets of an answer as they come, with all headers and interim answers. http.client takes 6 MB of headers, and any
number of interim answers and trailers. The cookies in such headers take 240 MB of memory, and many seconds in which
nothing looks at the deadline."""

CHUNK = 16 * 1024
"""Octets to ask for at once; one read returns what is there, so that the deadline is checked between pieces."""

UTF_8 = codecs.lookup("utf-8-sig").name
"""The encoding of JSON (RFC 8259 section 8.1), whatever the headers say; some servers put a byte order mark before it.
Looked up on import: a codec is a file, and if it could not be opened once an answer is there, the refresh token in the
answer would be lost."""

# urllib3 warns of a malformed header with a traceback, and twice with all headers behind it, up to 12 MB for an answer.
# If that leaves no answer that can be used, our own error says so.
logging.getLogger("urllib3.connection").setLevel(logging.ERROR)

_deadline: ContextVar[float] = ContextVar("deadline")
"""Deadline of the request in this thread, monotonic. Several libraries wait for an answer; each knows how long one
piece may take, and none how long the whole may."""

_until: ContextVar[float] = ContextVar("until", default=math.inf)
"""The same for a request with all redirects that it follows: after Limits.call the caller has given up, and what it
sends then, such as a refresh token behind a discovery document, somebody else has sent meanwhile."""

_octets_left: ContextVar[int] = ContextVar("octets_left")
"""What the answer in this thread may still have of ANSWER_LIMIT; negative once it is too large."""

_is_connected: ContextVar[bool] = ContextVar("is_connected")
"""Whether the request in this thread has a connection: True once the handshake is done. Before that, nothing of the
request can have arrived."""


class _Bounded(socket.socket):
    """Enforces the deadline on an answer that trickles in, and ANSWER_LIMIT on one that does not end: nothing else
    limits time and size of header lines, the server's or a proxy's."""

    def recv_into(self, *args: Any, **names: Any) -> int:
        """As in the base class, until the deadline and up to the limit. Raises: TimeoutError, OSError."""
        self._hurry()
        return self._counted(super().recv_into(*args, **names))

    def recv(self, *args: Any) -> bytes:
        """The same; used for TLS inside the TLS of an https:// proxy."""
        self._hurry()
        data = super().recv(*args)
        self._counted(len(data))
        return data

    def _hurry(self) -> None:
        left = _deadline.get() - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        limit = self.gettimeout()
        self.settimeout(left if limit is None else min(left, limit))  # 0 stays 0: ssl peeks without waiting

    def _counted(self, octets: int) -> int:
        left = _octets_left.get() - octets
        _octets_left.set(left)
        if left < 0:
            raise OSError(errno.EMSGSIZE, os.strerror(errno.EMSGSIZE))
        return octets


class _TlsBounded(_Bounded, ssl.SSLSocket):
    """The same for a TLS socket."""


class _Final(http.client.HTTPResponse):
    """Passes over interim answers (RFC 9110 section 15.2). The base class does so for 100 alone: it takes 103 (Early
    Hints), say, for the answer, and a refresh token in the one behind it would be lost."""

    def begin(self) -> None:
        """As in the base class, for the answer that counts."""
        super().begin()
        while self.status < 200:
            vars(self)["headers"] = None  # otherwise it has begun, and nothing more is read
            super().begin()


class _Noted(HTTPConnection):
    """Notes whether there was a connection."""

    response_class = _Final

    def connect(self) -> None:
        """As in the base class, which includes TLS and a proxy if there is one; then note it."""
        super().connect()
        _is_connected.set(True)


class _Connection(_Noted, HTTPSConnection):
    """Tries the addresses in parallel. urllib3 tries one after the other, each with the full time limit: where IPv6
    leads nowhere, and a host has eight such addresses, as Microsoft's has, IPv4 would not have its turn in time."""

    def _new_conn(self) -> socket.socket:
        assert isinstance(self.timeout, (int, float))  # noqa: S101  send() gives both of its limits
        host = self._dns_host.strip("[]")
        try:
            sock = _Bounded(fileno=connected(look_up(host, self.port or 443), self.timeout).detach())
        except UnicodeError:  # an empty or overlong label: not a valid name, and no name server was asked
            raise LocationParseError(host) from None
        except socket.gaierror as problem:
            raise NameResolutionError(self.host, self, problem) from problem
        except TimeoutError as problem:
            raise ConnectTimeoutError(self, str(problem)) from problem
        except OSError as problem:
            raise NewConnectionError(self, str(problem)) from problem
        sock.settimeout(self.timeout)
        for option in self.socket_options or ():
            sock.setsockopt(*option)
        return sock


class _PlainPool(HTTPConnectionPool):
    """Keeps no connection. A server or proxy that ignores `Connection: close` hangs up when it likes: perhaps just as
    the next refresh is sent, and then nobody knows whether that has arrived."""

    ConnectionCls = _Noted

    def _put_conn(self, conn: Any) -> None:
        if conn is not None:
            conn.close()  # without giving its slot back: an empty pool makes new connections all the same


class _Pool(_PlainPool, HTTPSConnectionPool):
    ConnectionCls = _Connection


class Transport(HTTPAdapter):
    """The transport of every request; thread-safe."""

    def __init__(self, context: ssl.SSLContext, proxy: str | None, limits: Limits) -> None:
        self._context = context
        self._context.sslsocket_class = _TlsBounded
        self._proxy = proxy
        self._limits = limits
        self._retry_after = RetryAfter()
        super().__init__(max_retries=0)

    def equip(self, session: requests.Session) -> None:
        """Make a session (ours or a library's) use this, and no settings from the environment by itself.

        Without trust_env=False, requests prefers REQUESTS_CA_BUNDLE to our trust, and reads passwords from ~/.netrc.
        """
        session.trust_env = False
        session.headers["Accept-Encoding"] = "identity"
        session.headers["Connection"] = "close"  # refreshes are rare; an idle connection may have died in a NAT
        session.headers["User-Agent"] = "mail-bridge"
        session.mount("https://", self)
        session.mount("http://", self)  # the configuration allows it on loopback only

    def request(self, method: str, url: str, **arguments: Any) -> requests.Response:
        """Send and read the whole answer. Raises: as send()."""
        session = requests.Session()  # a new one for each request, because sessions are not thread-safe
        self.equip(session)
        before = _until.set(time.monotonic() + self._patience(method)[1])
        try:
            return session.request(method, url, **arguments)
        except requests.TooManyRedirects:
            raise _redirected(urlsplit(url).hostname or "the provider") from None
        finally:
            _until.reset(before)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Connections with our trust."""
        super().init_poolmanager(*args, ssl_context=self._context, **kwargs)
        _equip(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        """The same through a proxy, and for the TLS to an https:// proxy itself. Raises: InvalidSchema for SOCKS, even
        if PySocks is installed, because our connections would bypass that proxy."""
        if proxy.lower().startswith("socks"):
            raise requests.exceptions.InvalidSchema("SOCKS")
        kwargs |= {"ssl_context": self._context, "proxy_ssl_context": self._context}
        return _equip(super().proxy_manager_for(proxy, **kwargs))

    def proxy_headers(self, proxy: str) -> dict[str, str]:
        """Name and password in UTF-8, as curl and browsers send them (RFC 7617 section 2.1); requests would use
        Latin-1, and raise for a euro sign."""
        user, password = get_auth_from_url(proxy)
        if not user:
            return {}
        return {"Proxy-Authorization": f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"}

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Add nothing to our trust: the inherited method would load certifi's certificates on top."""
        conn.cert_reqs = "CERT_REQUIRED"

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: Any = None,
    ) -> requests.Response:
        """Send and read the whole answer; the caller's time limits, trust and proxies are ignored.

        Raises: ProviderUnavailable for network problems, "later" (says_later), and redirects that we do not follow;
        ProviderNotAsked if no connection was made or, without any attempt, for as long as the host has asked for
        (Retry-After).
        """
        url = request.url or ""
        host = urlsplit(url).hostname or "the provider"
        self._retry_after.check(host)
        silence, whole = self._patience(request.method or "")
        deadline = min(time.monotonic() + whole, _until.get())
        _deadline.set(deadline)
        _octets_left.set(ANSWER_LIMIT)
        _is_connected.set(False)
        limits = (self._limits.connect, silence)
        try:
            response = super().send(request, stream=True, timeout=limits, verify=True, proxies=self._proxies_for(url))
            try:
                body = b"".join(self._pieces(response, host, deadline))
            finally:
                response.raw.close()
        except requests.exceptions.InvalidSchema:  # from None: as below
            raise ProviderUnavailable(
                said(
                    "{host}: this system's proxy is a SOCKS proxy, which mail-bridge does not support. The "
                    "administrator must name an HTTP proxy with `proxy`, or exempt {host} from it (NO_PROXY).",
                    host=host,
                )
            ) from None
        except requests.exceptions.InvalidURL:  # from None: a proxy's URL may hold a password
            raise ProviderUnavailable(said("{host}: the URL or the proxy's URL cannot be used", host=host)) from None
        except (requests.RequestException, HTTPError, OSError) as problem:
            kind = ProviderUnavailable if _is_connected.get() else ProviderNotAsked
            if _octets_left.get() < 0:
                raise kind(_large(host)) from problem
            if time.monotonic() > deadline:
                raise kind(_slow(host)) from problem
            raise kind(why_unreached(host, problem, silence)) from problem
        response.raw = io.BytesIO(body)
        response.encoding = UTF_8
        if says_later(response.status_code):
            wait = self._retry_after.note(host, response.headers)
            raise ProviderUnavailable(_busy(host, response.status_code, wait))
        _check_redirect(response, request.method or "", url, host)
        return response

    def _proxies_for(self, url: str) -> dict[str, str]:
        """The proxies for this URL. Raises: InvalidURL, where requests would let Python's own error through."""
        if self._proxy:
            return {"https": self._proxy, "http": self._proxy}
        if is_loopback(urlsplit(url).hostname or ""):
            return {}
        found = dict(get_environ_proxies(url, no_proxy=None))  # https_proxy and no_proxy; on Windows the registry too
        try:
            urlsplit(select_proxy(url, found))
        except ValueError:  # from None: if a password has brackets, the text quotes what is inside them
            raise requests.exceptions.InvalidURL from None
        return found

    def _patience(self, method: str) -> tuple[float, float]:
        """Seconds between two pieces of an answer, and for the whole of it."""
        if method == "POST":
            return self._limits.answer, self._limits.overall + self._limits.answer
        return self._limits.read, self._limits.overall

    def _pieces(self, response: requests.Response, host: str, deadline: float) -> Iterator[bytes]:
        size = 0
        while piece := response.raw.read1(CHUNK, decode_content=True):
            size += len(piece)
            if size > BODY_LIMIT:
                raise ProviderUnavailable(_large(host))
            if time.monotonic() > deadline:
                raise ProviderUnavailable(_slow(host))
            yield piece


def _equip(pools: PoolManager) -> PoolManager:
    """Make the pools use our connections; plain http is only for this machine."""
    pools.pool_classes_by_scheme = {**pools.pool_classes_by_scheme, "https": _Pool, "http": _PlainPool}
    return pools


def _check_redirect(response: requests.Response, method: str, url: str, host: str) -> None:
    if response.is_redirect:
        try:
            location = response.headers["location"].encode("latin-1").decode()  # as requests does when it follows one
            target = urlsplit(urljoin(url, location))
        except ValueError:  # "http://[", or octets that are not UTF-8: it leads nowhere
            raise _redirected(host) from None
        origin = urlsplit(url)
        if method != "GET" or (target.scheme, target.netloc) != (origin.scheme, origin.netloc):
            # A code or a refresh token never follows a redirect; to another host it is most likely a captive portal.
            raise _redirected(host)


def _redirected(host: str) -> ProviderRedirects:
    return ProviderRedirects(
        said("{host} answers with a redirect: there is a captive portal, or a URL is wrong.", host=host)
    )


def _busy(host: str, status: int, wait: float) -> Said:
    if not wait:
        return said("{host} is having problems or is busy (HTTP {status}).", host=host, status=status)
    return said(
        "{host} is having problems or is busy (HTTP {status}); it asks mail-bridge to wait {seconds} seconds.",
        host=host,
        status=status,
        seconds=f"{wait:.0f}",
    )


def _slow(host: str) -> Said:
    return said("{host}: the answer takes too long", host=host)


def _large(host: str) -> Said:
    return said("{host}: the answer is larger than {number} octets", host=host, number=BODY_LIMIT)
