"""What sign-in pages show of the programs that want a mailbox, and which program's password is kept on first use."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from bridge.accounts.asking import Ask, Asks
from bridge.accounts.passwords import LocalPasswords
from bridge.advice.said import Said, said
from bridge.clock import Clock
from bridge.errors import LoginRefused
from bridge.model import Account, Caller, Ends, Wish
from bridge.observe.logs import event


class Wishes:
    """One for each process.

    A page shows a wish only to the OS user whose program has it, so that nobody learns what a colleague's programs do,
    or that an address exists. For an account that is still to keep its first password, all wishes are shown, since
    somebody has to say which one is right; which accounts these are, any login tells.
    """

    def __init__(
        self,
        find: Callable[[str], Account | None],
        passwords: LocalPasswords,
        asks: Asks,
        clock: Clock,
        caller_of: Callable[[Ends | None], Awaitable[Caller]],
        program_of: Callable[[Ends | None], Awaitable[str]],
        note: Callable[[str, str, str], None],
    ) -> None:
        """`program_of` may take a while: it is asked once for each wish. `note` gets user, address and program of each
        login that was told to sign in (see Concerned)."""
        self._find = find
        self._passwords = passwords
        self._asks = asks
        self._clock = clock
        self._caller_of = caller_of
        self._program_of = program_of
        self._note = note

    async def asked(self, address: str, ends: Ends | None, caller_of: Callable[[], Awaitable[Caller]]) -> None:
        """Note a login that will be told that somebody must sign in first; it still waits for its answer."""
        ask = self._asks.note(address, await caller_of())
        if not ask.is_looked_at:
            ask.is_looked_at = True
            ask.program = await self._program_of(ends)
        self._note(ask.caller.user_id, address, ask.program)

    async def wishes(self, address: str, browser: Ends | None) -> tuple[Wish, ...]:
        """The wishes that this browser's user may see, the latest first. Raises: StoreUnavailable, StoreCorrupt."""
        account = self._find(address)
        asks = [] if account is None else self._asks.of(account.address)
        if account is None or not asks:
            return ()
        reader = await self._caller_of(browser)
        is_open = account.is_first_use and not await self._passwords.is_known(account.address)
        now = self._clock.monotonic()
        return tuple(
            _wish(ask, is_own, now, is_open)
            for ask in asks
            for is_own in [bool(ask.caller.user_id) and ask.caller.user_id == reader.user_id]
            if is_own or (is_open and ask.kept is not None)
        )

    async def keep(self, address: str, name: str) -> None:
        """Let this wish's password open the mailbox from now on: the person who has just signed in says it is theirs.

        Raises: LoginRefused if there is nothing to keep any more; StoreUnavailable, StoreCorrupt.
        """
        account = self._find(address)
        if account is None or not account.is_first_use:
            raise LoginRefused(await self.why_none(address))
        ask = next((ask for ask in self._asks.of(account.address) if ask.name == name), None)
        if ask is None or ask.kept is None or not await self._passwords.keep(account.address, ask.kept):
            raise LoginRefused(await self.why_none(address))
        event("password.kept", account=account.address, user=ask.caller.named, program=ask.program)
        self._asks.forget(account.address)

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


def _wish(ask: Ask, is_own: bool, now: float, is_open: bool) -> Wish:
    has_password = is_open and ask.kept is not None
    return Wish(ask.name, ask.caller.named, ask.program, now - ask.at, is_own, has_password)
