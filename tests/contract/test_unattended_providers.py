"""Every provider without sign-ins (client credentials, service accounts) with the same authorization server."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bridge.errors import AuthorizationFailed, ProviderRefused, ProviderUnavailable
from bridge.model import Subject, TokenSet
from bridge.oauth.base import BrowserProvider, DeviceProvider, Provider
from bridge.oauth.limits import Limits
from bridge.secret import Secret
from tests.clocks import ManualClock
from tests.contract.silence import no_secret_is_told, refusal  # noqa: F401  the fixture works by itself
from tests.contract.trials import ALICE, limits_for, opened
from tests.servers.authorization import AuthorizationServer
from tests.servers.authorization_controls import CERTIFIED_CLIENT, GOOGLE_CLIENT, MICROSOFT_CLIENT, Fault
from tests.servers.ca import self_signed
from tests.servers.service_accounts import MAIL_SCOPE, add_service_account, service_account_config

BOB = "bob@example.com"
NOTHING = Secret("")
SHARED = 5.0
"""For so many seconds an app's answer serves its other mailboxes, too."""


def by_secret(server: AuthorizationServer) -> dict[str, Any]:
    server.apps[MICROSOFT_CLIENT] = {ALICE, BOB}
    return {**server.microsoft_config(), "flow": "client_credentials"}


def by_certificate(server: AuthorizationServer) -> dict[str, Any]:
    section = server.certified_config()
    server.apps[CERTIFIED_CLIENT] = {ALICE, BOB}
    return {**section, "flow": "client_credentials"}


def generic(server: AuthorizationServer) -> dict[str, Any]:
    server.apps[GOOGLE_CLIENT] = {ALICE, BOB}
    return {**server.generic_config(), "flow": "client_credentials"}


def service_account(server: AuthorizationServer) -> dict[str, Any]:
    file = add_service_account(server, Path(server.authority.ca_file).with_name("service-account.json"))
    return service_account_config(server, file)


@dataclass(frozen=True)
class Kind:
    """One way to get a token without a sign-in."""

    section: Callable[[AuthorizationServer], dict[str, Any]]
    """Makes the section of the configuration, and registers with the server whatever it must know."""
    grant_type: str = "client_credentials"
    """The grant type that the token endpoint receives."""
    wrong: str = "client_secret"
    """The key of the section that holds a secret as text; empty if the secret is in a file."""
    subject: Subject | None = None
    """The owner of the mailbox that the token opens, if it opens only one."""


KINDS = {
    "microsoft secret": Kind(by_secret),
    "microsoft certificate": Kind(by_certificate, wrong=""),
    "oauth2": Kind(generic),
    "google": Kind(service_account, "urn:ietf:params:oauth:grant-type:jwt-bearer", wrong="", subject=Subject(ALICE)),
}
ONE_FOR_ALL = ["microsoft secret", "microsoft certificate", "oauth2"]
"""With client credentials a token belongs to the app, and opens every mailbox that the app may open."""


@pytest.fixture(params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> str:
    """The adapter to test; a test of one provider's peculiarity parametrises `kind` itself."""
    return str(request.param)


@dataclass
class Trial:
    """One adapter, its clock, and the server that it talks to."""

    server: AuthorizationServer
    provider: Provider
    clock: ManualClock
    kind: Kind

    async def token(self, subject: str = ALICE) -> TokenSet:
        return await self.provider.refresh(NOTHING, subject=subject)

    @property
    def asked(self) -> int:
        """How many token requests the server has received."""
        return self.server.count(self.kind.grant_type)


@asynccontextmanager
async def adapter(
    server: AuthorizationServer, kind: str, limits: Limits | None = None, /, **changes: Any
) -> AsyncIterator[Trial]:
    clock = ManualClock()
    async with opened(KINDS[kind].section(server) | changes, clock, limits) as provider:
        yield Trial(server, provider, clock, KINDS[kind])


@pytest.fixture
async def trial(authorization_server: AuthorizationServer, kind: str, fault: Fault | None) -> AsyncIterator[Trial]:
    async with adapter(authorization_server, kind, limits_for(fault)) as trial:
        yield trial


async def test_nobody_signs_in_and_there_is_a_token(trial: Trial) -> None:
    assert trial.provider.is_unattended
    assert not isinstance(trial.provider, BrowserProvider | DeviceProvider)
    tokens = await trial.token()
    assert tokens.access.value.reveal() in trial.server.access
    assert tokens.access.obtained_at == trial.clock.now()
    assert 3500 < tokens.access.remaining(trial.clock.now()) <= 3600
    assert (tokens.grant, tokens.subject) == (NOTHING, trial.kind.subject)


async def test_a_stored_grant_of_another_time_does_no_harm(trial: Trial) -> None:
    tokens = await trial.provider.refresh(Secret("CANARY-of-a-person"), subject=ALICE)
    assert tokens.grant == NOTHING


async def test_trap_11_a_refresh_is_by_force_although_the_last_token_is_fresh(trial: Trial) -> None:
    """msal's acquire_token_for_client returns the same token for an hour, and has no option against that."""
    first = await trial.token()
    trial.clock.advance(SHARED)
    second = await trial.token()
    assert second.access.value != first.access.value
    assert trial.asked == 2


async def test_there_is_nothing_to_adopt_and_nothing_to_revoke(trial: Trial) -> None:
    with refusal(AuthorizationFailed, trial.server) as caught:
        await trial.provider.adopt(Secret("CANARY-elsewhere"))
    assert caught.value.code == "no_grant"
    assert "obody signs in" in str(caught.value)
    assert not await trial.provider.revoke(NOTHING)
    assert trial.server.requests == []


async def test_a_slow_answer_makes_no_tokens_life_longer(trial: Trial) -> None:
    async with asyncio.TaskGroup() as group:
        asked_at = trial.clock.now()
        with trial.server.failing("token", Fault.SLOW):
            asking = group.create_task(trial.token())
            assert await asyncio.to_thread(trial.server.waiting.wait, 10)
            trial.clock.advance(50)
        assert (await asking).access.obtained_at == asked_at


async def test_a_token_says_what_it_is_good_for(trial: Trial) -> None:
    scopes = (await trial.token()).scopes
    asked = trial.server.requests[-1].get("scope")
    assert scopes == set((asked or MAIL_SCOPE).split())  # those of a service account are in the signed JWT


async def test_what_a_provider_repeats_of_our_question_is_told_to_nobody(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial.server, "is_repeating", True)
    with refusal(ProviderRefused, trial.server) as caught:
        await trial.token()
    assert "invalid_grant" in str(caught.value)


@pytest.mark.parametrize("fault", list(Fault))
async def test_trap_11_trouble_on_the_way_is_over_when_it_is_over(trial: Trial, fault: Fault) -> None:
    with trial.server.failing("token", fault):
        for times in (1, 2):
            with refusal(ProviderUnavailable, trial.server):
                await trial.token()
            assert trial.asked == times  # sent again, and only once
    assert (await trial.token()).access.value.reveal() in trial.server.access


@pytest.mark.parametrize(
    ("error", "number"),
    [
        ("unauthorized_client", 700016),
        ("invalid_client", 7000215),
        ("invalid_client", 7000222),
        ("invalid_client", 700027),
        ("invalid_grant", 65001),
        ("unauthorized_client", 65001),
        ("invalid_resource", 500011),
        ("invalid_tenant", 90002),
        ("unauthorized_client", 50194),
        ("invalid_grant", 53003),
        ("interaction_required", 50076),
    ],
)
async def test_trap_11_a_refusal_is_an_admins_turn_never_a_persons_and_is_asked_about_again(
    trial: Trial, error: str, number: int
) -> None:
    trial.server.refusals[trial.kind.grant_type] = (error, number)
    for times in (1, 2):
        with refusal(ProviderRefused, trial.server) as caught:
            await trial.token()
        assert trial.asked == times
    assert "administrator" in str(caught.value)
    assert "Sign in again" not in str(caught.value)
    assert str(number) in str(caught.value)
    trial.server.refusals.clear()
    assert (await trial.token()).access.value.reveal() in trial.server.access


@pytest.mark.parametrize("kind", [name for name, kind in KINDS.items() if kind.wrong])
async def test_trap_28_a_wrong_secret_is_the_admins_turn(authorization_server: AuthorizationServer, kind: str) -> None:
    async with adapter(authorization_server, kind, **{KINDS[kind].wrong: "CANARY-wrong"}) as trial:
        with refusal(ProviderRefused, authorization_server) as caught:
            await trial.token()
        assert "administrator of mail-bridge must" in str(caught.value)


# --- one token for all mailboxes of an app --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ONE_FOR_ALL)
async def test_fifty_mailboxes_at_once_are_one_request(trial: Trial) -> None:
    found = await asyncio.gather(*(trial.token(f"box{number}@example.com") for number in range(50)))
    assert len({tokens.access.value for tokens in found}) == 1
    assert trial.asked == 1
    trial.clock.advance(SHARED - 0.1)
    assert (await trial.token(BOB)).access.value == found[0].access.value
    assert trial.asked == 1


@pytest.mark.parametrize("kind", ONE_FOR_ALL)
async def test_an_answer_from_before_a_suspend_is_not_young(trial: Trial) -> None:
    first = await trial.token()
    trial.clock.step(2 * 3600)  # during a suspend the monotonic clock stands still
    assert (await trial.token()).access.value != first.access.value
    assert trial.asked == 2


@pytest.mark.parametrize("kind", ONE_FOR_ALL)
async def test_fifty_mailboxes_share_a_failure_and_nobody_after_them(trial: Trial) -> None:
    with trial.server.failing("token", Fault.STATUS_500):
        found = await asyncio.gather(*(trial.token() for _ in range(50)), return_exceptions=True)
    assert {type(problem) for problem in found} == {ProviderUnavailable}
    assert trial.asked == 1
    assert (await trial.token()).access.value.reveal() in trial.server.access


@pytest.mark.parametrize("kind", ONE_FOR_ALL)
async def test_who_waits_for_somebody_that_gives_up_asks_itself(trial: Trial) -> None:
    async with asyncio.TaskGroup() as group:
        with trial.server.failing("token", Fault.SLOW):
            first = group.create_task(trial.token())
            second = group.create_task(trial.token(BOB))
            assert await asyncio.to_thread(trial.server.waiting.wait, 10)
            first.cancel()
            await asyncio.wait([first])
        assert (await second).access.value.reveal() in trial.server.access
        assert first.cancelled()


@pytest.mark.parametrize("kind", ONE_FOR_ALL)
async def test_who_no_longer_waits_takes_nobodys_answer_away(trial: Trial) -> None:
    async with asyncio.TaskGroup() as group:
        with trial.server.failing("token", Fault.SLOW):
            first, gone, third = (group.create_task(trial.token()) for _ in range(3))
            assert await asyncio.to_thread(trial.server.waiting.wait, 10)
            gone.cancel()
            await asyncio.wait([gone])
        assert (await first).access.value == (await third).access.value
        assert trial.asked == 1


# --- certificates ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["microsoft secret", "microsoft certificate"])
async def test_what_keeps_an_app_of_microsofts_out_is_told_with_its_permissions(trial: Trial) -> None:
    """The provider's text asks a person to act, but there is no person."""
    trial.server.refusals[trial.kind.grant_type] = ("invalid_grant", 50173)
    with refusal(ProviderRefused, trial.server) as caught:
        await trial.token()
    for permission in ("IMAP.AccessAsApp", "POP.AccessAsApp", "SMTP.SendAsApp"):
        assert permission in str(caught.value)


@pytest.mark.parametrize("kind", ["microsoft certificate"])
async def test_a_rotated_certificate_is_used_without_a_restart(
    authorization_server: AuthorizationServer, kind: str, tmp_path: Path
) -> None:
    certificate, key = authorization_server.authority.client_pair()
    mine = {"client_certificate": tmp_path / "app.pem", "client_certificate_key": tmp_path / "app.key"}
    shutil.copy(certificate, mine["client_certificate"])
    shutil.copy(key, mine["client_certificate_key"])
    async with adapter(authorization_server, kind, **{name: str(path) for name, path in mine.items()}) as trial:
        await trial.token()
        new_certificate, new_key = self_signed()
        authorization_server.client_certificates[CERTIFIED_CLIENT] = new_certificate
        trial.clock.advance(SHARED)
        with refusal(ProviderRefused, authorization_server) as caught:
            await trial.token()
        assert "700027" in str(caught.value)
        mine["client_certificate"].write_text(new_certificate)
        with refusal(ProviderRefused, authorization_server) as caught:  # only one of the two files is replaced
            await trial.token()
        assert str(mine["client_certificate_key"]) in str(caught.value)
        mine["client_certificate_key"].write_text(new_key)
        assert (await trial.token()).access.value.reveal() in authorization_server.access


@pytest.mark.parametrize("kind", ["microsoft certificate"])
async def test_a_key_that_is_gone_is_the_admins_turn_and_back_when_it_is_back(
    authorization_server: AuthorizationServer, kind: str, tmp_path: Path
) -> None:
    away = tmp_path / "app.key"
    async with adapter(authorization_server, kind, client_certificate_key=str(away)) as trial:
        with refusal(ProviderRefused, authorization_server) as caught:
            await trial.token()
        assert str(away) in str(caught.value)
        assert trial.asked == 0
        shutil.copy(authorization_server.authority.client_pair()[1], away)
        assert (await trial.token()).access.value.reveal() in authorization_server.access


@pytest.mark.parametrize("kind", ["microsoft secret"])
async def test_a_new_secret_keeps_the_fingerprint_and_a_person_instead_of_the_app_does_not(
    authorization_server: AuthorizationServer, kind: str
) -> None:
    person = {"flow": "browser", "scopes": ["https://outlook.office365.com/.default"]}
    async with (
        adapter(authorization_server, kind) as one,
        adapter(authorization_server, kind, client_secret="CANARY-new") as two,
        adapter(authorization_server, kind, **person) as three,
    ):
        assert one.provider.fingerprint == two.provider.fingerprint
        assert one.provider.fingerprint != three.provider.fingerprint
