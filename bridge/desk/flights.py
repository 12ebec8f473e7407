"""Tries an account's mail servers when somebody has signed in or asks for it, and remembers how that went."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

from bridge.control.contract import ProtocolCheck
from bridge.errors import BridgeError
from bridge.model import Account, Protocol, TokenSet
from bridge.notices import FlightChecked, Forgotten, Notice, NoticeBus
from bridge.observe.logs import report
from bridge.relay.flight import Leg, fly
from bridge.relay.upstream import Upstream
from bridge.tokens.service import TokenService


@dataclass(frozen=True, slots=True)
class _Flown:
    number: int
    """In the order in which they began."""
    route: tuple[object, ...]
    checks: tuple[ProtocolCheck, ...]


class Flights:
    """One for each process; in memory only."""

    def __init__(self, upstreams: Mapping[Protocol, Upstream], tokens: TokenService, bus: NoticeBus) -> None:
        self._upstreams = upstreams
        self._tokens = tokens
        self._bus = bus
        self._numbers = itertools.count(1)
        self._flown: dict[str, _Flown] = {}
        bus.on_notice(self._hear)

    def checks_of(self, account: Account) -> tuple[ProtocolCheck, ...]:
        """How the last flight went; empty if there was none, or if it went elsewhere: a reload may have moved it."""
        flown = self._flown.get(account.address)
        return flown.checks if flown is not None and flown.route == _route(account) else ()

    def _hear(self, notice: Notice) -> None:
        if isinstance(notice, Forgotten):  # the grant that it flew with, also of a flight that is under way
            self._flown[notice.address] = _Flown(next(self._numbers), (), ())

    async def keep(self, account: Account, tokens: TokenSet) -> str:
        """A sign-in is over once its subject was checked, it is stored, and every mail server was tried.

        Returns and raises: as TokenService.keep().
        """
        who = await self._tokens.keep(account, tokens)
        await self.first(account)
        return who

    async def first(self, account: Account) -> None:
        """Try the mail servers now, so that what an administrator must change is told today and not by the CRM."""
        try:
            await self.fly(account)
        except BridgeError as problem:
            report("flight.cancelled", problem, account=account.address)
            self._bus.publish(FlightChecked(account.address, ""))

    async def fly(self, account: Account) -> None:
        """Log in to each mail server. Raises: BridgeError where there is no token; what servers say is remembered."""
        token = await self._tokens.access_token(account)
        number = next(self._numbers)
        legs = await fly(self._upstreams, account, token)
        before = self._flown.get(account.address)
        if before is None or before.number < number:  # else it has been forgotten, or flown anew, in the meantime
            self._flown[account.address] = _Flown(number, _route(account), tuple(map(_check_of, legs)))
        failed = ", ".join(leg.protocol.value for leg in legs if not leg.is_ok)
        self._bus.publish(FlightChecked(account.address, failed))


def _route(account: Account) -> tuple[object, ...]:
    """What a flight is about."""
    return account.provider, account.subject, account.endpoints


def _check_of(leg: Leg) -> ProtocolCheck:
    if leg.diagnosis is None:
        return ProtocolCheck(leg.protocol.value, is_ok=True)
    found = leg.diagnosis
    return ProtocolCheck(leg.protocol.value, False, found.advice.turn, found.told(), found)
