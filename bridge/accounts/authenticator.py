"""Decides who may log in: user name, local password, OS user, first use, and what a wrong login costs."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

from bridge.accounts.failed_logins import FailedLogins
from bridge.accounts.os_users import is_bound_to, why_not
from bridge.accounts.passwords import LocalPasswords
from bridge.accounts.pending_logins import PendingLogins
from bridge.clock import Clock
from bridge.config.values import same_name
from bridge.errors import AuthorizationRequired, LimitReached, LoginRefused
from bridge.model import Account, Caller, Login
from bridge.observe.logs import trouble

AskCaller = Callable[[], Awaitable[Caller]]
"""Whose program it is. Finding out has a cost, so it is called only where the answer matters."""

BEAT = 0.05
"""Seconds: a "no" is given after a whole number of these, whatever was done for it. An account's record is
read from the store, which takes a millisecond; that of all names that mean none is in memory nearly always."""

FIRST_USE_SHORTEST = 8
"""Least characters of a password that is kept on first use. The password in a CRM was once a mailbox's, and neither
Google nor Microsoft accepts a shorter one."""


class Authenticator:
    """One for each process."""

    def __init__(
        self,
        find: Callable[[str], Account | None],
        passwords: LocalPasswords,
        failed_logins: FailedLogins,
        logins: PendingLogins,
        first_use: Callable[[Account], AuthorizationRequired],
        clock: Clock,
    ) -> None:
        """`first_use`: tells the person that a program wants the account, and makes the error for the mail program."""
        self._find = find
        self._passwords = passwords
        self._failed_logins = failed_logins
        self._logins = logins
        self._first_use = first_use
        self._clock = clock

    async def admit(self, login: Login, caller_of: AskCaller) -> Account:
        """The account that this login opens. An unknown name gets the same answers after the same time.

        Raises: LoginRefused, delayed after several wrong logins; LimitReached; StoreUnavailable, StoreCorrupt;
        AuthorizationRequired if the password is to be kept on first use.
        """
        started = self._clock.monotonic()
        try:
            return await self._admit(login, caller_of)
        except (LoginRefused, LimitReached):
            taken = self._clock.monotonic() - started  # may be 0.0: on Windows the clock moves every 16 ms
            await self._clock.pause(max(1, math.ceil(taken / BEAT)) * BEAT - taken)
            raise

    async def _admit(self, login: Login, caller_of: AskCaller) -> Account:
        """admit(), without filling up its time."""
        account = self._find(login.username)
        verdict = await self._passwords.judge(account.address if account is not None else None, login.password)
        if account is None:
            return await self._refuse(login, caller_of, "this user name is not in the configuration")
        if account.os_users:
            caller = await caller_of()
            if not is_bound_to(account, caller):
                what = "the local password was right" if verdict.is_right else "the local password was wrong, too"
                return await self._refuse(login, caller_of, f"{why_not(account, caller)} ({what})")
        if not verdict.is_known and account.is_first_use:
            return await self._keep_in_mind(account, login, caller_of)
        if not verdict.is_right:
            return await self._refuse(login, caller_of, "the local password is wrong")
        if verdict.is_guessable:
            caller, name = await caller_of(), same_name(login.username)
            if not self._failed_logins.may_try(caller.key, name, login.password):
                raise LimitReached("the local password is right, after too many wrong ones; it could be a guess")
            self._failed_logins.right(caller.key, name, login.password)
        return account

    async def _refuse(self, login: Login, caller_of: AskCaller, reason: str) -> Account:
        """Refuse the login. This takes the same time whatever the reason, which only the log tells. Raises: always.

        If the system could not say whose program it is, the answer is "later": it may be the right program, and some
        programs discard a password that they are told is wrong.
        """
        caller = await caller_of()
        whose = f" (programs of {caller.named})" if caller.named else ""
        try:
            # Counted by the name as typed, not by account: two names that slow each other down would turn out to be
            # one.
            name = same_name(login.username)
            await self._failed_logins.wrong(caller.key, name, login.password, is_repeated=login.is_repeated)
        except LimitReached as limit:
            raise LimitReached(f"{reason}; {limit}{whose}") from None
        if caller.is_for_now:  # counted all the same, or a user who uses up our descriptors could go on guessing
            raise LimitReached(f"{reason}; the system could not be asked whose program it is: {caller.unknown}")
        raise LoginRefused(f"{reason}{whose}")

    async def _keep_in_mind(self, account: Account, login: Login, caller_of: AskCaller) -> Account:
        """Note the password's hash; it is not kept as the account's before a person has signed in and said that this
        program is theirs. Raises: always."""
        if _characters(login.password.reveal()) < FIRST_USE_SHORTEST:
            reason = f"a password below {FIRST_USE_SHORTEST} characters is not kept on first use"
            return await self._refuse(login, caller_of, reason)
        caller = await caller_of()
        self._logins.note(account.address, caller, login.password)
        trouble("login.first_use", account=account.address, user=caller.named, user_unknown=caller.unknown)
        raise self._first_use(account)


def _characters(received: bytes) -> int:
    """Characters, not octets: an old client sends Windows-1252, with one octet for each, and all others UTF-8."""
    try:
        return len(received.decode())
    except UnicodeDecodeError:
        return len(received)
