"""Checks each account: its token, renewed without asking anybody, and a login to each of its mail servers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

from bridge.advice.base import Turn
from bridge.advice.said import Said
from bridge.config.schema import AccountConfig
from bridge.config.values import same_name
from bridge.control.contract import AccountState, AccountStatus, Finding, Leftover
from bridge.doctor.findings import SLOW, VERBATIM, diagnosis_text, failed, ok, problem_text, skipped, warning
from bridge.errors import AuthorizationRequired, BridgeError
from bridge.model import AccessToken, Account

MOST = 20
"""Accounts that are tried: each costs its provider one request and its mail servers three connections."""
AT_ONCE = 4
"""Few, because a provider counts a mailbox's connections, and a network may be slow."""
NAMED = 10
"""Addresses without an account that are named; `mail-bridge accounts list` has all."""
SECONDS = 30.0
"""For one account: a refresh and the logins, which have limits of their own."""
ALL_SECONDS = 50.0
"""For all accounts together."""

RENEWED = "signed in as {subject}; its token was renewed just now"
HELD = (
    "signed in as {subject}; its token works for another {minutes} min, but the provider did not renew it just now: "
    "{problem}"
)
SIGN_IN = "somebody must sign in: {url} ({reason})"
SIGN_IN_FIRST = "somebody must sign in: {url}"
START_AND_SIGN_IN = "somebody must sign in: start mail-bridge, then open {url} ({reason})"
START_AND_SIGN_IN_FIRST = "somebody must sign in: start mail-bridge, then open {url}"
PENDING = "not tried: a sign-in is under way"
OUT_OF_TIME = (
    "not tried: the {seconds} s for all accounts had passed before its turn; `mail-bridge accounts check "
    "{address}` tries it"
)
TOO_MANY = "{count} more accounts were not tried; `mail-bridge accounts check ADDRESS` tries one"
UNUSED = "not tried: no mailbox of {pattern} has been used yet; `mail-bridge accounts check ADDRESS` tries one"
OPENS = "the mailbox opens"
LEFT = (
    "not in the configuration, but still signed in: {addresses}. `{command}` removes what is stored, and revokes it if "
    "the provider supports that"
)
NO_STORE = "not tried: nobody can have signed in, since there is no store yet"
STORE_CLOSED = "not tried: the store does not open"


@dataclass(frozen=True, slots=True)
class AccountActions:
    """What can be done with an account; each may raise a BridgeError."""

    status: Callable[[Account], Awaitable[AccountStatus]]
    """The status from what is stored; asks nobody."""
    renew: Callable[[Account], Awaitable[AccessToken]]
    """Get a new token now; gives the stored one if the provider cannot be reached."""
    try_servers: Callable[[Account], Awaitable[AccountStatus]]
    """Log in to each mail server."""
    now: Callable[[], float]
    """Seconds since the epoch."""
    is_served: bool = True
    """False while no bridge runs: then the sign-in page does not open either."""


def left_findings(leftovers: Sequence[Leftover]) -> tuple[Finding, ...]:
    """For leftovers whose grant may be valid. A local password alone opens nothing, and is kept in case they return."""
    signed_in = [left.address for left in leftovers if left.is_signed_in]
    if not signed_in:
        return ()
    named = ", ".join(signed_in[:NAMED]) + (", …" if len(signed_in) > NAMED else "")
    command = "mail-bridge accounts forget ADDRESS" if len(signed_in) > 1 else f"mail-bridge accounts forget {named}"
    return (warning("store", "", LEFT, addresses=named, command=command),)


def unused_findings(configured: Sequence[AccountConfig], known: Iterable[Account]) -> tuple[Finding, ...]:
    """For `*@domain` patterns that nobody has used yet: until then the accounts below them are not known. An account
    with an entry of its own does not count."""
    own = {entry.address for entry in configured}
    domains = {_domain(account.address) for account in known if account.address not in own}
    unused = (entry.address for entry in configured if entry.is_pattern and _domain(entry.address) not in domains)
    return tuple(skipped("token", pattern, UNUSED, pattern=pattern) for pattern in unused)


def _domain(address: str) -> str:
    return same_name(address.rpartition("@")[2])


async def is_signed_in(account: Account, actions: AccountActions) -> bool:
    """True if a grant is stored: then its renewal shows whether the provider accepts our client."""
    try:
        return (await actions.status(account)).state in {AccountState.READY, AccountState.TROUBLE}
    except BridgeError:
        return False


async def account_findings(
    accounts: Sequence[Account],
    actions: AccountActions,
    *,
    unattended: frozenset[str] = frozenset(),
    seconds: float = SECONDS,
    all_seconds: float = ALL_SECONDS,
) -> tuple[Finding, ...]:
    """Findings for the first MOST accounts, checked side by side.

    Args: unattended, the providers where nobody signs in: a token can be obtained there without a grant.
    """
    tried, rest = accounts[:MOST], len(accounts) - MOST
    places = asyncio.Semaphore(AT_ONCE)
    found: dict[str, tuple[Finding, ...]] = {}

    async def visit(account: Account) -> None:
        async with places:
            found[account.address] = await _within_limit(account, actions, account.provider in unattended, seconds)

    try:
        async with asyncio.timeout(all_seconds), asyncio.TaskGroup() as group:
            for account in tried:
                group.create_task(visit(account))
    except TimeoutError:
        for account in tried:
            late = skipped("token", account.address, OUT_OF_TIME, seconds=round(all_seconds), address=account.address)
            found.setdefault(account.address, (late,))
    findings = [finding for account in tried for finding in found[account.address]]
    if rest > 0:
        findings.append(skipped("token", "", TOO_MANY, count=rest))
    return tuple(findings)


async def _within_limit(
    account: Account, actions: AccountActions, is_unattended: bool, seconds: float
) -> tuple[Finding, ...]:
    try:
        async with asyncio.timeout(seconds):
            return await _visited(account, actions, is_unattended)
    except TimeoutError:
        return (failed("token", account.address, SLOW, turn=Turn.NOBODY, seconds=round(seconds)),)


async def _visited(account: Account, actions: AccountActions, is_unattended: bool) -> tuple[Finding, ...]:
    address = account.address
    try:
        before = await actions.status(account)
        if not is_unattended and before.state is AccountState.PENDING:
            return (skipped("token", address, PENDING),)
        if not is_unattended and before.state is AccountState.SIGN_IN:
            # No token is requested: that would ask the person to sign in, and a check asks nobody.
            reason = diagnosis_text(before.diagnosis, before.detail) if before.detail else ""
            return (_sign_in(actions, address, before.sign_in_url, reason),)
        asked_at = actions.now()
        token = await actions.renew(account)
        status = await actions.try_servers(account)
    except AuthorizationRequired as problem:
        return (_sign_in(actions, address, problem.url, diagnosis_text(problem.diagnosis, problem.reason)),)
    except BridgeError as problem:
        return (failed("token", address, VERBATIM, turn=_turn(problem), problem=problem_text(problem)),)
    return _token(status, token, asked_at, actions.now()), *_servers(status)


def _turn(problem: BridgeError) -> Turn:
    """By the table of advice, where it has a row."""
    if problem.diagnosis is not None:
        return problem.diagnosis.advice.turn
    return Turn.NOBODY if problem.temporary else Turn.APP_ADMIN


def _sign_in(actions: AccountActions, address: str, url: str, reason: str | Said) -> Finding:
    if reason:
        sentence = SIGN_IN if actions.is_served else START_AND_SIGN_IN
        return failed("token", address, sentence, turn=Turn.USER, url=url, reason=reason)
    sentence = SIGN_IN_FIRST if actions.is_served else START_AND_SIGN_IN_FIRST
    return failed("token", address, sentence, turn=Turn.USER, url=url)


def _token(status: AccountStatus, token: AccessToken, asked_at: float, now: float) -> Finding:
    subject = status.subject or status.address
    if token.obtained_at >= asked_at - 1:  # a provider's adapter may round
        return ok("token", status.address, RENEWED, subject=subject)
    minutes = max(round(token.remaining(now) / 60), 0)
    problem = diagnosis_text(status.diagnosis, status.detail or "?")
    return failed("token", status.address, HELD, turn=Turn.NOBODY, subject=subject, minutes=minutes, problem=problem)


def _servers(status: AccountStatus) -> list[Finding]:
    return [
        ok(f"{check.protocol} log-in", status.address, OPENS)
        if check.is_ok
        else failed(
            f"{check.protocol} log-in",
            status.address,
            VERBATIM,
            turn=check.turn,
            problem=diagnosis_text(check.diagnosis, check.sentence),
        )
        for check in status.checks
    ]
