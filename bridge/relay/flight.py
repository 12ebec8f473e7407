"""Tries every configured mail server with a new token, and says who must do what about each that does not open."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from bridge.errors import BridgeError, TlsFailed, UpstreamRefused, UpstreamUnavailable
from bridge.model import AccessToken, Account, Protocol
from bridge.observe.logs import event
from bridge.relay.upstream import Upstream

SECONDS = 20.0
"""For all servers together: a person waits in front of the browser meanwhile."""


class Turn(str, Enum):
    """Who can mend it."""

    NOBODY = "nobody"
    """Waiting helps."""
    PERSON = "person"
    ADMIN = "admin"
    """Of the tenant or domain."""


@dataclass(frozen=True, slots=True)
class Leg:
    """How one protocol went."""

    protocol: Protocol
    is_ok: bool
    turn: Turn = Turn.NOBODY
    sentence: str = ""
    """What happened and who must do what; empty when all is well."""


async def fly(upstreams: Mapping[Protocol, Upstream], account: Account, token: AccessToken) -> tuple[Leg, ...]:
    """Log in to each of the account's mail servers and out again, side by side; raises nothing of theirs."""
    protocols = [protocol for protocol in Protocol if protocol in account.endpoints]
    async with asyncio.TaskGroup() as group:
        flights = [group.create_task(_leg(upstreams[protocol], protocol, account, token)) for protocol in protocols]
    legs = tuple(flight.result() for flight in flights)
    for leg in legs:
        event("flight.checked", account=account.address, protocol=leg.protocol.value, ok=leg.is_ok, reason=leg.sentence)
    return legs


async def _leg(upstream: Upstream, protocol: Protocol, account: Account, token: AccessToken) -> Leg:
    try:
        async with asyncio.timeout(SECONDS):
            opened = await upstream.open(account, token)
        opened.channel.close()
        return Leg(protocol, is_ok=True)
    except TimeoutError:
        return Leg(protocol, False, Turn.NOBODY, f"The mail server has not answered within {SECONDS:.0f} s.")
    except BridgeError as problem:
        turn, sentence = diagnosis(problem, protocol, account)
        return Leg(protocol, False, turn, sentence)


_CAUSES: tuple[tuple[re.Pattern[str], Turn, str], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), turn, sentence)
    for pattern, turn, sentence in (
        (
            r"SmtpClientAuthentication is disabled for the Tenant",
            Turn.ADMIN,
            "Authenticated SMTP is switched off for the whole organization. An Exchange administrator can allow it for "
            "this mailbox (Set-CASMailbox {mailbox} -SmtpClientAuthenticationDisabled $false) or for all "
            "(Set-TransportConfig -SmtpClientAuthenticationDisabled $false).",
        ),
        (
            r"SmtpClientAuthentication is disabled for the Mailbox",
            Turn.ADMIN,
            "Authenticated SMTP is switched off for this mailbox. An Exchange administrator can allow it: "
            "Set-CASMailbox {mailbox} -SmtpClientAuthenticationDisabled $false.",
        ),
        (
            r"security defaults|5\.7\.139|conditional access",
            Turn.ADMIN,
            "The organization's sign-in rules (security defaults or Conditional Access) do not let mail programs in. "
            "Its administrator must allow this app or this protocol.",
        ),
        (
            r"not enabled for (?:IMAP|POP)|(?:IMAP|POP) access is disabled",
            Turn.PERSON,
            "{protocol} is switched off in the mailbox's own settings: switch it on there (Gmail: Settings, Forwarding "
            "and POP/IMAP), or ask the administrator of the domain.",
        ),
        (
            r"via your web browser|web login required",
            Turn.PERSON,
            "The provider wants this person to log in to the mailbox in a web browser once.",
        ),
        (
            r"too many|throttl|concurrent connections",
            Turn.NOBODY,
            "The mailbox has too many connections just now. Nobody has to act.",
        ),
    )
)
"""Words of the providers (docs/quirks.md), who must act, and our sentence."""


def diagnosis(problem: BridgeError, protocol: Protocol, account: Account) -> tuple[Turn, str]:
    """A failed login as who must do what; the server's own words are kept in brackets, for forwarding."""
    if isinstance(problem, TlsFailed):
        return Turn.ADMIN, (
            f"No secure connection to the mail server: {problem}. A security program or a proxy on this network may "
            "replace its certificate; the administrator must exempt mail-bridge or name the certificate as ca_file."
        )
    theirs = problem.text if isinstance(problem, UpstreamRefused) else str(problem)
    for pattern, turn, sentence in _CAUSES:
        if pattern.search(theirs):
            words = sentence.format(mailbox=account.address, protocol=protocol.value.upper())
            return turn, f"{words} ({theirs})"
    if isinstance(problem, UpstreamUnavailable):
        return Turn.NOBODY, f"The mail server cannot be used just now: {theirs}"
    if account.subject != account.address:
        return Turn.ADMIN, (
            f"{account.subject} has signed in, but may not open the mailbox {account.address}. Its administrator must "
            f"give full access, and for sending the right to send as it. ({theirs})"
        )
    return Turn.ADMIN, (
        f"The mail server takes the sign-in but not this mailbox: {protocol.value.upper()} is switched off for it, its "
        f"address is not {account.address}, or the app lacks the permission. ({theirs})"
    )
