"""Microsoft, unattended: the app itself opens the mailboxes that it has rights to (RFC 6749 section 4.4)."""

from __future__ import annotations

from bridge.advice.said import said
from bridge.clock import Clock
from bridge.config.microsoft import MicrosoftProvider
from bridge.model import TokenSet
from bridge.oauth import answers
from bridge.oauth.failures import Failure
from bridge.oauth.limits import Limits
from bridge.oauth.microsoft.library import Library, new_cache
from bridge.oauth.unattended import NO_GRANT, AppToken, unattended_problem

ADVICE = said(
    "Nobody signs in here, so the administrator must act: grant the app consent for its application permissions "
    "(IMAP.AccessAsApp, POP.AccessAsApp, SMTP.SendAsApp), or lift the policy that blocks it."
)
"""What to do instead of a person's signing in again."""


class AppOnly(AppToken):
    """`kind: microsoft, flow: client_credentials`, by secret or certificate. There is no grant."""

    def __init__(self, name: str, config: MicrosoftProvider, clock: Clock, *, limits: Limits) -> None:
        super().__init__(name, config, clock)
        self._config = config
        self._library = Library(name, config, limits)

    async def close(self) -> None:
        """Release the connections."""
        self._library.close()

    async def _ask(self) -> TokenSet:
        return await self._library.run(self._ask_library)

    def _ask_library(self) -> TokenSet:
        application = self._library.application(new_cache())  # in a used cache msal would find its last token
        asked_at = self._clock.now()
        answer = application.acquire_token_for_client(list(self._config.effective_scopes))
        if "error" in answer:
            raise unattended_problem(Failure.of(answer), ADVICE, hide=self._library.own_secrets())
        access = answers.access_token(answer, asked_at=asked_at)
        return TokenSet(access, NO_GRANT, answers.granted_scopes(answer, self._config.effective_scopes))
