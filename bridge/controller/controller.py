"""The control contract, answered by the bridge of this process."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from bridge import __version__
from bridge.accounts.directory import Directory
from bridge.accounts.discovered import DiscoveredAccounts
from bridge.accounts.passwords import LocalPasswords
from bridge.advice.diagnosis import Diagnosis
from bridge.advice.said import said
from bridge.config.values import same_name
from bridge.control.contract import (
    AccountStatus,
    Finding,
    Leftover,
    ListenerStatus,
    SignInStarted,
    SignOut,
    StartPage,
    Status,
)
from bridge.controller.account_status import AccountStatuses
from bridge.controller.server_checks import ServerChecks
from bridge.errors import (
    BridgeError,
    LoginRefused,
    PasswordUnknown,
    SignInUnsaved,
    StoreUnavailable,
)
from bridge.model import Account
from bridge.notices import Notice, NoticeBus, PasswordReplaced
from bridge.oauth.base import AuthorizationRequest, DeviceRequest
from bridge.relay.listener import Listener
from bridge.secret import Secret
from bridge.tokens.authorizations import Authorizations
from bridge.tokens.service import TokenService
from bridge.tokens.vault import Vault


@dataclass(frozen=True, slots=True)
class About:
    """What only the composition root knows, as it is at the moment."""

    config_file: Callable[[], str]
    is_demo: bool
    directory: Callable[[], Directory]
    """A reload replaces it."""
    listeners: Callable[[], Sequence[Listener]]
    warnings: Callable[[], Awaitable[tuple[Diagnosis, ...]]]
    """What the administrator must see to before it becomes trouble."""
    diagnose: Callable[[], Awaitable[tuple[Finding, ...]]]


class Controller:
    """An InProcess Control, where most of the methods are documented."""

    def __init__(
        self,
        about: About,
        bus: NoticeBus,
        vault: Vault,
        tokens: TokenService,
        authorizations: Authorizations,
        passwords: LocalPasswords,
        server_checks: ServerChecks,
        statuses: AccountStatuses,
        discovered: DiscoveredAccounts,
    ) -> None:
        self._about = about
        self._bus = bus
        self._vault = vault
        self._tokens = tokens
        self._authorizations = authorizations
        self._passwords = passwords
        self._server_checks = server_checks
        self._statuses = statuses
        self._discovered = discovered

    async def status(self) -> Status:
        """See Control."""
        about, away = self._about, None
        try:
            leftovers = await self.leftovers()
        except BridgeError as problem:
            leftovers = ()  # each account's own line tells of the store's trouble
            away = problem if isinstance(problem, StoreUnavailable) else None
        return Status(
            version=__version__,
            config_file=about.config_file(),
            is_demo=about.is_demo,
            accounts=await self.accounts(away),
            listeners=tuple(map(_status_of, about.listeners())),
            patterns=about.directory().patterns,
            warnings=await about.warnings(),
            leftovers=leftovers,
        )

    async def accounts(self, away: StoreUnavailable | None = None) -> tuple[AccountStatus, ...]:
        """As in Status. `away`: see AccountStatuses.of_all()."""
        known = await self.known() if away is None else self._about.directory().accounts
        return await self._statuses.of_all(known, away)

    async def start_page(self) -> StartPage:
        """See InProcess."""
        return StartPage(self._about.is_demo, tuple(map(_status_of, self._about.listeners())))

    async def known(self) -> list[Account]:
        """Accounts with an entry of their own, and those below a pattern where somebody has signed in, or must."""
        directory = self._about.directory()
        known = {account.address: account for account in directory.accounts}
        try:
            signed_in = await self._vault.addresses()
        except BridgeError:
            signed_in = []  # each account's own line tells of the store's trouble
        for account in (*map(directory.find, signed_in), *self._discovered.accounts()):
            if account is not None:
                known.setdefault(account.address, account)
        return list(known.values())

    async def begin_authorization(self, address: str, asker: str = "") -> SignInStarted:
        """See Control."""
        account = self._account(address)
        await self._vault.load_any(account.address)  # raises for a store that is away or a wrong key, before we begin
        pending = await self._authorizations.begin(account, asker)
        match pending.request:
            case AuthorizationRequest(url=url):
                return SignInStarted(account.address, url, pending.expires_at, attempt=pending.attempt)
            case DeviceRequest() as asked:
                return SignInStarted(
                    account.address,
                    asked.verification_url,
                    pending.expires_at,
                    asked.user_code,
                    asked.complete_url,
                    pending.attempt,
                )

    async def complete_authorization(self, parameters: Mapping[str, str]) -> str:
        """See Control. Before it returns, every mail server was tried with the new token."""
        return await self._authorizations.complete(parameters)

    async def cancel_authorization(self, address: str) -> None:
        """See Control."""
        self._authorizations.cancel(self._account(address).address)

    async def forget(self, address: str) -> SignOut:
        """See Control."""
        if left := await self._left(address):
            unrevoked = await self._tokens.forget_address(left)
            await self._passwords.remove(left)
            return SignOut(unrevoked, was_left=True)
        account = self._account(address)
        self._authorizations.cancel(account.address)
        is_stored = account.address in await self._vault.addresses()
        grant = await self._tokens.grant_status(account)
        was_signed_in = is_stored or grant.is_signed_in or not grant.is_readable  # the last: waits to be saved
        return SignOut(await self._tokens.forget(account), was_signed_in=was_signed_in)

    async def _left(self, address: str) -> str:
        """The address as it is stored, if it is a leftover's; an alias of somebody else's account may be one."""
        if self._has_account(address):
            return ""
        found = (one.address for one in await self.leftovers() if same_name(one.address) == same_name(address))
        return next(found, "")

    async def leftovers(self) -> tuple[Leftover, ...]:
        """As in Status. Raises: StoreUnavailable."""
        signed_in, passwords = set(await self._vault.addresses()), set(await self._passwords.addresses())
        return tuple(
            Leftover(address, address in signed_in, address in passwords)
            for address in sorted(signed_in | passwords)
            if not self._has_account(address)
        )

    def _has_account(self, address: str) -> bool:
        account = self._about.directory().find(address)
        return account is not None and same_name(account.address) == same_name(address)

    async def adopt(self, address: str, refresh_token: Secret[str]) -> AccountStatus:
        """See Control."""
        account = self._account(address)
        await self._vault.try_out(account.address)  # first: a token that works only once must not be used up in vain
        await self._tokens.adopt(account, refresh_token)
        await self._server_checks.check_new(account)
        return await self._statuses.of(account)

    async def save(self, address: str) -> AccountStatus:
        """Try once more to save a sign-in that the store did not take; then every mail server is tried.

        Only for a caller in this process that ends with it. Raises: SignInUnsaved while the store does not take it.
        """
        account = self._account(address)
        try:
            await self._tokens.save(account.address)
        except StoreUnavailable as problem:
            raise SignInUnsaved(problem.words) from problem
        await self._server_checks.check_new(account)
        return await self._statuses.of(account)

    async def check_account(self, address: str) -> AccountStatus:
        """See Control."""
        return await self.check(self._account(address))

    async def check(self, account: Account) -> AccountStatus:
        """As check_account(), for the doctor."""
        await self._server_checks.check(account)
        return await self._statuses.of(account)

    async def diagnose(self) -> tuple[Finding, ...]:
        """See Control."""
        return await self._about.diagnose()

    async def local_password(self, address: str) -> Secret[str]:
        """See Control."""
        account = self._account(address)
        if account.is_first_use and not await self._passwords.is_known(account.address):
            # Making one here would lock out the mail program's own password.
            raise PasswordUnknown(diagnosis=Diagnosis.of("password.first_use"))
        return await self._passwords.current(account.address)

    async def rotate_local_password(self, address: str, *, at_once: bool = False) -> Secret[str]:
        """See Control."""
        account = self._account(address)
        new = await self._passwords.rotate(account.address, at_once=at_once)
        self._bus.publish(PasswordReplaced(account.address))
        return new

    async def set_local_password(self, address: str, password: Secret[str], *, at_once: bool = False) -> None:
        """See Control."""
        account = self._account(address)
        await self._passwords.set(account.address, password, at_once=at_once)
        self._bus.publish(PasswordReplaced(account.address))

    def notices(self) -> AsyncGenerator[Notice, None]:
        """See Control."""
        return self._bus.stream()

    def _account(self, address: str) -> Account:
        directory = self._about.directory()
        account = directory.find(address)
        if account is None and address in directory.patterns:
            raise LoginRefused(
                said("{address} stands for everybody in its domain; name one address of that domain", address=address)
            )
        if account is None:
            raise LoginRefused(said("{address} is not in the configuration", address=address))
        return account


def _status_of(listener: Listener) -> ListenerStatus:
    tls = listener.tls.value if listener.tls else ""
    return ListenerStatus(listener.protocol.value, listener.address, tls, listener.sessions)
