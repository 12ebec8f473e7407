"""Every provider adapter with the same authorization server: the real msal, google-auth-oauthlib and our own code."""

from __future__ import annotations

import json
import logging
import os
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

import pytest

from bridge.advice.base import Turn
from bridge.clock import SystemClock
from bridge.errors import (
    AuthorizationFailed,
    GrantRevoked,
    ProviderNotAsked,
    ProviderRefused,
    ProviderUnavailable,
)
from bridge.oauth.pkce import challenge
from bridge.secret import Secret
from tests.contract.silence import check_silence, no_secret_is_told, refusal  # noqa: F401  the fixture works by itself
from tests.contract.trials import ALICE, KINDS, Trial, adapter, limits_for, section
from tests.servers.authorization import AuthorizationServer
from tests.servers.authorization_controls import REDIRECT, TENANT, Fault
from tests.servers.ca import Authority
from tests.servers.daemons import free_ports

MICROSOFT = ["microsoft", "microsoft public", "microsoft certificate"]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """The adapter to test; a test of one provider's peculiarity parametrises `kind` itself."""
    return str(request.param)


@pytest.fixture
async def trial(authorization_server: AuthorizationServer, kind: str, fault: Fault | None) -> AsyncIterator[Trial]:
    async with adapter(authorization_server, kind, limits_for(fault)) as trial:
        yield trial


def test_what_is_logged_in_a_test_is_seen_by_the_check_for_secrets(
    authorization_server: AuthorizationServer, caplog: pytest.LogCaptureFixture
) -> None:
    """A check that looks at nothing always passes, and this one once did."""
    logging.getLogger("msal").warning("seen")
    assert [record.getMessage() for record in caplog.get_records("call")] == ["seen"]
    with pytest.raises(AssertionError):
        check_silence(authorization_server, [f"token={authorization_server.issue(ALICE)}"])


async def test_a_sign_in_gives_a_token_a_grant_and_who_it_was(trial: Trial) -> None:
    tokens = await trial.sign_in()
    assert tokens.subject is not None
    assert tokens.subject.is_named(ALICE)
    assert 3500 < tokens.access.expires_at - tokens.access.obtained_at <= 3600
    assert tokens.access.value.reveal() in trial.server.access
    assert tokens.grant


async def test_a_mail_server_that_asks_takes_the_token_until_it_ends(trial: Trial) -> None:
    def answers(token: Secret[str]) -> list[dict[str, Any]]:
        query = urlencode({"token": token.reveal()})
        url = trial.server.introspection_url
        asked = [urllib.request.Request(url, query.encode()), urllib.request.Request(f"{url}?{query}")]
        return [json.load(urllib.request.urlopen(question, timeout=10)) for question in asked]

    tokens = await trial.sign_in()
    for answer in answers(tokens.access.value):
        assert (answer["active"], answer["username"], answer["email"]) == (True, ALICE, ALICE)
    trial.server.expire_all_access()
    assert answers(tokens.access.value) == [{"active": False}] * 2
    assert (await trial.provider.refresh(tokens.grant, subject=ALICE)).access.value.reveal() in trial.server.access


async def test_a_browser_that_is_signed_in_already_comes_straight_back(trial: Trial) -> None:
    trial.server.auto_consent = ALICE
    request = await trial.begin("")
    tokens = await trial.provider.redeem(request, trial.server.consent(request.url, "nobody presses"))
    assert tokens.subject is not None
    assert tokens.subject.is_named(ALICE)


async def test_the_authorization_request_has_state_pkce_hint_and_the_exact_redirect(trial: Trial) -> None:
    one, two = await trial.begin(), await trial.begin()
    query = parse_qs(urlsplit(one.url).query)
    assert query["redirect_uri"] == [REDIRECT]
    assert query["code_challenge_method"] == ["S256"]
    assert query["login_hint"] == [ALICE]
    assert query["state"] == [one.state]
    assert len(one.state) >= 32
    assert one.state != two.state
    if trial.kind == "google":
        assert query["access_type"] == ["offline"]


async def test_only_the_digest_of_the_verifier_goes_through_the_browser(trial: Trial) -> None:
    """RFC 7636: somebody who reads the browser's addresses, there and back, cannot redeem the code."""
    request = await trial.begin()
    kept = json.loads(request.kept.reveal())
    (verifier,) = (kept[name] for name in ("verifier", "code_verifier") if name in kept)
    back = trial.server.consent(request.url, ALICE)
    assert len(verifier) >= 43
    assert parse_qs(urlsplit(request.url).query)["code_challenge"] == [challenge(Secret(verifier))]
    assert verifier not in f"{unquote(request.url)} {back}"


async def test_trap_25_a_redirect_uri_without_its_slash_is_another_one(trial: Trial) -> None:
    bare = REDIRECT.rstrip("/")
    request = await trial.provider.begin(login_hint=ALICE, redirect_uri=bare)
    with pytest.raises(AssertionError, match="400"):
        trial.server.consent(request.url, ALICE)
    trial.server.allow_redirect(bare)
    mine, other = await trial.begin(), await trial.provider.begin(login_hint=ALICE, redirect_uri=bare)
    parameters = trial.server.consent(other.url, ALICE)
    trial.server.codes[parameters["code"]].redirect_uri = REDIRECT  # both are registered, but differ
    with refusal(AuthorizationFailed, trial.server) as caught:
        await trial.provider.redeem(other, parameters)
    assert caught.value.code == "provider"
    assert (await trial.provider.redeem(mine, trial.server.consent(mine.url, ALICE))).grant


async def test_trap_18_a_second_sign_in_of_the_same_person_has_a_grant_too(trial: Trial) -> None:
    for _ in range(2):
        assert (await trial.sign_in()).grant
    if trial.kind == "google":
        assert parse_qs(urlsplit((await trial.begin()).url).query)["prompt"] == ["consent"]


@pytest.mark.parametrize("kind", ["oauth2"])
async def test_trap_18_a_server_that_gives_no_refresh_token_is_named_as_the_reason(
    authorization_server: AuthorizationServer, kind: str
) -> None:
    """The admin's authorization_url lacks prompt=consent: each person can sign in once, and never again."""
    url = f"{authorization_server.url}/o/oauth2/v2/auth?access_type=offline"
    async with adapter(authorization_server, kind, authorization_url=url) as trial:
        assert (await trial.sign_in()).grant
        with refusal(AuthorizationFailed, authorization_server) as caught:
            await trial.sign_in()
        assert caught.value.code == "no_grant"


@pytest.mark.parametrize("state", ["forged", "", None])
async def test_trap_22_an_answer_with_another_state_is_not_redeemed(trial: Trial, state: str | None) -> None:
    request = await trial.begin()
    parameters = trial.server.consent(request.url, ALICE)
    del parameters["state"]
    with refusal(AuthorizationFailed, trial.server) as caught:
        await trial.provider.redeem(request, parameters if state is None else {**parameters, "state": state})
    assert caught.value.code == "unknown_state"
    assert trial.server.count("authorization_code") == 0


async def test_a_code_of_another_sign_in_does_not_match_the_verifier(trial: Trial) -> None:
    mine, stolen = await trial.begin(), await trial.begin()
    code = trial.server.consent(stolen.url, ALICE)["code"]
    parameters = trial.server.consent(mine.url, ALICE)
    with refusal(AuthorizationFailed, trial.server) as caught:
        await trial.provider.redeem(mine, {**parameters, "code": code})
    assert caught.value.code == "provider"


async def test_a_code_whose_challenge_was_made_by_somebody_else_is_not_redeemed(trial: Trial) -> None:
    """Only the verifier is wrong here; with the code of another sign-in Microsoft's nonce would be wrong, too."""
    mine, other = await trial.begin(), await trial.begin()
    parameters = trial.server.consent(mine.url, ALICE)
    challenge = parse_qs(urlsplit(other.url).query)["code_challenge"][0]
    trial.server.codes[parameters["code"]].challenge = challenge
    with refusal(AuthorizationFailed, trial.server) as caught:
        await trial.provider.redeem(mine, parameters)
    assert caught.value.code == "provider"
    assert "501481" in str(caught.value)


async def test_a_code_works_once(trial: Trial) -> None:
    request = await trial.begin()
    parameters = trial.server.consent(request.url, ALICE)
    tokens = await trial.provider.redeem(request, parameters)
    with refusal(AuthorizationFailed, trial.server) as caught:
        await trial.provider.redeem(request, parameters)
    assert caught.value.code == "provider"
    await trial.provider.refresh(tokens.grant, subject=ALICE)


async def test_a_code_that_came_too_late_is_told_so(trial: Trial) -> None:
    trial.server.code_lifetime = -1.0
    with refusal(AuthorizationFailed, trial.server) as caught:
        await trial.sign_in()
    assert caught.value.code == "provider"
    assert "too old" in str(caught.value)


async def test_a_person_who_declines_is_told_so(trial: Trial) -> None:
    request = await trial.begin()
    with refusal(AuthorizationFailed, trial.server) as caught:
        await trial.provider.redeem(request, trial.server.consent(request.url, ALICE, "deny"))
    assert caught.value.code == "denied"


async def test_trap_23_a_refresh_gives_a_new_token_whose_life_counts_from_now(trial: Trial) -> None:
    first = await trial.sign_in()
    second = await trial.provider.refresh(first.grant, subject=ALICE)
    assert second.access.value != first.access.value
    assert second.access.obtained_at >= first.access.obtained_at
    assert 3500 < second.access.remaining(SystemClock().now()) <= 3600


async def test_a_rotated_grant_replaces_the_old_one(trial: Trial) -> None:
    trial.server.rotates_elsewhere = True
    first = await trial.sign_in()
    second = await trial.provider.refresh(first.grant, subject=ALICE)
    third = await trial.provider.refresh(second.grant, subject=ALICE)
    assert third.access.value.reveal() in trial.server.access
    with refusal(GrantRevoked, trial.server):
        await trial.provider.refresh(first.grant, subject=ALICE)
    await trial.provider.refresh(third.grant, subject=ALICE)


@pytest.mark.parametrize("kind", ["google", "oauth2"])
async def test_a_grant_that_does_not_rotate_stays(trial: Trial) -> None:
    first = await trial.sign_in()
    second = await trial.provider.refresh(first.grant, subject=ALICE)
    assert second.grant == first.grant


async def test_a_grant_is_text_that_another_run_of_the_program_can_use(
    authorization_server: AuthorizationServer, kind: str
) -> None:
    async with adapter(authorization_server, kind) as before:
        tokens = await before.sign_in()
    stored = json.dumps({"grant": tokens.grant.reveal()}).encode("utf-8")
    async with adapter(authorization_server, kind) as after:
        assert after.provider.fingerprint == before.provider.fingerprint
        found = await after.provider.refresh(Secret(json.loads(stored)["grant"]), subject=ALICE)
        assert found.access.value.reveal() in authorization_server.access


async def test_trap_12_only_the_providers_own_word_ends_a_grant(trial: Trial) -> None:
    tokens = await trial.sign_in()
    trial.server.revoke_person(ALICE)
    with refusal(GrantRevoked, trial.server):
        await trial.provider.refresh(tokens.grant, subject=ALICE)


async def test_trap_11_a_refusal_is_asked_about_again_each_time(trial: Trial) -> None:
    """msal caches an answer with HTTP 400 for a minute, and would miss that the grant works again."""
    tokens = await trial.sign_in()
    good = dict(trial.server.refresh)
    trial.server.revoke_person(ALICE)
    for times in (1, 2):
        with refusal(GrantRevoked, trial.server):
            await trial.provider.refresh(tokens.grant, subject=ALICE)
        assert trial.server.count("refresh_token") == times
    trial.server.refresh = good
    assert (await trial.provider.refresh(tokens.grant, subject=ALICE)).access.value.reveal() in trial.server.access


@pytest.mark.parametrize("fault", list(Fault))
async def test_trap_11_trouble_on_the_way_costs_nothing_and_is_over_when_it_is_over(trial: Trial, fault: Fault) -> None:
    # As at Microsoft: a client that gave up on a slow answer still has the old grant, which still works.
    trial.server.rotates = False
    tokens = await trial.sign_in()
    with trial.server.failing("token", fault):
        for times in (1, 2):
            with refusal(ProviderUnavailable, trial.server):
                await trial.provider.refresh(tokens.grant, subject=ALICE)
            assert trial.server.count("refresh_token") == times  # sent again, and only once
    assert (await trial.provider.refresh(tokens.grant, subject=ALICE)).access.value.reveal() in trial.server.access


@pytest.mark.parametrize("fault", list(Fault))
async def test_trouble_while_a_code_is_redeemed_is_not_the_persons_fault(trial: Trial, fault: Fault) -> None:
    with trial.server.failing("token", fault), refusal(ProviderUnavailable, trial.server):
        await trial.sign_in()
    assert (await trial.sign_in()).grant


@pytest.mark.parametrize("kind", MICROSOFT)
@pytest.mark.parametrize("fault", list(Fault))
async def test_trap_14_trouble_with_the_discovery_document_is_over_when_it_is_over(trial: Trial, fault: Fault) -> None:
    with trial.server.failing("discovery", fault), refusal(ProviderUnavailable, trial.server):
        await trial.begin()
    assert (await trial.sign_in()).grant


@pytest.mark.parametrize("kind", MICROSOFT)
async def test_a_tenant_that_does_not_exist_is_the_admins_turn(
    authorization_server: AuthorizationServer, kind: str
) -> None:
    moved = {
        name: section(authorization_server, kind)[name].replace(TENANT, "nobody.example")
        for name in ("authorization_url", "token_url")
    }
    async with adapter(authorization_server, kind) as good, adapter(authorization_server, kind, **moved) as bad:
        tokens = await good.sign_in()
        with refusal(ProviderRefused, authorization_server) as caught:
            await bad.begin()
        assert "AADSTS90002" in str(caught.value)
        with refusal(ProviderRefused, authorization_server):
            await bad.provider.adopt(Secret(authorization_server.issue_refresh_token(ALICE)))
        authorization_server.tenants.add("nobody.example")
        assert (await bad.sign_in()).grant
        await good.provider.refresh(tokens.grant, subject=ALICE)


async def test_trap_14_a_provider_that_is_not_there_is_asked_again_the_next_time(
    authorization_server: AuthorizationServer, kind: str
) -> None:
    (dead,) = free_ports(1)
    elsewhere = f"https://localhost:{dead}"
    real = section(authorization_server, kind)
    moved = {
        name: real[name].replace(authorization_server.url, elsewhere) for name in ("authorization_url", "token_url")
    }
    async with adapter(authorization_server, kind) as good, adapter(authorization_server, kind, **moved) as lost:
        tokens = await good.sign_in()
        with refusal(ProviderNotAsked, authorization_server):
            await lost.provider.refresh(tokens.grant, subject=ALICE)
        await good.provider.refresh(tokens.grant, subject=ALICE)


async def test_a_code_that_has_not_gone_out_is_good_once_the_provider_is_asked(trial: Trial) -> None:
    """`patient` stands for the same adapter a minute later: only one that was told to wait refuses to ask."""
    async with adapter(trial.server, trial.kind) as patient:
        tokens = await trial.sign_in()
        request = await trial.begin()
        parameters = trial.server.consent(request.url, ALICE)
        trial.server.retry_after = 60
        try:
            with (
                trial.server.failing("token", Fault.STATUS_429),
                refusal(ProviderUnavailable, trial.server),
            ):
                await trial.provider.refresh(tokens.grant, subject=ALICE)
        finally:
            trial.server.retry_after = None
        with refusal(ProviderNotAsked, trial.server) as caught:
            await trial.provider.redeem(request, parameters)
        assert 50 < caught.value.wait <= 60
        assert (await patient.provider.redeem(request, parameters)).grant


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("microsoft public", "microsoft certificate")])
async def test_trap_28_a_wrong_client_secret_is_the_admins_turn_and_costs_no_grant(
    authorization_server: AuthorizationServer, kind: str
) -> None:
    async with (
        adapter(authorization_server, kind) as good,
        adapter(authorization_server, kind, client_secret="CANARY-wrong") as bad,
    ):
        tokens = await good.sign_in()
        with refusal(ProviderRefused, authorization_server):
            await bad.provider.refresh(tokens.grant, subject=ALICE)
        with refusal(ProviderRefused, authorization_server):
            await bad.sign_in()
        await good.provider.refresh(tokens.grant, subject=ALICE)


@pytest.mark.parametrize("kind", ["microsoft public"])
async def test_a_secret_for_a_public_client_is_the_admins_turn(
    authorization_server: AuthorizationServer, kind: str
) -> None:
    async with adapter(authorization_server, kind, client_secret="CANARY-needless") as trial:
        with refusal(ProviderRefused, authorization_server) as caught:
            await trial.sign_in()
        assert "public client" in str(caught.value)


async def test_adopt_tries_a_refresh_token_and_says_whose_it_is(trial: Trial) -> None:
    token = trial.server.issue_refresh_token(ALICE)
    tokens = await trial.provider.adopt(Secret(token))
    assert tokens.subject is not None
    assert tokens.subject.is_named(ALICE)
    await trial.provider.refresh(tokens.grant, subject=ALICE)
    with refusal(GrantRevoked, trial.server):
        await trial.provider.adopt(Secret("CANARY-garbage"))


async def test_what_a_provider_repeats_of_our_question_is_told_to_nobody(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = await trial.sign_in()
    request = await trial.begin()
    parameters = trial.server.consent(request.url, ALICE)
    monkeypatch.setattr(trial.server, "is_repeating", True)
    with refusal(AuthorizationFailed, trial.server) as caught:
        await trial.provider.redeem(request, parameters)
    assert parameters["code"] not in str(caught.value)
    with refusal(GrantRevoked, trial.server):
        await trial.provider.refresh(tokens.grant, subject=ALICE)


@pytest.mark.parametrize("kind", MICROSOFT)
async def test_a_token_from_elsewhere_that_brings_no_other_one_is_the_admins_turn(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial.server, "renews", False)
    with refusal(GrantRevoked, trial.server) as caught:
        await trial.provider.adopt(Secret(trial.server.issue_refresh_token(ALICE)))
    assert caught.value.diagnosis is not None
    assert caught.value.diagnosis.advice.turn is Turn.APP_ADMIN
    assert "offline_access" in str(caught.value)


async def test_revoke_ends_the_grant_where_the_provider_can(trial: Trial) -> None:
    can = trial.kind not in MICROSOFT
    tokens = await trial.sign_in()
    assert await trial.provider.revoke(tokens.grant) is can
    if can:
        with refusal(GrantRevoked, trial.server):
            await trial.provider.refresh(tokens.grant, subject=ALICE)
        assert await trial.provider.revoke(tokens.grant)  # it has ended already, which was the aim
    else:
        await trial.provider.refresh(tokens.grant, subject=ALICE)


@pytest.mark.parametrize("kind", ["google", "oauth2"])
@pytest.mark.parametrize("fault", [Fault.STATUS_500, Fault.STATUS_429, Fault.RESET, Fault.TEMPORARY_400])
async def test_a_grant_that_could_not_be_revoked_is_not_said_to_be(trial: Trial, fault: Fault) -> None:
    tokens = await trial.sign_in()
    with trial.server.failing("revoke", fault), refusal(ProviderUnavailable, trial.server):
        await trial.provider.revoke(tokens.grant)
    assert await trial.provider.revoke(tokens.grant)


async def test_trap_13_the_environment_adds_no_trust(
    authorization_server: AuthorizationServer, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In requests, REQUESTS_CA_BUNDLE overrides `verify=`, and so it does in msal and google-auth."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.setenv(name, str(authorization_server.authority.ca_file))
    async with adapter(authorization_server, kind) as good, adapter(authorization_server, kind, ca_file=None) as bare:
        tokens = await good.sign_in()
        with refusal(ProviderNotAsked, authorization_server) as caught:
            await bare.provider.refresh(tokens.grant, subject=ALICE)
        assert "ca_file" in str(caught.value)
    assert os.environ["REQUESTS_CA_BUNDLE"]


async def test_trap_13_the_environment_takes_no_trust_away(
    authorization_server: AuthorizationServer, kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    strangers = str(Authority(tmp_path).ca_file)
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.setenv(name, strangers)
    async with (
        adapter(authorization_server, kind) as good,
        adapter(authorization_server, kind, ca_file=strangers) as bad,
    ):
        tokens = await good.sign_in()
        tokens = await good.provider.refresh(tokens.grant, subject=ALICE)
        with refusal(ProviderNotAsked, authorization_server) as caught:
            await bad.provider.refresh(tokens.grant, subject=ALICE)
        assert "is not trusted" in str(caught.value)


async def test_no_password_of_a_netrc_file_goes_to_the_provider(
    trial: Trial, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """requests would send it as HTTP Basic, and the provider would take us for another client."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine localhost login somebody password CANARY-netrc\n")
    monkeypatch.setenv("NETRC", str(netrc))
    await trial.provider.refresh((await trial.sign_in()).grant, subject=ALICE)
    assert {request.get("client_id") for request in trial.server.requests if request["kind"] == "token"} == {
        section(trial.server, trial.kind)["client_id"]
    }


async def test_trap_10_identity_scopes_in_the_configuration_do_no_harm(
    authorization_server: AuthorizationServer, kind: str
) -> None:
    scopes = {
        "google": ["https://mail.google.com/", "openid", "email"],
        "oauth2": ["https://mail.google.com/", "openid", "email"],
    }.get(kind, ["https://outlook.office.com/IMAP.AccessAsUser.All", "openid", "profile", "offline_access"])
    async with adapter(authorization_server, kind, scopes=scopes) as trial:
        tokens = await trial.sign_in()
        await trial.provider.refresh(tokens.grant, subject=ALICE)


async def test_trap_21_a_scope_that_was_not_granted_is_named_before_anything_is_stored(trial: Trial) -> None:
    request = await trial.begin()
    parameters = trial.server.consent(request.url, ALICE)
    code = trial.server.codes[parameters["code"]]
    code.scope = "openid"  # as if every box were unticked
    with refusal(AuthorizationFailed, trial.server) as caught:
        await trial.provider.redeem(request, parameters)
    assert caught.value.code == "missing_scope"
