"""Any RFC 6749 server, for a person: authorization code with PKCE, refresh, revocation (RFC 7009)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit, urlunsplit

from bridge.advice.provider import REFRESHING
from bridge.advice.said import said
from bridge.clock import Clock
from bridge.config.generic import GenericProvider
from bridge.config.presets import MICROSOFT_SIGN_IN_HOSTS
from bridge.errors import ProviderUnavailable
from bridge.model import Subject, TokenSet
from bridge.oauth import answers, pkce
from bridge.oauth.adapter import Adapter
from bridge.oauth.base import AuthorizationRequest
from bridge.oauth.failures import Failure, not_signed_in, refresh_problem, sign_in_problem
from bridge.oauth.limits import Limits
from bridge.oauth.token_endpoint import Answer, TokenEndpoint
from bridge.secret import Secret

OFFLINE = "offline_access"
"""OpenID Connect's scope for a refresh token that outlives the browser's session."""
IDENTITY_SCOPES = frozenset({"openid", "email", "profile", "address", "phone", OFFLINE})
"""OpenID Connect's own scopes: servers may leave them out of the `scope` that they grant."""


class Generic(Adapter):
    """A provider with `kind: oauth2` where a person signs in, in whatever way. The grant is the refresh token."""

    def __init__(self, name: str, config: GenericProvider, clock: Clock, *, limits: Limits) -> None:
        super().__init__(name, config, clock)
        self._config = config
        self._endpoint = TokenEndpoint(name, config, clock, limits=limits)

    async def refresh(self, grant: Secret[str], *, subject: str = "") -> TokenSet:
        """A new access token (RFC 6749 section 6); the old refresh token stays if no new one is given."""
        answer = await self._endpoint.ask({"grant_type": "refresh_token", "refresh_token": grant.reveal()})
        if answer.failure is not None:
            raise refresh_problem(answer.failure, hide=(grant, *self._endpoint.secrets), rows=REFRESHING)
        return TokenSet(
            answers.access_token(answer.values, asked_at=answer.asked_at),
            _refresh_token(answer) or grant,
            answers.granted_scopes(answer.values, self._config.effective_scopes),
            self._subject(answers.claims(answer.values)),
        )

    async def adopt(self, refresh_token: Secret[str]) -> TokenSet:
        """The grant is a refresh token: nothing to convert."""
        return await self.refresh(refresh_token)

    async def revoke(self, grant: Secret[str]) -> bool:
        """RFC 7009, if revocation_url is configured; a token that is unknown there counts as revoked."""
        url = self._config.revocation_url
        if url is None:
            return False
        reply = await self._endpoint.revoke(url, {"token": grant.reveal(), "token_type_hint": "refresh_token"})
        if not reply.is_good and not Failure.of(reply.json()).is_unknown_token:
            raise ProviderUnavailable(
                said("The provider does not revoke the sign-in (HTTP {status}).", status=reply.status_code)
            )
        return True

    async def close(self) -> None:
        """Release the connections."""
        self._endpoint.close()

    def _signed_in(self, answer: Answer, nonce: str = "") -> TokenSet:
        """The tokens of a sign-in that has just succeeded. Raises: AuthorizationFailed (missing_scope, no_grant,
        provider), ProviderUnavailable."""
        scopes = answers.granted_scopes(answer.values, self._config.effective_scopes)
        answers.check_scopes(scopes, set(self._config.effective_scopes) - IDENTITY_SCOPES)
        grant = _refresh_token(answer)
        if grant is None:
            raise not_signed_in("oauth.no_grant", "no_grant")
        found = answers.claims(answer.values)
        answers.check_audience(found, self._config.client_id)
        answers.check_nonce(found, nonce)
        access = answers.access_token(answer.values, asked_at=answer.asked_at)
        return TokenSet(access, grant, scopes, self._subject(found))

    def _subject(self, found: Mapping[str, Any]) -> Subject | None:
        """Who signed in, by the id_token. Many small servers send no email_verified, and the admin chose this server,
        so only an explicit `false` counts against an address. The issuer cannot be compared: the configuration has
        none."""
        return answers.subject_by_email(found, unsaid=True) if answers.is_for(found, self._config.client_id) else None


class GenericBrowser(Generic):
    """With `flow: browser`."""

    @property
    def sign_in_host(self) -> str:
        """That of the configured URL."""
        return urlsplit(self._config.authorization_url or "").hostname or ""

    async def begin(self, *, login_hint: str, redirect_uri: str, asks_who: bool = False) -> AuthorizationRequest:
        """Compose the authorization URL; needs no network."""
        state, verifier = pkce.new_state(), pkce.new_verifier()
        query = {
            "response_type": "code",
            "client_id": self._config.client_id,
            "redirect_uri": redirect_uri,
            "scope": " ".join(self._config.effective_scopes),
            "state": state,
        }
        kept = {"redirect_uri": redirect_uri}
        if self._config.pkce:
            query |= {"code_challenge": pkce.challenge(verifier), "code_challenge_method": "S256"}
            kept["code_verifier"] = verifier.reveal()
        url = urlsplit(self._config.authorization_url or "")
        configured = parse_qs(url.query, keep_blank_values=True)
        query |= {name: value for name, value in self._config.purpose.items() if name not in configured}
        if "openid" in self._config.effective_scopes and "nonce" not in configured:
            query["nonce"] = kept["nonce"] = pkce.new_state()  # optional in the code flow, but some servers demand it
        if login_hint:
            query["login_hint"] = login_hint  # of OpenID Connect; other servers ignore it (RFC 6749 section 3.1)
        # More servers know `login` than `select_account` (OpenID Connect Core section 3.1.2.1).
        prompts = ["login"] if asks_who else []
        # Without prompt=consent, servers must ignore offline_access (OpenID Connect Core section 11), and many do. Not
        # at Microsoft: there the prompt would stop everybody who may not consent, even if an administrator has
        # consented for all.
        if OFFLINE in self._config.effective_scopes and url.hostname not in MICROSOFT_SIGN_IN_HOSTS:
            prompts.append("consent")
        if prompts and "prompt" not in configured:
            query["prompt"] = " ".join(prompts)
        joined = "&".join(part for part in (url.query, urlencode(query)) if part)
        whole = urlunsplit(url._replace(query=joined, fragment=""))
        return AuthorizationRequest(whole, state, Secret(json.dumps(kept)))

    async def redeem(self, request: AuthorizationRequest, parameters: Mapping[str, str]) -> TokenSet:
        """Turn the code into tokens (RFC 6749 section 4.1.3, RFC 7636 section 4.5)."""
        code = pkce.code_of(request.state, parameters)
        kept: dict[str, str] = json.loads(request.kept.reveal())  # redirect_uri and, with PKCE, code_verifier
        nonce = kept.pop("nonce", "")
        form = {"grant_type": "authorization_code", "code": code, **kept}
        answer = await self._endpoint.ask(form)
        if answer.failure is not None:
            spent = (Secret(code), Secret(kept.get("code_verifier", "")))
            raise sign_in_problem(answer.failure, hide=(*spent, *self._endpoint.secrets))
        return self._signed_in(answer, nonce)


def _refresh_token(answer: Answer) -> Secret[str] | None:
    token = answers.sendable(answer.values.get("refresh_token"))
    return Secret(token) if token else None
