"""Google, for a person in the browser; only importer of google-auth-oauthlib and oauthlib."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from bridge.advice.said import said
from bridge.clock import Clock
from bridge.config.google import GoogleProvider
from bridge.config.presets import GOOGLE_TOKEN_URL
from bridge.errors import ProviderRefused, ProviderUnavailable
from bridge.model import Subject, TokenSet
from bridge.oauth import answers, pkce
from bridge.oauth.adapter import Adapter
from bridge.oauth.base import AuthorizationRequest
from bridge.oauth.failures import Failure, not_signed_in, refresh_problem, sign_in_problem
from bridge.oauth.google_auth import Wire, guarded, refreshed
from bridge.oauth.http import Https, json_object
from bridge.oauth.limits import Limits
from bridge.oauth.quiet import quieten
from bridge.secret import Secret

if TYPE_CHECKING:
    import requests

T = TypeVar("T")

IDENTITY_SCOPES = {
    "openid": "openid",
    "email": "https://www.googleapis.com/auth/userinfo.email",
    "profile": "https://www.googleapis.com/auth/userinfo.profile",
}
"""Scopes that only say who signed in. If one is asked for in its short form, Google grants the long form."""

ISSUERS = frozenset({"https://accounts.google.com", "accounts.google.com"})
"""Google's id_tokens carry one of these."""


class Google(Adapter):
    """A provider with `kind: google`. The grant is Google's refresh token."""

    def __init__(self, name: str, config: GoogleProvider, clock: Clock, *, limits: Limits) -> None:
        super().__init__(name, config, clock)
        self._config = config
        self._secret = config.client_secret or Secret("")
        self._https = Https(name, ca_file=config.ca_file, proxy=config.proxy, limits=limits)

    @property
    def sign_in_host(self) -> str:
        """Google's, unless the configuration has another URL for it."""
        return urlsplit(self._config.authorization_url).hostname or ""

    async def begin(self, *, login_hint: str, redirect_uri: str, asks_who: bool = False) -> AuthorizationRequest:
        """Compose the authorization URL; needs no network."""
        return await self._https.run(lambda: self._guarded(lambda: self._begin(login_hint, redirect_uri, asks_who)))

    async def redeem(self, request: AuthorizationRequest, parameters: Mapping[str, str]) -> TokenSet:
        """Turn the code into tokens."""
        code = pkce.code_of(request.state, parameters)  # the library does not look at the state
        return await self._https.run(lambda: self._guarded(lambda: self._redeem(request, code)))

    async def refresh(self, grant: Secret[str], *, subject: str = "") -> TokenSet:
        """A new access token; Google rarely gives a new refresh token, and then the old one stays."""
        return await self._https.run(lambda: self._guarded(lambda: self._refresh(grant)))

    async def adopt(self, refresh_token: Secret[str]) -> TokenSet:
        """The grant is a refresh token: nothing to convert."""
        return await self.refresh(refresh_token)

    async def revoke(self, grant: Secret[str]) -> bool:
        """Ask Google to end the grant; True also if it had ended before."""
        return await self._https.run(lambda: self._revoke(grant))

    @property
    def consent(self) -> str:
        """At Google a person gives and withdraws consent for a whole project, with whose number its client ids begin
        ("Cross-client Identity" in Google's documentation)."""
        return f"{self._config.token_url} {self._config.client_id.partition('-')[0]}"

    async def close(self) -> None:
        """Release the connections."""
        self._https.close()

    def _begin(self, login_hint: str, redirect_uri: str, asks_who: bool) -> AuthorizationRequest:
        verifier = pkce.new_verifier()
        flow = self._flow(redirect_uri, verifier, scopes=list(self._config.effective_scopes))
        # Without `consent` a person's second sign-in brings no refresh token. The library omits empty parameters.
        prompt = "select_account consent" if asks_who else "consent"
        url, state = flow.authorization_url(
            state=pkce.new_state(), access_type="offline", prompt=prompt, login_hint=login_hint
        )
        kept = Secret(json.dumps({"verifier": verifier.reveal(), "redirect_uri": redirect_uri}))
        return AuthorizationRequest(url, state, kept)

    def _redeem(self, request: AuthorizationRequest, code: str) -> TokenSet:
        kept = json.loads(request.kept.reveal())
        verifier = Secret(kept["verifier"])
        # Without scopes: if the granted ones differ from its own list, oauthlib raises a Warning after the code is used
        # up, and the only switch for that is an environment variable for the whole process. We compare them ourselves.
        flow = self._flow(kept["redirect_uri"], verifier, scopes=None)
        hide = (Secret(code), verifier, self._secret)

        def check(response: requests.Response) -> requests.Response:
            answer = json_object(response.text)  # oauthlib would try to read an outage's HTML as a form
            if response.status_code != 200 or "error" in answer:
                raise sign_in_problem(Failure.of(answer, response.status_code), hide=hide)
            return response

        flow.oauth2session.register_compliance_hook("access_token_response", check)
        asked_at = self._clock.now()
        answer = flow.fetch_token(code=code)
        scopes = answers.granted_scopes(answer, self._config.effective_scopes)
        self._check_scopes(scopes)
        grant = answer.get("refresh_token")
        if not isinstance(grant, str) or not grant:
            raise not_signed_in("google.no_grant", "no_grant")
        found = answers.claims(answer)
        answers.check_audience(found, self._config.client_id)
        access = answers.access_token(answer, asked_at=asked_at)
        ends_at = answers.grant_end(answer, asked_at=asked_at)
        return TokenSet(access, Secret(grant), scopes, self._subject(found), ends_at)

    def _refresh(self, grant: Secret[str]) -> TokenSet:
        wire = Wire(self._https, partial(refresh_problem, hide=(grant, self._secret)))
        asked_at = self._clock.now()
        kept = refreshed(
            wire,
            token_url=self._config.token_url,
            client_id=self._config.client_id,
            client_secret=self._secret,
            grant=grant,
        )
        # The library's own expiry is a naive datetime in UTC by the machine's clock; the answer is simpler to read.
        found = answers.claims(wire.answer)
        return TokenSet(
            answers.access_token(wire.answer, asked_at=asked_at),
            Secret(kept),
            answers.granted_scopes(wire.answer, self._config.effective_scopes),
            self._subject(found) if answers.is_for(found, self._config.client_id) else None,
        )

    def _revoke(self, grant: Secret[str]) -> bool:
        reply = self._https.post(self._config.revocation_url, data={"token": grant.reveal()})
        if reply.status_code == 200 or Failure.of(reply.json()).is_unknown_token:
            return True
        raise ProviderUnavailable(said("Google does not revoke the sign-in (HTTP {status}).", status=reply.status_code))

    def _flow(self, redirect_uri: str, verifier: Secret[str], *, scopes: list[str] | None) -> Any:
        from google_auth_oauthlib.flow import Flow  # late: a second of start time that only Google users need

        quieten()
        client = {
            "client_id": self._config.client_id,
            "client_secret": self._secret.reveal(),
            "auth_uri": self._config.authorization_url,
            "token_uri": self._config.token_url,
        }
        flow = Flow.from_client_config(
            {"installed": client}, scopes, redirect_uri=redirect_uri, code_verifier=verifier.reveal()
        )
        self._https.equip(flow.oauth2session)
        return flow

    def _guarded(self, work: Callable[[], T]) -> T:
        """Map what the libraries raise; trouble on the wire and error answers never reach them."""
        from oauthlib.oauth2 import InsecureTransportError, OAuth2Error

        def securely() -> T:
            try:
                return work()
            except InsecureTransportError:
                raise ProviderRefused(
                    said("Google's URLs must begin with https://: the administrator must correct them.")
                ) from None

        return guarded(securely, OAuth2Error)

    def _check_scopes(self, granted: frozenset[str]) -> None:
        identity = {*IDENTITY_SCOPES, *IDENTITY_SCOPES.values()}
        answers.check_scopes(granted, [scope for scope in self._config.effective_scopes if scope not in identity])

    def _subject(self, found: Mapping[str, Any]) -> Subject | None:
        """By the id_token: the address only if Google has verified it, and only from the issuer that we know."""
        issuer = found.get("iss")
        if self._config.token_url == GOOGLE_TOKEN_URL:
            is_known = issuer in ISSUERS
        else:  # another address for the same service, so its issuer lives there
            is_known = urlsplit(str(issuer)).netloc == urlsplit(self._config.authorization_url).netloc
        return answers.subject_by_email(found, unsaid=False) if is_known else None
