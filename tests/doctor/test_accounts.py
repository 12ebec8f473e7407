"""Accounts: tokens are renewed without a prompt; an account that needs a sign-in is reported, also without one."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace

import pytest

from bridge.advice.base import Turn
from bridge.advice.diagnosis import Diagnosis
from bridge.advice.said import said
from bridge.config.schema import AccountConfig
from bridge.control.contract import AccountState, AccountStatus, Finding, Leftover, Outcome, ProtocolCheck
from bridge.doctor import accounts as texts
from bridge.doctor import findings
from bridge.doctor.accounts import AT_ONCE, MOST, AccountActions, account_findings, left_findings, unused_findings
from bridge.errors import AuthorizationRequired, BridgeError, ProviderUnavailable, StoreCorrupt
from bridge.model import AccessToken, Account
from bridge.secret import Secret
from bridge.ui.i18n import translation

NOW = 1_750_000_000.0
ALICE = "alice@example.com"


FRENCH = translation("fr")


def test_who_is_signed_in_without_an_account_is_named_and_how_that_ends() -> None:
    bob = Leftover("bob@example.com", is_signed_in=True, has_password=True)
    assert left_findings([Leftover("eve@example.com", is_signed_in=False, has_password=True)]) == ()
    (found,) = left_findings([bob])
    assert (found.outcome, found.turn) == (Outcome.WARNING, Turn.APP_ADMIN)
    assert found.detail.endswith(
        "still signed in: bob@example.com. `mail-bridge accounts forget bob@example.com` removes "
        "what is stored, and revokes it if the provider supports that"
    )
    many = [Leftover(f"u{number}@example.com", is_signed_in=True, has_password=False) for number in range(11)]
    (found,) = left_findings(many)
    assert "u9@example.com, …." in found.detail
    assert "u10" not in found.detail
    assert "forget ADDRESS`" in found.detail


def test_whoever_has_a_line_of_their_own_has_not_come_by_that_of_their_domain() -> None:
    listed = [AccountConfig(address=address, provider="it") for address in ("alice@example.com", "*@example.com")]
    alice, bob = (Account(address, "it", address, {}) for address in ("alice@example.com", "bob@example.com"))
    (found,) = unused_findings(listed, [alice])
    assert (found.outcome, found.subject) == (Outcome.SKIPPED, "*@example.com")
    assert unused_findings(listed, [alice, bob]) == ()


@dataclass
class Office:
    """Accounts with a state each; records for which of them a token was requested."""

    states: dict[str, AccountState] = field(default_factory=dict)
    diagnosis: Diagnosis | None = None
    problem: BridgeError | None = None
    obtained_at: float = NOW
    checks: tuple[ProtocolCheck, ...] = (ProtocolCheck("imap", True),)
    asked: list[str] = field(default_factory=list)
    hanging: asyncio.Event | None = None
    busy: int = 0
    busiest: int = 0

    async def status(self, account: Account) -> AccountStatus:
        state = self.states.get(account.address, AccountState.READY)
        detail = "the provider is away" if self.obtained_at < NOW else ""
        detail = self.diagnosis.told() if self.diagnosis is not None else detail
        url = f"http://localhost:3017/sign-in/{account.address}"
        return AccountStatus(
            account.address, "it", account.subject, state, detail, NOW + 1800, url, self.checks, self.diagnosis
        )

    async def renew(self, account: Account) -> AccessToken:
        self.asked.append(account.address)
        self.busy += 1
        self.busiest = max(self.busiest, self.busy)
        try:
            await (self.hanging.wait() if self.hanging is not None else asyncio.sleep(0))
        finally:
            self.busy -= 1
        if self.problem is not None:
            raise self.problem
        return AccessToken(Secret("CANARY"), NOW + 1800, self.obtained_at)

    def actions(self) -> AccountActions:
        return AccountActions(self.status, self.renew, self.status, lambda: NOW)


def account(address: str = ALICE) -> Account:
    return Account(address, "it", address, {})


async def found(office: Office, unattended: bool = False) -> tuple[Finding, ...]:
    names = frozenset({"it"} if unattended else ())
    return await account_findings([account()], office.actions(), unattended=names)


async def test_a_renewed_token_and_an_open_mailbox_are_ok() -> None:
    token, server = await found(Office())
    assert (token.outcome, token.sentence) == (Outcome.OK, texts.RENEWED)
    assert (server.check, server.outcome, server.sentence) == ("imap log-in", Outcome.OK, texts.OPENS)


async def test_who_must_sign_in_is_told_and_not_asked() -> None:
    office = Office({ALICE: AccountState.SIGN_IN})
    (token,) = await found(office)
    assert (token.outcome, token.turn) == (Outcome.FAILED, Turn.USER)
    assert f"http://localhost:3017/sign-in/{ALICE}" in token.detail
    (pending,) = await found(Office({ALICE: AccountState.PENDING}))
    assert pending.outcome is Outcome.SKIPPED
    assert office.asked == []


@pytest.mark.parametrize("why", [None, Diagnosis.of("sign_in.first")])
async def test_while_no_bridge_runs_it_is_to_be_started_before_its_page_is_opened(why: Diagnosis | None) -> None:
    page = f"http://localhost:3017/sign-in/{ALICE}"
    must_sign_in = Office({ALICE: AccountState.SIGN_IN}, diagnosis=why)
    has_ended = Office(problem=AuthorizationRequired(ALICE, page, "revoked", diagnosis=why))
    for office in (must_sign_in, has_ended):
        (token,) = await account_findings([account()], replace(office.actions(), is_served=False))
        assert token.detail.startswith(f"somebody must sign in: start mail-bridge, then open {page}")
        assert f"démarrez mail-bridge, puis ouvrez {page}" in token.told(FRENCH)
        assert (token.outcome, token.turn) == (Outcome.FAILED, Turn.USER)
        (token,) = await account_findings([account()], office.actions())
        assert token.detail.startswith(f"somebody must sign in: {page}")


async def test_where_nobody_signs_in_a_token_is_asked_for_all_the_same() -> None:
    office = Office({ALICE: AccountState.SIGN_IN})
    token, _ = await found(office, unattended=True)
    assert token.outcome is Outcome.OK
    assert office.asked == [ALICE]


async def test_a_token_that_could_not_be_renewed_is_not_ok() -> None:
    token, server = await found(Office(obtained_at=NOW - 1800))
    assert (token.outcome, token.sentence, token.turn) == (Outcome.FAILED, texts.HELD, Turn.NOBODY)
    assert "works for another 30 min" in token.detail
    assert "the provider is away" in token.detail
    assert server.outcome is Outcome.OK


@pytest.mark.parametrize(
    ("problem", "turn"),
    [
        (AuthorizationRequired(ALICE, "http://localhost:3017/", "revoked"), Turn.USER),
        (ProviderUnavailable("away"), Turn.NOBODY),
        (StoreCorrupt("broken"), Turn.APP_ADMIN),
    ],
)
async def test_each_problem_has_somebody_whose_turn_it_is(problem: BridgeError, turn: Turn) -> None:
    (token,) = await found(Office(problem=problem))
    assert (token.outcome, token.turn) == (Outcome.FAILED, turn)


async def test_who_reads_french_is_told_the_reason_in_french_too() -> None:
    first = Diagnosis.of("sign_in.first")
    (waiting,) = await found(Office({ALICE: AccountState.SIGN_IN}, diagnosis=first))
    assert "Personne ne s’est encore connecté." in waiting.told(FRENCH)
    (ended,) = await found(Office(problem=AuthorizationRequired(ALICE, "http://localhost/", "why", diagnosis=first)))
    assert "Personne ne s’est encore connecté." in ended.told(FRENCH)
    away = ProviderUnavailable(said("{host} refuses the connection.", host="login.example"))
    (unreachable,) = await found(Office(problem=away))
    assert unreachable.told(FRENCH) == "login.example refuse la connexion."
    refused = ProtocolCheck("imap", False, Turn.NOBODY, "imap is busy", Diagnosis.of("mail.busy", "NO busy"))
    _, server = await found(Office(checks=(refused,)))
    assert server.told(FRENCH).endswith("(NO busy)")
    assert server.told(FRENCH) != server.detail


async def test_a_mail_server_that_refuses_is_told_with_its_sentence() -> None:
    refused = ProtocolCheck("smtp", False, Turn.TENANT_ADMIN, "Authenticated SMTP is switched off.")
    _, server = await found(Office(checks=(refused,)))
    assert (server.check, server.outcome, server.turn) == ("smtp log-in", Outcome.FAILED, Turn.TENANT_ADMIN)
    assert server.detail == "Authenticated SMTP is switched off."


async def test_of_many_accounts_the_first_are_tried_a_few_at_a_time_and_the_rest_is_counted() -> None:
    office = Office()
    findings = await account_findings([account(f"p{n}@example.com") for n in range(MOST + 7)], office.actions())
    assert len(office.asked) == MOST
    assert office.busiest <= AT_ONCE
    assert (findings[-1].outcome, dict(findings[-1].arguments)["count"]) == (Outcome.SKIPPED, "7")


def limits(account_seconds: float, all_seconds: float) -> dict[str, float]:
    return {"seconds": account_seconds, "all_seconds": all_seconds}


@pytest.mark.parametrize(
    ("pace", "sentence", "outcome"),
    [
        (limits(0.05, 5.0), findings.SLOW, Outcome.FAILED),
        (limits(5.0, 0.05), texts.OUT_OF_TIME, Outcome.SKIPPED),
    ],
)
async def test_an_account_that_hangs_is_given_up(pace: dict[str, float], sentence: str, outcome: Outcome) -> None:
    office = Office(hanging=asyncio.Event())
    (token,) = await account_findings([account()], office.actions(), **pace)  # type: ignore[arg-type]
    assert (token.sentence, token.outcome) == (sentence, outcome)
