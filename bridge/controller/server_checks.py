"""Tries an account's mail servers when somebody has signed in or asks for it."""

from __future__ import annotations

from collections.abc import Mapping

from bridge.clock import Clock
from bridge.controller.server_answers import ServerAnswers
from bridge.errors import BridgeError
from bridge.model import Account, Protocol, TokenSet
from bridge.notices import NoticeBus, ServersChecked
from bridge.observe.logs import report
from bridge.relay.server_check import check_servers
from bridge.relay.upstream import Upstream
from bridge.tokens.service import TokenService


class ServerChecks:
    """One for each process; what it finds is told to `answers`."""

    def __init__(
        self,
        upstreams: Mapping[Protocol, Upstream],
        tokens: TokenService,
        answers: ServerAnswers,
        clock: Clock,
        bus: NoticeBus,
    ) -> None:
        self._upstreams = upstreams
        self._tokens = tokens
        self._answers = answers
        self._clock = clock
        self._bus = bus

    async def keep(self, account: Account, tokens: TokenSet) -> str:
        """Complete a sign-in: its subject is checked, it is stored, and every mail server is tried.

        Returns and raises: as TokenService.keep().
        """
        who = await self._tokens.keep(account, tokens)
        await self.check_new(account)
        return who

    async def check_new(self, account: Account) -> None:
        """check() after a sign-in: what an administrator must change is told now, not by the CRM. Raises: nothing."""
        try:
            await self.check(account)
        except BridgeError as problem:
            report("flight.cancelled", problem, account=account.address)
            self._bus.publish(ServersChecked(account.address, ""))

    async def check(self, account: Account) -> None:
        """Log in to each mail server. Raises: BridgeError where there is no token; what servers say is remembered."""
        token = await self._tokens.access_token(account)
        began = self._clock.monotonic()
        found = await check_servers(self._upstreams, account, token)
        for check in found:
            self._answers.note_trial(account, check, began)
        failed = ", ".join(check.protocol.value for check in found if not check.is_ok)
        self._bus.publish(ServersChecked(account.address, failed))
