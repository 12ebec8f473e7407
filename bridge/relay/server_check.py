"""Tries a new token at each mail server of an account, and says who must do what about a mailbox that does not open."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from bridge.advice.diagnosis import Diagnosis
from bridge.advice.said import said
from bridge.errors import BridgeError, UpstreamRefused
from bridge.model import AccessToken, Account, Protocol
from bridge.observe.logs import event, told
from bridge.relay.upstream import Upstream

SECONDS = 20.0
"""For all servers together: a person waits in front of the browser meanwhile."""


@dataclass(frozen=True, slots=True)
class ServerCheck:
    """How one protocol went."""

    protocol: Protocol
    diagnosis: Diagnosis | None = None
    """What happened and who must do what; None when all is well."""
    is_temporary: bool = False
    """True if the next attempt may succeed without anybody doing anything."""

    @classmethod
    def of(cls, protocol: Protocol, problem: BridgeError | None) -> ServerCheck:
        """The result for an Upstream's `problem`; None if there was none."""
        if problem is None:
            return cls(protocol)
        diagnosis = problem.diagnosis or Diagnosis("mail.unreachable", words=problem.words)
        return cls(protocol, diagnosis, problem.temporary)

    @property
    def is_ok(self) -> bool:
        """True if the mailbox opens."""
        return self.diagnosis is None


async def check_servers(
    upstreams: Mapping[Protocol, Upstream], account: Account, token: AccessToken
) -> tuple[ServerCheck, ...]:
    """Log in to each of the account's mail servers and out again, in parallel; raises none of their errors."""
    protocols = [protocol for protocol in Protocol if protocol in account.endpoints]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_check(upstreams[protocol], protocol, account, token)) for protocol in protocols]
    checks = tuple(task.result() for task in tasks)
    for check in checks:
        fields = {"account": account.address, "protocol": check.protocol.value, "ok": check.is_ok}
        if check.diagnosis is None:
            event("flight.checked", **fields)
        else:
            told("flight.checked", check.diagnosis, **fields)
    return checks


async def log_in(upstreams: Mapping[Protocol, Upstream], account: Account, token: AccessToken) -> None:
    """Make sure that this token opens the account's mailbox: log in to the first mail server that is configured.

    Raises: UpstreamRefused, UpstreamUnavailable.
    """
    for protocol in (each for each in Protocol if each in account.endpoints):
        opened = await upstreams[protocol].open(account, token)
        opened.channel.close()
        return
    raise UpstreamRefused(said("no mail server is configured for {address}", address=account.address))


async def _check(upstream: Upstream, protocol: Protocol, account: Account, token: AccessToken) -> ServerCheck:
    try:
        async with asyncio.timeout(SECONDS):
            opened = await upstream.open(account, token)
        opened.channel.close()
        return ServerCheck.of(protocol, None)
    except TimeoutError:
        return ServerCheck(protocol, Diagnosis.of("mail.slow", seconds=f"{SECONDS:.0f}"), is_temporary=True)
    except BridgeError as problem:
        return ServerCheck.of(protocol, problem)
