"""`kind: microsoft` with a sign-in by browser, and answers that our own authorization server does not give."""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from bridge.errors import AuthorizationFailed, BridgeError, GrantRevoked, ProviderUnavailable
from bridge.model import Subject, TokenSet
from bridge.oauth.base import BrowserProvider
from bridge.secret import Secret
from tests.clocks import ManualClock
from tests.contract.trials import opened
from tests.oauth.raw import Tls, http, serving

ALICE = "alice@example.com"
REDIRECT = "http://localhost:3017/"
IMAP = "https://outlook.office.com/IMAP.AccessAsUser.All"
GOOD: dict[str, Any] = {"access_token": "CANARY-access", "refresh_token": "CANARY-2", "token_type": "Bearer"}
WHO: dict[str, Any] = {"aud": "it", "sub": "s", "preferred_username": ALICE}


@dataclass
class Trial:
    """The adapter, and how its server answers each form."""

    provider: BrowserProvider
    clock: ManualClock
    forms: list[dict[str, list[str]]] = field(default_factory=list)
    """The forms received, in order."""
    answer: dict[str, Any] = field(default_factory=lambda: dict(GOOD))
    claims: dict[str, Any] | None = field(default_factory=lambda: dict(WHO))
    """The claims of the id_token; None for an answer without one."""
    takes: float = 0.0
    """The seconds that each answer takes."""

    def said(self) -> bytes:
        own = {} if self.claims is None else {"id_token": id_token(self.claims)}
        answer = {name: value for name, value in (own | self.answer).items() if value is not None}
        return http(json.dumps(answer).encode(), "400 Bad Request" if "error" in answer else "200 OK")

    async def redeem(self, code: str = "CANARY-7", **claims: Any) -> TokenSet:
        """A whole sign-in; its id_token has the right nonce unless `claims` gives another."""
        request = await self.provider.begin(login_hint=ALICE, redirect_uri=REDIRECT)
        if self.claims is not None:
            nonce = parse_qs(urlsplit(request.url).query)["nonce"]
            self.claims |= {"nonce": nonce[0]} | claims
        kept = json.loads(request.kept.reveal()) | {"code_verifier": "CANARY-8"}
        request = replace(request, kept=Secret(json.dumps(kept)))
        return await self.provider.redeem(request, {"code": code, "state": request.state})


def id_token(claims: dict[str, Any]) -> str:
    body = base64.urlsafe_b64encode(json.dumps({"exp": 4e9, "iat": 1, "nbf": 1, **claims}).encode()).rstrip(b"=")
    return f"e30.{body.decode()}.c2ln"


@asynccontextmanager
async def asking(tls: Tls, tenant: str = "t.example", **changes: Any) -> AsyncIterator[Trial]:
    def speak(channel: socket.socket) -> None:
        if raw.requests[-1].startswith(b"GET"):
            ends = dict.fromkeys(("issuer", "authorization_endpoint", "token_endpoint"), raw.url)
            channel.sendall(http(json.dumps(ends).encode()))
        else:
            trial.forms.append(parse_qs(raw.requests[-1].partition(b"\r\n\r\n")[2].decode()))
            trial.clock.advance(trial.takes)
            channel.sendall(trial.said())

    with serving(speak, *tls) as raw:
        known = {"kind": "microsoft", "client_id": "it", "client_secret": "CANARY-6", "discovery": False}
        urls = {
            name: f"https://localhost:{raw.port}/{tenant}/oauth2/v2.0/{leaf}"
            for name, leaf in (("authorization_url", "authorize"), ("token_url", "token"))
        }
        section = known | urls | {"scopes": [IMAP], "ca_file": tls[0]} | changes
        clock = ManualClock()
        async with opened(section, clock) as provider:
            assert isinstance(provider, BrowserProvider)
            trial = Trial(provider, clock)
            yield trial


def tells_nothing(problem: BridgeError) -> bool:
    """True if no secret is in the error or its causes, which a log would print too."""
    found: BaseException | None = problem
    while found is not None:
        if "CANARY" in f"{found} {found!r}":
            return False
        found = found.__cause__ or (None if found.__suppress_context__ else found.__context__)
    return True


@pytest.mark.parametrize(
    ("hint", "asks_who", "asked"),
    [
        (ALICE, False, {"login_hint": [ALICE]}),
        ("", False, {"prompt": ["select_account"]}),
        (ALICE, True, {"login_hint": [ALICE], "prompt": ["select_account"]}),
    ],
    ids=["with a hint", "without", "after a mistake"],
)
async def test_who_is_meant_is_said_or_else_the_person_is_asked(
    tls: Tls, hint: str, asks_who: bool, asked: dict[str, list[str]]
) -> None:
    """Either way the browser returns the answer in its address, from where it can be copied."""
    async with asking(tls) as trial:
        request = await trial.provider.begin(login_hint=hint, redirect_uri=REDIRECT, asks_who=asks_who)
    query = parse_qs(urlsplit(request.url).query, keep_blank_values=True)
    assert {name: query[name] for name in ("login_hint", "prompt") if name in query} == asked
    assert query["response_mode"] == ["query"]


@pytest.mark.parametrize("parameters", [{}, {"code": ""}])
async def test_without_a_code_nobody_is_asked(tls: Tls, parameters: dict[str, str]) -> None:
    async with asking(tls) as trial:
        request = await trial.provider.begin(login_hint="", redirect_uri=REDIRECT)
        with pytest.raises(AuthorizationFailed) as caught:
            await trial.provider.redeem(request, {"state": request.state, **parameters})
        assert caught.value.code == "provider"
        assert trial.forms == []


async def test_an_id_token_of_another_sign_in_is_told_so_and_not_its_nonce(tls: Tls) -> None:
    async with asking(tls) as trial:
        with pytest.raises(AuthorizationFailed, match="another sign-in") as caught:
            await trial.redeem(nonce="CANARY-nonce")
    assert caught.value.code == "provider"
    assert tells_nothing(caught.value)


async def test_what_is_repeated_of_our_question_is_not_told_however_short_it_is(tls: Tls) -> None:
    """Long words are removed from any text, so these are short."""
    async with asking(tls) as trial:
        grant = (await trial.redeem()).grant
        trial.answer = {"error": "invalid_grant", "error_description": "CANARY-7, CANARY-8, CANARY-6 is bad"}
        with pytest.raises(AuthorizationFailed, match="…, …, … is bad") as failed:
            await trial.redeem()
        assert tells_nothing(failed.value)
        trial.answer = {"error": "invalid_grant", "error_description": "CANARY-2, CANARY-6 is bad"}
        with pytest.raises(GrantRevoked, match="…, … is bad") as ended:
            await trial.provider.refresh(grant, subject=ALICE)
        assert tells_nothing(ended.value)
        trial.answer = {"error": "invalid_grant", "error_description": "CANARY-1, CANARY-6 is bad"}
        with pytest.raises(GrantRevoked, match="…, … is bad") as ended:
            await trial.provider.adopt(Secret("CANARY-1"))
        assert tells_nothing(ended.value)


async def test_a_slow_answer_makes_no_tokens_life_longer(tls: Tls) -> None:
    async with asking(tls) as trial:
        trial.takes = 50.0
        asked_at = [trial.clock.now() + 50 * number for number in range(3)]
        found = [await trial.redeem()]
        found.append(await trial.provider.refresh(found[0].grant, subject=ALICE))
        found.append(await trial.provider.adopt(Secret("CANARY-1")))
    assert [tokens.access.obtained_at for tokens in found] == asked_at


def without(kind: str, grant: Secret[str]) -> Secret[str]:
    """msal's cache with this kind of entry emptied."""
    return Secret(json.dumps(json.loads(grant.reveal()) | {kind: {}}))


async def test_a_grant_that_leads_nowhere_is_at_its_end_and_asks_nobody(tls: Tls) -> None:
    async with asking(tls) as trial:
        grant = (await trial.redeem()).grant
        asked = len(trial.forms)
        for broken in (
            Secret("CANARY, no JSON"),
            Secret("{}"),
            without("Account", grant),
            without("RefreshToken", grant),
        ):
            with pytest.raises(GrantRevoked, match="stored sign-in cannot be used") as caught:
                await trial.provider.refresh(broken, subject=ALICE)
            assert tells_nothing(caught.value)
        assert len(trial.forms) == asked


@pytest.mark.parametrize(
    "changes",
    [
        {"id_token": 5},
        {"id_token": "CANARY"},
        {"expires_in": ["CANARY"]},
        {"expires_in": "CANARY"},
        {"scope": {"CANARY": 1}},
        {"client_info": "CANARY"},
    ],
    ids=str,
)
async def test_what_msal_can_make_nothing_of_is_trouble_of_the_provider(tls: Tls, changes: dict[str, Any]) -> None:
    async with asking(tls) as trial:
        grant = (await trial.redeem()).grant
        trial.answer |= changes
        with pytest.raises(ProviderUnavailable, match="makes no sense to the msal library") as caught:
            await trial.redeem()
        assert caught.type is ProviderUnavailable
        assert tells_nothing(caught.value)
        with pytest.raises(ProviderUnavailable, match="makes no sense to the msal library"):
            await trial.provider.refresh(grant, subject=ALICE)


async def test_a_scope_that_only_says_who_it_is_need_not_be_granted(tls: Tls) -> None:
    async with asking(tls, scopes=[IMAP, "email"]) as trial:
        trial.answer["scope"] = f"{IMAP} openid"
        assert IMAP in (await trial.redeem()).scopes


async def test_no_region_of_the_environment_leads_the_secret_elsewhere(
    tls: Tls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MSAL_FORCE_REGION", "westus")
    async with asking(tls) as trial:
        assert (await trial.redeem()).grant


OTHER = "al@elsewhere.example"


@pytest.mark.parametrize(
    ("claims", "subject"),
    [
        ({}, Subject(ALICE)),
        ({"preferred_username": "Alice@Example.COM"}, Subject(ALICE)),
        ({"upn": OTHER}, Subject(ALICE, "", frozenset({OTHER}))),
        ({"upn": ALICE}, Subject(ALICE)),
        ({"upn": OTHER, "preferred_username": "alice"}, Subject(OTHER)),
        ({"upn": 7, "preferred_username": ["a@b"]}, None),
        ({"preferred_username": None}, None),
        ({"oid": "o", "tid": "t"}, Subject(ALICE, "o@t")),
        ({"oid": "o"}, Subject(ALICE)),
        ({"tid": "t"}, Subject(ALICE)),
        ({"email": OTHER}, Subject(ALICE)),
        ({"email": OTHER, "xms_edov": "false"}, Subject(ALICE)),
        ({"email": OTHER, "xms_edov": "True"}, Subject(ALICE, "", frozenset({OTHER}))),
        ({"email": OTHER, "xms_edov": 1}, Subject(ALICE, "", frozenset({OTHER}))),
    ],
    ids=str,
)
async def test_who_it_is_where_every_tenant_may_sign_in(
    tls: Tls, claims: dict[str, Any], subject: Subject | None
) -> None:
    async with asking(tls, "Organizations") as trial:
        assert (await trial.redeem(**claims)).subject == subject


async def test_the_tenant_of_private_accounts_is_everybodys_by_its_guid_too(tls: Tls) -> None:
    async with asking(tls, "9188040d-6c67-4c5b-b112-36a304b66dad") as trial:
        assert (await trial.redeem(email=OTHER)).subject == Subject(ALICE)


async def test_without_an_id_token_it_is_nobody(tls: Tls) -> None:
    async with asking(tls) as trial:
        trial.claims = None
        assert (await trial.redeem()).subject is None
        assert (await trial.provider.adopt(Secret("CANARY-1"))).subject is None
