"""All checks of one bridge, side by side, each with its time limit; a check that hangs does not hold up the others."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from bridge.config.load import LoadedConfig
from bridge.control.contract import Finding, Leftover, Outcome
from bridge.doctor import accounts
from bridge.doctor.accounts import MOST, AccountActions, account_findings, is_signed_in, left_findings, unused_findings
from bridge.doctor.authorization import authorization_findings
from bridge.doctor.configuration import configuration_findings
from bridge.doctor.discovery import discovery_findings
from bridge.doctor.findings import SLOW, VERBATIM, failed, problem_text, skipped
from bridge.doctor.keys import has_store, keyring_finding, store_finding
from bridge.doctor.local_tls import certificate_findings
from bridge.doctor.machine import Machine, machine_findings, store_findings, user_findings
from bridge.doctor.network import network_findings
from bridge.doctor.places import log_findings
from bridge.doctor.ports import Bind, port_findings
from bridge.doctor.registration import registration_findings
from bridge.errors import BridgeError
from bridge.model import Account
from bridge.threads import NotDone, NoThread, Threads

SECONDS = 55.0
"""For any one check; all run side by side, so that this is the limit of the whole."""
MACHINE_SECONDS = 20.0
"""For questions to the operating system: programs such as netsh or tasklist."""

Findings = tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Examination:
    """What there is to look at, and the means."""

    loaded: LoadedConfig
    machine: Machine
    bind: Bind
    held_ports: str
    """Empty if no bridge of ours holds the ports, so that they are tried; otherwise the sentence to say of them."""
    store_place: Path | None
    """The store's file; None where it is in no file."""
    authority_file: Path
    """The authority that signs the certificate that the bridge makes for its ports; need not exist."""
    check_store: Callable[[], Awaitable[None]]
    """Opens store and key. Raises: BridgeError."""
    accounts: Callable[[], Awaitable[Sequence[Account]]]
    """Accounts with an entry of their own, and those that have come in by a `*@domain` pattern."""
    actions: AccountActions
    leftovers: Callable[[], Awaitable[Sequence[Leftover]]]
    """As in Status. Raises: BridgeError."""
    taken: frozenset[tuple[str, int]] | None = None
    """As in port_findings()."""
    is_demo: bool = False

    async def basics(self) -> Findings:
        """Configuration, log, ports, OS users, store: whether a bridge could start. No other machine is asked."""
        config, machine, today = self.loaded.config, self.machine, datetime.now().date()

        def ports() -> Findings:
            return port_findings(config, self.bind, machine, held=self.held_ports, taken=self.taken)

        async with asyncio.TaskGroup() as group:
            of_ports = group.create_task(in_thread("port", ports))
            opening = store_finding(config.store, self.store_place, self.check_store)
            of_store = group.create_task(bounded("store", one(opening)))
            of_users = group.create_task(in_thread("os user", lambda: user_findings(config, machine)))
            of_drive = group.create_task(in_thread("store", lambda: store_findings(self.store_place, machine)))
            of_certificates = group.create_task(
                in_thread("certificate", lambda: certificate_findings(config, self.authority_file, today))
            )
        (store,) = of_store.result()
        # Only once there is a store: the first run makes it.
        left = await bounded("store", self._leftovers()) if store.outcome is Outcome.OK else ()
        configuration = (*configuration_findings(self.loaded, today), *log_findings(config.log))
        of_this_machine = (*of_certificates.result(), *of_ports.result(), *of_users.result(), *of_drive.result())
        return (*configuration, *of_this_machine, *left, store)

    async def everything(self) -> Findings:
        """The basics, and what only the network and the providers can tell."""
        config = self.loaded.config
        async with asyncio.TaskGroup() as group:
            basics = group.create_task(self._basics_then_accounts())
            machine = group.create_task(in_thread("machine", lambda: machine_findings(config, self.machine)))
            keyring = group.create_task(bounded("keyring", one(keyring_finding(config.store, is_demo=self.is_demo))))
            network = group.create_task(bounded("connection", network_findings(config)))
            tenants = group.create_task(bounded("tenant", discovery_findings(config)))
        first, of_accounts = basics.result()
        return (
            *first, *keyring.result(), *machine.result(), *network.result(), *tenants.result(), *of_accounts
        )  # fmt: skip

    async def _basics_then_accounts(self) -> tuple[Findings, Findings]:
        first = await self.basics()
        store = first[-1]
        if store.outcome is Outcome.FAILED:
            return first, (*await self._registrations(), skipped("token", "", accounts.STORE_CLOSED))
        if not has_store(self.store_place):
            return first, (*await self._registrations(), skipped("token", "", accounts.NO_STORE))
        unattended = frozenset(
            name for name, provider in self.loaded.config.providers.items() if provider.flow.is_unattended
        )
        known = await self.accounts()
        unused = unused_findings(self.loaded.config.accounts, known)
        async with asyncio.TaskGroup() as group:
            registrations = group.create_task(self._registrations(known))
            of_accounts = group.create_task(account_findings(known, self.actions, unattended=unattended))
        return first, (*registrations.result(), *of_accounts.result(), *unused)

    async def _registrations(self, known: Sequence[Account] = ()) -> Findings:
        """Skips providers where somebody is signed in: renewing that token tells as much, and leaves nothing in the
        provider's log."""

        async def look() -> Findings:
            proven = {account.provider for account in known[:MOST] if await is_signed_in(account, self.actions)}
            config = self.loaded.config
            found = await registration_findings(config, proven=proven)
            # A provider that has just been found not to know the client would only be reported twice.
            told = {finding.subject for finding in found}
            return (*found, *await authorization_findings(config, proven=proven | told))

        return await bounded("registration", look())

    async def _leftovers(self) -> Findings:
        try:
            return left_findings(await self.leftovers())
        except BridgeError as problem:
            return (failed("store", "", VERBATIM, problem=problem_text(problem)),)


async def in_thread(check: str, work: Callable[[], Findings]) -> Findings:
    """Run a check in a daemon thread: if it hangs, it does not keep the process from ending."""
    try:
        return await Threads(check, limit=MACHINE_SECONDS, at_once=1).run(work)
    except NoThread as problem:
        return (failed(check, "", VERBATIM, problem=problem.said),)
    except NotDone:
        return (failed(check, "", SLOW, seconds=round(MACHINE_SECONDS)),)


async def bounded(check: str, work: Awaitable[Findings]) -> Findings:
    """Run a check that may take SECONDS."""
    try:
        async with asyncio.timeout(SECONDS):
            return await work
    except TimeoutError:
        return (failed(check, "", SLOW, seconds=round(SECONDS)),)


async def one(work: Awaitable[Finding]) -> Findings:
    """Turn a check with a single finding into one with several."""
    return (await work,)
