"""What msal calls to reach the network, so that it never gets an answer that it would log or keep."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, NoReturn

from bridge.advice.said import said
from bridge.errors import ProviderUnavailable
from bridge.oauth.failures import Failure, refresh_problem
from bridge.oauth.http import Https, Reply

DISCOVERY_LIFE = 24 * 3600.0
"""Seconds for which the discovery document is kept, as in msal itself: this halves the requests, and its outages matter
less."""

ENDPOINTS = ("authorization_endpoint", "token_endpoint")
"""Fields that msal cannot do without: a document that lacks one is not Microsoft's, and is asked for again."""


class Wire:
    """msal's `http_client`. It passes on no answer that would make msal log the text or raise errors of its own: 5xx
    and network problems are raised by Https, answers that are not JSON here."""

    def __init__(self, https: Https) -> None:
        self._https = https
        self._documents: dict[str, tuple[float, Reply]] = {}

    def post(
        self, url: str, params: Any = None, data: Any = None, headers: Mapping[str, str] | None = None, **_: Any
    ) -> Reply:
        """A request for tokens, or for a user code."""
        reply = self._https.post(url, params=params, data=data, headers=headers)
        answer = reply.json()
        if reply.status_code != 200 and "error" not in answer:
            raise ProviderUnavailable(
                said("Microsoft answers with HTTP {status} and no reason.", status=reply.status_code)
            )
        return reply

    def get(self, url: str, params: Any = None, headers: Mapping[str, str] | None = None, **_: Any) -> Reply:
        """The discovery document, kept for a while if it is good."""
        until, known = self._documents.get(url, (0.0, None))
        if known is not None and time.monotonic() < until:
            return known
        reply = self._https.get(url, params=params, headers=headers)
        answer = reply.json()
        if reply.status_code != 200:
            self._refuse(Failure.of(answer, reply.status_code))
        if not params and all(isinstance(answer.get(name), str) for name in ENDPOINTS):
            self._documents[url] = (time.monotonic() + DISCOVERY_LIFE, reply)
        return reply

    def close(self) -> None:
        """Nothing to do: the connections belong to the adapter."""

    def _refuse(self, failure: Failure) -> NoReturn:
        problem = refresh_problem(failure) if failure.error else None
        if isinstance(problem, ProviderUnavailable):  # invalid_tenant, with its AADSTS number
            raise problem
        # Nothing in this answer is about a person's grant, which was not part of the request.
        raise ProviderUnavailable(
            said("Microsoft answers the request for its endpoints with HTTP {status}.", status=failure.status)
        )


class Forgetful(dict[str, Any]):
    """An http_cache for msal that keeps nothing, so that a provider's recovery is noticed at once."""

    def __setitem__(self, key: str, value: Any) -> None:
        pass
