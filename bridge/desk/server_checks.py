"""Tries an account's mail servers when somebody has signed in or asks for it, and remembers how that went."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

from bridge.control.contract import ProtocolCheck
from bridge.errors import BridgeError
from bridge.model import Account, Protocol, TokenSet
from bridge.notices import Forgotten, Notice, NoticeBus, ServersChecked
from bridge.observe.logs import report
from bridge.relay.server_check import ServerCheck, check_servers
from bridge.relay.upstream import Upstream
from bridge.tokens.service import TokenService


@dataclass(frozen=True, slots=True)
class _Checked:
    number: int
    """In the order in which they began."""
    what: tuple[object, ...]
    checks: tuple[ProtocolCheck, ...]


class ServerChecks:
    """One for each process; in memory only."""

    def __init__(self, upstreams: Mapping[Protocol, Upstream], tokens: TokenService, bus: NoticeBus) -> None:
        self._upstreams = upstreams
        self._tokens = tokens
        self._bus = bus
        self._numbers = itertools.count(1)
        self._checked: dict[str, _Checked] = {}
        bus.on_notice(self._hear)

    def of(self, account: Account) -> tuple[ProtocolCheck, ...]:
        """How the last try went; empty if there was none, or of other servers: a reload may have moved the account."""
        checked = self._checked.get(account.address)
        return checked.checks if checked is not None and checked.what == _what(account) else ()

    def _hear(self, notice: Notice) -> None:
        if isinstance(notice, Forgotten):  # the grant that was used, also by a try that is under way
            self._checked[notice.address] = _Checked(next(self._numbers), (), ())

    async def keep(self, account: Account, tokens: TokenSet) -> str:
        """A sign-in is over once its subject was checked, it is stored, and every mail server was tried.

        Returns and raises: as TokenService.keep().
        """
        who = await self._tokens.keep(account, tokens)
        await self.check_new(account)
        return who

    async def check_new(self, account: Account) -> None:
        """Of a new sign-in: what an administrator must change is told today, and not by the CRM. Raises: nothing."""
        try:
            await self.check(account)
        except BridgeError as problem:
            report("flight.cancelled", problem, account=account.address)
            self._bus.publish(ServersChecked(account.address, ""))

    async def check(self, account: Account) -> None:
        """Log in to each mail server. Raises: BridgeError where there is no token; what servers say is remembered."""
        token = await self._tokens.access_token(account)
        number = next(self._numbers)
        found = await check_servers(self._upstreams, account, token)
        before = self._checked.get(account.address)
        if before is None or before.number < number:  # else it has been forgotten, or tried anew, in the meantime
            self._checked[account.address] = _Checked(number, _what(account), tuple(map(_for_control, found)))
        failed = ", ".join(check.protocol.value for check in found if not check.is_ok)
        self._bus.publish(ServersChecked(account.address, failed))


def _what(account: Account) -> tuple[object, ...]:
    """All that decides which servers are tried, and as whom."""
    return account.provider, account.subject, account.endpoints


def _for_control(check: ServerCheck) -> ProtocolCheck:
    if check.diagnosis is None:
        return ProtocolCheck(check.protocol.value, is_ok=True)
    found = check.diagnosis
    return ProtocolCheck(check.protocol.value, False, found.advice.turn, found.told(), found)
