"""What sign-in pages show of the programs that want a mailbox, and which program's password is kept on first use."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from bridge.accounts.passwords import LocalPasswords
from bridge.accounts.pending_logins import PendingLogin, PendingLogins
from bridge.advice.said import Said, said
from bridge.clock import Clock
from bridge.errors import LoginRefused
from bridge.model import Account, Caller, Ends, WaitingProgram
from bridge.observe.logs import event


class WaitingPrograms:
    """One for each process.

    A page shows a program only to the OS user whose program it is, so that nobody learns what a colleague's programs
    do, or that an address exists. For an account that is still to keep its first password, all programs are shown,
    since somebody has to say which one is right; which accounts these are, any login tells.
    """

    def __init__(
        self,
        find: Callable[[str], Account | None],
        passwords: LocalPasswords,
        logins: PendingLogins,
        clock: Clock,
        caller_of: Callable[[Ends | None], Awaitable[Caller]],
        program_of: Callable[[Ends | None], Awaitable[str]],
        note: Callable[[str, str, str], None],
    ) -> None:
        """`program_of` may take a while: it is asked once for each. `note` gets user, address and program of each login
        that was told to sign in (see SignInPrompts)."""
        self._find = find
        self._passwords = passwords
        self._logins = logins
        self._clock = clock
        self._caller_of = caller_of
        self._program_of = program_of
        self._note = note

    async def asked(self, address: str, ends: Ends | None, caller_of: Callable[[], Awaitable[Caller]]) -> None:
        """Note a login that will be told that somebody must sign in first; it still waits for its answer."""
        login = self._logins.note(address, await caller_of())
        if not login.is_looked_at:
            login.is_looked_at = True
            login.program = await self._program_of(ends)
        self._note(login.caller.user_id, address, login.program)

    async def waiting_programs(self, address: str, browser: Ends | None) -> tuple[WaitingProgram, ...]:
        """The programs that this browser's user may see, the latest first. Raises: StoreUnavailable, StoreCorrupt."""
        account = self._find(address)
        logins = [] if account is None else self._logins.of(account.address)
        if account is None or not logins:
            return ()
        reader = await self._caller_of(browser)
        is_open = account.is_first_use and not await self._passwords.is_known(account.address)
        now = self._clock.monotonic()
        return tuple(
            _program(login, is_own, now, is_open)
            for login in logins
            for is_own in [bool(login.caller.user_id) and login.caller.user_id == reader.user_id]
            if is_own or (is_open and login.kept is not None)
        )

    async def keep(self, address: str, key: str) -> None:
        """Let this program's password open the mailbox from now on: the person who has signed in says it is theirs.

        Raises: LoginRefused if there is nothing to keep any more; StoreUnavailable, StoreCorrupt.
        """
        account = self._find(address)
        if account is None or not account.is_first_use:
            raise LoginRefused(await self.why_none(address))
        login = next((login for login in self._logins.of(account.address) if login.key == key), None)
        if login is None or login.kept is None or not await self._passwords.keep(account.address, login.kept):
            raise LoginRefused(await self.why_none(address))
        event("password.kept", account=account.address, user=login.caller.named, program=login.program)
        self._logins.forget(account.address)

    async def why_none(self, address: str) -> Said:
        """Why a password that the page offered can no longer be kept. Raises: StoreUnavailable, StoreCorrupt."""
        account = self._find(address)
        if account is None or not account.is_first_use:
            return said(
                "`local_password` of {address} is not `first-use`: no password of a mail program is kept",
                address=address,
            )
        if await self._passwords.is_known(account.address):
            return said(
                "{address} was given another local password in the meantime; enter that one in the mail program",
                address=address,
            )
        return said("the login to {address} was too long ago; let the mail program try again", address=address)


def _program(login: PendingLogin, is_own: bool, now: float, is_open: bool) -> WaitingProgram:
    has_password = is_open and login.kept is not None
    return WaitingProgram(login.key, login.caller.named, login.program, now - login.at, is_own, has_password)
