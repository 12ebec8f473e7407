"""Composition root: Config in, running App out; start, stop; implements control.contract."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from bridge import __version__
from bridge.accounts.asking import Asks
from bridge.accounts.concerned import Concerned
from bridge.accounts.directory import Directory
from bridge.accounts.door import Door
from bridge.accounts.guesses import Guesses
from bridge.accounts.passwords import LocalPasswords
from bridge.accounts.wishes import Wishes
from bridge.advice.diagnosis import Diagnosis
from bridge.advice.said import Said, Translate, said
from bridge.clock import Clock, SystemClock
from bridge.config.diff import ConfiguredListener, configured_listeners, plan, summary_of
from bridge.config.endpoints import effective_endpoint
from bridge.config.load import LoadedConfig
from bridge.control.contract import (
    AccountState,
    AccountStatus,
    Finding,
    ListenerStatus,
    ProtocolCheck,
    SignInStarted,
    Status,
)
from bridge.doctor.machine import NOT_TOLD, Machine
from bridge.errors import (
    AuthorizationRequired,
    BridgeError,
    ConfigError,
    LoginRefused,
    PasswordUnknown,
    UpstreamRefused,
)
from bridge.hooks.delivery import RunProgram, no_programs
from bridge.hooks.dispatch import Hooks
from bridge.model import AccessToken, Account, Caller, Endpoint, Ends, Protocol, TlsMode, TokenSet
from bridge.notices import AuthorizationNeeded, FlightChecked, ListenerUp, Notice, NoticeBus, Reloaded
from bridge.oauth import registry as providers
from bridge.oauth.base import AuthorizationRequest, DeviceRequest, Provider
from bridge.observe.logs import current, event, report
from bridge.protocols.smtp.extensions import offered_extensions
from bridge.relay.balancers import Balancers
from bridge.relay.flight import Leg, fly
from bridge.relay.limits import ConnectionCap, Turns
from bridge.relay.listener import socket_name
from bridge.relay.ports import Bind, EnsureCertificate, Ports, no_certificate
from bridge.relay.reception import Reception
from bridge.relay.session import Services
from bridge.relay.tls import ListenerCertificate
from bridge.relay.welcome import Service, Welcome
from bridge.secret import Secret
from bridge.stores.sealed import SealedStore
from bridge.tokens.authorizations import Authorizations
from bridge.tokens.expiry import SecretWatch
from bridge.tokens.renewal import Renewal
from bridge.tokens.service import TokenService
from bridge.tokens.vault import Vault
from bridge.workers.process import StartWorker
from bridge.workers.wire import Manner

if TYPE_CHECKING:
    from bridge.doctor.examination import Examination
    from bridge.workers.pool import Pool


async def _not_told(ends: Ends | None) -> Caller:
    return Caller(unknown="mail-bridge was not told how to ask this system")


async def _not_named(ends: Ends | None) -> str:
    return ""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What differs between a machine, a demo and a test."""

    store: SealedStore
    """The App closes it."""
    bind: Bind
    clock: Clock = field(default_factory=SystemClock)
    is_demo: bool = False
    machine: Machine = NOT_TOLD
    """For the doctor."""
    store_place: Path | None = None
    """The store's file, which need not be there yet; None where it is in no file."""
    run_program: RunProgram = no_programs
    """For `notify: {command: …}`."""
    translation: Callable[[str], Translate] = lambda configured: str
    """From `language` of the configuration to that of the sentences for scripts, which a person reads in the end."""
    caller_of: Callable[[Ends | None], Awaitable[Caller]] = _not_told
    """Whose program is at the other end of a local connection."""
    program_of: Callable[[Ends | None], Awaitable[str]] = _not_named
    """The program's name."""
    ensure_certificate: EnsureCertificate = no_certificate
    """For ports with TLS and without a certificate of their own."""
    authority_file: Path | None = None
    """Who signs that certificate; need not be there yet."""
    start_worker: StartWorker | None = None
    """None where a mail client's connection cannot be handed to another process: Windows."""


class App:
    """The bridge. Order of life: opened(), bind(), serve(), stop(). As a Control it works from opened() on."""

    def __init__(self, loaded: LoadedConfig, surroundings: Surroundings) -> None:
        config = loaded.config
        self._loaded = loaded
        self._surroundings = surroundings
        self._bind = surroundings.bind
        self._clock = surroundings.clock
        self._store = surroundings.store
        self._is_demo = surroundings.is_demo
        self._bus = NoticeBus()
        self._directory = Directory(config)
        self._passwords = LocalPasswords(surroundings.store, self._clock)
        self._providers = {
            name: providers.create(name, provider, self._clock) for name, provider in config.providers.items()
        }
        self._vault = Vault(surroundings.store)
        self._tokens = TokenService(
            self._vault, self._providers, self._clock, self._bus, self.sign_in_url, self._verify
        )
        self._retired_providers: list[Provider] = []
        self._redirect_uris = {name: provider.redirect_uri for name, provider in config.providers.items()}
        self._authorizations = Authorizations(self._providers, self._redirect_uris, self._clock, self._bus, self._keep)
        self._reception = Reception(self._smtp_extensions)
        self._upstreams = self._reception.upstreams
        self._asks = Asks(self._clock)
        self.concerned = Concerned(self._find, self._is_pending, surroundings.caller_of, self._clock)
        self._bus.on_notice(lambda notice: self.concerned.heard(getattr(notice, "address", "")))
        self.visitors = Wishes(
            self._find,
            self._passwords,
            self._asks,
            self._clock,
            surroundings.caller_of,
            surroundings.program_of,
            self.concerned.note,
        )
        """Both for the console."""
        door = Door(self._find, self._passwords, Guesses(self._clock), self._asks, self._first_use)
        self._services = Services(
            door.admit,
            self._tokens.access_token,
            Turns(),
            ConnectionCap(),
            surroundings.caller_of,
            self.visitors.asked,
        )
        self._pool = _pool(config.workers, surroundings, self._services, self._manner)
        self._secrets = SecretWatch(lambda: self._loaded.config, self._clock, self._bus)
        self._hooks = Hooks(
            lambda: self._loaded.config.notify,
            surroundings.run_program,
            self._clock,
            lambda: surroundings.translation(self.language),
        )
        self._bus.on_notice(self._hooks.take)
        if self._pool is not None:
            self._bus.on_notice(self._pool.take)
        self._diagnosing = asyncio.Lock()
        self._checks: dict[str, tuple[ProtocolCheck, ...]] = {}
        self._ports = Ports(
            surroundings.bind,
            self._serving,
            surroundings.ensure_certificate,
            self._pool.renew_certificates if self._pool is not None else lambda: None,
        )
        self.console_sockets: list[socket.socket] = []
        """Bound by bind(); whoever serves the console takes them."""

    # --- life ---------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[App]:
        """Usable as a Control; no port is open. Leaving waits for refreshes under way and releases everything."""
        try:
            async with self._tokens.running(), self._authorizations.running():
                yield self
        finally:
            async with AsyncExitStack() as stack:
                stack.push_async_callback(self._store.close)
                for provider in (*self._providers.values(), *self._retired_providers):
                    stack.push_async_callback(provider.close)

    def bind(self, *, console_only: bool = False) -> None:
        """Open all ports, or none. Raises: BridgeError naming port and remedy; ConfigError for a certificate."""
        if self._loaded.config.workers > 1 and self._pool is None:
            from bridge.doctor.ports import NO_WORKERS

            raise ConfigError([Said(NO_WORKERS)])
        console = self._loaded.config.console
        # A browser may look for localhost at 127.0.0.1 or at ::1: the redirect must arrive either way.
        self.console_sockets = self._bind("localhost", console.port, "console")
        try:
            if not console_only:
                self._ports.change((), configured_listeners(self._loaded.config))
        except BridgeError:
            self.close_ports()
            raise

    def close_ports(self) -> list[str]:
        """Give up what bind() opened, without serving. Returns: the addresses."""
        names = [listener.address for listener in self._ports.listeners]
        names += [socket_name(sock) for sock in self.console_sockets]
        self._ports.close()
        for sock in self.console_sockets:
            sock.close()
        self.console_sockets = []
        return names

    async def check_store(self) -> None:
        """Open the store and its key now, rather than with the first login. Raises: StoreUnavailable, StoreCorrupt."""
        await self._store.check()

    async def serve(self) -> None:
        """Serve mail clients until stop(); sessions get a moment to end."""
        async with asyncio.TaskGroup() as group:
            background = [
                group.create_task(Renewal(self._tokens, self._find, self._clock).run()),
                group.create_task(self._hooks.run()),
                group.create_task(self._secrets.run()),
                group.create_task(self._ports.follow_certificates(self._clock.pause)),
                *([group.create_task(self._pool.run())] if self._pool is not None else []),
            ]
            for listener in self._ports.listeners:
                self._bus.publish(ListenerUp(listener.protocol.value, listener.address))
            await self._ports.run()
            for task in background:
                task.cancel()

    def stop(self) -> None:
        """Accept nothing more; serve() returns once the sessions have ended, or have had their time."""
        self._ports.stop()

    def apply(self, loaded: LoadedConfig) -> str:
        """Put a changed configuration in force; no session is dropped, and sign-ins under way go on where they can.

        Returns: what has changed, in one sentence; empty if nothing has. Raises: BridgeError, ConfigError when a new
        port cannot be opened; then nothing has changed.
        """
        old, new = self._loaded.config, loaded.config
        change = plan(old, new)
        self._ports.look()
        for listener in self._ports.change(change.listeners_to_close, change.listeners_to_open):
            self._bus.publish(ListenerUp(listener.protocol.value, listener.address))
        self._loaded = loaded
        self._directory = Directory(new)
        for name in (*change.providers_removed, *change.grants_invalidated):
            self._authorizations.drop_provider(name)
        for name in (*change.providers_removed, *change.providers_changed, *change.grants_invalidated):
            self._retired_providers.append(self._providers.pop(name))  # closed at the end: a refresh may be under way
            self._redirect_uris.pop(name)
        for name, provider in new.providers.items():
            if name not in self._providers:
                self._providers[name] = providers.create(name, provider, self._clock)
            self._redirect_uris[name] = provider.redirect_uri
        self._authorizations.drop_changed(self._find)
        self._secrets.look()
        self.tell_workers()
        summary = summary_of(change)
        if summary:
            event("configuration.applied", summary=summary)
            self._bus.publish(Reloaded(summary))
        return summary

    def tell_workers(self) -> None:
        """Call when something has changed that they go by: the configuration, or how this process logs."""
        if self._pool is not None:
            self._pool.tell()

    def on_notice(self, callback: Callable[[Notice], None]) -> None:
        """Call `callback` for each notice from now on; it must not block."""
        self._bus.on_notice(callback)

    @property
    def console_port(self) -> int:
        """Where the console is, or will be."""
        if self.console_sockets:
            port: int = self.console_sockets[0].getsockname()[1]
            return port
        return self._loaded.config.console.port

    @property
    def language(self) -> str:
        """Of the configuration: en, fr or auto."""
        return self._loaded.config.language

    def sign_in_url(self, address: str) -> str:
        """The console's page that starts a sign-in; short enough to type."""
        return f"http://localhost:{self.console_port}/sign-in/{quote(address, safe='@')}"

    # --- what sessions ask --------------------------------------------------------------------------------------

    async def _is_waiting(self, account: Account) -> bool:
        """True if a mail program's own password waits to be confirmed."""
        if not account.is_first_use or not self._asks.of(account.address):
            return False
        try:
            return not await self._passwords.is_known(account.address)
        except BridgeError:
            return False  # the store's trouble shows in other places

    async def _is_pending(self, account: Account) -> bool | None:
        """See Concerned."""
        state = (await self._account_status(account)).state
        return state is AccountState.PENDING if state in {AccountState.SIGN_IN, AccountState.PENDING} else None

    def _first_use(self, account: Account) -> AuthorizationRequired:
        """A mail program has come with a password of its own: the person signs in, and says whether it is theirs."""
        url, wanted = self.sign_in_url(account.address), Diagnosis.of("sign_in.password")
        if self._asks.is_news(account.address):
            self._bus.publish(AuthorizationNeeded(account.address, url, wanted.told(), wanted))
        return AuthorizationRequired(account.address, url, wanted.told(), diagnosis=wanted)

    async def _verify(self, account: Account, token: AccessToken) -> None:
        """Whose mailbox does this token open? The first mail server that is configured tells."""
        for protocol in (p for p in Protocol if p in account.endpoints):
            opened = await self._upstreams[protocol].open(account, token)
            opened.channel.close()
            return
        raise UpstreamRefused(said("no mail server is configured for {address}", address=account.address))

    def _smtp_endpoints(self) -> tuple[Endpoint, ...]:
        """Every SMTP server of the configuration."""
        config = self._loaded.config
        used = dict.fromkeys(account.provider for account in config.accounts)
        endpoints = [effective_endpoint(config.providers[name], Protocol.SMTP) for name in used]
        return tuple(endpoint for endpoint in endpoints if endpoint is not None)

    def _smtp_extensions(self) -> tuple[str, ...]:
        """What each of them is known to honour."""
        return offered_extensions(map(self._reception.learned_extensions, self._smtp_endpoints()))

    def _manner(self) -> Manner:
        level, style = current()
        return Manner(level, style, self._smtp_endpoints())

    def _serving(self, listener: ConfiguredListener, certificate: ListenerCertificate | None) -> Welcome:
        """How the mail clients of a port are served: in this process, or by a worker, which makes its own context."""
        address, services = listener.address, self._services
        balancers = Balancers(address.proxy_protocol_from) if address.proxy_protocol_from else None
        if self._pool is not None:
            return self._pool.serving(listener, certificate, balancers)
        context = certificate.context if certificate is not None else None
        is_implicit = address.tls is TlsMode.IMPLICIT
        serve = self._reception.serving(listener.protocol, None if is_implicit else context, services)
        return Service(serve, services.cap, context if is_implicit else None, services.caller_of, balancers)

    # --- Control ------------------------------------------------------------------------------------------------

    async def status(self) -> Status:
        """See Control."""
        known = list(self._directory.accounts)
        addresses = {account.address for account in known}
        try:
            signed_in = await self._vault.addresses()
        except BridgeError:
            signed_in = []  # each account's own line tells of the store's trouble
        for address in signed_in:
            account = self._directory.find(address)
            if account is not None and account.address not in addresses:
                known.append(account)
        return Status(
            version=__version__,
            config_file=self._loaded.name,
            is_demo=self._is_demo,
            accounts=tuple([await self._account_status(account) for account in known]),
            listeners=tuple(
                ListenerStatus(
                    listener.protocol.value,
                    listener.address,
                    listener.tls.value if listener.tls else "",
                    listener.sessions,
                )
                for listener in self._ports.listeners
            ),
            patterns=self._directory.patterns,
            warnings=(*(one.diagnosis for one in self._secrets.expiring()), *self._certificate_warnings()),
        )

    def _certificate_warnings(self) -> tuple[Diagnosis, ...]:
        from bridge.doctor.local_tls import certificate_warnings  # late, as in examination()

        today = datetime.fromtimestamp(self._clock.now()).date()
        return certificate_warnings(self._loaded.config, self._surroundings.authority_file, today)

    async def begin_authorization(self, address: str) -> SignInStarted:
        """See Control."""
        account = self._account(address)
        pending = await self._authorizations.begin(account)
        local_url = self.sign_in_url(account.address)
        match pending.request:
            case AuthorizationRequest(url=url):
                return SignInStarted(account.address, url, local_url, pending.expires_at)
            case DeviceRequest() as asked:
                return SignInStarted(
                    account.address,
                    asked.verification_url,
                    local_url,
                    pending.expires_at,
                    asked.user_code,
                    asked.complete_url,
                )

    async def complete_authorization(self, parameters: Mapping[str, str]) -> str:
        """See Control. Before it returns, every mail server was tried with the new token."""
        return await self._authorizations.complete(parameters)

    async def _keep(self, account: Account, tokens: TokenSet) -> str:
        """A sign-in is over once its subject was checked, it is stored, and every mail server was tried."""
        who = await self._tokens.keep(account, tokens)
        await self._fly(account)
        return who

    async def cancel_authorization(self, address: str) -> None:
        """See Control."""
        self._authorizations.cancel(self._account(address).address)

    async def forget(self, address: str) -> None:
        """See Control."""
        account = self._account(address)
        self._authorizations.cancel(account.address)
        self._checks.pop(account.address, None)
        await self._tokens.forget(account)

    async def adopt(self, address: str, refresh_token: Secret[str]) -> AccountStatus:
        """See Control."""
        account = self._account(address)
        await self._tokens.adopt(account, refresh_token)
        await self._fly(account)
        return await self._account_status(account)

    async def local_password(self, address: str) -> Secret[str]:
        """See Control."""
        account = self._account(address)
        if account.is_first_use and not await self._passwords.is_known(account.address):
            later = Diagnosis.of("password.first_use")  # one of ours, made because somebody looked, would lock it out
            raise PasswordUnknown(later.told(), diagnosis=later)
        return await self._passwords.current(account.address)

    async def rotate_local_password(self, address: str) -> Secret[str]:
        """See Control."""
        return await self._passwords.rotate(self._account(address).address)

    async def set_local_password(self, address: str, password: Secret[str]) -> None:
        """See Control."""
        await self._passwords.set(self._account(address).address, password)

    def notices(self) -> AsyncIterator[Notice]:
        """See Control."""
        return self._bus.stream()

    async def check_account(self, address: str) -> AccountStatus:
        """See Control."""
        account = self._account(address)
        await self._try_servers(account)
        return await self._account_status(account)

    async def diagnose(self) -> tuple[Finding, ...]:
        """See Control."""
        from bridge.doctor.ports import OURS

        async with self._diagnosing:  # each one asks the providers for tokens: never two at a time
            return await self.examination(held_ports=OURS if self.console_sockets else "").everything()

    def examination(self, *, held_ports: str = "") -> Examination:
        """What the doctor can look at; `held_ports` as there."""
        from bridge.doctor.accounts import Clinic  # late: 3 MiB and 50 ms that a bridge which is well never needs
        from bridge.doctor.examination import Examination

        async def try_servers(account: Account) -> AccountStatus:
            await self._try_servers(account)
            return await self._account_status(account)

        return Examination(
            self._loaded,
            self._surroundings.machine,
            self._bind,
            held_ports,
            self._surroundings.store_place,
            self._surroundings.authority_file,
            self._store.check,
            self._directory.accounts,
            Clinic(self._account_status, self._renewed, try_servers, self._clock.now),
        )

    async def _renewed(self, account: Account) -> AccessToken:
        return await self._tokens.renew(account, 1.0)  # no token has all of its life left: the provider is asked

    async def _fly(self, account: Account) -> None:
        """Try the mail servers now, so that what an administrator must change is told today and not by the CRM."""
        try:
            await self._try_servers(account)
        except BridgeError as problem:
            report("flight.cancelled", problem, account=account.address)
            self._bus.publish(FlightChecked(account.address, ""))

    async def _try_servers(self, account: Account) -> None:
        token = await self._tokens.access_token(account)
        legs = await fly(self._upstreams, account, token)
        self._checks[account.address] = tuple(_check_of(leg) for leg in legs)
        failed = ", ".join(leg.protocol.value for leg in legs if not leg.is_ok)
        self._bus.publish(FlightChecked(account.address, failed))

    def _find(self, address: str) -> Account | None:
        """By the configuration of today, which may not be the one of this morning."""
        return self._directory.find(address)

    def _account(self, address: str) -> Account:
        account = self._directory.find(address)
        if account is None and address in self._directory.patterns:
            raise LoginRefused(
                said("{address} stands for everybody of its domain; name one address of it", address=address)
            )
        if account is None:
            raise LoginRefused(said("{address} is in no account of the configuration", address=address))
        return account

    async def _account_status(self, account: Account) -> AccountStatus:
        standing = await self._tokens.standing(account)
        if standing.is_signed_in and not standing.detail and await self._is_waiting(account):
            wanted = Diagnosis.of("sign_in.password")  # a mail program has asked, and nobody has said whose it is
            standing = replace(standing, is_signed_in=False, detail=wanted.told(), diagnosis=wanted)
        if not standing.is_readable:
            state = AccountState.TROUBLE
        elif standing.is_signed_in:
            state = AccountState.TROUBLE if standing.detail else AccountState.READY
        elif self._authorizations.find(account.address) is not None:
            state = AccountState.PENDING
        else:
            state = AccountState.SIGN_IN
        return AccountStatus(
            account.address,
            account.provider,
            standing.signed_in_as or account.subject,
            state,
            standing.detail,
            standing.expires_at,
            self.sign_in_url(account.address),
            self._checks.get(account.address, ()),
            standing.diagnosis,
        )


def _check_of(leg: Leg) -> ProtocolCheck:
    if leg.diagnosis is None:
        return ProtocolCheck(leg.protocol.value, is_ok=True)
    found = leg.diagnosis
    return ProtocolCheck(leg.protocol.value, False, found.advice.turn, found.told(), found)


def _pool(count: int, surroundings: Surroundings, services: Services, manner: Callable[[], Manner]) -> Pool | None:
    """None where this process serves the mail clients itself."""
    if count == 1 or surroundings.start_worker is None:
        return None
    from bridge.workers.pool import Pool  # what one process has no use for

    return Pool(count, surroundings.start_worker, services, manner)
