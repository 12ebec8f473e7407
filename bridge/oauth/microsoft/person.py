"""What follows a person's sign-in at Microsoft, in either flow: tokens, who it was, refreshes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from bridge.clock import Clock
from bridge.config.microsoft import MSAL_SCOPES, SHARED_TENANTS, MicrosoftProvider
from bridge.errors import BridgeError
from bridge.model import Subject, TokenSet
from bridge.oauth import answers
from bridge.oauth.adapter import Adapter
from bridge.oauth.failures import Failure, ended, not_signed_in, refresh_problem, unreadable
from bridge.oauth.limits import Limits
from bridge.oauth.microsoft.library import Library, new_cache, refresh_tokens
from bridge.secret import Secret


class Person(Adapter):
    """A Provider except for the sign-in itself. The grant is msal's serialised cache for one person."""

    def __init__(self, name: str, config: MicrosoftProvider, clock: Clock, *, limits: Limits) -> None:
        super().__init__(name, config, clock)
        self._config = config
        self._library = Library(name, config, limits)
        self._scopes = [scope for scope in config.effective_scopes if scope not in MSAL_SCOPES]

    async def refresh(self, grant: Secret[str], *, subject: str = "") -> TokenSet:
        """Force a new access token; the grant is the cache with the newest refresh token."""
        return await self._library.run(lambda: self._refresh(grant))

    async def adopt(self, refresh_token: Secret[str]) -> TokenSet:
        """Redeem a refresh token obtained elsewhere, and start a cache with the answer."""
        return await self._library.run(lambda: self._adopt(refresh_token))

    async def revoke(self, grant: Secret[str]) -> bool:
        """Always False: Microsoft's identity platform has no revocation endpoint."""
        return False

    async def close(self) -> None:
        """Release the connections."""
        self._library.close()

    def _signed_in(self, answer: Mapping[str, Any], cache: Any, asked_at: float) -> TokenSet:
        """The tokens of a sign-in. Raises: AuthorizationFailed (provider, missing_scope, no_grant)."""
        answers.check_audience(answer.get("id_token_claims") or {}, self._config.client_id)
        self._check_scopes(answer)
        if not refresh_tokens(cache):
            raise not_signed_in("microsoft.no_grant", "no_grant")
        return self._token_set(answer, cache, asked_at)

    def _refresh(self, grant: Secret[str]) -> TokenSet:
        cache = new_cache()
        try:
            cache.deserialize(grant.reveal())
        except ValueError:
            raise unreadable() from None
        application = self._library.application(cache)
        account = next(iter(application.get_accounts()), None)
        if account is None:
            raise unreadable()
        hide = (*refresh_tokens(cache), *self._library.own_secrets())
        asked_at = self._clock.now()
        answer = application.acquire_token_silent_with_error(self._scopes, account, force_refresh=True)
        if answer is None:  # the cache holds no refresh token for this account: msal has sent no request
            raise unreadable()
        if "error" in answer:
            raise self._refused(Failure.of(answer), hide)
        return self._token_set(answer, cache, asked_at)

    def _adopt(self, refresh_token: Secret[str]) -> TokenSet:
        cache = new_cache()
        asked_at = self._clock.now()
        application = self._library.application(cache)
        answer = application.acquire_token_by_refresh_token(refresh_token.reveal(), self._scopes)
        if "error" in answer:
            raise self._refused(Failure.of(answer), (refresh_token, *self._library.own_secrets()))
        if not refresh_tokens(cache):
            raise ended("microsoft.no_grant")
        return self._token_set(answer, cache, asked_at)

    def _refused(self, failure: Failure, hide: Iterable[Secret[str]]) -> BridgeError:
        """The error to raise for a "no" to a refresh token."""
        return refresh_problem(failure, hide=hide)

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

    def _subject(self, found: Mapping[str, Any]) -> Subject | None:
        """Who signed in, by the id_token.

        preferred_username is the name typed at sign-in; upn is a name in a domain that the tenant has proved to own.
        `email` is whatever a tenant's administrator has entered: from a foreign tenant it proves nothing. So it counts
        only if our own tenant was asked, or if Microsoft says that the domain's owner is verified (xms_edov).
        """
        names = [found.get("preferred_username"), found.get("upn")]
        own_tenant = self._config.authority.rsplit("/", 1)[-1].lower() not in SHARED_TENANTS
        if own_tenant or str(found.get("xms_edov")).lower() in {"1", "true"}:
            names.append(found.get("email"))
        addresses = [address for address in map(answers.named, names) if address]
        if not addresses:
            return None
        identifier = f"{found['oid']}@{found['tid']}" if "oid" in found and "tid" in found else ""
        return Subject(addresses[0], identifier, frozenset(addresses[1:]) - {addresses[0]})
