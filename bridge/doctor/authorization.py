"""Whether the provider's page opens for a sign-in of ours: it is fetched before anybody is sent there, no more.

If the page refuses, the person never comes back with an error: for a redirect URI that is not registered the provider
must not redirect (RFC 6749 section 4.1.2.1), so neither the log nor the console learns of it. Only the status codes of
such refusals count. A login page, a redirect, a firewall's 403 or no answer at all is no finding.
"""

from __future__ import annotations

import asyncio
from collections.abc import Container
from functools import partial

from bridge.advice.provider import REGISTRATION
from bridge.clock import SystemClock
from bridge.config.generic import GenericProvider
from bridge.config.provider import Flow
from bridge.config.schema import Config
from bridge.control.contract import Finding
from bridge.doctor.findings import failed
from bridge.errors import ProviderUnavailable
from bridge.oauth.failures import Failure
from bridge.oauth.generic import GenericBrowser
from bridge.oauth.http import Https, Reply
from bridge.oauth.limits import OF_A_CHECK

REFUSED = frozenset({400, 404, 405, 422})
"""Statuses of a request that is wrong for everybody (RFC 9110 section 15.5). 401 and 403 may concern this program
alone, unless the answer says more."""

ABOUT_US = frozenset(REGISTRATION) - {"access_denied"}
"""`access_denied` is about who asks, or from where: a firewall's 403 may have it, too."""

NO_PAGE = (
    "{url} does not let a sign-in begin (HTTP {status}): `client_id`, one of the `scopes` or the redirect URI "
    "{redirect_uri} is not what the provider has registered, or `authorization_url` in the configuration is wrong. "
    "Open the page in a browser, where it says more; if it lets people sign in there, it only turns programs away, and "
    "nothing is wrong"
)


async def authorization_findings(config: Config, *, proven: Container[str] = ()) -> tuple[Finding, ...]:
    """For the providers with `kind: oauth2` where people sign in with a browser; Google and Microsoft show a page
    whatever is wrong.

    Args: proven, providers that are not asked, since somebody has signed in there already.
    """
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(_asked(name, provider))
            for name, provider in config.providers.items()
            if name not in proven and isinstance(provider, GenericProvider) and provider.flow is Flow.BROWSER
        ]
    return tuple(finding for task in tasks for finding in task.result())


async def _asked(name: str, provider: GenericProvider) -> tuple[Finding, ...]:
    redirect_uri = provider.redirect_uri
    adapter = GenericBrowser(name, provider, SystemClock(), limits=OF_A_CHECK)
    https = Https(name, ca_file=provider.ca_file, proxy=provider.proxy, limits=OF_A_CHECK)
    try:
        request = await adapter.begin(login_hint="", redirect_uri=redirect_uri)
        reply = await https.run(partial(https.get, request.url, follows=False))
    except ProviderUnavailable:  # a redirect is fine, and trouble with the connection has a finding of its own
        return ()
    finally:
        https.close()
        await adapter.close()
    # With 405 and this header, AWS WAF asks for a CAPTCHA: a person solves it in the browser, and is let through.
    is_wall = "x-amzn-waf-action" in reply.headers
    if is_wall or (reply.status_code not in REFUSED and not _is_about_us(reply)):
        return ()
    url = provider.authorization_url
    return (failed("registration", name, NO_PAGE, url=url, status=reply.status_code, redirect_uri=redirect_uri),)


def _is_about_us(reply: Reply) -> bool:
    """True where an OAuth error says that our registration is at fault."""
    try:
        return Failure.of(reply.json()).error in ABOUT_US
    except ProviderUnavailable:  # a page
        return False
