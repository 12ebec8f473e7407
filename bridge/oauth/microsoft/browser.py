"""A person signs in at Microsoft, in a browser that comes back to us (RFC 6749 section 4.1, RFC 7636)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from urllib.parse import urlsplit

from bridge.model import TokenSet
from bridge.oauth import pkce
from bridge.oauth.base import AuthorizationRequest
from bridge.oauth.failures import Failure, not_signed_in, sign_in_problem
from bridge.oauth.microsoft.library import new_cache
from bridge.oauth.microsoft.person import Person
from bridge.secret import Secret


class Browser(Person):
    """`kind: microsoft, flow: browser`; a public client, or one with a secret or a certificate."""

    @property
    def sign_in_host(self) -> str:
        """The same for all tenants of a cloud."""
        return urlsplit(self._config.authority).hostname or ""

    async def begin(self, *, login_hint: str, redirect_uri: str, asks_who: bool = False) -> AuthorizationRequest:
        """Compose the authorization URL; the first time it needs the network for the discovery document."""
        return await self._library.run(lambda: self._begin(login_hint, redirect_uri, asks_who))

    async def redeem(self, request: AuthorizationRequest, parameters: Mapping[str, str]) -> TokenSet:
        """Turn the code into tokens; the nonce in the id_token is compared by msal."""
        pkce.code_of(request.state, parameters)  # msal compares the state too, but not in constant time, and prints it
        return await self._library.run(lambda: self._redeem(request, parameters))

    def _begin(self, login_hint: str, redirect_uri: str, asks_who: bool) -> AuthorizationRequest:
        state = pkce.new_state()
        flow = self._library.application(new_cache()).initiate_auth_code_flow(
            self._scopes,
            redirect_uri=redirect_uri,
            state=state,
            login_hint=login_hint or None,
            # With a hint Microsoft goes straight to that account. Without one it would silently take whoever is signed
            # in to the browser, which may not be the person of this mailbox.
            prompt="select_account" if asks_who or not login_hint else None,
            response_mode="form_post",
        )
        # msal warns about response_mode=query, so it is asked for form_post, and the URL is changed. We want query:
        # when the browser runs on another machine its address bar must show the answer, so that it can be pasted; and
        # a code in the browser's history is of no use to anybody without the verifier and the secret.
        url = flow["auth_uri"].replace("response_mode=form_post", "response_mode=query")
        return AuthorizationRequest(url, state, Secret(json.dumps(flow)))

    def _redeem(self, request: AuthorizationRequest, parameters: Mapping[str, str]) -> TokenSet:
        flow = json.loads(request.kept.reveal())
        cache = new_cache()
        asked_at = self._clock.now()
        application = self._library.application(cache)
        # `scopes` is not passed: msal then repeats those of the authorization request, as it must.
        try:
            answer = application.acquire_token_by_auth_code_flow(flow, dict(parameters))
        except RuntimeError:  # the nonce; from None, since msal prints it
            raise not_signed_in("oauth.other_sign_in", "provider") from None
        if "error" in answer:
            hide = (Secret(parameters["code"]), Secret(flow["code_verifier"]), *self._library.own_secrets())
            raise sign_in_problem(Failure.of(answer), hide=hide)
        return self._signed_in(answer, cache, asked_at)
