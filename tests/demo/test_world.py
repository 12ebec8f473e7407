"""The demo's servers, by real clients of the standard library."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import imaplib
import poplib
import smtplib
import ssl
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest
import yaml

from bridge.demo.world import ADDRESSES, DemoWorld, demo_world

VERIFIER = "v" * 43


def challenge() -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()


class Signer:
    """Does the person's part at the demo provider."""

    def __init__(self, world: DemoWorld) -> None:
        self.config: dict[str, Any] = yaml.safe_load(world.yaml)
        self.provider = self.config["providers"]["demo"]

    async def code(self, decision: str = "accept", redirect: str = "http://localhost:3017/") -> dict[str, list[str]]:
        form = {
            "redirect_uri": redirect,
            "state": "s",
            "code_challenge": challenge(),
            "nonce": "n",
            "address": "alice@example.com",
            "decision": decision,
        }
        async with (
            aiohttp.ClientSession() as http,
            http.post(self.provider["authorization_url"], data=form, allow_redirects=False) as answer,
        ):
            assert answer.status in {302, 400}
            return parse_qs(urlsplit(answer.headers.get("Location", "")).query)

    async def redeem(self, **form: str) -> tuple[int, dict[str, Any]]:
        async with aiohttp.ClientSession() as http, http.post(self.provider["token_url"], data=form) as answer:
            return answer.status, await answer.json()

    async def tokens(self) -> dict[str, Any]:
        query = await self.code()
        status, tokens = await self.redeem(
            grant_type="authorization_code",
            code=query["code"][0],
            code_verifier=VERIFIER,
            redirect_uri="http://localhost:3017/",
        )
        assert status == 200
        return tokens

    def context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.provider["ca_file"])

    def port(self, protocol: str) -> int:
        port: int = self.provider[protocol]["port"]
        return port


def xoauth2(token: str, address: str = "alice@example.com") -> str:
    return f"user={address}\x01auth=Bearer {token}\x01\x01"


async def test_a_message_sent_to_bob_is_in_bobs_inbox() -> None:
    async with demo_world() as world:
        signer = Signer(world)
        token = (await signer.tokens())["access_token"]

        def talk() -> tuple[bytes, bytes, int]:
            with smtplib.SMTP_SSL("localhost", signer.port("smtp"), context=signer.context()) as smtp:
                smtp.ehlo()
                smtp.auth("XOAUTH2", lambda _=None: xoauth2(token))
                smtp.sendmail("alice@example.com", ["alice@example.com"], b"Subject: hi\r\n\r\n.dot\r\nend\r\n")
            imap = imaplib.IMAP4_SSL("localhost", signer.port("imap"), ssl_context=signer.context())
            imap.authenticate("XOAUTH2", lambda _: xoauth2(token).encode())
            imap.select()
            _, found = imap.search(None, "ALL")
            _, fetched = imap.fetch(found[0].split()[-1].decode(), "(RFC822)")
            imap.append("INBOX", None, None, b"Subject: appended\r\n\r\nbody\r\n")
            _, sizes = imap.status("INBOX", "(MESSAGES)")
            imap.logout()
            pop = poplib.POP3_SSL("localhost", signer.port("pop3"), context=signer.context())
            pop._shortcmd("AUTH XOAUTH2")  # type: ignore[attr-defined]  # poplib has no SASL
            pop._shortcmd(base64.b64encode(xoauth2(token).encode()).decode())  # type: ignore[attr-defined]
            lines = pop.retr(2)[1]
            count = pop.stat()[0]
            pop.quit()
            assert sizes[0] is not None
            first = fetched[0]
            assert isinstance(first, tuple)
            return first[1], b"\r\n".join(lines), count

        by_imap, by_pop, count = await asyncio.to_thread(talk)
    assert by_imap == b"Subject: hi\r\n\r\n.dot\r\nend\r\n"
    assert by_pop == b"Subject: hi\r\n\r\n.dot\r\nend"
    assert count == 3


async def test_a_wrong_token_and_a_foreign_mailbox_are_refused() -> None:
    async with demo_world() as world:
        signer = Signer(world)
        token = (await signer.tokens())["access_token"]

        def attempt(blob: str) -> str:
            imap = imaplib.IMAP4_SSL("localhost", signer.port("imap"), ssl_context=signer.context())
            with pytest.raises(imaplib.IMAP4.error) as refused:
                imap.authenticate("XOAUTH2", lambda c: b"" if c else blob.encode())
            imap.shutdown()
            return str(refused.value)

        for blob in (xoauth2("nonsense"), xoauth2(token, "bob@example.com"), "junk"):
            assert "AUTHENTICATIONFAILED" in await asyncio.to_thread(attempt, blob)


async def test_codes_and_refresh_tokens_are_good_once_and_for_their_verifier() -> None:
    async with demo_world() as world:
        signer = Signer(world)
        code = (await signer.code())["code"][0]
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": "http://localhost:3017/"}
        assert (await signer.redeem(**form, code_verifier="w" * 43))[0] == 400
        assert (await signer.redeem(**form, code_verifier=VERIFIER))[0] == 400, "a code is spent by the first attempt"
        tokens = await signer.tokens()
        refresh = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
        status, second = await signer.redeem(**refresh)
        assert status == 200
        assert second["refresh_token"] != tokens["refresh_token"]
        assert (await signer.redeem(**refresh))[1]["error"] == "invalid_grant"
        assert (await signer.redeem(grant_type="password"))[1]["error"] == "unsupported_grant_type"


async def test_deny_and_foreign_redirects() -> None:
    async with demo_world() as world:
        signer = Signer(world)
        assert (await signer.code("deny"))["error"] == ["access_denied"]
        assert await signer.code(redirect="http://localhost:3017@evil.example/") == {}
        assert await signer.code(redirect="https://evil.example/") == {}


async def test_the_consent_page_escapes_what_it_repeats() -> None:
    async with demo_world() as world:
        signer = Signer(world)
        query = {
            "client_id": "mail-bridge-demo",
            "redirect_uri": "http://localhost:3017/",
            "state": '"><script>x</script>',
            "login_hint": ADDRESSES[1],
        }
        async with (
            aiohttp.ClientSession() as http,
            http.get(signer.provider["authorization_url"], params=query) as answer,
        ):
            page = await answer.text()
        assert "<script>" not in page
        assert 'value="bob@example.com" checked' in page


async def test_no_private_key_is_left_on_disk() -> None:
    async with demo_world() as world:
        ca_file = Signer(world).provider["ca_file"]
        from pathlib import Path

        files: Callable[[], list[str]] = lambda: [p.name for p in Path(ca_file).parent.iterdir()]  # noqa: E731
        assert files() == ["ca.pem"]
    assert not Path(ca_file).exists()
