"""Microsoft's tenant, its two URLs and its scopes: which spellings mean the same, and what contradicts each other."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from bridge.config.microsoft import MicrosoftProvider
from bridge.config.provider import Flow

HOST = "https://login.microsoftonline.com"


def provider(**keys: Any) -> MicrosoftProvider:
    return MicrosoftProvider(**{"kind": "microsoft", "client_id": "it"} | keys)


def by_urls(first: str, second: str) -> MicrosoftProvider:
    return provider(authorization_url=f"{first}/oauth2/v2.0/authorize", token_url=f"{second}/oauth2/v2.0/token")


def test_a_tenants_letters_may_be_large_or_small() -> None:
    """Both spellings are one tenant: a change from one to the other makes nobody sign in again."""
    small, large = provider(tenant="contoso.com"), provider(tenant="Contoso.COM")
    assert small.grant_identity == large.grant_identity
    mixed = by_urls(f"{HOST}/contoso.com", "https://Login.MicrosoftOnline.com/Contoso.com")
    assert mixed.grant_identity == small.grant_identity


def test_scopes_that_the_library_adds_itself_make_no_other_sign_in() -> None:
    scope = "https://outlook.office.com/IMAP.AccessAsUser.All"
    bare = provider(tenant="contoso.com", scopes=[scope])
    assert provider(tenant="contoso.com", scopes=[scope, "offline_access", "openid"]).grant_identity == (
        bare.grant_identity
    )
    assert provider(tenant="contoso.com", scopes=[scope, "email"]).grant_identity != bare.grant_identity


def test_an_apps_own_tokens_are_of_another_client_than_a_persons() -> None:
    person = provider(tenant="contoso.com", client_secret="CANARY")
    app = provider(tenant="contoso.com", client_secret="CANARY", flow=Flow.CLIENT_CREDENTIALS)
    assert person.client_identity != app.client_identity


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (
            {
                "tenant": "contoso.com",
                "scopes": ["https://outlook.office.com/IMAP.AccessAsUser.All", "https://other.example/x"],
            },
            "a token is valid for one service only",
        ),
        (
            {
                "authorization_url": f"{HOST}/Common/oauth2/v2.0/authorize",
                "token_url": f"{HOST}/Common/oauth2/v2.0/token",
                "flow": Flow.CLIENT_CREDENTIALS,
                "client_secret": "CANARY",
            },
            "needs the tenant's own GUID or domain",
        ),
        ({"authorization_url": f"{HOST}/contoso.com/oauth2/v2.0/authorize#top"}, "must look like"),
        ({"authorization_url": f"{HOST}/contoso.com/oauth2/v2.0/authorize?prompt=login"}, "must look like"),
    ],
)
def test_what_does_not_go_together_is_said(keys: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        provider(**keys)
