"""One event to one URL, as JSON by POST; imports aiohttp."""

from __future__ import annotations

import asyncio
import ssl
from functools import partial
from urllib.parse import urlsplit

import aiohttp

from bridge.config.proxies import environment_proxy
from bridge.config.schema import NotifyConfig
from bridge.errors import ProviderUnavailable
from bridge.hooks.delivery import HookFailed
from bridge.hooks.events import HookEvent
from bridge.oauth.http import trust
from bridge.oauth.retry_after import says_later
from bridge.secret import Secret
from bridge.shortage import may_pass
from bridge.threads import NoThread, in_thread


async def post(event: HookEvent, config: NotifyConfig, webhook: Secret[str], seconds: float) -> None:
    """Return once a 2xx has come. Follows no redirect, keeps no cookie, reads no body.

    Raises: HookFailed; its text holds the host and nothing else of the URL.
    """
    url = webhook.reveal()
    host = urlsplit(url).hostname or "?"
    try:
        async with asyncio.timeout(seconds):
            context, proxy = await in_thread(partial(_way, config, url))
            status = await _status(event, url, proxy, context)
    except TimeoutError:
        raise HookFailed(f"{host} did not answer within {seconds:g} s", temporary=True) from None
    except NoThread as problem:
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
    """In a thread: reads files for tens of milliseconds, and may ask a name server."""
    return trust(config.ca_file), config.proxy or environment_proxy(url)


async def _status(event: HookEvent, url: str, proxy: str | None, context: ssl.SSLContext) -> int:
    async with (
        aiohttp.ClientSession(
            trust_env=False,  # no password of a netrc file goes along
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": "mail-bridge"},
        ) as session,
        session.post(url, json=event.content, allow_redirects=False, ssl=context, proxy=proxy) as response,
    ):
        return response.status
