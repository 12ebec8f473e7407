"""Whether the tenant that the configuration names exists, by the discovery document (OpenID Connect Discovery 1.0)."""

from __future__ import annotations

import asyncio

from bridge.config.microsoft import MicrosoftProvider
from bridge.config.schema import Config
from bridge.control.contract import Finding
from bridge.doctor.findings import VERBATIM, failed, ok, problem_text
from bridge.errors import ProviderUnavailable
from bridge.oauth.failures import Failure
from bridge.oauth.http import Https, json_object
from bridge.oauth.limits import OF_A_CHECK

ANSWERS = "the tenant {tenant} is known"
UNKNOWN = (
    "the tenant {tenant} does not exist: correct `tenant`, or the two URLs, in the configuration (in the Entra portal: "
    "Overview, Tenant ID)"
)
ODD = "the answer (HTTP {status}) is not the discovery document of {tenant}: something on the way answers in its place"


async def discovery_findings(config: Config) -> tuple[Finding, ...]:
    """One for each provider that has a tenant, which is Microsoft's; the other kinds need no discovery."""
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(_asked(name, provider))
            for name, provider in config.providers.items()
            if isinstance(provider, MicrosoftProvider)
        ]
    return tuple(task.result() for task in tasks)


async def _asked(name: str, provider: MicrosoftProvider) -> Finding:
    tenant = provider.authority.rsplit("/", 1)[-1]
    https = Https(name, ca_file=provider.ca_file, proxy=provider.proxy, limits=OF_A_CHECK)
    url = f"{provider.authority}/v2.0/.well-known/openid-configuration"
    try:
        reply = await https.run(lambda: https.get(url))
        document = json_object(reply.text)
    except ProviderUnavailable as problem:
        return failed("tenant", name, VERBATIM, problem=problem_text(problem))
    finally:
        https.close()
    if reply.status_code == 200 and isinstance(document.get("token_endpoint"), str):
        return ok("tenant", name, ANSWERS, tenant=tenant)
    if Failure.of(document).error in {"invalid_tenant", "invalid_request"}:
        return failed("tenant", name, UNKNOWN, tenant=tenant)
    return failed("tenant", name, ODD, status=reply.status_code, tenant=tenant)
