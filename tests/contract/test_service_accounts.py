"""Google's service account: the key file in every state, and what each refusal tells the administrator."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

from bridge.errors import BridgeError, ProviderNotAsked, ProviderRefused
from bridge.model import Subject
from bridge.oauth.base import Provider
from bridge.secret import Secret
from bridge.ui.i18n import translation
from tests.contract.silence import no_secret_is_told, refusal  # noqa: F401  the fixture works by itself
from tests.contract.trials import ALICE, opened
from tests.servers.authorization import AuthorizationServer
from tests.servers.service_accounts import (
    ACCOUNT,
    CLIENT_ID,
    MAIL_SCOPE,
    add_service_account,
    key_file,
    key_pair,
    service_account_config,
)

BOB = "bob@example.com"
NOTHING = Secret("")
HOUR = 3600.0


@pytest.fixture
def file(authorization_server: AuthorizationServer, tmp_path: Path) -> Path:
    """A valid key file."""
    return add_service_account(authorization_server, tmp_path / "key.json")


def adapter(server: AuthorizationServer, file: Path, **changes: Any) -> AbstractAsyncContextManager[Provider]:
    return opened(service_account_config(server, file) | changes)


async def test_a_token_opens_the_mailbox_that_it_was_asked_for_and_no_other(
    authorization_server: AuthorizationServer, file: Path
) -> None:
    async with adapter(authorization_server, file) as provider:
        for address in (ALICE, BOB):
            tokens = await provider.refresh(NOTHING, subject=address)
            assert authorization_server.access[tokens.access.value.reveal()][0] == address
            assert tokens.subject == Subject(address)
            assert tokens.scopes == {MAIL_SCOPE}


async def test_many_mailboxes_at_once_each_get_their_own(authorization_server: AuthorizationServer, file: Path) -> None:
    people = [f"person{number}@example.com" for number in range(20)]
    authorization_server.people |= set(people)
    async with adapter(authorization_server, file) as provider:
        found = await asyncio.gather(*(provider.refresh(NOTHING, subject=address) for address in people))
    opened = [authorization_server.access[tokens.access.value.reveal()][0] for tokens in found]
    assert opened == people
    assert len(authorization_server.requests) == len(people)


async def test_another_scope_is_asked_for_where_the_file_says_so(
    authorization_server: AuthorizationServer, file: Path
) -> None:
    scope = "https://www.googleapis.com/auth/gmail.imap_admin"
    async with adapter(authorization_server, file, scopes=[scope]) as provider:
        with refusal(ProviderRefused, authorization_server) as caught:
            await provider.refresh(NOTHING, subject=ALICE)
        assert scope in str(caught.value)
        authorization_server.delegations[ACCOUNT].add(scope)
        assert (await provider.refresh(NOTHING, subject=ALICE)).scopes == {scope}


# --- what a "no" tells ----------------------------------------------------------------------------------------------


def french(problem: BridgeError) -> str:
    assert problem.diagnosis is not None
    return problem.diagnosis.told(translation("fr"))


async def test_a_missing_delegation_says_who_clicks_where_and_with_what(
    authorization_server: AuthorizationServer, file: Path
) -> None:
    authorization_server.delegations[ACCOUNT].clear()
    async with adapter(authorization_server, file) as provider:
        with refusal(ProviderRefused, authorization_server) as caught:
            await provider.refresh(NOTHING, subject=ALICE)
    for words in ("Workspace administrator", "API controls", "domain-wide delegation", CLIENT_ID, MAIL_SCOPE):
        assert words in str(caught.value)
    assert "admin.google.com, Sécurité, Contrôle des accès et des données, Commandes des API" in french(caught.value)
    assert f"ajouter l’ID client {CLIENT_ID} avec le champ d’application OAuth {MAIL_SCOPE}." in french(caught.value)


@pytest.mark.parametrize("error", ["unauthorized_client", "access_denied"])
async def test_either_of_googles_words_for_a_missing_delegation_is_known(
    authorization_server: AuthorizationServer, file: Path, error: str
) -> None:
    authorization_server.refusals["urn:ietf:params:oauth:grant-type:jwt-bearer"] = (error, 0)
    async with adapter(authorization_server, file) as provider:
        with refusal(ProviderRefused, authorization_server) as caught:
            await provider.refresh(NOTHING, subject=ALICE)
    assert "Manage domain-wide delegation" in str(caught.value)
    assert f"({error}: " in str(caught.value)


async def test_a_key_file_that_does_not_say_its_number_is_known_by_the_accounts_name(
    authorization_server: AuthorizationServer, file: Path
) -> None:
    file.write_text(made(client_id=None), "utf-8")
    async with adapter(authorization_server, file) as provider:
        await provider.refresh(NOTHING, subject=ALICE)
        authorization_server.delegations[ACCOUNT].clear()
        with refusal(ProviderRefused, authorization_server) as caught:
            await provider.refresh(NOTHING, subject=ALICE)
    assert f"add the client ID of {ACCOUNT} with the scope {MAIL_SCOPE}." in str(caught.value)
    assert f"add the client ID of {ACCOUNT}" not in french(caught.value)
    assert ACCOUNT in french(caught.value)


@pytest.mark.parametrize("ahead", [2 * HOUR, -2 * HOUR])
async def test_a_wrong_clock_is_named_and_is_over_when_it_is_set(
    authorization_server: AuthorizationServer, file: Path, ahead: float
) -> None:
    authorization_server.clock_ahead = ahead
    async with adapter(authorization_server, file) as provider:
        with refusal(ProviderRefused, authorization_server) as caught:
            await provider.refresh(NOTHING, subject=ALICE)
        assert str(caught.value).startswith("The clock of this computer is wrong")
        assert "(L’horloge de cet ordinateur est décalée de plus de quelques minutes" in french(caught.value)
        authorization_server.clock_ahead = 0.0
        await provider.refresh(NOTHING, subject=ALICE)


async def test_a_mailbox_that_does_not_exist_is_named(authorization_server: AuthorizationServer, file: Path) -> None:
    async with adapter(authorization_server, file) as provider:
        with refusal(ProviderRefused, authorization_server) as caught:
            await provider.refresh(NOTHING, subject="gone@example.com")
        assert "There is no mailbox gone@example.com" in str(caught.value)
        assert "(La boîte gone@example.com n’existe pas dans ce Google Workspace" in french(caught.value)
        await provider.refresh(NOTHING, subject=ALICE)


async def test_a_service_account_that_was_deleted_is_named(
    authorization_server: AuthorizationServer, file: Path
) -> None:
    del authorization_server.service_accounts[ACCOUNT]
    async with adapter(authorization_server, file) as provider:
        with refusal(ProviderRefused, authorization_server) as caught:
            await provider.refresh(NOTHING, subject=ALICE)
        assert f"The service account {ACCOUNT} does not exist any more" in str(caught.value)
        assert f"(Le compte de service {ACCOUNT} n’existe plus\u00a0: " in french(caught.value)


async def test_an_old_key_is_told_from_a_missing_delegation(
    authorization_server: AuthorizationServer, file: Path, tmp_path: Path
) -> None:
    add_service_account(authorization_server, tmp_path / "new.json", number=2)
    async with adapter(authorization_server, file) as provider:
        with refusal(ProviderRefused, authorization_server) as caught:
            await provider.refresh(NOTHING, subject=ALICE)
        assert "does not know this key any more" in str(caught.value)
        assert "clock" in str(caught.value)
        assert "(Google ne connaît plus cette clé\u00a0: " in french(caught.value)


# --- the key file ---------------------------------------------------------------------------------------------------


def made(**changes: object) -> str:
    """The text of a key file. Its key takes too long to make while tests are collected, so this is called later."""
    return json.dumps(key_file(private(), **changes))


def private() -> str:
    return key_pair(1)[0]


def curve() -> str:
    """A key that is not RSA, as Google's are."""
    return _pem(ec.generate_private_key(ec.SECP256R1()), serialization.NoEncryption())


def locked() -> str:
    """A key that is encrypted with a password."""
    key = serialization.load_pem_private_key(private().encode(), None)
    return _pem(key, serialization.BestAvailableEncryption(b"CANARY"))


def _pem(key: PrivateKeyTypes, encryption: serialization.KeySerializationEncryption) -> str:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption).decode()


CLIENT_FILE = {"installed": {"client_id": "1.apps.googleusercontent.com", "client_secret": "CANARY-secret"}}

BAD_FILES: dict[str, tuple[Callable[[], str], str]] = {
    "empty": (lambda: "", "is not JSON"),
    "cut short": (lambda: made()[:900], "is not JSON"),
    "not JSON": (private, "is not JSON"),
    "brackets": (lambda: "[" * 60_000, "is not JSON"),
    "a list": (lambda: "[]", "is not the key of a service account"),
    "an OAuth client": (lambda: json.dumps(CLIENT_FILE), "is not the key of a service account"),
    "no key": (lambda: made(private_key=None), "lacks client_email or private_key"),
    "no name": (lambda: made(client_email=None), "lacks client_email or private_key"),
    "a number for a key": (lambda: made(private_key=7), "lacks client_email or private_key"),
    "a damaged key": (lambda: made(private_key=private()[:200] + private()[300:]), "cannot be used"),
    "a curve's key": (lambda: made(private_key=curve()), "cannot be used"),
    "a locked key": (lambda: made(private_key=locked()), "cannot be used"),
    "in clear": (lambda: made(token_uri="http://oauth2.googleapis.com/token"), "https://"),
    "too large": (lambda: made(padding="x" * 70_000), "too large"),
}


@pytest.mark.parametrize(("content", "words"), BAD_FILES.values(), ids=BAD_FILES.keys())
async def test_a_bad_key_file_is_the_admins_turn_and_a_good_one_in_its_place_is_used_at_once(
    authorization_server: AuthorizationServer, file: Path, content: Callable[[], str], words: str
) -> None:
    good = file.read_text("utf-8")
    file.write_text(content(), "utf-8")
    async with adapter(authorization_server, file) as provider:
        with refusal(ProviderRefused, authorization_server) as caught:
            await provider.refresh(NOTHING, subject=ALICE)
        assert words in str(caught.value)
        assert str(file) in str(caught.value)
        assert "PRIVATE KEY" not in str(caught.value)
        told = french(caught.value)
        assert f"Le fichier de clé du compte de service, {file}, " in told
        assert words not in told.replace("https://", "")
        assert authorization_server.requests == []
        file.write_text(good, "utf-8")
        await provider.refresh(NOTHING, subject=ALICE)


async def test_a_key_file_that_is_not_there_yet_is_looked_for_again(
    authorization_server: AuthorizationServer, tmp_path: Path
) -> None:
    """As when the bridge starts before the disk with the secrets is mounted."""
    late = tmp_path / "late" / "key.json"
    async with adapter(authorization_server, late) as provider:
        with refusal(ProviderRefused, authorization_server) as caught:
            await provider.refresh(NOTHING, subject=ALICE)
        assert f"{late} cannot be read (No such file or directory): " in str(caught.value)
        assert "No such file" not in french(caught.value)
        late.parent.mkdir()
        add_service_account(authorization_server, late)
        await provider.refresh(NOTHING, subject=ALICE)


async def test_a_replaced_key_file_counts_from_the_next_refresh_on_whatever_its_times_say(
    authorization_server: AuthorizationServer, file: Path
) -> None:
    os.utime(file, (1e9, 1e9))
    async with adapter(authorization_server, file) as provider:
        await provider.refresh(NOTHING, subject=ALICE)
        add_service_account(authorization_server, file, number=2)
        os.utime(file, (1e9, 1e9))
        tokens = await provider.refresh(NOTHING, subject=ALICE)
        assert tokens.access.value.reveal() in authorization_server.access


STRANGER = "https://oauth2.googleapis.com.attacker.example/token"


@pytest.mark.parametrize("uri", [STRANGER, "https://oauth2.googleapis.com:8443/token"])
async def test_what_is_signed_goes_to_google_whatever_a_key_file_says(
    authorization_server: AuthorizationServer, file: Path, uri: str
) -> None:
    """Without token_url in the configuration, a foreign address is refused before anything is sent."""
    file.write_text(made(token_uri=uri), "utf-8")
    async with adapter(authorization_server, file, token_url=None, proxy="http://127.0.0.1:9") as provider:
        with refusal(ProviderRefused, authorization_server) as caught:
            await provider.refresh(NOTHING, subject=ALICE)
        assert "not Google's" in str(caught.value)


async def test_the_configurations_token_url_wins(authorization_server: AuthorizationServer, file: Path) -> None:
    file.write_text(made(token_uri=STRANGER), "utf-8")
    async with adapter(authorization_server, file) as provider:
        await provider.refresh(NOTHING, subject=ALICE)
    assert len(authorization_server.requests) == 1


@pytest.mark.parametrize(
    "uri", ["https://accounts.google.com/o/oauth2/token", "https://www.googleapis.com/oauth2/v4/token", None]
)
async def test_key_files_of_earlier_years_are_good(
    authorization_server: AuthorizationServer, file: Path, uri: str | None
) -> None:
    """Nothing listens at the proxy, so that no test contacts Google; getting as far as the network is the proof."""
    file.write_text(made(token_uri=uri, universe_domain="elsewhere.example"), "utf-8")
    async with adapter(authorization_server, file, token_url=None, proxy="http://127.0.0.1:9") as provider:
        with refusal(ProviderNotAsked, authorization_server):
            await provider.refresh(NOTHING, subject=ALICE)
