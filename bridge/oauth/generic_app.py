"""Any RFC 6749 server, for the app itself: client credentials (section 4.4)."""

from __future__ import annotations

from bridge.clock import Clock
from bridge.config.generic import GenericProvider
from bridge.model import TokenSet
from bridge.oauth import answers
from bridge.oauth.limits import Limits
from bridge.oauth.token_endpoint import TokenEndpoint
from bridge.oauth.unattended import NO_GRANT, AppToken, unattended_problem


class GenericApp(AppToken):
    """With `flow: client_credentials`: the same token for all mailboxes, so the mail server decides which it opens."""

    def __init__(self, name: str, config: GenericProvider, clock: Clock, *, limits: Limits) -> None:
        super().__init__(name, config, clock)
        self._config = config
        self._endpoint = TokenEndpoint(name, config, clock, limits=limits)

    async def _ask(self) -> TokenSet:
        """RFC 6749 section 4.4.2. A refresh token, which section 4.4.3 advises against, is not kept: it could do
        nothing that the secret cannot."""
        form = {"grant_type": "client_credentials", "scope": " ".join(self._config.effective_scopes)}
        answer = await self._endpoint.ask(form)
        if answer.failure is not None:
            raise unattended_problem(answer.failure, hide=self._endpoint.secrets)
        access = answers.access_token(answer.values, asked_at=answer.asked_at)
        return TokenSet(access, NO_GRANT, answers.granted_scopes(answer.values, self._config.effective_scopes))

    async def close(self) -> None:
        """Release the connections."""
        self._endpoint.close()
