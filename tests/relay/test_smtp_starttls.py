"""STARTTLS in the SMTP frontend: it is required before the login, and all that came before it is forgotten."""

from __future__ import annotations

import asyncio
import ssl

import pytest

from bridge import errors
from tests.relay.later import Later
from tests.relay.smtp_talk import PLAIN, talking


async def test_starttls_is_demanded_and_forgets_what_was_before(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    server, client = contexts
    async with talking("SIZE 1", context=server) as (talk, waiting):
        await talk.say("EHLO crm")
        assert await talk.hear() == ["250-localhost", "250-SIZE 1", "250 STARTTLS"]
        assert await talk.ask(f"AUTH PLAIN {PLAIN}") == "530 5.7.0 Must issue a STARTTLS command first"
        assert await talk.ask("MAIL FROM:<a@b.c>") == "530 5.7.0 Must issue a STARTTLS command first"
        for command in ("HELO crm", "NOOP", "RSET"):  # RFC 3207 section 4 allows these
            assert (await talk.ask(command)).startswith("250 ")
        assert (await talk.ask("STARTTLS")).startswith("220")
        await talk.client.start_tls(client, server_hostname="localhost")
        assert (await talk.ask(f"AUTH PLAIN {PLAIN}"))[0] == "5"  # the EHLO is forgotten
        assert await talk.ask("MAIL FROM:<a@b.c>") == "530 5.7.0 Authentication required"
        await talk.say("EHLO crm", f"AUTH PLAIN {PLAIN}")
        assert "250-AUTH PLAIN LOGIN" in await talk.hear()
        await waiting


async def test_trap_37_commands_behind_starttls_end_the_connection(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    async with talking(context=contexts[0]) as (talk, waiting):
        await talk.say("STARTTLS", f"AUTH PLAIN {PLAIN}")
        with pytest.raises(errors.ProtocolViolation, match="plaintext behind STARTTLS"):
            await waiting
        assert await talk.hear() == ["500 5.5.2 plaintext behind STARTTLS"]


async def test_who_takes_his_leave_before_tls_is_heard(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    async with talking(context=contexts[0]) as (talk, waiting):
        assert (await talk.ask("QUIT")).startswith("221 ")
        with pytest.raises(errors.PeerGone):
            await waiting


async def test_over_starttls_the_last_words_are_heard_and_no_task_is_left_of_what_was_before(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    async with talking(context=contexts[0]) as (talk, waiting):
        before = {task for task in asyncio.all_tasks() if "_handle_client" in repr(task)}
        assert before
        await talk.ask("STARTTLS")
        await talk.client.start_tls(contexts[1], server_hostname="localhost")
        for _ in range(5):
            assert (await talk.ask("REGISTER sip:localhost SIP/2.0")).startswith("500")
        assert all(task.done() for task in before)
        assert (await talk.ask("EHLO crm")).startswith("421")
        with pytest.raises(errors.LimitReached):
            await waiting


async def test_a_client_that_speaks_in_clear_in_place_of_the_handshake_is_gone(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    async with talking(context=contexts[0]) as (talk, waiting):
        await talk.ask("STARTTLS")
        await talk.say("EHLO crm")
        with pytest.raises(errors.PeerGone, match="TLS with the mail client failed"):
            await waiting


async def test_starttls_without_tls_configured_is_502() -> None:
    async with talking() as (talk, _):
        assert (await talk.ask("STARTTLS")).startswith("502")


async def test_a_client_that_stalls_in_starttls_is_let_go_without_a_word_in_clear(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between our answer and the end of the handshake nothing can be sent; an attempt to would never end."""
    later = Later(monkeypatch)
    async with talking(context=contexts[0]) as (talk, waiting):
        assert await talk.ask("STARTTLS") == "220 2.0.0 Go ahead"
        await later.by(120)
        with pytest.raises(errors.LimitReached):
            async with asyncio.timeout(60):
                await waiting
        talk.bridge.close()
        assert await talk.client.receive() == b""
