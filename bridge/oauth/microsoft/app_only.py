"""Nobody signs in at Microsoft: the app itself opens the mailboxes that it was given (RFC 6749 section 4.4)."""

from __future__ import annotations

import asyncio
from typing import NoReturn

from bridge.clock import Clock
from bridge.config.providers import MicrosoftProvider
from bridge.errors import AuthorizationFailed, BridgeError, GrantRevoked, ProviderRefused
from bridge.model import TokenSet
from bridge.oauth import answers
from bridge.oauth.failures import Failure, refresh_problem, without_secrets
from bridge.oauth.microsoft.library import Library, new_cache
from bridge.oauth.threads import Limits
from bridge.secret import Secret

SHARED_FOR = 5.0
"""Seconds after an answer in which it serves every other account too: one token opens all mailboxes of the app, and a
CRM logs in to all of them at once. A mail server's no to a token this young is about the mailbox, not the token."""

NO_CONSENT = 65001
"""AADSTS: consent is missing, which otherwise a person may give."""


class AppOnly:
    """`kind: microsoft, flow: client_credentials`, by secret or certificate. There is no grant."""

    def __init__(self, name: str, config: MicrosoftProvider, clock: Clock, *, limits: Limits | None = None) -> None:
        self._name = name
        self._config = config
        self._clock = clock
        self._library = Library(name, config, limits)
        self._shared: tuple[float, TokenSet] | None = None
        """When it came, by the monotonic clock, and what it was."""
        self._flight: asyncio.Future[TokenSet | BridgeError | None] | None = None

    @property
    def name(self) -> str:
        """The key in the configuration."""
        return self._name

    @property
    def fingerprint(self) -> str:
        """Of what a stored token depends on."""
        return answers.fingerprint(self._config.grant_identity)

    @property
    def is_unattended(self) -> bool:
        """Nobody signs in."""
        return True

    async def refresh(self, grant: Secret[str], *, subject: str = "") -> TokenSet:
        """A new access token, which is the same for every mailbox: who asks at the same time shares one request and
        its outcome, who asks right after it the answer."""
        while True:
            if (answer := self._young_answer()) is not None:
                return answer
            if self._flight is None:
                return await self._lead()
            outcome = await asyncio.shield(self._flight)
            if isinstance(outcome, BridgeError):
                raise outcome.with_traceback(None)  # many may raise it: each with its own traceback
            if outcome is not None:
                return outcome

    async def adopt(self, refresh_token: Secret[str]) -> TokenSet:
        """There is nothing to adopt."""
        raise AuthorizationFailed(
            "Nobody signs in here: the app has its own right to the mailboxes, and no refresh token.", code="no_grant"
        )

    async def revoke(self, grant: Secret[str]) -> bool:
        """Always False: there is no grant, and Microsoft's identity platform has no revocation endpoint."""
        return False

    async def close(self) -> None:
        """Release the connections."""
        self._library.close()

    def _young_answer(self) -> TokenSet | None:
        if self._shared is None or self._clock.monotonic() - self._shared[0] >= SHARED_FOR:
            return None
        answer = self._shared[1]
        return answer if answer.access.is_fresh(self._clock.now()) else None  # a suspend stops the monotonic clock

    async def _lead(self) -> TokenSet:
        """Ask for all who wait; one who leads and is cancelled leaves the question to the next."""
        flight = self._flight = asyncio.get_running_loop().create_future()
        outcome: TokenSet | BridgeError | None = None
        try:
            outcome = await self._library.run(self._ask)
            self._shared = (self._clock.monotonic(), outcome)
            return outcome
        except BridgeError as problem:
            outcome = problem
            raise
        finally:
            self._flight = None
            flight.set_result(outcome)

    def _ask(self) -> TokenSet:
        application = self._library.application(new_cache())  # in a used one msal would find its last token
        asked_at = self._clock.now()
        answer = application.acquire_token_for_client(list(self._config.effective_scopes))
        if "error" in answer:
            self._refuse(Failure.of(answer))
        access = answers.access_token(answer, asked_at=asked_at)
        return TokenSet(access, Secret(""), answers.granted_scopes(answer, self._config.effective_scopes), None)

    def _refuse(self, failure: Failure) -> NoReturn:
        """No error is about a person's grant here, whatever it says: it is always an administrator's turn."""
        hide = self._library.own_secrets()
        problem = refresh_problem(failure, hide=hide)
        if isinstance(problem, GrantRevoked) or NO_CONSENT in failure.codes:
            theirs = without_secrets(f"{failure.error}: {failure.description}", hide)
            raise ProviderRefused(
                "Nobody signs in here, so it is the administrator's turn: grant the app consent for its application "
                "permissions (IMAP.AccessAsApp, POP.AccessAsApp, SMTP.SendAsApp), or lift the policy that blocks it. "
                f"({theirs})"
            )
        raise problem
