"""One client's requests to an RFC 6749 server: client authentication (section 2.3.1) and the answers (5.1, 5.2)."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import quote_plus

from bridge.clock import Clock
from bridge.config.generic import ClientAuthentication, GenericProvider
from bridge.errors import ProviderUnavailable
from bridge.oauth.failures import Failure
from bridge.oauth.http import Https, Reply, not_the_provider
from bridge.oauth.limits import Limits
from bridge.secret import Secret


@dataclass(frozen=True, slots=True)
class Answer:
    """An endpoint's answer."""

    values: Mapping[str, Any]
    asked_at: float
    """Seconds since the epoch, before the request went out: a token's life counts from here."""
    failure: Failure | None
    """None if the request has succeeded."""


class TokenEndpoint:
    """One client's access to one provider; blocking work runs in threads."""

    def __init__(self, name: str, config: GenericProvider, clock: Clock, *, limits: Limits) -> None:
        self._config = config
        self._clock = clock
        self._https = Https(name, ca_file=config.ca_file, proxy=config.proxy, limits=limits)
        self._basic = _basic(config)
        self._usual = self._basic if config.client_authentication is ClientAuthentication.BASIC else None
        """None if the secret goes in the body."""

    @property
    def secrets(self) -> tuple[Secret[str], ...]:
        """Our client secret in both forms: never to be repeated, whatever a server's error text holds."""
        return tuple(secret for secret in (self._config.client_secret, self._basic) if secret)

    async def ask(self, form: Mapping[str, str], *, url: str | None = None) -> Answer:
        """POST a form to the token endpoint, or to another one that answers with JSON. Raises: ProviderUnavailable."""
        asked_at = self._clock.now()
        reply = await self.post(form, url=url)
        try:
            values = reply.json()
        except ProviderUnavailable:
            failure = Failure.by_status(reply.status_code, is_wordless=not reply.text.strip())
            if failure is None:
                raise
            return Answer({}, asked_at, failure)
        if reply.is_good and not values.get("error"):  # some servers always send the member, empty or null
            return Answer(values, asked_at, None)
        failure = Failure.of(values, reply.status_code)
        if failure.is_of_no_endpoint:
            raise not_the_provider()
        return Answer(values, asked_at, failure.read_by_status)

    async def post(self, form: Mapping[str, str], *, url: str | None = None) -> Reply:
        """The same, but returns the raw answer, whatever it is. Raises: ProviderUnavailable."""
        return await self._post(url or self._config.token_url, {**self._config.purpose, **form}, self._usual)

    async def revoke(self, url: str, form: Mapping[str, str]) -> Reply:
        """POST to the revocation endpoint. If it refuses the secret in the body, try HTTP Basic, even if the token
        endpoint takes the body: Basic is the default in RFC 8414 section 2, and all that Authlib supports.

        Raises: ProviderUnavailable.
        """
        reply = await self._post(url, form, self._usual)
        if reply.status_code == 401 and self._basic is not self._usual and not _is_of_the_token(reply):
            return await self._post(url, form, self._basic)
        return reply

    async def _post(self, url: str, form: Mapping[str, str], basic: Secret[str] | None) -> Reply:
        """POST a form as this client. Raises: ProviderUnavailable."""
        headers, fields = {"Accept": "application/json"}, dict(form)
        if basic is not None:
            headers["Authorization"] = f"Basic {basic.reveal()}"
        else:
            fields["client_id"] = self._config.client_id
            if self._config.client_secret:
                fields["client_secret"] = self._config.client_secret.reveal()
        return await self._https.run(partial(self._https.post, url, data=fields, headers=headers))

    def close(self) -> None:
        """Release the connections."""
        self._https.close()


def _is_of_the_token(reply: Reply) -> bool:
    """True if the server has accepted our secret, but does not know the token to be revoked (401: RFC 6750)."""
    try:
        return Failure.of(reply.json()).is_unknown_token
    except ProviderUnavailable:  # a page, or nothing at all
        return False


def _basic(config: GenericProvider) -> Secret[str] | None:
    """The credentials of the Authorization header, if there is a secret. Id and secret are form-encoded first, which
    many programs forget (RFC 6749 section 2.3.1): otherwise a colon in the id or a % in the secret would name another
    client or secret."""
    if config.client_secret is None:
        return None
    pair = f"{quote_plus(config.client_id)}:{quote_plus(config.client_secret.reveal())}"
    return Secret(base64.b64encode(pair.encode("ascii")).decode("ascii"))
