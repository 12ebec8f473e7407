"""Every provider with `flow: device` (RFC 8628) over the same authorization server."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from bridge.clock import Clock
from bridge.errors import AuthorizationFailed, GrantRevoked, ProviderRefused, ProviderUnavailable
from bridge.model import TokenSet
from bridge.oauth.base import BrowserProvider, DevicePending, DeviceProvider, DeviceRequest
from bridge.oauth.limits import Limits
from bridge.secret import Secret
from tests.clocks import ManualClock
from tests.contract.silence import no_secret_is_told, refusal  # noqa: F401  the fixture works by itself
from tests.contract.trials import ALICE, QUICK, limits_for, opened
from tests.servers.authorization import AuthorizationServer
from tests.servers.authorization_controls import MICROSOFT_CLIENT, PUBLIC_CLIENT, Fault

DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"

SECTIONS: dict[str, Callable[[AuthorizationServer], dict[str, Any]]] = {
    "microsoft": lambda server: {**server.microsoft_config(PUBLIC_CLIENT), "flow": "device"},
    "oauth2": lambda server: {**server.generic_config(), "flow": "device", "device_url": f"{server.url}/device/code"},
}
"""The section of the configuration for each adapter."""


@pytest.fixture(params=list(SECTIONS))
def kind(request: pytest.FixtureRequest) -> str:
    """The adapter to test; a test of one provider's peculiarity parametrises `kind` itself."""
    return str(request.param)


@dataclass
class Trial:
    """One adapter and the server that it talks to."""

    server: AuthorizationServer
    provider: DeviceProvider
    kind: str

    async def sign_in(self, person: str = ALICE) -> TokenSet:
        request = await self.provider.begin_device()
        self.server.approve_device(request.user_code, person)
        return tokens_of(await self.provider.poll(request))

    @property
    def polls(self) -> int:
        return self.server.count(DEVICE_CODE)


def tokens_of(answer: TokenSet | DevicePending) -> TokenSet:
    assert isinstance(answer, TokenSet)
    return answer


@asynccontextmanager
async def adapter(
    server: AuthorizationServer, kind: str, clock: Clock | None = None, limits: Limits | None = None, **changes: Any
) -> AsyncIterator[Trial]:
    async with opened(SECTIONS[kind](server) | changes, clock, limits) as provider:
        assert isinstance(provider, DeviceProvider)
        yield Trial(server, provider, kind)


@pytest.fixture
async def trial(authorization_server: AuthorizationServer, kind: str, fault: Fault | None) -> AsyncIterator[Trial]:
    async with adapter(authorization_server, kind, limits=limits_for(fault)) as trial:
        yield trial


async def test_a_person_types_a_code_and_there_is_a_token_a_grant_and_who_it_was(trial: Trial) -> None:
    request = await trial.provider.begin_device()
    assert await trial.provider.poll(request) == DevicePending()
    trial.server.approve_device(request.user_code, ALICE)
    tokens = tokens_of(await trial.provider.poll(request))
    assert tokens.subject is not None
    assert tokens.subject.is_named(ALICE)
    assert tokens.access.value.reveal() in trial.server.access
    assert 3500 < tokens.access.expires_at - tokens.access.obtained_at <= 3600
    refreshed = await trial.provider.refresh(tokens.grant, subject=ALICE)
    assert refreshed.access.value != tokens.access.value
    assert not trial.provider.is_unattended
    assert not isinstance(trial.provider, BrowserProvider)


async def test_what_the_person_is_told_is_short_lived_and_names_where(trial: Trial) -> None:
    trial.server.device_interval = 7
    trial.server.device_lifetime = 300
    request = await trial.provider.begin_device()
    assert request.verification_url == f"{trial.server.url}/device"
    assert (request.lifetime, request.interval) == (300, 7)
    [device] = trial.server.devices.values()
    assert request.user_code == device.user_code
    query = parse_qs(urlsplit(request.complete_url).query)
    assert query == ({} if trial.kind == "microsoft" else {"user_code": [request.user_code]})


@pytest.mark.parametrize(("said", "lives"), [(86400, 900), (300, 300)])
async def test_a_code_lives_no_longer_than_a_quarter_of_an_hour_whatever_the_server_says(
    authorization_server: AuthorizationServer, kind: str, said: float, lives: float
) -> None:
    """Whoever talks a person into entering a code is then signed in as that person (RFC 8628 section 5.4)."""
    authorization_server.device_lifetime = said
    clock = ManualClock()
    async with adapter(authorization_server, kind, clock) as trial:
        request = await trial.provider.begin_device()
        assert request.lifetime == lives
        clock.advance(lives)
        authorization_server.approve_device(request.user_code, ALICE)
        with refusal(AuthorizationFailed, authorization_server) as caught:
            await trial.provider.poll(request)
        assert caught.value.code == "expired"
        assert trial.polls == 0


@pytest.mark.parametrize("seconds", [86400.0, -86400.0])
async def test_a_clock_that_is_set_ends_no_code(
    authorization_server: AuthorizationServer, kind: str, seconds: float
) -> None:
    """As when the network comes back, and the right time with it, while somebody enters the code."""
    clock = ManualClock()
    async with adapter(authorization_server, kind, clock) as trial:
        request = await trial.provider.begin_device()
        clock.step(seconds)
        assert await trial.provider.poll(request) == DevicePending()
        clock.step(-seconds)
        clock.advance(request.lifetime)
        with refusal(AuthorizationFailed, authorization_server):
            await trial.provider.poll(request)


async def test_trap_45_one_poll_is_one_request_and_never_a_pause(
    authorization_server: AuthorizationServer, kind: str, recwarn: pytest.WarningsRecorder
) -> None:
    """msal loops: with an interval of 7 s it would sleep, and with 0 it would poll without end."""
    for interval in (0, 7):
        authorization_server.device_interval = interval
        async with adapter(authorization_server, kind) as trial:
            before = trial.polls
            request = await trial.provider.begin_device()
            assert request.interval >= max(interval, 0.1)
            assert await trial.provider.poll(request) == DevicePending()  # a pause of 7 s would exceed Limits
            assert trial.polls == before + 1
    assert not recwarn.list


async def test_who_asks_too_soon_is_told_to_slow_down(trial: Trial) -> None:
    trial.server.device_interval = 60
    request = await trial.provider.begin_device()
    assert await trial.provider.poll(request) == DevicePending()
    assert await trial.provider.poll(request) == DevicePending(slow_down=True)
    (device,) = trial.server.devices.values()
    assert device.interval == 65  # for all further polls (RFC 8628 section 3.5)
    device.polled_at = 0.0  # more than a minute ago
    trial.server.approve_device(request.user_code, ALICE)
    assert tokens_of(await trial.provider.poll(request)).grant


async def test_a_person_who_declines_is_told_so(trial: Trial) -> None:
    request = await trial.provider.begin_device()
    trial.server.approve_device(request.user_code, ALICE, "deny")
    with refusal(AuthorizationFailed, trial.server) as caught:
        await trial.provider.poll(request)
    assert caught.value.code == "denied"


async def test_a_code_that_has_expired_at_the_provider_is_told_so(trial: Trial) -> None:
    request = await trial.provider.begin_device()
    for device in trial.server.devices.values():
        device.expires_at = 0
    with refusal(AuthorizationFailed, trial.server) as caught:
        await trial.provider.poll(request)
    assert caught.value.code == "expired"
    assert trial.polls == 1


async def test_a_device_code_that_the_provider_does_not_know_ends_the_sign_in(trial: Trial) -> None:
    request = await trial.provider.begin_device()
    trial.server.devices.clear()
    with refusal(AuthorizationFailed, trial.server) as caught:
        await trial.provider.poll(request)
    assert caught.value.code == "provider"


async def test_a_code_works_once(trial: Trial) -> None:
    request = await trial.provider.begin_device()
    trial.server.approve_device(request.user_code, ALICE)
    tokens = tokens_of(await trial.provider.poll(request))
    with refusal(AuthorizationFailed, trial.server):
        await trial.provider.poll(request)
    await trial.provider.refresh(tokens.grant, subject=ALICE)


async def test_two_sign_ins_at_the_same_time_are_two(trial: Trial) -> None:
    one, two = await trial.provider.begin_device(), await trial.provider.begin_device()
    trial.server.approve_device(two.user_code, "bob@example.com")
    assert await trial.provider.poll(one) == DevicePending()
    tokens = tokens_of(await trial.provider.poll(two))
    assert tokens.subject is not None
    assert tokens.subject.is_named("bob@example.com")


async def test_a_sign_in_on_its_way_is_text_that_another_object_can_go_on_with(
    authorization_server: AuthorizationServer, kind: str
) -> None:
    async with adapter(authorization_server, kind) as before, adapter(authorization_server, kind) as after:
        request = await before.provider.begin_device()
        kept = json.loads(json.dumps({"kept": request.kept.reveal()}))["kept"]
        authorization_server.approve_device(request.user_code, ALICE)
        assert tokens_of(await after.provider.poll(replace(request, kept=Secret(kept)))).grant


async def test_a_scope_that_was_not_granted_is_named_before_anything_is_stored(trial: Trial) -> None:
    request = await trial.provider.begin_device()
    trial.server.approve_device(request.user_code, ALICE)
    for device in trial.server.devices.values():
        device.scope = "openid offline_access"
    with refusal(AuthorizationFailed, trial.server) as caught:
        await trial.provider.poll(request)
    assert caught.value.code == "missing_scope"


@pytest.mark.parametrize("kind", ["microsoft"])
async def test_no_refresh_token_is_no_sign_in(trial: Trial) -> None:
    request = await trial.provider.begin_device()
    trial.server.approve_device(request.user_code, ALICE)
    for device in trial.server.devices.values():
        device.scope = device.scope.replace("offline_access", "")
    with refusal(AuthorizationFailed, trial.server) as caught:
        await trial.provider.poll(request)
    assert caught.value.code == "no_grant"


async def test_a_slow_answer_makes_no_tokens_life_longer(authorization_server: AuthorizationServer, kind: str) -> None:
    clock = ManualClock()
    async with adapter(authorization_server, kind, clock) as trial, asyncio.TaskGroup() as group:
        request = await trial.provider.begin_device()
        authorization_server.approve_device(request.user_code, ALICE)
        asked_at = clock.now()
        with authorization_server.failing("token", Fault.SLOW):
            asking = group.create_task(trial.provider.poll(request))
            assert await asyncio.to_thread(authorization_server.waiting.wait, 10)
            clock.advance(50)
        assert tokens_of(await asking).access.obtained_at == asked_at


@pytest.mark.parametrize("fault", [fault for fault in Fault if fault is not Fault.SLOW])
async def test_trap_11_trouble_while_polling_costs_nothing_and_is_over_when_it_is_over(
    trial: Trial, fault: Fault
) -> None:
    request = await trial.provider.begin_device()
    with trial.server.failing("token", fault):
        for times in (1, 2):
            with refusal(ProviderUnavailable, trial.server):
                await trial.provider.poll(request)
            assert trial.polls == times  # sent again, and only once
    trial.server.approve_device(request.user_code, ALICE)
    assert tokens_of(await trial.provider.poll(request)).grant


async def test_a_poll_that_takes_too_long_is_given_up(authorization_server: AuthorizationServer, kind: str) -> None:
    """Its answer may have used up the code, so the next sign-in begins with a new one."""
    async with adapter(authorization_server, kind, limits=QUICK) as trial:
        request = await trial.provider.begin_device()
        with authorization_server.failing("token", Fault.SLOW), refusal(ProviderUnavailable, authorization_server):
            await trial.provider.poll(request)
        assert (await trial.sign_in()).grant


@pytest.mark.parametrize("fault", list(Fault))
async def test_trouble_when_a_code_is_asked_for_is_over_when_it_is_over(trial: Trial, fault: Fault) -> None:
    with trial.server.failing("device", fault):
        for _ in range(2):
            with refusal(ProviderUnavailable, trial.server):
                await trial.provider.begin_device()
    assert (await trial.sign_in()).grant


async def test_trap_11_every_pending_answer_is_asked_for_and_a_refusal_is_asked_about_again(trial: Trial) -> None:
    """Both come with HTTP 400, which msal caches for a minute."""
    request = await trial.provider.begin_device()
    for times in (1, 2, 3):
        assert await trial.provider.poll(request) == DevicePending()
        assert trial.polls == times
    held, trial.server.devices = trial.server.devices, {}
    with refusal(AuthorizationFailed, trial.server):
        await trial.provider.poll(request)
    trial.server.devices = held
    assert await trial.provider.poll(request) == DevicePending()


async def test_a_client_that_the_provider_does_not_know_is_the_admins_turn(
    authorization_server: AuthorizationServer, kind: str
) -> None:
    async with adapter(authorization_server, kind, client_id="nobody") as trial:
        with refusal(ProviderRefused, authorization_server) as caught:
            await trial.provider.begin_device()
        assert "administrator of mail-bridge must" in str(caught.value)


@pytest.mark.parametrize("kind", ["microsoft"])
async def test_trap_45_an_app_that_is_not_public_is_the_admins_turn_and_the_switch_is_named(
    authorization_server: AuthorizationServer, kind: str
) -> None:
    """Microsoft issues a code all the same, and refuses only after the person has entered it."""
    async with adapter(authorization_server, kind, client_id=MICROSOFT_CLIENT) as trial:
        request = await trial.provider.begin_device()
        authorization_server.approve_device(request.user_code, ALICE)
        with refusal(ProviderRefused, authorization_server) as caught:
            await trial.provider.poll(request)
        assert caught.value.diagnosis is not None
        assert caught.value.diagnosis.key == "microsoft.not_public"
        assert "Allow public client flows" in str(caught.value)
        assert "invalid_client: " in str(caught.value)


@pytest.mark.parametrize("kind", ["microsoft"])
async def test_nobody_is_told_to_configure_a_secret_that_a_code_cannot_have(trial: Trial) -> None:
    """Once the switch is off again, refreshes fail with the error that elsewhere means a missing secret."""
    tokens = await trial.sign_in()
    trial.server.client_certificates[PUBLIC_CLIENT] = "any"
    for asked in (
        trial.provider.refresh(tokens.grant, subject=ALICE),
        trial.provider.adopt(Secret(trial.server.issue_refresh_token(ALICE))),
    ):
        with refusal(ProviderRefused, trial.server) as caught:
            await asked
        assert caught.value.diagnosis is not None
        assert caught.value.diagnosis.key == "microsoft.not_public"


async def test_an_ended_grant_is_ended_and_one_from_elsewhere_can_be_adopted(trial: Trial) -> None:
    tokens = await trial.sign_in()
    trial.server.revoke_person(ALICE)
    with refusal(GrantRevoked, trial.server):
        await trial.provider.refresh(tokens.grant, subject=ALICE)
    adopted = await trial.provider.adopt(Secret(trial.server.issue_refresh_token(ALICE)))
    await trial.provider.refresh(adopted.grant, subject=ALICE)


async def test_nothing_of_a_sign_in_on_its_way_can_be_printed(trial: Trial, caplog: pytest.LogCaptureFixture) -> None:
    request: DeviceRequest = await trial.provider.begin_device()
    logging.getLogger("trial").warning("%s", request)  # the check for secrets must see this at the end
    assert request.kept.reveal() not in caplog.text
