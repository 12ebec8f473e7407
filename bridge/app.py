"""Composition root: Config in, running App out; start, stop; implements control.contract."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import quote

from bridge import __version__
from bridge.accounts.directory import Directory
from bridge.accounts.passwords import LocalPasswords
from bridge.clock import Clock, SystemClock
from bridge.config.endpoints import effective_endpoint
from bridge.config.load import LoadedConfig
from bridge.config.schema import ListenAddress, is_loopback
from bridge.control.contract import AccountState, AccountStatus, ListenerStatus, SignInStarted, Status
from bridge.errors import BridgeError, ConfigError, LoginRefused, UpstreamRefused
from bridge.model import AccessToken, Account, Login, Protocol, TlsMode
from bridge.notices import ListenerUp, Notice, NoticeBus
from bridge.oauth import registry as providers
from bridge.protocols.base import ClientMachine, Credentials
from bridge.protocols.registry import client_machine, server_machine
from bridge.protocols.smtp.extensions import offered_extensions
from bridge.relay.channel import Channel
from bridge.relay.frontend import Frontend, MachineFrontend
from bridge.relay.limits import ConnectionCap, Turns
from bridge.relay.listener import Listener, socket_name
from bridge.relay.session import Services, Session
from bridge.relay.smtp_frontend import SmtpFrontend
from bridge.relay.tls import UpstreamContexts, listener_context
from bridge.relay.upstream import Dialer, Upstream
from bridge.secret import Secret
from bridge.stores.sealed import SealedStore
from bridge.tokens.authorizations import Authorizations
from bridge.tokens.renewal import Renewal
from bridge.tokens.service import TokenService
from bridge.tokens.vault import Vault

Bind = Callable[[str, int, str], list[socket.socket]]
"""Host, port and what for, to listening sockets. Raises: BridgeError."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What differs between a machine, a demo and a test."""

    store: SealedStore
    """The App closes it."""
    bind: Bind
    clock: Clock = field(default_factory=SystemClock)
    is_demo: bool = False


@dataclass(frozen=True, slots=True)
class _Door:
    """A configured mail listener, bound."""

    protocol: Protocol
    address: ListenAddress
    context: ssl.SSLContext | None
    sockets: list[socket.socket]


class App:
    """The bridge. Order of life: opened(), bind(), serve(), stop(). As a Control it works from opened() on."""

    def __init__(self, loaded: LoadedConfig, surroundings: Surroundings) -> None:
        config = loaded.config
        self._loaded = loaded
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
        redirect_uris = {name: provider.redirect_uri for name, provider in config.providers.items()}
        self._authorizations = Authorizations(self._providers, redirect_uris, self._clock, self._bus, self._tokens.keep)
        self._dialer = Dialer()
        contexts = UpstreamContexts()
        self._upstreams = {
            protocol: Upstream(protocol, _machine_factory(protocol), self._dialer, contexts) for protocol in Protocol
        }
        self._services = Services(self._who, self._tokens.access_token, Turns(), ConnectionCap())
        self._stopping = asyncio.Event()
        self._doors: list[_Door] = []
        self._listeners: list[Listener] = []
        self.console_sockets: list[socket.socket] = []
        """Bound by bind(); whoever serves the console takes them."""

    # --- life ---------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[App]:
        """Usable as a Control; no port is open. Leaving waits for refreshes under way and releases everything."""
        try:
            async with self._tokens.running():
                yield self
        finally:
            async with AsyncExitStack() as stack:
                stack.push_async_callback(self._store.close)
                for provider in self._providers.values():
                    stack.push_async_callback(provider.close)
                stack.callback(self._dialer.close)

    def bind(self, *, console_only: bool = False) -> None:
        """Open all ports, or none. Raises: BridgeError naming port and remedy; ConfigError for a certificate."""
        config = self._loaded.config
        with ExitStack() as undo:

            def bound(address: ListenAddress, what: str, host: str = "") -> list[socket.socket]:
                sockets = self._bind(host or address.host, address.port, what)
                for sock in sockets:
                    undo.callback(sock.close)
                return sockets

            doors = [
                _Door(protocol, address, self._context(address), bound(address, f"listeners.{protocol.value}"))
                for protocol in Protocol
                for address in ([] if console_only else config.listeners.of(protocol))
            ]
            # A browser may look for localhost at 127.0.0.1 or at ::1: the redirect must arrive either way.
            console = bound(config.console, "console", "localhost" if is_loopback(config.console.host) else "")
            undo.pop_all()
        self._doors, self.console_sockets = doors, console
        self._listeners = [self._listener(door) for door in doors]

    def close_ports(self) -> list[str]:
        """Give up what bind() opened, without serving. Returns: the addresses."""
        sockets = [sock for door in self._doors for sock in door.sockets] + self.console_sockets
        names = [socket_name(sock) for sock in sockets]
        for sock in sockets:
            sock.close()
        self._doors, self._listeners, self.console_sockets = [], [], []
        return names

    async def check_store(self) -> None:
        """Open the store and its key now, rather than with the first login. Raises: StoreUnavailable, StoreCorrupt."""
        await self._store.check()

    async def serve(self) -> None:
        """Serve mail clients until stop(); sessions get a moment to end."""
        async with asyncio.TaskGroup() as group:
            renewing = group.create_task(Renewal(self._tokens, self._directory.find, self._clock).run())
            serving = [group.create_task(listener.run()) for listener in self._listeners]
            for listener in self._listeners:
                self._bus.publish(ListenerUp(listener.protocol.value, listener.address))
            if serving:
                await asyncio.wait(serving)
            else:
                await self._stopping.wait()  # no listener at all: a bridge that only keeps its console
            renewing.cancel()

    def stop(self) -> None:
        """Accept nothing more; serve() returns once the sessions have ended, or have had their time."""
        self._stopping.set()
        for listener in self._listeners:
            listener.stop()

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

    def sign_in_url(self, address: str) -> str:
        """The console's page that starts a sign-in; short enough to type."""
        return f"http://localhost:{self.console_port}/sign-in/{quote(address, safe='@')}"

    # --- what sessions ask --------------------------------------------------------------------------------------

    async def _who(self, login: Login) -> Account:
        """A wrong password and an unknown name take the same time and get the same answer."""
        account = self._directory.find(login.username)
        is_right = await self._passwords.check(account.address if account is not None else None, login.password)
        if account is None:
            raise LoginRefused("this user name is in no account of the configuration")
        if not is_right:
            raise LoginRefused("the local password is wrong")
        return account

    async def _verify(self, account: Account, token: AccessToken) -> None:
        """Whose mailbox does this token open? The first mail server that is configured tells."""
        for protocol in (p for p in Protocol if p in account.endpoints):
            opened = await self._upstreams[protocol].open(account, token)
            opened.channel.close()
            return
        raise UpstreamRefused(f"no mail server is configured for {account.address}")

    def _smtp_extensions(self) -> tuple[str, ...]:
        """What every SMTP server of the configuration is known to honour."""
        upstream = self._upstreams[Protocol.SMTP]
        config = self._loaded.config
        used = {account.provider for account in config.accounts}
        endpoints = [effective_endpoint(config.providers[name], Protocol.SMTP) for name in used]
        return offered_extensions(upstream.learned_extensions(endpoint) for endpoint in endpoints if endpoint)

    # --- listeners ----------------------------------------------------------------------------------------------

    def _context(self, address: ListenAddress) -> ssl.SSLContext | None:
        if address.tls is None:
            return None
        try:
            return listener_context(address.certificate or "", address.key or "")
        except (OSError, ssl.SSLError) as problem:
            raise ConfigError(
                (f"listeners: {address.address}: certificate {address.certificate} or its key: {problem}",)
            ) from problem

    def _listener(self, door: _Door) -> Listener:
        starttls = door.context if door.address.tls is TlsMode.STARTTLS else None

        def frontend(client: Channel) -> Frontend:
            if door.protocol is Protocol.SMTP:
                return SmtpFrontend(client, extensions=self._smtp_extensions, context=starttls)
            return MachineFrontend(client, server_machine(door.protocol, starttls=starttls is not None), starttls)

        async def serve(conn: str, client: Channel) -> None:
            upstream = self._upstreams[door.protocol]
            await Session(conn, door.protocol, client, frontend, upstream, self._services).run()

        return Listener(door.protocol, door.sockets, serve, tls=door.address.tls, context=door.context)

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
                for listener in self._listeners
            ),
            patterns=self._directory.patterns,
        )

    async def begin_authorization(self, address: str) -> SignInStarted:
        """See Control."""
        account = self._account(address)
        pending = await self._authorizations.begin(account)
        return SignInStarted(
            account.address, pending.request.url, self.sign_in_url(account.address), pending.expires_at
        )

    async def complete_authorization(self, parameters: Mapping[str, str]) -> str:
        """See Control."""
        return await self._authorizations.complete(parameters)

    async def cancel_authorization(self, address: str) -> None:
        """See Control."""
        self._authorizations.cancel(self._account(address).address)

    async def forget(self, address: str) -> None:
        """See Control."""
        account = self._account(address)
        self._authorizations.cancel(account.address)
        await self._tokens.forget(account)

    async def adopt(self, address: str, refresh_token: Secret[str]) -> AccountStatus:
        """See Control."""
        account = self._account(address)
        await self._tokens.adopt(account, refresh_token)
        return await self._account_status(account)

    async def local_password(self, address: str) -> Secret[str]:
        """See Control."""
        return await self._passwords.current(self._account(address).address)

    async def rotate_local_password(self, address: str) -> Secret[str]:
        """See Control."""
        return await self._passwords.rotate(self._account(address).address)

    async def set_local_password(self, address: str, password: Secret[str]) -> None:
        """See Control."""
        await self._passwords.set(self._account(address).address, password)

    def notices(self) -> AsyncIterator[Notice]:
        """See Control."""
        return self._bus.stream()

    def _account(self, address: str) -> Account:
        account = self._directory.find(address)
        if account is None:
            raise LoginRefused(f"{address} is in no account of the configuration")
        return account

    async def _account_status(self, account: Account) -> AccountStatus:
        standing = await self._tokens.standing(account)
        if standing.is_signed_in:
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
        )


def _machine_factory(protocol: Protocol) -> Callable[[Credentials, bool, str], ClientMachine]:
    def make(credentials: Credentials, starttls: bool, client_name: str) -> ClientMachine:
        return client_machine(protocol, credentials, starttls=starttls, client_name=client_name)

    return make
