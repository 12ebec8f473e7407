"""The composition root: makes a running App of a Config; start, reload, stop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bridge.accounts.authenticator import Authenticator
from bridge.accounts.directory import Directory
from bridge.accounts.discovered import DiscoveredAccounts
from bridge.accounts.failed_logins import FailedLogins
from bridge.accounts.first_use import FirstUse
from bridge.accounts.passwords import LocalPasswords
from bridge.accounts.pending_logins import PendingLogins
from bridge.accounts.sign_in_prompts import SignInPrompts
from bridge.accounts.waiting_programs import WaitingPrograms
from bridge.advice.diagnosis import Diagnosis
from bridge.advice.said import Said, Translate
from bridge.clock import Clock, SystemClock
from bridge.config.console import sign_in_url
from bridge.config.diff import ConfiguredListener, configured_listeners, plan, summary_of, until_restart
from bridge.config.endpoints import endpoints_of
from bridge.config.in_force import not_in_force, refusal
from bridge.config.load import LoadedConfig
from bridge.config.schema import Config
from bridge.control.contract import Finding
from bridge.controller.account_counts import AccountCounts
from bridge.controller.account_status import AccountStatuses
from bridge.controller.controller import About, Controller
from bridge.controller.late_imports import loading
from bridge.controller.server_answers import ServerAnswers
from bridge.controller.server_checks import ServerChecks
from bridge.doctor.machine import Machine
from bridge.errors import BridgeError, ConfigError, TooLittleLeft
from bridge.hooks.delivery import RunProgram
from bridge.hooks.dispatch import Hooks
from bridge.model import Account, Caller, Endpoint, Ends, Protocol, TlsMode
from bridge.notices import ListenerUp, Notice, NoticeBus, Refreshed, RefreshFailed, Reloaded
from bridge.oauth.providers import Providers
from bridge.observe.log_file import path_of
from bridge.observe.logs import current, current_stream, event
from bridge.observe.metrics import REFRESHES, exposition
from bridge.observe.supervisor import kept
from bridge.relay.balancers import Balancers
from bridge.relay.channel import ends_of
from bridge.relay.limits import ConnectionCap, Turns
from bridge.relay.ports import Bind, EnsureCertificate, Ports
from bridge.relay.reception import Reception
from bridge.relay.server_check import log_in
from bridge.relay.session import Services
from bridge.relay.tls import ListenerCertificate
from bridge.relay.welcome import Service, Welcome
from bridge.stores.sealed import SealedStore
from bridge.threads import Threads
from bridge.tokens.authorizations import Authorizations
from bridge.tokens.expiry import SecretWatch
from bridge.tokens.renewal import Renewal
from bridge.tokens.service import TokenService
from bridge.tokens.vault import Vault
from bridge.workers.process import StartWorker
from bridge.workers.wire import WorkerSettings

if TYPE_CHECKING:
    from bridge.doctor.examination import Examination
    from bridge.workers.pool import Pool


LOOK_SECONDS = 2.0
"""How long a status or a reload waits for the certificate files."""
AGAIN_SECONDS = 0.5
"""How long to wait if the last look at a file is not over yet; unless a drive hangs, a look takes milliseconds."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What differs between a machine, a demo and a test."""

    store: SealedStore
    """The App closes it."""
    bind: Bind
    is_demo: bool
    machine: Machine
    """For the doctor."""
    store_place: Path | None
    """The store's file, which need not exist yet; None if the store is not a file."""
    run_program: RunProgram
    """For `notify: {command: …}`."""
    translation: Callable[[str], Translate]
    """From `language` in the configuration to the translation of sentences for scripts, which people read in the
    end."""
    caller_of: Callable[[Ends | None], Awaitable[Caller]]
    """Whose program is at the other end of a local connection."""
    caller_at_once: Callable[[Ends | None], Caller | None]
    """The same if that takes microseconds; None if `caller_of` has to be asked."""
    key_at_once: Callable[[Ends | None], str]
    """What tells callers apart for a moment; empty for all that nobody knows."""
    program_of: Callable[[Ends | None], Awaitable[str]]
    """The program's name."""
    ensure_certificate: EnsureCertificate
    """Makes the certificate for ports with TLS that have none of their own."""
    authority_file: Path
    """The authority that signs that certificate; need not exist yet."""
    start_worker: StartWorker | None
    """None on Windows, where a mail client's connection cannot be handed to another process."""


class App:
    """The bridge. Call in this order: opened(), bind(), serve(), stop(). `control` works from opened() on."""

    def __init__(self, loaded: LoadedConfig, surroundings: Surroundings) -> None:
        clock, callers = SystemClock(), surroundings.caller_of
        self._loaded = loaded
        self._started = loaded.config
        """The configuration at the start: a reload moves neither console nor store, and starts no worker."""
        self._refused: Diagnosis | None = None
        """Why the current file is not in force; None if it is."""
        self._surroundings = surroundings
        self._clock = clock
        self._bus = NoticeBus()
        self._directory = Directory(loaded.config)
        self._providers = Providers(loaded.config.providers, clock)
        self._found_endpoints: tuple[Config | None, Mapping[Protocol, tuple[Endpoint, ...]]] = None, {}
        self._reception = Reception(lambda protocol: self._endpoints()[protocol])

        vault = Vault(surroundings.store)
        verify = partial(log_in, self._reception.upstreams)
        adapters, redirect_uris = self._providers.adapters, self._providers.redirect_uris
        self._tokens = TokenService(vault, adapters, clock, self._bus, self.sign_in_url, verify)
        answers = ServerAnswers(clock, self._bus)
        server_checks = ServerChecks(self._reception.upstreams, self._tokens, answers, clock, self._bus)
        self._authorizations = Authorizations(
            adapters, redirect_uris, clock, self._bus, server_checks.keep, self._find, vault.try_out
        )

        logins, passwords = PendingLogins(clock), LocalPasswords(surroundings.store, clock, self._password_changed)
        self._passwords = passwords
        self._statuses = AccountStatuses(
            self._tokens, self._authorizations, passwords, logins, answers, self.sign_in_url
        )
        self.prompts = SignInPrompts(self._find, self._statuses.is_pending, callers, clock)
        """For the console, as `visitors`."""
        self.visitors = WaitingPrograms(
            self._find, passwords, logins, clock, callers, surroundings.program_of, self.prompts.note
        )

        first_use = FirstUse(logins, self._bus, self.sign_in_url)
        authenticator = Authenticator(self._find, passwords, FailedLogins(clock), logins, first_use, clock)
        self._services = Services(
            authenticator.admit,
            self._tokens.access_token,
            Turns(),
            ConnectionCap(),
            callers,
            self.visitors.asked,
            caller_at_once=surroundings.caller_at_once,
            tried=answers.note_login,
        )
        self._pool = _pool(
            loaded.config.workers, surroundings.start_worker, self._services, self._worker_settings, clock
        )
        on_renewed = self._pool.renew_certificates if self._pool is not None else lambda: None
        gather, pace = (self._pool.gather, self._pool.pace) if self._pool is not None else (0.0, None)
        on_closed = self._pool.closed if self._pool is not None else lambda welcome: None
        self._ports = Ports(
            surroundings.bind,
            self._serving,
            surroundings.ensure_certificate,
            on_renewed,
            gather,
            on_closed,
            whose=lambda client: surroundings.key_at_once(ends_of(client)),
            pace=pace,
        )
        self.console_sockets: list[socket.socket] = []
        """Bound by bind(); the console's server takes them over, and closes them before the last answer."""
        self._console_port = 0
        """The port of these sockets; 0 until they are bound."""

        self._secrets = SecretWatch(lambda: self._config, clock, self._bus)
        self._hooks = Hooks(
            lambda: self._config.notify,
            surroundings.run_program,
            clock,
            lambda: surroundings.translation(self.language),
        )
        discovered = DiscoveredAccounts(self._find, clock)
        self._bus.on_notice(discovered.take)
        self._bus.on_notice(lambda notice: self.prompts.heard(getattr(notice, "address", "")))
        self._bus.on_notice(self._hooks.take)
        self._bus.on_notice(self._count)
        if self._pool is not None:
            self._bus.on_notice(self._pool.take)

        self._diagnosing = asyncio.Lock()
        self._looks: dict[Path, Threads] = {}
        """Threads that look at certificate files for the status, by file."""
        about = About(
            lambda: str(self._loaded.path.absolute()) if self._loaded.path is not None else self._loaded.name,
            surroundings.is_demo,
            lambda: self._directory,
            lambda: self._ports.listeners,
            self._warnings,
            self._diagnose,
        )
        self.control = Controller(
            about,
            self._bus,
            vault,
            self._tokens,
            self._authorizations,
            passwords,
            server_checks,
            self._statuses,
            discovered,
        )
        """What a UI may ask for."""
        self._account_counts = AccountCounts(self.control.accounts, clock)

    # --- life ---------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[App]:
        """In the body `control` can be used, but no port is open. Leaving waits for refreshes under way and releases
        everything."""
        try:
            async with self._tokens.running(), self._authorizations.running():
                yield self
        finally:
            async with AsyncExitStack() as stack:
                stack.push_async_callback(self._surroundings.store.close)
                stack.push_async_callback(self._providers.close)

    def bind(self, *, console_only: bool = False) -> None:
        """Open all ports, or none. Raises: BridgeError naming port and remedy; ConfigError for a certificate."""
        if self._config.workers > 1 and self._pool is None:
            from bridge.doctor.ports import NO_WORKERS

            raise ConfigError([Said(NO_WORKERS)])
        # A browser may look for localhost at 127.0.0.1 or at ::1: the redirect must arrive either way.
        self.console_sockets = self._surroundings.bind("localhost", self._config.console.port, "console")
        self._console_port = self.console_sockets[0].getsockname()[1]
        try:
            if not console_only:
                self._ports.open(configured_listeners(self._config))
        except BridgeError:
            self._close_ports()
            raise

    def _close_ports(self) -> None:
        self._ports.close()
        for sock in self.console_sockets:
            sock.close()
        self.console_sockets, self._console_port = [], 0

    async def check_store(self) -> None:
        """Open the store and its key now, not only at the first login. Raises: StoreUnavailable, StoreCorrupt."""
        await self._surroundings.store.check()

    async def serve(self) -> None:
        """Serve mail clients until stop(); sessions get a moment to end."""
        async with asyncio.TaskGroup() as group:
            background = [group.create_task(kept(name, run, self._clock)) for name, run in self._helpers()]
            for listener in self._ports.listeners:
                self._bus.publish(ListenerUp(listener.protocol.value, listener.address))
            await self._ports.run()
            for task in background:
                task.cancel()

    def _helpers(self) -> Iterator[tuple[str, Callable[[], Awaitable[None]]]]:
        """The background tasks, by name."""
        yield "renewal", Renewal(self._tokens, self._find, self._clock).run
        yield "hooks", self._hooks.run
        yield "client secrets", self._secrets.run
        yield "certificates", partial(self._ports.follow_certificates, self._clock.pause)
        yield "replaced providers", partial(self._providers.close_retired, self._clock.pause)
        if self._pool is not None:
            yield "workers", self._pool.run
            yield "local passwords", self._passwords.follow

    def stop(self) -> None:
        """Accept nothing more; serve() returns once the sessions have ended, or have had their time.

        Clients that have not logged in yet are told at once, because a session begun now would be cut short.
        """
        self._services.stopping.begin()
        self._ports.stop()

    async def apply(self, loaded: LoadedConfig) -> str:
        """Put a changed configuration in force; no session is dropped, and sign-ins under way go on if they can. One
        call at a time.

        Returns: what has changed, in one sentence; empty if nothing has. Raises: BridgeError, ConfigError when a new
        port cannot be opened or a provider's adapter not loaded; then nothing has changed.
        """
        old, new = self._config, loaded.config
        change = plan(old, new)
        outdated = (*change.providers_removed, *change.providers_changed, *change.grants_invalidated)
        with loading():
            change_providers = self._providers.prepared(outdated, until_restart(new, self._started.console))
        with suppress(TimeoutError):  # a certificate file that does not answer now is taken up by a later look
            async with asyncio.timeout(LOOK_SECONDS):
                await self._ports.look()
        for listener in await self._ports.change(change.listeners_to_close, change.listeners_to_open):
            self._bus.publish(ListenerUp(listener.protocol.value, listener.address))
        self._loaded, self._refused = loaded, None
        self._directory = Directory(new)
        for name in (*change.providers_removed, *change.grants_invalidated):
            self._authorizations.drop_provider(name)
        change_providers()
        self._authorizations.drop_changed()
        self._secrets.look()
        self.tell_workers()
        summary = summary_of(change)
        if summary:
            event("configuration.applied", summary=summary)
            self._bus.publish(Reloaded(summary))
        await self._ports.settled()  # so that what is told of this from now on is true of every client
        return summary

    def refused(self, problem: BridgeError) -> None:
        """A changed configuration cannot be put in force. The administrator is told so until one can, or until the file
        is as it was before."""
        self._refused = refusal(problem)

    def tell_workers(self) -> None:
        """Call when something that workers depend on has changed: the configuration, or how this process logs."""
        if self._pool is not None:
            self._pool.tell()

    def _password_changed(self, address: str) -> None:
        """Workers remember right passwords: have them forget this account's."""
        if self._pool is not None:
            self._pool.forget(address)

    def on_notice(self, callback: Callable[[Notice], None]) -> None:
        """Call `callback` for each notice from now on; it must not block."""
        self._bus.on_notice(callback)

    async def metrics(self) -> str:
        """The counters in the text format of Prometheus; asks the store once a minute at most, and nobody else."""
        return exposition(self._services.counters, self._ports.sessions, await self._account_counts.counts())

    def _count(self, notice: Notice) -> None:
        match notice:
            case Refreshed():
                self._services.counters.add(REFRESHES, "done")
            case RefreshFailed():
                self._services.counters.add(REFRESHES, "later" if notice.temporary else "failed")

    @property
    def console_port(self) -> int:
        """The port where the console is, or will be."""
        return self._console_port or self._config.console.port

    @property
    def language(self) -> str:
        """The `language` of the configuration: en, fr or auto."""
        return self._config.language

    @property
    def has_os_users(self) -> bool:
        """True if some account is for certain users of this machine."""
        return any(account.os_user for account in self._config.accounts)

    def sign_in_url(self, address: str) -> str:
        """The console's page that starts a sign-in."""
        return sign_in_url(self.console_port, address)

    @property
    def _config(self) -> Config:
        """The configuration in force; a reload replaces it."""
        return self._loaded.config

    def _find(self, address: str) -> Account | None:
        """The account of this address in the configuration in force."""
        return self._directory.find(address)

    # --- how mail clients are served ----------------------------------------------------------------------------

    def _worker_settings(self) -> WorkerSettings:
        level, style = current()
        file = self._config.log.file or path_of(current_stream())  # the latter if there is no standard error
        return WorkerSettings(level, style, file, self._endpoints())

    def _endpoints(self) -> Mapping[Protocol, tuple[Endpoint, ...]]:
        """Computed once for each configuration: each mail client's greeting needs them, and for a thousand accounts it
        takes 0.3 ms."""
        config, found = self._found_endpoints
        if config is not self._config:
            found = {protocol: endpoints_of(self._config, protocol) for protocol in Protocol}
            self._found_endpoints = self._config, found
        return found

    def _serving(self, listener: ConfiguredListener, certificate: ListenerCertificate | None) -> Welcome:
        """How the mail clients of a port are served: in this process, or by a worker, which makes its own TLS
        context."""
        address, services = listener.address, self._services
        balancers = Balancers(address.proxy_protocol_from) if address.proxy_protocol_from else None
        if self._pool is not None:
            return self._pool.serving(listener, certificate, balancers)
        context = certificate.context if certificate is not None else None
        is_implicit = address.tls is TlsMode.IMPLICIT
        serve = self._reception.serving(listener.protocol, None if is_implicit else context, services)
        return Service(serve, services.cap, context if is_implicit else None, services.caller_of, balancers)

    # --- what the doctor looks at -------------------------------------------------------------------------------

    async def _diagnose(self) -> tuple[Finding, ...]:
        with loading():
            from bridge.doctor.configuration import running_findings
            from bridge.doctor.ports import OURS

        ports = {(listener.protocol.value, listener.address.port) for listener in configured_listeners(self._config)}
        taken = frozenset({*ports, ("console", self._started.console.port)})
        async with self._diagnosing:  # one at a time, because each asks the providers for tokens
            found = await self.examination(held_ports=OURS if self.console_sockets else "", taken=taken).everything()
        return (*running_findings(await self._warnings()), *found)

    def examination(self, *, held_ports: str = "", taken: frozenset[tuple[str, int]] | None = None) -> Examination:
        """What the doctor can examine; `held_ports` and `taken` as in Examination."""
        with loading():  # late: 3 MiB and 50 ms that a healthy bridge never needs
            from bridge.doctor.accounts import AccountActions
            from bridge.doctor.examination import Examination

        renewed = partial(self._tokens.renew, share=1.0)  # no token has its whole life left, so the provider is asked
        return Examination(
            self._loaded,
            self._surroundings.machine,
            self._surroundings.bind,
            held_ports,
            self._surroundings.store_place,
            self._surroundings.authority_file,
            self._surroundings.store.check,
            self.control.known,
            AccountActions(self._statuses.of, renewed, self.control.check, self._clock.now, is_served=bool(held_ports)),
            self.control.leftovers,
            taken,
            self._surroundings.is_demo,
        )

    async def _warnings(self) -> tuple[Diagnosis, ...]:
        secrets = (one.diagnosis for one in self._secrets.expiring())
        try:
            own = await self._certificate_warnings()
        except TooLittleLeft:
            own = ()  # a later status has them again; until then the rest is worth knowing
        return (*not_in_force(self._refused, self._started, self._config), *secrets, *own)

    async def _certificate_warnings(self) -> tuple[Diagnosis, ...]:
        if all(listener.address.tls is None for listener in configured_listeners(self._config)):
            return ()
        with loading():  # late, as in examination(): 3 MiB and 40 ms
            from bridge.doctor.local_tls import certificate_warnings

        today = datetime.fromtimestamp(self._clock.now()).date()
        return await certificate_warnings(self._config, self._surroundings.authority_file, today, self._looks_at)

    def _looks_at(self, file: Path) -> Threads:
        """A thread for each file, so that a file that does not answer holds up no other."""
        looks = self._looks.get(file)
        if looks is None:
            looks = self._looks[file] = Threads("certificates", at_once=1, limit=LOOK_SECONDS, wait=AGAIN_SECONDS)
        return looks


def _pool(
    count: int,
    start_worker: StartWorker | None,
    services: Services,
    settings: Callable[[], WorkerSettings],
    clock: Clock,
) -> Pool | None:
    """The workers; None if this process serves the mail clients itself."""
    if count == 1 or start_worker is None:
        return None
    from bridge.workers.pool import Pool  # late: not needed by a bridge of one process

    return Pool(count, start_worker, services, settings, clock)
