"""What unattended providers share: no grant, no sign-in, and every "no" is for an administrator to resolve."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Iterable

from bridge.advice.diagnosis import Diagnosis
from bridge.advice.said import Said, said
from bridge.clock import Clock
from bridge.config.providers import ProviderConfig
from bridge.errors import AuthorizationFailed, BridgeError, GrantRevoked, ProviderRefused
from bridge.model import TokenSet
from bridge.oauth.adapter import Adapter
from bridge.oauth.failures import Failure, app_only_row, refresh_problem, without_secrets
from bridge.secret import Secret

NO_CONSENT = 65001
"""Microsoft's AADSTS number: consent is missing, which in other flows a person may give."""

REFUSED = said("The provider refuses the app: its administrator must act.")
"""What to say of a refusal if nothing better is known."""

NO_GRANT: Secret[str] = Secret("")
"""Stands for the grant, since there is none."""

SHARED_FOR = 5.0
"""Seconds for which an answer serves every other account, too: one token opens all mailboxes of the app, and a CRM logs
in to all of them at once. If a mail server refuses a token this young, the mailbox is the problem, not the token."""


class Unattended(Adapter):
    """The part of a Provider that is the same for all unattended ones."""

    is_unattended = True

    async def adopt(self, refresh_token: Secret[str]) -> TokenSet:
        """There is nothing to adopt. Raises: AuthorizationFailed(no_grant)."""
        raise AuthorizationFailed(
            "Nobody signs in here: the app has its own right to the mailboxes, and no refresh token.", code="no_grant"
        )

    async def revoke(self, grant: Secret[str]) -> bool:
        """Always False: there is no grant that could be ended."""
        return False


class AppToken(Unattended, ABC):
    """Client credentials (RFC 6749 section 4.4): one token for every mailbox of the app, so one request for all."""

    def __init__(self, name: str, config: ProviderConfig, clock: Clock) -> None:
        super().__init__(name, config, clock)
        self._shared: tuple[float, TokenSet] | None = None
        """When the last answer came, by the monotonic clock, and the answer."""
        self._flight: asyncio.Future[TokenSet | BridgeError | None] | None = None

    @abstractmethod
    async def _ask(self) -> TokenSet:
        """Ask for a token, even if one is known. Raises: ProviderUnavailable, ProviderRefused."""

    async def refresh(self, grant: Secret[str], *, subject: str = "") -> TokenSet:
        """A new access token, the same for every mailbox: callers at the same time share one request and its outcome;
        callers within SHARED_FOR seconds after it share the answer."""
        while True:
            if (answer := self._young_answer()) is not None:
                return answer
            if self._flight is None:
                return await self._lead()
            outcome = await asyncio.shield(self._flight)
            if isinstance(outcome, BridgeError):
                raise outcome.with_traceback(None)  # several tasks may raise it, and each adds its own traceback
            if outcome is not None:
                return outcome

    def _young_answer(self) -> TokenSet | None:
        if self._shared is None or self._clock.monotonic() - self._shared[0] >= SHARED_FOR:
            return None
        answer = self._shared[1]
        return answer if answer.access.is_fresh(self._clock.now()) else None  # a suspend stops the monotonic clock

    async def _lead(self) -> TokenSet:
        """Ask on behalf of all who wait. If this caller is cancelled, the next one asks."""
        flight = self._flight = asyncio.get_running_loop().create_future()
        outcome: TokenSet | BridgeError | None = None
        try:
            outcome = await self._ask()
            self._shared = (self._clock.monotonic(), outcome)
            return outcome
        except BridgeError as problem:
            outcome = problem
            raise
        finally:
            self._flight = None
            flight.set_result(outcome)


def unattended_problem(failure: Failure, advice: Said = REFUSED, *, hide: Iterable[Secret[str]] = ()) -> BridgeError:
    """The error to raise when the app's own request was refused. It is never GrantRevoked, because nobody could sign in
    again: `advice` takes the place of telling a person to do so."""
    problem = refresh_problem(failure, hide=hide)
    if isinstance(problem, GrantRevoked) or (not failure.is_temporary and NO_CONSENT in failure.codes):
        return refused(failure, advice, hide=hide)
    return problem


def refused(failure: Failure, sentence: Said, *, hide: Iterable[Secret[str]] = ()) -> ProviderRefused:
    """Our sentence, then the provider's own words in brackets; people also get the row of the table that fits."""
    theirs = ": ".join(part for part in (failure.error, failure.suberror, failure.description) if part)
    text = Said("{sentence} ({words})", (("sentence", sentence), ("words", without_secrets(theirs, hide))))
    return ProviderRefused(str(text), diagnosis=Diagnosis(app_only_row(failure), words=text))
