"""Every other grant that yields a token, with the running program: real libraries, real mail servers, real mail."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.e2e.bridge import Bridge, Section, configuration, running
from tests.e2e.conftest import ALICE, BOB, World, ever_expired
from tests.e2e.logins import assert_replies, replies
from tests.servers.authorization_controls import PUBLIC_CLIENT, Fault

pytestmark = pytest.mark.servers

APP = "app-only-client"


def servers(world: World, name: str) -> Section:
    """The mail servers of one of the world's providers."""
    section = world.providers()[name]
    return {protocol: section[protocol] for protocol in ("imap", "pop3", "smtp")}


def bridge_with(world: World, directory: Path, provider: Section, address: str) -> Bridge:
    """A bridge with one provider and one account."""
    bridge = Bridge(directory, configuration(directory, {"it": provider}, [{"address": address, "provider": "it"}]))
    world.provider.allow_redirect(f"http://localhost:{bridge.console_port}/")
    return bridge


def mail_flows(bridge: Bridge, address: str) -> None:
    found = replies(bridge.login(address))
    assert_replies(found, "OK", "+OK", "235")


# --- device code ----------------------------------------------------------------------------------------------------


@pytest.fixture(params=["microsoft", "oauth2"])
def by_code(world: World, tmp_path: Path, request: pytest.FixtureRequest) -> Bridge:
    if request.param == "microsoft":
        provider = world.provider.microsoft_config(PUBLIC_CLIENT) | servers(world, "office365")
    else:
        provider = world.provider.generic_config() | servers(world, "gmail")
        provider["device_url"] = f"{world.provider.url}/device/code"
    provider["flow"] = "device"
    return bridge_with(world, tmp_path, provider, BOB)


def test_a_code_typed_elsewhere_signs_in_from_the_command_line(world: World, by_code: Bridge) -> None:
    def act(line: str, command: subprocess.Popen[str]) -> None:
        if (match := re.fullmatch(r"\s+([A-Z0-9]{8})\n", line)) is not None:
            world.provider.approve_device(match[1], BOB)

    with ever_expired(world):
        assert f"{BOB} is signed in as {BOB}" in by_code.dialogue("authorize", BOB, act=act)
    with running(by_code):
        before = world.provider.count("refresh_token")
        mail_flows(by_code, BOB)
        assert world.provider.count("refresh_token") == before + 1


def test_a_person_who_declines_the_code_and_the_wrong_person_store_nothing(world: World, by_code: Bridge) -> None:
    for person, answer, words in ((BOB, "deny", "declined"), (ALICE, "accept", f"{ALICE} has signed in, but {BOB}")):

        def act(line: str, command: subprocess.Popen[str], person: str = person, answer: str = answer) -> None:
            if (match := re.fullmatch(r"\s+([A-Z0-9]{8})\n", line)) is not None:
                world.provider.approve_device(match[1], person, answer)

        assert words in by_code.dialogue("authorize", BOB, act=act, code=1)
        assert by_code.json("accounts", "list")[0]["state"] == "sign-in"


def test_the_page_with_the_code_leads_on_by_itself(world: World, by_code: Bridge) -> None:
    with running(by_code):
        assert "must sign in" in replies(by_code.login(BOB))["imap"]
        browser = by_code.browser()
        page = browser.press(f"/sign-in/{BOB}")
        match = re.search(r'class="code"[^>]*>([A-Z0-9]{8})<', page)
        assert match is not None, page
        world.provider.approve_device(match[1], BOB)
        pages = [page]

        def is_signed_in() -> bool:
            pages.append(browser.reload())
            return f"{BOB}</strong> is signed in" in pages[-1]

        by_code.wait_until(is_signed_in, "the sign-in", 30)
        assert "Tried just now: IMAP, POP3, SMTP" in pages[-1], "this page reloads itself no more"
        mail_flows(by_code, BOB)


# --- nobody signs in ------------------------------------------------------------------------------------------------


def app_provider(world: World) -> Section:
    provider = world.provider.microsoft_config() | servers(world, "office365")
    provider |= {"client_id": APP, "client_secret": "CANARY-app-secret", "flow": "client_credentials"}
    provider.pop("scopes", None)
    return provider


@pytest.fixture
def app_only(world: World, tmp_path: Path) -> Iterator[Bridge]:
    world.provider.register(APP, "CANARY-app-secret")
    world.provider.apps[APP] = {BOB}
    yield bridge_with(world, tmp_path, app_provider(world), BOB)
    del world.provider.apps[APP]
    del world.provider.clients[APP]


@pytest.fixture
def service_account(world: World, tmp_path: Path) -> Iterator[Bridge]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    email = "bridge@project.example"
    world.provider.secrets.append(pem)
    world.provider.service_accounts[email] = (
        key.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )
    content = {"type": "service_account", "client_email": email, "client_id": "1", "private_key_id": "k1"}
    content |= {"private_key": pem, "token_uri": f"{world.provider.url}/token"}
    (tmp_path / "key.json").write_text(json.dumps(content))
    (tmp_path / "key.json").chmod(0o600)
    kept = {name: value for name, value in world.provider.google_config().items() if "client" not in name}
    provider = kept | servers(world, "gmail")
    provider |= {"flow": "service_account", "service_account_file": "key.json"}
    provider.pop("scopes", None)
    yield bridge_with(world, tmp_path, provider, ALICE)
    del world.provider.service_accounts[email]


@pytest.fixture(params=["app_only", "service_account"])
def unattended(request: pytest.FixtureRequest) -> Bridge:
    bridge: Bridge = request.getfixturevalue(request.param)
    return bridge


GRANT = {"it-bob": "client_credentials", "it-alice": "urn:ietf:params:oauth:grant-type:jwt-bearer"}


def of(bridge: Bridge) -> tuple[str, str]:
    """The bridge's account, and the grant type that yields its tokens."""
    address = str(bridge.config["accounts"][0]["address"])
    return address, GRANT[f"it-{address.partition('@')[0]}"]


def test_mail_flows_without_any_sign_in_and_one_token_serves_all(world: World, unattended: Bridge) -> None:
    address, grant_type = of(unattended)
    before = world.provider.count(grant_type)
    with running(unattended):
        mail_flows(unattended, address)
        assert world.provider.count(grant_type) == before + 1
        assert unattended.json("accounts", "list")[0]["state"] == "ready"
        assert "Nobody has to sign in" in unattended.run("authorize", address)
        assert "works" in unattended.run("accounts", "check", address)
        assert "Nobody signs in" in unattended.run("accounts", "adopt", address, stdin="CANARY-token\n", code=1)
    unattended.stop()
    with running(unattended):
        mail_flows(unattended, address)
        assert "sign_in.needed" not in unattended.log


def test_a_token_that_has_expired_is_replaced_once(world: World, unattended: Bridge) -> None:
    address, grant_type = of(unattended)
    with running(unattended), ever_expired(world):
        mail_flows(unattended, address)
    with running(unattended):
        before = world.provider.count(grant_type)
        mail_flows(unattended, address)
        assert world.provider.count(grant_type) == before + 1


def test_a_registration_that_is_refused_prompts_nobody(world: World, unattended: Bridge) -> None:
    """The administrator has to act: the mail program is told `later`, and nobody is sent to a sign-in page."""
    address, _ = of(unattended)
    apps, delegated = world.provider.apps, world.provider.service_accounts
    world.provider.apps, world.provider.service_accounts = {}, {}
    with running(unattended):
        found = replies(unattended.login(address))
        assert_replies(found, "[UNAVAILABLE]", "[SYS/TEMP]", "454 4.7.0")
        assert "sign-in/" not in "".join(found.values())
        assert "sign_in.needed" not in unattended.log
        assert "administrator" in unattended.json("accounts", "list")[0]["detail"]
    world.provider.apps, world.provider.service_accounts = apps, delegated
    with running(unattended):  # a new start, since a provider that refused our registration is left alone for a minute
        mail_flows(unattended, address)


def test_of_a_whole_domain_whom_the_provider_refuses_is_named_to_the_administrator(
    world: World, unattended: Bridge
) -> None:
    address, _ = of(unattended)
    apps, delegated = world.provider.apps, world.provider.service_accounts
    unattended.config["accounts"][0]["address"] = "*@example.com"
    world.provider.apps, world.provider.service_accounts = {}, {}
    try:
        with running(unattended):
            assert_replies(replies(unattended.login(address)), "[UNAVAILABLE]", "[SYS/TEMP]", "454 4.7.0")
            (account,) = unattended.json("accounts", "list")
            assert (account["address"], account["state"]) == (address, "trouble")
            assert "administrator" in account["detail"]
    finally:
        world.provider.apps, world.provider.service_accounts = apps, delegated


def test_an_outage_without_a_sign_in_is_told_as_temporary(world: World, unattended: Bridge) -> None:
    address, _ = of(unattended)
    with running(unattended), world.provider.failing("token", Fault.STATUS_500):
        assert_replies(replies(unattended.login(address)), "[UNAVAILABLE]", "[SYS/TEMP]", "454 4.7.0")
