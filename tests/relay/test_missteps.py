"""A mail program with wrong settings leaves without a login, and the log says which setting is wrong."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from bridge.errors import LoginRefused, PeerGone
from bridge.model import Protocol
from bridge.protocols.registry import server_machine
from bridge.relay.frontend import Frontend, MachineFrontend
from bridge.relay.smtp_frontend import SmtpFrontend
from tests.relay.scripted import MailClient, mail_client
from tests.relay.smtp_talk import PLAIN

STARTTLS = "is STARTTLS switched on in the mail program?"
PASSWORD = "is a normal password set in the mail program?"
AUTHENTICATION = "is authentication switched on in the mail program?"
ENCRYPTION = "is encryption switched off in the mail program?"
QUOTES = "is there a space in the user name or the password?"
ESCAPES = "is there a quotation mark or a backslash in the user name or the password?"
TRUST = "does the mail program trust the certificate?"
ANOTHER = "is another name set beside the user name in the mail program?"

Contexts = tuple[ssl.SSLContext, ssl.SSLContext]

IMAP, POP3, SMTP = Protocol.IMAP, Protocol.POP3, Protocol.SMTP
LOGIN = {
    IMAP: [b"a1 LOGIN alice@example.com s3cret"],
    POP3: [b"USER alice@example.com", b"PASS s3cret"],
    SMTP: [b"EHLO crm", f"AUTH PLAIN {PLAIN}".encode()],
}
GOODBYE = {IMAP: b"a9 LOGOUT", POP3: b"QUIT", SMTP: b"QUIT"}
OTHER_WAYS = [
    (IMAP, [b"a1 AUTHENTICATE CRAM-MD5"]),
    (IMAP, [b"a1 AUTHENTICATE NTLM TlRMTVNTUAAB"]),
    (POP3, [b"AUTH NTLM"]),
    (POP3, [b"APOP alice@example.com c4c9334bac560ecc979e58001b3e22fb"]),
    (SMTP, [b"EHLO crm", b"AUTH NTLM TlRMTVNTUAAB"]),
    (SMTP, [b"EHLO crm", b"auth cram-md5"]),
    (SMTP, [b"EHLO crm", b"AUTH GSSAPI", b"MAIL FROM:<alice@example.com>"]),
]
BEFORE_TLS = [
    (IMAP, LOGIN[IMAP]),
    (IMAP, [b"a1 AUTHENTICATE PLAIN"]),
    (POP3, LOGIN[POP3]),
    (POP3, [b"AUTH PLAIN"]),
    (POP3, [b"CAPA", b"STAT"]),  # Aspose.Email, which finds no way to log in here
    (SMTP, LOGIN[SMTP]),
    (SMTP, [b"EHLO crm", b"MAIL FROM:<alice@example.com>"]),
]

WANTS_TLS = {IMAP: [b"a1 STARTTLS"], POP3: [b"CAPA", b"STLS"], SMTP: [b"EHLO crm", b"STARTTLS"]}

FOR_ANOTHER = base64.b64encode(b"office@example.com\0alice@example.com\0s3cret")
"""ICS sends the sender's address as the authorization identity."""
ON_BEHALF = {
    IMAP: [b"a1 AUTHENTICATE PLAIN " + FOR_ANOTHER],
    POP3: [b"AUTH PLAIN", FOR_ANOTHER],
    SMTP: [b"EHLO crm", b"AUTH PLAIN " + FOR_ANOTHER],
}

TOO_EARLY = {
    IMAP: [b"a1 AUTHENTICATE PLAIN", b"a2 STARTTLS"],
    POP3: [b"USER alice@example.com", b"STLS"],
    SMTP: [b"MAIL FROM:<alice@example.com>", b"STARTTLS"],
}
"""A login or a message first, and STARTTLS only after it."""


@pytest.fixture
async def client() -> AsyncIterator[MailClient]:
    with mail_client() as client:
        yield client


def frontend_of(
    client: MailClient, protocol: Protocol, *, starttls: bool = False, context: ssl.SSLContext | None = None
) -> Frontend:
    if starttls and context is None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if protocol is SMTP:
        return SmtpFrontend(client.bridge, extensions=tuple, context=context)
    return MachineFrontend(client.bridge, server_machine(protocol, starttls=starttls), context)


async def encrypted(client: MailClient, contexts: Contexts, protocol: Protocol) -> Frontend:
    """A frontend at a port with implicit TLS, after the handshake."""
    async with asyncio.TaskGroup() as group:
        group.create_task(client.bridge.start_tls(contexts[0]))
        await client.start_tls(contexts[1])
    if protocol is SMTP:
        return SmtpFrontend(client.bridge, extensions=tuple)
    return MachineFrontend(client.bridge, server_machine(protocol, starttls=False, is_tls=True), None)


async def reason(client: MailClient, frontend: Frontend, *lines: bytes) -> str:
    """The reason in the log when the session ends after these lines."""
    await client.say(*lines)
    client.say_no_more()
    return await reason_of(frontend)


@asynccontextmanager
async def greeted(client: MailClient, frontend: Frontend) -> AsyncIterator[asyncio.Task[str]]:
    """The client has read the greeting, and hangs up when the block ends. The task's result is that of reason_of()."""
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(reason_of(frontend))
        await client.hear()
        yield waiting
        client.close()


async def reason_of(frontend: Frontend) -> str:
    try:
        with pytest.raises(PeerGone) as gone:
            await frontend.login()
    finally:
        frontend.close()
    assert gone.value.__cause__ is not gone.value  # such a cycle would keep all its frames hold until it is collected
    return str(gone.value)


@pytest.mark.parametrize("is_polite", [False, True])
@pytest.mark.parametrize(("protocol", "lines"), OTHER_WAYS)
async def test_it_wants_another_way_to_log_in(
    client: MailClient, protocol: Protocol, lines: list[bytes], is_polite: bool
) -> None:
    """SPA, APOP or "encrypted password" is switched on."""
    said = await reason(client, frontend_of(client, protocol), *lines, *[GOODBYE[protocol]] * is_polite)
    how = "the client has taken its leave" if is_polite else "the client has left"
    assert said.startswith(f"{how}; {PASSWORD}")


@pytest.mark.parametrize(("protocol", "lines"), BEFORE_TLS)
async def test_it_wants_to_log_in_before_starttls(client: MailClient, protocol: Protocol, lines: list[bytes]) -> None:
    said = await reason(client, frontend_of(client, protocol, starttls=True), *lines)
    assert said.startswith(f"the client has left; {STARTTLS}")


@pytest.mark.parametrize("line", [b"a1 LOGIN alice@example.com my old password", b"a1 login Alice Martin s3cret"])
async def test_it_does_not_quote_what_has_a_space(client: MailClient, line: bytes) -> None:
    """Apache Commons Net; its own message may be no more than that the login failed."""
    said = await reason(client, frontend_of(client, IMAP), line)
    assert said.startswith(f"the client has left; {QUOTES}")


@pytest.mark.parametrize("word", [b'"my"secret"', b'"my secret\\"', b'"secret""', b'my "secret'])
async def test_it_does_not_escape_what_has_a_quotation_mark(client: MailClient, word: bytes) -> None:
    """Synapse (Delphi, Lazarus) puts quotation marks around whatever is typed, tcllib's imap4 nothing."""
    said = await reason(client, frontend_of(client, IMAP), b'a1 LOGIN "alice@example.com" ' + word)
    assert said.startswith(f"the client has left; {ESCAPES}")
    assert "secret" not in said


@pytest.mark.parametrize("protocol", Protocol)
async def test_it_logs_in_for_somebody_else(client: MailClient, protocol: Protocol) -> None:
    said = await reason(client, frontend_of(client, protocol), *ON_BEHALF[protocol])
    assert said.startswith(f"the client has left; {ANOTHER}")
    assert "office" not in said


@pytest.mark.parametrize("protocol", Protocol)
async def test_who_logs_in_for_himself_at_last_has_found_the_way(client: MailClient, protocol: Protocol) -> None:
    frontend = frontend_of(client, protocol)
    await client.say(*ON_BEHALF[protocol], *LOGIN[protocol])
    await frontend.login()
    await frontend.refuse(LoginRefused("x"))
    assert await reason(client, frontend, *ON_BEHALF[protocol]) == "the client has left"


async def test_a_login_that_lacks_the_password_has_no_space_in_it(client: MailClient) -> None:
    assert "mail program" not in await reason(client, frontend_of(client, IMAP), b"a1 LOGIN alice@example.com")


@pytest.mark.parametrize("protocol", Protocol)
async def test_who_begins_with_tls_in_the_end_has_found_that(
    client: MailClient, contexts: Contexts, protocol: Protocol
) -> None:
    async with greeted(client, frontend_of(client, protocol, starttls=True, context=contexts[0])) as waiting:
        for line in TOO_EARLY[protocol]:
            await client.ask(line)
        await client.start_tls(contexts[1])
        await client.say({IMAP: b"a3 NOOP", POP3: b"CAPA", SMTP: b"NOOP"}[protocol])
        await client.hear()
    assert "mail program" not in waiting.result()


@pytest.mark.parametrize("protocol", Protocol)
async def test_whose_handshake_fails_has_starttls_switched_on(
    client: MailClient, contexts: Contexts, protocol: Protocol
) -> None:
    """The handshake is the reason: advice about the STARTTLS switch would mislead."""
    async with greeted(client, frontend_of(client, protocol, starttls=True, context=contexts[0])) as waiting:
        for line in TOO_EARLY[protocol]:
            await client.ask(line)
    assert waiting.result().startswith("TLS with the mail client failed")
    assert STARTTLS not in waiting.result()


@pytest.mark.parametrize("protocol", Protocol)
async def test_it_wants_starttls_where_there_is_none(client: MailClient, protocol: Protocol) -> None:
    """As Chilkat does, whether STARTTLS is offered or not."""
    said = await reason(client, frontend_of(client, protocol), *WANTS_TLS[protocol])
    assert said.startswith(f"the client has left; {ENCRYPTION}")


@pytest.mark.parametrize("has_heard", [False, True])
@pytest.mark.parametrize("protocol", Protocol)
async def test_it_leaves_when_it_has_seen_the_certificate(
    client: MailClient, contexts: Contexts, protocol: Protocol, has_heard: bool
) -> None:
    """msmtp, wget and Chilkat check the certificate after the handshake, and send no alert."""
    frontend = await encrypted(client, contexts, protocol)
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(reason_of(frontend))
        if has_heard:
            await client.hear()
        client.close()
    assert f"; {TRUST}" in waiting.result()


@pytest.mark.parametrize("protocol", Protocol)
async def test_it_leaves_when_it_has_seen_the_certificate_behind_starttls(
    client: MailClient, contexts: Contexts, protocol: Protocol
) -> None:
    async with greeted(client, frontend_of(client, protocol, starttls=True, context=contexts[0])) as waiting:
        await client.ask(TOO_EARLY[protocol][-1])
        await client.start_tls(contexts[1])
    assert f"; {TRUST}" in waiting.result()


@pytest.mark.parametrize("protocol", Protocol)
async def test_who_asks_for_starttls_within_tls_is_encrypted_as_it_should_be(
    client: MailClient, contexts: Contexts, protocol: Protocol
) -> None:
    async with greeted(client, await encrypted(client, contexts, protocol)) as waiting:
        said = await client.ask(WANTS_TLS[protocol][-1])
    assert said.endswith(b"TLS is on already")
    assert "mail program" not in waiting.result()


async def test_one_that_sends_without_tls_as_well_wants_no_more_than_a_login(client: MailClient) -> None:
    lines = [*WANTS_TLS[SMTP], b"MAIL FROM:<alice@example.com>"]
    said = await reason(client, frontend_of(client, SMTP), *lines)
    assert said.startswith(f"the client has left; {AUTHENTICATION}")


@pytest.mark.parametrize("protocol", Protocol)
async def test_whose_login_was_refused_without_tls_does_without(client: MailClient, protocol: Protocol) -> None:
    frontend = frontend_of(client, protocol)
    await client.say(*WANTS_TLS[protocol], *LOGIN[protocol])
    await frontend.login()
    await frontend.refuse(LoginRefused("x"))
    assert await reason(client, frontend) == "the client has left"


async def test_it_sends_without_a_login(client: MailClient) -> None:
    said = await reason(client, frontend_of(client, SMTP), b"EHLO scanner", b"MAIL FROM:<alice@example.com>")
    assert said.startswith(f"the client has left; {AUTHENTICATION}")


@pytest.mark.parametrize("words", [[b"AUTH PLAIN AAA="], [b"AUTH LOGIN", b"*"]])
async def test_one_that_has_tried_to_log_in_has_authentication_switched_on(
    client: MailClient, words: list[bytes]
) -> None:
    """A scanner with an empty user name, which sends the message all the same."""
    lines = [b"EHLO scanner", *words, b"MAIL FROM:<alice@example.com>"]
    assert await reason(client, frontend_of(client, SMTP), *lines) == "the client has left"


@pytest.mark.parametrize("starttls", [False, True])
@pytest.mark.parametrize("protocol", Protocol)
async def test_of_one_that_only_looks_nothing_is_said(client: MailClient, protocol: Protocol, starttls: bool) -> None:
    lines = {IMAP: [b"a1 CAPABILITY"], POP3: [b"CAPA"], SMTP: [b"EHLO we-guess.example", b"HELP", b"VRFY alice"]}
    frontend = frontend_of(client, protocol, starttls=starttls)
    assert await reason(client, frontend, *lines[protocol]) == "the client has left"


@pytest.mark.parametrize(("protocol", "lines"), OTHER_WAYS)
async def test_whose_login_was_refused_at_first_tries_whatever_is_left(
    client: MailClient, protocol: Protocol, lines: list[bytes]
) -> None:
    """As Gambas does. The log line of the refusal has the reason, and a normal password is set."""
    frontend = frontend_of(client, protocol)
    await client.say(*LOGIN[protocol])
    await frontend.login()
    await frontend.refuse(LoginRefused("x"))
    assert await reason(client, frontend, *lines) == "the client has left"


@pytest.mark.parametrize(("protocol", "lines"), OTHER_WAYS)
async def test_whose_login_was_refused_in_the_end_has_found_the_way(
    client: MailClient, protocol: Protocol, lines: list[bytes]
) -> None:
    """Many programs try the strongest method first; the refusal has its own line in the log."""
    frontend = frontend_of(client, protocol)
    await client.say(*lines, *LOGIN[protocol])
    await frontend.login()
    await frontend.refuse(LoginRefused("x"))
    rest = [b"MAIL FROM:<alice@example.com>"] * (protocol is SMTP)
    assert await reason(client, frontend, *rest) == "the client has left"
