"""How an account is doing: from its grant, the sign-in under way, programs that wait, its mail servers' answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from bridge.accounts.passwords import LocalPasswords
from bridge.accounts.pending_logins import PendingLogins
from bridge.advice.diagnosis import Diagnosis
from bridge.control.contract import AccountState, AccountStatus
from bridge.controller.server_answers import ServerAnswers
from bridge.errors import BridgeError, StoreUnavailable
from bridge.model import Account
from bridge.tokens.authorizations import Authorizations
from bridge.tokens.service import GrantStatus, TokenService


class AccountStatuses:
    """How accounts are doing, by what is in memory or in the store: nobody outside is asked."""

    def __init__(
        self,
        tokens: TokenService,
        authorizations: Authorizations,
        passwords: LocalPasswords,
        logins: PendingLogins,
        answers: ServerAnswers,
        sign_in_url: Callable[[str], str],
    ) -> None:
        self._tokens = tokens
        self._authorizations = authorizations
        self._passwords = passwords
        self._logins = logins
        self._answers = answers
        self._sign_in_url = sign_in_url

    async def of(self, account: Account) -> AccountStatus:
        """Raises: nothing; the store's trouble is part of the answer."""
        return await self._told(account, await self._tokens.grant_status(account))

    async def of_all(
        self, accounts: Iterable[Account], away: StoreUnavailable | None = None
    ) -> tuple[AccountStatus, ...]:
        """Like of(), for each account. A store that is away is not asked again: if it hangs, we would wait each time.

        Args: away, the store's error, if it has just been asked and is away.
        """
        found = []
        for account in accounts:
            grant = await self._tokens.grant_status(account) if away is None else GrantStatus.untold(away)
            away = away or grant.away
            found.append(await self._told(account, grant))
        return tuple(found)

    async def _told(self, account: Account, grant: GrantStatus) -> AccountStatus:
        if grant.is_signed_in and not grant.detail and await self._is_waiting(account):
            wanted = Diagnosis.of("sign_in.password")  # a mail program has asked, and nobody has confirmed whose it is
            grant = replace(grant, is_signed_in=False, detail=wanted.told(), diagnosis=wanted)
        if grant.is_signed_in and not grant.detail and (trouble := self._answers.trouble(account)) is not None:
            grant = replace(grant, detail=trouble.sentence, diagnosis=trouble.diagnosis)
        return AccountStatus(
            account.address,
            account.provider,
            grant.signed_in_as or account.subject,
            self._state(account, grant),
            grant.detail,
            grant.expires_at,
            self._sign_in_url(account.address),
            self._answers.of(account),
            grant.diagnosis,
        )

    async def is_pending(self, account: Account, asker: str) -> bool | None:
        """True if a sign-in of this asker's, or of the administrator's, is under way, False if one is needed, None if
        neither."""
        state = (await self.of(account)).state
        if state not in {AccountState.SIGN_IN, AccountState.PENDING}:
            return None
        return self._authorizations.find(account.address, {asker, ""}) is not None

    def _state(self, account: Account, grant: GrantStatus) -> AccountState:
        if not grant.is_readable:
            return AccountState.TROUBLE
        if grant.is_signed_in:
            return AccountState.TROUBLE if grant.detail else AccountState.READY
        is_under_way = self._authorizations.find(account.address) is not None
        return AccountState.PENDING if is_under_way else AccountState.SIGN_IN

    async def _is_waiting(self, account: Account) -> bool:
        """True if a mail program's own password waits to be confirmed."""
        if not account.is_first_use or not self._logins.of(account.address):
            return False
        try:
            return not await self._passwords.is_known(account.address)
        except BridgeError:
            return False  # the store's trouble shows in other places
