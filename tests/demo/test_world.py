"""The demo's servers, used by the standard library's real mail clients."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import imaplib
import poplib
import smtplib
import ssl
import tempfile
from collections.abc import Callable
from pathlib import Path
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
    """Signs in at the demo provider, in the place of a person."""

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


async def test_a_virus_scanner_that_reads_the_servers_pair_is_in_nobodys_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows removes no open file: this one is removed with its directory, as soon as that is possible."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    load = ssl.SSLContext.load_cert_chain
    with contextlib.ExitStack() as scanner:

        def scanned(context: ssl.SSLContext, file: Path) -> None:
            scanner.enter_context(file.open("rb"))
            load(context, file)

        monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", scanned)
        async with demo_world():
            scanner.close()
        assert not list(tmp_path.iterdir())
        async with demo_world():
            pass


async def test_a_message_sent_to_bob_is_in_bobs_inbox() -> None:
    async with demo_world() as world:
        signer = Signer(world)
        token = (await signer.tokens())["access_token"]

        def talk() -> tuple[bytes, bytes, int]:
            with smtplib.SMTP_SSL("localhost", signer.port("smtp"), context=signer.context()) as smtp:
                smtp.ehlo()
                smtp.auth("XOAUTH2", lambda _=None: xoauth2(token))
                smtp.sendmail("alice@example.com", ["alice@example.com"], b"Subject: hi\r\n\r\n.dot\r\nend\r\n")
            imap = imap_to(signer, token)
            imap.select()
            _, found = imap.search(None, "ALL")
            _, fetched = imap.fetch(found[0].split()[-1].decode(), "(RFC822)")
            imap.append("INBOX", None, None, b"Subject: appended\r\n\r\nbody\r\n")
            _, sizes = imap.status("INBOX", "(MESSAGES)")
            imap.logout()
            pop = pop3_to(signer, token)
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


def imap_to(signer: Signer, token: str) -> imaplib.IMAP4_SSL:
    imap = imaplib.IMAP4_SSL("localhost", signer.port("imap"), ssl_context=signer.context(), timeout=60)
    imap.authenticate("XOAUTH2", lambda _: xoauth2(token).encode())
    return imap


def pop3_to(signer: Signer, token: str) -> poplib.POP3_SSL:
    pop = poplib.POP3_SSL("localhost", signer.port("pop3"), context=signer.context(), timeout=60)
    pop._shortcmd("AUTH XOAUTH2")  # type: ignore[attr-defined]  # poplib has no SASL
    pop._shortcmd(base64.b64encode(xoauth2(token).encode()).decode())  # type: ignore[attr-defined]
    return pop


async def test_a_mail_program_finds_its_way_about_by_imap() -> None:
    async with demo_world() as world:
        signer = Signer(world)
        token = (await signer.tokens())["access_token"]

        def talk() -> None:
            imap = imap_to(signer, token)
            assert imap.namespace()[0] == "OK"
            assert imap.list()[1] == [b'() "/" INBOX']
            assert imap.lsub()[0] == "OK"
            assert imap.select("INBOX", readonly=True)[1] == [b"1"]
            _, found = imap.fetch("1:*", "(FLAGS RFC822.SIZE INTERNALDATE ENVELOPE)")
            described = b"".join(part if isinstance(part, bytes) else part[0] for part in found if part)
            assert b"RFC822.SIZE" in described
            assert b"INTERNALDATE" in described
            assert b'"Welcome to the demo"' in described
            assert imap.uid("SEARCH", "ALL")[1] == [b"1"]
            _, headers = imap.uid("FETCH", "1", "(BODY.PEEK[HEADER])")
            assert isinstance(headers[0], tuple)
            assert headers[0][1].endswith(b"\r\n\r\n")
            _, text = imap.fetch("1", "(BODY[TEXT])")
            assert isinstance(text[0], tuple)
            assert text[0][1] == b"This message came over XOAUTH2, to a program that can only do LOGIN.\r\n"
            assert b"\\Seen" in (imap.fetch("1", "(FLAGS)")[1][0] or b"")  # BODY without .PEEK sets it
            assert b"\\Flagged" in (imap.uid("STORE", "1", "+FLAGS", "(\\Flagged)")[1][0] or b"")
            assert b"\\Flagged" not in (imap.store("1", "-FLAGS", "(\\Flagged)")[1][0] or b"")
            assert imap.fetch("nonsense", "(FLAGS)")[1] == [None]
            assert imap.noop()[0] == imap.check()[0] == imap.expunge()[0] == imap.close()[0] == "OK"
            with pytest.raises(imaplib.IMAP4.error, match="does not know"):
                imap.create("Elsewhere")
            imap.logout()

        await asyncio.to_thread(talk)


async def test_an_idling_mail_program_is_told_of_a_new_message() -> None:
    async with demo_world() as world:
        signer = Signer(world)
        token = (await signer.tokens())["access_token"]

        def talk() -> None:
            idling, other = imap_to(signer, token), imap_to(signer, token)
            idling.select()
            idling.send(b"x IDLE\r\n")
            assert idling.readline() == b"+ idling\r\n"
            other.append("INBOX", None, None, b"Subject: new\r\n\r\nbody\r\n")
            assert idling.readline() == b"* 2 EXISTS\r\n"
            idling.send(b"DONE\r\n")
            assert idling.readline() == b"x OK done\r\n"
            idling.logout()
            other.logout()

        await asyncio.to_thread(talk)


async def test_nothing_is_read_before_the_login() -> None:
    async with demo_world() as world:
        signer = Signer(world)

        def talk() -> None:
            imap = imaplib.IMAP4_SSL("localhost", signer.port("imap"), ssl_context=signer.context(), timeout=60)
            imap.send(b"1 SELECT INBOX\r\n")
            assert imap.readline() == b"1 NO log in first\r\n"
            with pytest.raises(imaplib.IMAP4.error, match="only XOAUTH2"):
                imap.authenticate("PLAIN", lambda _: b"")
            imap.logout()
            pop = poplib.POP3_SSL("localhost", signer.port("pop3"), context=signer.context(), timeout=60)
            assert pop.capa()["SASL"] == ["XOAUTH2"]
            for command in ("STAT", "AUTH PLAIN"):
                with pytest.raises(poplib.error_proto):
                    pop._shortcmd(command)  # type: ignore[attr-defined]
            pop.quit()
            with smtplib.SMTP_SSL("localhost", signer.port("smtp"), context=signer.context(), timeout=60) as smtp:
                assert smtp.helo()[0] == 250
                assert smtp.docmd("MAIL", "FROM:<alice@example.com>")[0] == 530
                assert smtp.docmd("AUTH", "PLAIN")[0] == 504
                assert (
                    smtp.docmd("AUTH", "XOAUTH2 " + base64.b64encode(xoauth2("nonsense").encode()).decode())[0] == 334
                )
                assert smtp.docmd("")[0] == 535

        await asyncio.to_thread(talk)


async def test_a_mail_program_finds_its_way_about_by_pop3() -> None:
    async with demo_world() as world:
        signer = Signer(world)
        token = (await signer.tokens())["access_token"]

        def talk() -> None:
            pop = pop3_to(signer, token)
            count, size = pop.stat()
            assert count == 1
            assert pop.list()[1] == [f"1 {size}".encode()]
            assert pop.list(1) == f"+OK 1 {size}".encode()  # type: ignore[comparison-overlap]  # a line
            assert pop.uidl()[1] == [b"1 1"]
            headers, body = pop.top(1, 0)[1], pop.top(1, 1)[1]
            assert headers[-1] == b""
            assert body[-1].startswith(b"This message came over XOAUTH2")
            assert b"kept" in pop.dele(1)
            assert pop.rset().startswith(b"+OK")
            assert pop.noop().startswith(b"+OK")
            for command in (lambda: pop.retr(2), lambda: pop.list(7), lambda: pop.apop("alice", "x")):
                with pytest.raises(poplib.error_proto):
                    command()
            pop.quit()

        await asyncio.to_thread(talk)


async def test_mail_goes_to_the_demos_own_addresses_only() -> None:
    async with demo_world() as world:
        signer = Signer(world)
        token = (await signer.tokens())["access_token"]

        def talk() -> None:
            with smtplib.SMTP_SSL("localhost", signer.port("smtp"), context=signer.context(), timeout=60) as smtp:
                smtp.ehlo()
                smtp.auth("XOAUTH2", lambda _=None: xoauth2(token))
                assert smtp.mail("alice@example.com")[0] == 250
                assert smtp.rcpt("somebody@elsewhere.example")[0] == 550
                assert smtp.docmd("DATA")[0] == 503
                assert smtp.rcpt("bob@example.com")[0] == 250
                assert smtp.rset()[0] == 250
                assert smtp.docmd("DATA")[0] == 503  # RSET has cleared the recipients
                assert smtp.docmd("VRFY", "bob")[0] == 502
                assert smtp.noop()[0] == 250

        await asyncio.to_thread(talk)


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
        files: Callable[[], list[str]] = lambda: [p.name for p in Path(ca_file).parent.iterdir()]  # noqa: E731
        assert files() == ["ca.pem"]
    assert not Path(ca_file).exists()
