"""Microsoft, through msal in threads; only importer of msal.

msal is asked to do one thing at a time: each call builds a new application over the stored cache, since an
application remembers error answers for a minute, even when told to refresh by force.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypeVar
from urllib.parse import urlsplit

from requests import RequestException

from bridge.clock import Clock
from bridge.config.providers import MSAL_SCOPES, SHARED_TENANTS, MicrosoftProvider
from bridge.errors import AuthorizationFailed, GrantRevoked, ProviderRefused, ProviderUnavailable
from bridge.model import Subject, TokenSet
from bridge.oauth import answers, pkce
from bridge.oauth.base import AuthorizationRequest
from bridge.oauth.failures import Failure, refresh_problem, sign_in_problem
from bridge.oauth.http import Https, Reply
from bridge.oauth.quiet import quieten
from bridge.oauth.threads import Limits
from bridge.secret import Secret

T = TypeVar("T")

DISCOVERY_LIFE = 24 * 3600.0
"""Seconds for which the discovery document counts, as in msal itself: half of the requests, and one outage less."""

_GARBAGE = (ValueError, TypeError, LookupError, AttributeError, RuntimeError, ArithmeticError, AssertionError)
"""What msal raises for answers that make no sense, besides its own MsalError."""


class Microsoft:
    """A provider with `kind: microsoft`. The grant is msal's serialised cache for one person."""

    def __init__(self, name: str, config: MicrosoftProvider, clock: Clock, *, limits: Limits | None = None) -> None:
        self._name = name
        self._config = config
        self._clock = clock
        self._https = Https(name, ca_file=config.ca_file, proxy=config.proxy, limits=limits)
        self._wire = _Wire(self._https)
        self._scopes = [scope for scope in config.effective_scopes if scope not in MSAL_SCOPES]

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
        """Compose the authorization URL; the first time it needs the network for the discovery document."""
        return await self._https.run(lambda: self._guarded(lambda: self._begin(login_hint, redirect_uri)))

    async def redeem(self, request: AuthorizationRequest, parameters: Mapping[str, str]) -> TokenSet:
        """Turn the code into tokens; the nonce in the id_token is compared by msal."""
        pkce.check_state(request.state, parameters)  # msal compares it too, but not in constant time, and prints it
        if "error" in parameters:
            raise sign_in_problem(Failure.of(parameters))
        if not parameters.get("code"):
            raise AuthorizationFailed("The provider's answer holds no code.", code="provider")
        return await self._https.run(lambda: self._guarded(lambda: self._redeem(request, parameters)))

    async def refresh(self, grant: Secret[str], *, subject: str = "") -> TokenSet:
        """A new access token by force, and the cache that holds the newest refresh token."""
        return await self._https.run(lambda: self._guarded(lambda: self._refresh(grant)))

    async def adopt(self, refresh_token: Secret[str]) -> TokenSet:
        """Redeem a refresh token obtained elsewhere, and start a cache with the answer."""
        return await self._https.run(lambda: self._guarded(lambda: self._adopt(refresh_token)))

    async def revoke(self, grant: Secret[str]) -> bool:
        """Always False: Microsoft's identity platform has no revocation endpoint."""
        return False

    async def close(self) -> None:
        """Release the connections."""
        self._https.close()

    def _begin(self, login_hint: str, redirect_uri: str) -> AuthorizationRequest:
        state = pkce.new_state()
        flow = self._application(_new_cache()).initiate_auth_code_flow(
            self._scopes,
            redirect_uri=redirect_uri,
            state=state,
            login_hint=login_hint or None,
            # With a hint Microsoft goes straight to that account. Without one it would silently take whoever is signed
            # in to the browser, which may not be the person of this mailbox.
            prompt=None if login_hint else "select_account",
            response_mode="form_post",
        )
        # msal warns about response_mode=query, so it is asked for form_post, and the URL is changed. We want query:
        # when the browser runs on another machine its address bar must show the answer, so that it can be pasted; and
        # a code in the browser's history is of no use to anybody without the verifier and the secret.
        url = flow["auth_uri"].replace("response_mode=form_post", "response_mode=query")
        return AuthorizationRequest(url, state, Secret(json.dumps(flow)))

    def _redeem(self, request: AuthorizationRequest, parameters: Mapping[str, str]) -> TokenSet:
        flow = json.loads(request.kept.reveal())
        cache = _new_cache()
        asked_at = self._clock.now()
        # `scopes` is not passed: msal then repeats those of the authorization request, as it must.
        try:
            answer = self._application(cache).acquire_token_by_auth_code_flow(flow, dict(parameters))
        except RuntimeError:  # the nonce; from None, since msal prints it
            raise AuthorizationFailed("Microsoft's answer was made for another sign-in.", code="provider") from None
        if "error" in answer:
            hide = (Secret(parameters["code"]), Secret(flow["code_verifier"]), *self._own_secret())
            raise sign_in_problem(Failure.of(answer), hide=hide)
        found = answer.get("id_token_claims") or {}
        answers.check_audience(found, self._config.client_id)
        self._check_scopes(answer)
        if not _refresh_tokens(cache):
            raise AuthorizationFailed(
                "Microsoft gave no refresh token. The administrator must add the permission offline_access to the app.",
                code="no_grant",
            )
        return self._token_set(answer, cache, asked_at)

    def _refresh(self, grant: Secret[str]) -> TokenSet:
        cache = _new_cache()
        try:
            cache.deserialize(grant.reveal())
        except ValueError:
            raise GrantRevoked("The stored sign-in cannot be read. Sign in again, please.") from None
        application = self._application(cache)
        account = next(iter(application.get_accounts()), None)
        if account is None:
            raise GrantRevoked("The stored sign-in names nobody. Sign in again, please.")
        hide = (*_refresh_tokens(cache), *self._own_secret())
        asked_at = self._clock.now()
        answer = application.acquire_token_silent_with_error(self._scopes, account, force_refresh=True)
        if answer is None:  # the cache holds no refresh token for this account: msal has asked nobody
            raise GrantRevoked("The stored sign-in holds no refresh token. Sign in again, please.")
        if "error" in answer:
            raise refresh_problem(Failure.of(answer), hide=hide)
        return self._token_set(answer, cache, asked_at)

    def _adopt(self, refresh_token: Secret[str]) -> TokenSet:
        cache = _new_cache()
        asked_at = self._clock.now()
        answer = self._application(cache).acquire_token_by_refresh_token(refresh_token.reveal(), self._scopes)
        if "error" in answer:
            raise refresh_problem(Failure.of(answer), hide=(refresh_token, *self._own_secret()))
        if not _refresh_tokens(cache):
            raise GrantRevoked("Microsoft gave no refresh token for this one. Sign in, please.")
        return self._token_set(answer, cache, asked_at)

    def _application(self, cache: Any) -> Any:
        """A new msal application over `cache`. Asks the network for the discovery document if it is not known."""
        import msal  # late: it costs start time and memory, and nobody may ever use Microsoft

        quieten()
        self._check_host()
        options: dict[str, Any] = {
            "authority": self._config.authority,
            "token_cache": cache,
            "http_client": self._wire,
            "http_cache": _Forgetful(),
            # _check_host() knows Microsoft's hosts. msal's own way is a question to its public cloud, also after each
            # refused refresh, where trouble on the way would hide the refusal.
            "instance_discovery": False,
            "azure_region": False,  # else MSAL_FORCE_REGION in the environment redirects the token requests
        }
        secret = self._config.client_secret
        if secret is None:
            return msal.PublicClientApplication(self._config.client_id, **options)
        return msal.ConfidentialClientApplication(self._config.client_id, client_credential=secret.reveal(), **options)

    def _check_host(self) -> None:
        """A client secret goes to Microsoft's hosts only, unless the admin vouches for another (discovery: false)."""
        from msal.authority import WELL_KNOWN_AUTHORITY_HOSTS

        host = urlsplit(self._config.authority).hostname
        if self._config.discovery and host not in WELL_KNOWN_AUTHORITY_HOSTS:
            raise ProviderRefused(
                f"{host} is none of Microsoft's sign-in hosts: the administrator must correct the URLs, or set "
                "`discovery: false` if it is meant."
            )

    def _guarded(self, work: Callable[[], T]) -> T:
        """Map what msal raises. Errors in dicts are mapped where they appear, trouble on the wire by _Wire."""
        from msal.exceptions import MsalError

        try:
            return work()
        except (RequestException, MsalError, *_GARBAGE) as problem:
            # from None: msal puts state and nonce into some texts
            raise ProviderUnavailable(
                f"Microsoft's answer makes no sense to the msal library ({type(problem).__name__})."
            ) from None

    def _check_scopes(self, answer: Mapping[str, Any]) -> None:
        needed = [scope for scope in self._scopes if scope != "email" and not scope.endswith("/.default")]
        answers.check_scopes(answers.granted_scopes(answer, needed), needed)

    def _token_set(self, answer: Mapping[str, Any], cache: Any, asked_at: float) -> TokenSet:
        found = answer.get("id_token_claims") or {}
        return TokenSet(
            answers.access_token(answer, asked_at=asked_at),
            Secret(cache.serialize()),
            answers.granted_scopes(answer, self._scopes),
            self._subject(found) if answers.is_for(found, self._config.client_id) else None,
        )

    def _own_secret(self) -> tuple[Secret[str], ...]:
        return (self._config.client_secret,) if self._config.client_secret else ()

    def _subject(self, found: Mapping[str, Any]) -> Subject | None:
        """Who signed in, by the id_token.

        preferred_username is the name typed at sign-in; upn is a name in a domain that the tenant has proved to own.
        `email` is whatever some tenant's administrator has entered: from a stranger's tenant it proves nothing. So it
        counts only if our own tenant was asked, or if Microsoft says that the domain's owner is verified (xms_edov).
        """
        names = [found.get("preferred_username"), found.get("upn")]
        own_tenant = self._config.authority.rsplit("/", 1)[-1].lower() not in SHARED_TENANTS
        if own_tenant or str(found.get("xms_edov")).lower() in {"1", "true"}:
            names.append(found.get("email"))
        addresses = [name.lower() for name in names if isinstance(name, str) and "@" in name]
        if not addresses:
            return None
        identifier = f"{found['oid']}@{found['tid']}" if "oid" in found and "tid" in found else ""
        return Subject(addresses[0], identifier, frozenset(addresses[1:]) - {addresses[0]})


class _Wire:
    """What msal calls to reach the network. Nothing gets past it that would make msal log an answer's text, or raise
    in its own way: 5xx and trouble on the way end in Https, what is not JSON ends here."""

    def __init__(self, https: Https) -> None:
        self._https = https
        self._documents: dict[str, tuple[float, Reply]] = {}
        self._lock = threading.Lock()

    def post(
        self, url: str, params: Any = None, data: Any = None, headers: Mapping[str, str] | None = None, **_: Any
    ) -> Reply:
        """A token request."""
        reply = self._https.post(url, params=params, data=data, headers=headers)
        answer = reply.json()
        if reply.status_code != 200 and "error" not in answer:
            raise ProviderUnavailable(f"Microsoft answers with HTTP {reply.status_code} and no reason.")
        return reply

    def get(self, url: str, params: Any = None, headers: Mapping[str, str] | None = None, **_: Any) -> Reply:
        """The discovery document, kept for a while once it was good."""
        with self._lock:
            until, known = self._documents.get(url, (0.0, None))
        if known is not None and time.monotonic() < until:
            return known
        reply = self._https.get(url, params=params, headers=headers)
        answer = reply.json()
        if reply.status_code != 200:
            self._refuse(Failure.of(answer, reply.status_code))
        if not params:
            with self._lock:
                self._documents[url] = (time.monotonic() + DISCOVERY_LIFE, reply)
        return reply

    def close(self) -> None:
        """Nothing to do: the connections belong to the adapter."""

    def _refuse(self, failure: Failure) -> NoReturn:
        if failure.error:  # invalid_tenant, with its AADSTS number
            raise sign_in_problem(failure)
        raise ProviderUnavailable(f"Microsoft answers with HTTP {failure.status} to the question for its endpoints.")


class _Forgetful(dict[str, Any]):
    """An http_cache for msal that keeps nothing: a provider that has recovered is believed at once."""

    def __setitem__(self, key: str, value: Any) -> None:
        pass


def _new_cache() -> Any:
    import msal

    return msal.SerializableTokenCache()


def _refresh_tokens(cache: Any) -> tuple[Secret[str], ...]:
    found = cache.search(cache.CredentialType.REFRESH_TOKEN)
    return tuple(Secret(entry["secret"]) for entry in found if entry.get("secret"))
