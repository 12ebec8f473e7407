"""Whether the provider accepts our client before anybody signs in: an invented code is sent to token_url.

A provider must authenticate the client before it looks at a code (RFC 6749 section 3.2.1), but what it checks first is
its own affair. So only explicit answers count: that it does not accept this client, or that nothing at this URL issues
tokens. All else is no finding, not even the right answer to such a code, which need not mean that the secret was right.

Entra parses a code before it looks at the secret (AADSTS9002313). But with a secret one may request a token for the app
itself there, which opens nothing for which the app was given no role: we request one, and throw it away.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Container, Mapping

from bridge.clock import SystemClock
from bridge.config.generic import GenericProvider
from bridge.config.microsoft import SHARED_TENANTS, MicrosoftProvider
from bridge.config.presets import CLOUDS
from bridge.config.provider import Flow
from bridge.config.providers import ProviderConfig
from bridge.config.schema import Config
from bridge.control.contract import Finding
from bridge.doctor.findings import VERBATIM, failed, problem_text
from bridge.errors import ProviderRedirects, ProviderUnavailable
from bridge.oauth.failures import NOTHING_THERE, Failure, sign_in_problem
from bridge.oauth.generic_device import GRANT_TYPE
from bridge.oauth.http import Reply
from bridge.oauth.limits import OF_A_CHECK
from bridge.oauth.token_endpoint import TokenEndpoint

APP_ALONE = Flow.CLIENT_CREDENTIALS.value
OF_THE_CLIENT: Container[str | int] = frozenset(
    {"invalid_client", "unauthorized_client", "deleted_client", "disabled_client", "unsupported_grant_type"}
)
"""Errors that cannot be due to the code; two are Google's."""
OF_THE_SECRET: Container[str | int] = frozenset({"invalid_client"})
"""The same at Microsoft, which says `unauthorized_client` also of an app that nobody has consented to yet."""
OF_THE_APP: Container[str | int] = frozenset({"invalid_client", 700016, 7000112})
"""The same where we request a token for the app itself; the numbers: the tenant does not know such an app, or has
disabled it."""

NO_TOKENS = (
    "{url} gives no tokens (HTTP {status}): `token_url` in the configuration is wrong, or something on the way answers "
    "in the provider's place"
)
REDIRECTED = (
    "{url} gives no tokens, but a redirect: `token_url` in the configuration is wrong, or something on the way answers "
    "in the provider's place"
)


async def registration_findings(config: Config, *, proven: Container[str] = ()) -> tuple[Finding, ...]:
    """For the providers where people sign in; one request to each, which its log may show: as a failed sign-in of
    nobody or, at Entra with a secret, as a successful one of the app itself.

    Args: proven, providers that are not asked, since the renewal of one of their tokens tells as much.
    """
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(_asked(name, server, *_question(provider, server)))
            for name, provider in config.providers.items()
            if name not in proven and (server := _server(provider)) is not None
        ]
    return tuple(finding for task in tasks for finding in task.result())


def _server(provider: ProviderConfig) -> GenericProvider | None:
    """The provider as a plain RFC 6749 server. None where this check cannot authenticate the client, or where a token
    is requested anyway, since nobody signs in."""
    if isinstance(provider, GenericProvider):
        return None if provider.flow.is_unattended else provider
    if provider.flow is not Flow.BROWSER or getattr(provider, "client_certificate", None) is not None:
        return None
    microsoft = f"{provider.authority}/oauth2/v2.0" if isinstance(provider, MicrosoftProvider) else ""
    return GenericProvider(
        kind="oauth2",
        client_id=provider.client_id,
        client_secret=provider.client_secret,
        redirect_uri=provider.redirect_uri,
        authorization_url=provider.authorization_url or f"{microsoft}/authorize",
        token_url=provider.token_url or f"{microsoft}/token",
        scopes=provider.effective_scopes,
        ca_file=provider.ca_file,
        proxy=provider.proxy,
    )


def _question(provider: ProviderConfig, server: GenericProvider) -> tuple[dict[str, str], Container[str | int]]:
    """The form to send, and the errors and numbers in an answer to it that are about our client."""
    definite = OF_THE_CLIENT
    if isinstance(provider, MicrosoftProvider):
        definite = OF_THE_SECRET
        *_, tenant = provider.authority.rpartition("/")
        if provider.client_secret is not None and tenant.lower() not in SHARED_TENANTS:  # in which no app lives
            return {"grant_type": APP_ALONE, "scope": CLOUDS[provider.effective_cloud].app_scope}, OF_THE_APP
    if provider.flow is Flow.DEVICE:
        return {"grant_type": GRANT_TYPE, "device_code": secrets.token_urlsafe(24)}, definite
    form = {"grant_type": "authorization_code", "code": secrets.token_urlsafe(24), "redirect_uri": server.redirect_uri}
    return {**form, **({"code_verifier": secrets.token_urlsafe(48)} if server.pkce else {})}, definite


async def _asked(
    name: str, server: GenericProvider, form: Mapping[str, str], definite: Container[str | int]
) -> tuple[Finding, ...]:
    endpoint = TokenEndpoint(name, server, SystemClock(), limits=OF_A_CHECK)
    try:
        reply = await endpoint.post(form)
        return _judged(name, server.token_url, reply, endpoint, definite)
    except ProviderRedirects:
        return (failed("registration", name, REDIRECTED, url=server.token_url),)
    except ProviderUnavailable:  # the connection's own finding reports the obstacle, or it passes
        return ()
    finally:
        endpoint.close()


def _judged(
    name: str, url: str, reply: Reply, endpoint: TokenEndpoint, definite: Container[str | int]
) -> tuple[Finding, ...]:
    no_tokens = failed("registration", name, NO_TOKENS, url=url, status=reply.status_code)
    try:
        failure = Failure.of(reply.json(), reply.status_code)
    except ProviderUnavailable:  # no JSON: an error page may be anybody's, but a page as a success is no token endpoint
        return (no_tokens,) if reply.is_good or reply.status_code in NOTHING_THERE else ()
    if failure.is_of_no_endpoint:
        return (no_tokens,)
    if failure.is_temporary or not any(said in definite for said in (failure.error, *failure.codes)):
        return ()
    return (
        failed("registration", name, VERBATIM, problem=problem_text(sign_in_problem(failure, hide=endpoint.secrets))),
    )
