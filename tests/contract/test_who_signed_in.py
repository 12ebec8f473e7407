"""Which claims say who has signed in: only what the provider vouches for names the owner of a mailbox."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.errors import AuthorizationFailed
from bridge.oauth import google
from tests.contract.silence import no_secret_is_told  # noqa: F401  the fixture works by itself
from tests.contract.trials import ALICE, KINDS, adapter
from tests.servers.authorization import AuthorizationServer

MALLORY = "mallory@elsewhere.example"


async def is_taken_for_alice(server: AuthorizationServer, kind: str, said: dict[str, Any], **changes: Any) -> bool:
    """Mallory signs in, and his id_token has these claims. Returns: whether he passes for Alice."""
    server.people.add(MALLORY)
    server.claims = said
    async with adapter(server, kind, **changes) as trial:
        subject = (await trial.sign_in(MALLORY)).subject
    return subject is not None and subject.is_named(ALICE)


@pytest.mark.parametrize(
    ("kind", "said", "counts"),
    [
        ("google", {"email": ALICE}, True),
        ("google", {"email": ALICE, "email_verified": False}, False),
        ("google", {"email": ALICE, "email_verified": None}, False),
        ("google", {"email": ALICE, "iss": "https://elsewhere.example"}, False),
        ("oauth2", {"email": ALICE, "email_verified": False}, False),
        ("oauth2", {"email": ALICE, "email_verified": None}, True),
        ("oauth2", {"email": None, "preferred_username": ALICE}, False),
        ("microsoft", {"email": ALICE}, True),
        ("microsoft", {"email": ALICE, "preferred_username": None}, True),
    ],
)
async def test_only_an_address_that_the_provider_vouches_for_counts(
    authorization_server: AuthorizationServer, kind: str, said: dict[str, Any], counts: bool
) -> None:
    assert await is_taken_for_alice(authorization_server, kind, said) is counts


@pytest.mark.parametrize(("verified", "counts"), [(None, False), ("0", False), ("1", True), (True, True)])
async def test_an_address_that_another_tenants_administrator_has_entered_proves_nothing(
    authorization_server: AuthorizationServer, verified: object, counts: bool
) -> None:
    """Where every tenant may sign in, Mallory may have a tenant of his own with any address under `email`."""
    said = {"email": ALICE, "preferred_username": None, "xms_edov": verified}
    authorization_server.tenants.add("common")
    shared = authorization_server.microsoft_config(tenant="common")
    urls = {name: shared[name] for name in ("authorization_url", "token_url")}
    assert await is_taken_for_alice(authorization_server, "microsoft", said, **urls) is counts


@pytest.mark.parametrize("kind", KINDS)
async def test_a_name_that_would_take_a_terminal_over_names_nobody(
    authorization_server: AuthorizationServer, kind: str
) -> None:
    """The mail server decides in that case, and our messages name the person whom the configuration expects."""
    odd = f"{MALLORY}\x1b[2K\r{ALICE}"
    authorization_server.people.add(MALLORY)
    authorization_server.claims = dict.fromkeys(("email", "preferred_username", "upn"), odd) | {"email_verified": True}
    async with adapter(authorization_server, kind) as trial:
        assert (await trial.sign_in(MALLORY)).subject is None


@pytest.mark.parametrize("kind", KINDS)
async def test_what_was_said_to_another_client_is_not_for_us(
    authorization_server: AuthorizationServer, kind: str
) -> None:
    """An app of Mallory's has obtained a token of Alice's, and presents it here."""
    with pytest.raises(AuthorizationFailed) as caught:
        await is_taken_for_alice(authorization_server, kind, {"aud": "the-client-of-somebody-else"})
    assert caught.value.code == "provider"


@pytest.mark.parametrize(
    ("issuer", "counts"),
    [
        ("https://accounts.google.com", True),
        ("accounts.google.com", True),
        ("https://accounts.google.com.elsewhere.example", False),
        ("http://accounts.google.com", False),
        (None, False),
    ],
)
async def test_at_googles_own_address_google_alone_says_who_it_was(
    authorization_server: AuthorizationServer, monkeypatch: pytest.MonkeyPatch, issuer: str | None, counts: bool
) -> None:
    """The issuer is written in one of Google's two ways."""
    monkeypatch.setattr(google, "GOOGLE_TOKEN_URL", authorization_server.google_config()["token_url"])
    assert await is_taken_for_alice(authorization_server, "google", {"email": ALICE, "iss": issuer}) is counts


async def test_a_refresh_whose_id_token_is_for_another_client_names_nobody(
    authorization_server: AuthorizationServer,
) -> None:
    async with adapter(authorization_server, "google") as trial:
        tokens = await trial.sign_in()
        assert (await trial.provider.refresh(tokens.grant, subject=ALICE)).subject is not None
        authorization_server.claims = {"aud": "the-client-of-somebody-else"}
        assert (await trial.provider.refresh(tokens.grant, subject=ALICE)).subject is None
