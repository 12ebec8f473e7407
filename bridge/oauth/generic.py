"""any RFC 6749 server: authorization code with PKCE, refresh, revocation (RFC 7009)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from typing import Any
from urllib.parse import urlencode, urlsplit, urlunsplit

from bridge.clock import Clock
from bridge.config.providers import GenericProvider
from bridge.errors import AuthorizationFailed, ProviderUnavailable
from bridge.model import Subject, TokenSet
from bridge.oauth import answers, pkce
from bridge.oauth.base import AuthorizationRequest
from bridge.oauth.failures import Failure, refresh_problem, sign_in_problem
from bridge.oauth.http import Https
from bridge.oauth.threads import Limits
from bridge.secret import Secret

IDENTITY_SCOPES = frozenset({"openid", "email", "profile", "address", "phone", "offline_access"})
"""OpenID Connect's own: servers may leave them out of the `scope` that they grant."""


class Generic:
    """A provider with `kind: oauth2`. The grant is its refresh token."""

    def __init__(self, name: str, config: GenericProvider, clock: Clock, *, limits: Limits | None = None) -> None:
        self._name = name
        self._config = config
        self._clock = clock
        self._https = Https(name, ca_file=config.ca_file, proxy=config.proxy, limits=limits)

    @property
    def name(self) -> str:
        """The key in the configuration."""
        return self._name

    @property
    def fingerprint(self) -> str:
        """Of what a stored sign-in depends on."""
        return answers.fingerprint(self._config.grant_identity)

    @property
    def is_unattended(self) -> bool:
        """A person signs in."""
        return False

    async def begin(self, *, login_hint: str, redirect_uri: str) -> AuthorizationRequest:
        """Compose the authorization URL; needs no network."""
        state, verifier = pkce.new_state(), pkce.new_verifier()
        query = {
            "response_type": "code",
            "client_id": self._config.client_id,
            "redirect_uri": redirect_uri,
            "scope": " ".join(self._config.effective_scopes),
            "state": state,
            "code_challenge": pkce.challenge(verifier),
            "code_challenge_method": "S256",
        }
        if login_hint:
            query["login_hint"] = login_hint  # OpenID Connect's; others ignore it (RFC 6749 section 3.1)
        url = urlsplit(self._config.authorization_url or "")
        joined = "&".join(part for part in (url.query, urlencode(query)) if part)
        kept = Secret(json.dumps({"verifier": verifier.reveal(), "redirect_uri": redirect_uri}))
        return AuthorizationRequest(urlunsplit(url._replace(query=joined, fragment="")), state, kept)

    async def redeem(self, request: AuthorizationRequest, parameters: Mapping[str, str]) -> TokenSet:
        """Turn the code into tokens (RFC 6749 section 4.1.3, RFC 7636 section 4.5)."""
        pkce.check_state(request.state, parameters)
        if "error" in parameters:
            raise sign_in_problem(Failure.of(parameters))
        if not parameters.get("code"):
            raise AuthorizationFailed("The provider's answer holds no code.", code="provider")
        kept = json.loads(request.kept.reveal())
        form = {
            "grant_type": "authorization_code",
            "code": parameters["code"],
            "redirect_uri": kept["redirect_uri"],
            "code_verifier": kept["verifier"],
        }
        asked_at = self._clock.now()
        status, answer = await self._https.run(partial(self._token_request, form))
        if "error" in answer or status != 200:
            hide = (Secret(parameters["code"]), Secret(kept["verifier"]), *self._own_secret())
            raise sign_in_problem(Failure.of(answer, status), hide=hide)
        scopes = answers.granted_scopes(answer, self._config.effective_scopes)
        answers.check_scopes(scopes, set(self._config.effective_scopes) - IDENTITY_SCOPES)
        grant = answer.get("refresh_token")
        if not isinstance(grant, str) or not grant:
            raise AuthorizationFailed(
                "The provider gave no refresh token. The administrator must add the scope for it (often "
                "offline_access) or allow it in the app's registration.",
                code="no_grant",
            )
        found = answers.claims(answer)
        answers.check_audience(found, self._config.client_id)
        return TokenSet(answers.access_token(answer, asked_at=asked_at), Secret(grant), scopes, self._subject(found))

    async def refresh(self, grant: Secret[str], *, subject: str = "") -> TokenSet:
        """A new access token (RFC 6749 section 6); the old refresh token stays where no new one is given."""
        form = {"grant_type": "refresh_token", "refresh_token": grant.reveal()}
        asked_at = self._clock.now()
        status, answer = await self._https.run(partial(self._token_request, form))
        if "error" in answer or status != 200:
            raise refresh_problem(Failure.of(answer, status), hide=(grant, *self._own_secret()))
        rotated = answer.get("refresh_token")
        return TokenSet(
            answers.access_token(answer, asked_at=asked_at),
            Secret(rotated) if isinstance(rotated, str) and rotated else grant,
            answers.granted_scopes(answer, self._config.effective_scopes),
            self._subject(answers.claims(answer)),
        )

    async def adopt(self, refresh_token: Secret[str]) -> TokenSet:
        """The grant is a refresh token: nothing to convert."""
        return await self.refresh(refresh_token)

    async def revoke(self, grant: Secret[str]) -> bool:
        """RFC 7009, where revocation_url is configured; a token that is unknown there is as good as revoked, and some
        servers call that an error."""
        url = self._config.revocation_url
        if url is None:
            return False
        form = self._with_client({"token": grant.reveal(), "token_type_hint": "refresh_token"})
        reply = await self._https.run(partial(self._https.post, url, data=form))
        if reply.status_code != 200 and reply.json().get("error") not in {"invalid_token", "invalid_grant"}:
            raise ProviderUnavailable(f"The provider does not revoke the sign-in (HTTP {reply.status_code}).")
        return True

    async def close(self) -> None:
        """Release the connections."""
        self._https.close()

    def _token_request(self, form: dict[str, str]) -> tuple[int, dict[str, Any]]:
        headers = {"Accept": "application/json"}
        reply = self._https.post(self._config.token_url, data=self._with_client(form), headers=headers)
        return reply.status_code, reply.json()

    def _with_client(self, form: dict[str, str]) -> dict[str, str]:
        """Who we are: client_id, and the secret in the body if there is one (client_secret_post)."""
        secret = self._config.client_secret
        client = {"client_id": self._config.client_id}
        return form | client | ({"client_secret": secret.reveal()} if secret else {})

    def _own_secret(self) -> tuple[Secret[str], ...]:
        return (self._config.client_secret,) if self._config.client_secret else ()

    def _subject(self, found: Mapping[str, Any]) -> Subject | None:
        """By the id_token. Many small servers say nothing of email_verified, and the admin chose this one: only an
        outspoken `false` counts against an address. The issuer cannot be compared: the configuration has none."""
        return answers.subject_by_email(found, unsaid=True) if answers.is_for(found, self._config.client_id) else None
