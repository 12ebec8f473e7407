"""One event to one URL, as JSON by POST; imports aiohttp."""

from __future__ import annotations

import asyncio
import socket
import ssl
from functools import partial
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from bridge.config.proxies import environment_proxy
from bridge.config.schema import NotifyConfig
from bridge.dialing import look_up
from bridge.errors import ProviderUnavailable
from bridge.hooks.delivery import HookFailed
from bridge.hooks.events import HookEvent
from bridge.oauth.http import trust
from bridge.oauth.retry_after import says_later
from bridge.secret import Secret
from bridge.shortage import may_pass
from bridge.threads import NotDone, Threads


async def post(event: HookEvent, config: NotifyConfig, webhook: Secret[str], seconds: float) -> None:
    """Send the event; return once a 2xx has come. Follows no redirect, keeps no cookie, reads no body.

    Raises: HookFailed; its text names the host and nothing else of the URL.
    """
    url = webhook.reveal()
    host = urlsplit(url).hostname or "?"
    # Not the loop's own pool: half a dozen threads that wait for a name server, or for the drive of ca_file, would fill
    # it; then no changed configuration is read, no console is loaded, and a stop waits for them to end.
    threads = Threads("webhook", at_once=1)
    try:
        async with asyncio.timeout(seconds):
            context, proxy = await threads.run(partial(_way, config, url))
            status = await _status(event, url, proxy, context, threads)
    except TimeoutError:
        raise HookFailed(f"{host} did not answer within {seconds:g} s", temporary=True) from None
    except NotDone as problem:
        raise HookFailed(str(problem), temporary=True) from problem
    except ProviderUnavailable as problem:
        raise HookFailed(str(problem), temporary=may_pass(problem.__cause__)) from problem
    except aiohttp.ClientConnectorCertificateError:  # from None, here and below: the library's text may hold the URL
        raise HookFailed(
            f"the certificate of {host} is not trusted; name its authority as ca_file", temporary=False
        ) from None
    except (aiohttp.ClientError, OSError, ValueError) as problem:
        raise HookFailed(f"{host} cannot be reached ({type(problem).__name__})", temporary=True) from None
    if not 200 <= status < 300:
        raise HookFailed(f"{host} answers HTTP {status}", temporary=says_later(status))


def _way(config: NotifyConfig, url: str) -> tuple[ssl.SSLContext, str | None]:
    """The way to the URL. Runs in a thread: it reads files for tens of milliseconds, and may ask a name server."""
    return trust(config.ca_file), config.proxy or environment_proxy(url)


_IS_ADDRESS = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV


class _Resolver(AbstractResolver):
    """Looks names up in these threads, not in the loop's own."""

    def __init__(self, threads: Threads) -> None:
        self._threads = threads

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """See AbstractResolver. Raises: OSError, UnicodeError; NotDone."""
        found = await self._threads.run(partial(look_up, host, port))
        return [
            ResolveResult(hostname=host, host=address[0], port=port, family=kind, proto=number, flags=_IS_ADDRESS)
            for kind, _, number, _, address in found
            if family in (kind, socket.AF_UNSPEC)
        ]

    async def close(self) -> None:
        """See AbstractResolver."""


async def _status(event: HookEvent, url: str, proxy: str | None, context: ssl.SSLContext, threads: Threads) -> int:
    async with (
        aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(resolver=_Resolver(threads)),
            trust_env=False,  # sends no password from a netrc file
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": "mail-bridge"},
        ) as session,
        session.post(url, json=event.content, allow_redirects=False, ssl=context, proxy=proxy) as response,
    ):
        return response.status
