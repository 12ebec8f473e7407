"""The machines of IMAP and POP3 over a real socket: time, TLS, refusals, and clients that leave."""

from __future__ import annotations

import asyncio
import io
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from bridge.errors import BridgeError, LimitReached, LoginRefused, PeerGone, ProtocolViolation
from bridge.model import Login, Protocol, TlsMode
from bridge.observe import logs
from bridge.protocols.base import Ready
from bridge.protocols.registry import server_machine
from bridge.relay import frontend as frontend_module
from bridge.relay.channel import Channel
from bridge.relay.frontend import MachineFrontend
from bridge.relay.limits import ConnectionCap
from bridge.relay.listener import Listener
from bridge.relay.smtp_frontend import SmtpFrontend
from bridge.relay.tls import listener_context
from bridge.relay.welcome import Service
from tests.captured import captured
from tests.relay.later import Later, after_a_minute, login_at
from tests.relay.scripted import MailClient, Trust, mail_client
from tests.relay.sockets import fill

Contexts = tuple[ssl.SSLContext, ssl.SSLContext]

PROTOCOLS = [Protocol.IMAP, Protocol.POP3]
GREETING = {
    Protocol.IMAP: b"* OK [CAPABILITY IMAP4rev1 ID SASL-IR AUTH=LOGIN] mail-bridge ready",
    Protocol.POP3: b"+OK mail-bridge ready",
}
LOGIN = {
    Protocol.IMAP: [b"a1 LOGIN alice@example.com CANARY-password"],
    Protocol.POP3: [b"USER alice@example.com", b"PASS CANARY-password"],
}
GOODBYE = {
    Protocol.IMAP: b"* BYE [UNAVAILABLE] No login in time\r\n",
    Protocol.POP3: b"-ERR [SYS/TEMP] No login in time\r\n",
}
START_TLS = {Protocol.IMAP: b"s STARTTLS", Protocol.POP3: b"STLS"}
BEGIN = {Protocol.IMAP: b"s OK Begin TLS now", Protocol.POP3: b"+OK Begin TLS now"}
REFUSAL = LoginRefused("wrong password")


@pytest.fixture
async def client() -> AsyncIterator[MailClient]:
    with mail_client() as client:
        yield client


def frontend_of(
    client: MailClient, protocol: Protocol, context: ssl.SSLContext | None = None, *, seconds: float = 60.0
) -> MachineFrontend:
    machine = server_machine(protocol, starttls=context is not None)
    return MachineFrontend(client.bridge, machine, context, login_seconds=seconds)


async def last_words(client: MailClient) -> bytes:
    """All that the client receives up to the end, when its session ends the connection as usual."""
    async with asyncio.TaskGroup() as group:
        group.create_task(client.bridge.finish())
        heard = await client.hear_the_end()
        client.close()
    return heard


async def hear_pop3_user(client: MailClient, protocol: Protocol) -> None:
    if protocol is Protocol.POP3:
        assert await client.hear() == b"+OK And the password?"


# --- logins ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_login_is_requested_and_accepted_in_the_upstreams_words(client: MailClient, protocol: Protocol) -> None:
    frontend = frontend_of(client, protocol)
    await client.say(*LOGIN[protocol], b"behind the login")
    login = await frontend.login()
    assert (login.username, login.password.reveal()) == ("alice@example.com", b"CANARY-password")
    leftover = await frontend.accept(Ready(b"", b"Welcome", b""))
    assert leftover == b"behind the login\r\n"
    assert await client.hear() == GREETING[protocol]
    await hear_pop3_user(client, protocol)
    assert await client.hear() == (b"a1 OK Welcome" if protocol is Protocol.IMAP else b"+OK Welcome")


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_refusal_is_sent_at_once_and_the_next_login_is_taken(client: MailClient, protocol: Protocol) -> None:
    frontend = frontend_of(client, protocol)
    for _ in range(3):
        await client.say(*LOGIN[protocol])
        await frontend.login()
        await frontend.refuse(REFUSAL)
    assert await client.hear() == GREETING[protocol]
    for _ in range(3):
        await hear_pop3_user(client, protocol)
        expected = b"a1 NO [AUTHENTICATIONFAILED] " if protocol is Protocol.IMAP else b"-ERR [AUTH] "
        assert (await client.hear()).startswith(expected)


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_logins_in_one_piece_are_answered_in_turn(client: MailClient, protocol: Protocol) -> None:
    frontend = frontend_of(client, protocol)
    await client.say(*LOGIN[protocol], *LOGIN[protocol], b"next")
    await frontend.login()
    await frontend.refuse(REFUSAL)
    await frontend.login()
    assert await frontend.accept(Ready()) == b"next\r\n"


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_who_is_told_of_a_limit_is_sent_away(client: MailClient, protocol: Protocol) -> None:
    frontend = frontend_of(client, protocol)
    await client.say(*LOGIN[protocol])
    await frontend.login()
    with pytest.raises(PeerGone):
        await frontend.refuse(LimitReached("too much"))
    last = (await last_words(client)).splitlines()[-1]
    assert last.startswith(b"* BYE [UNAVAILABLE] " if protocol is Protocol.IMAP else b"-ERR [SYS/TEMP] ")


# --- time -----------------------------------------------------------------------------------------------------------

HALF_A_LOGIN = {
    Protocol.IMAP: [b"", b"a1 LOG", b"a1 LOGIN {5}\r\nali", b"a1 AUTHENTICATE LOGIN\r\nYWxpY2U=\r\n"],
    Protocol.POP3: [b"", b"USER al", b"USER alice\r\n", b"AUTH LOGIN\r\nYWxpY2U=\r\n"],
}


@pytest.mark.parametrize(("protocol", "half"), [(p, half) for p in PROTOCOLS for half in HALF_A_LOGIN[p]])
async def test_a_client_that_takes_too_long_is_told_so(protocol: Protocol, half: bytes, client: MailClient) -> None:
    frontend = frontend_of(client, protocol, seconds=0.05)
    await client.send(half)
    with pytest.raises(LimitReached, match="no login in time"):
        await frontend.login()
    heard = await last_words(client)
    assert heard.startswith(GREETING[protocol])
    assert heard.endswith(GOODBYE[protocol])


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_without_another_word_it_is_two_minutes(client: MailClient, protocol: Protocol) -> None:
    frontend = MachineFrontend(client.bridge, server_machine(protocol, starttls=False), None)
    assert frontend._patience._seconds_left == 120


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_the_time_is_for_all_logins_of_a_connection(
    client: MailClient, protocol: Protocol, monkeypatch: pytest.MonkeyPatch
) -> None:
    frontend, later = frontend_of(client, protocol, seconds=100), Later(monkeypatch)
    assert isinstance(await after_a_minute(frontend, client, later, *LOGIN[protocol]), Login)
    await frontend.refuse(REFUSAL)
    assert isinstance(await after_a_minute(frontend, client, later, *LOGIN[protocol]), LimitReached)


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_client_that_stalls_in_starttls_is_let_go_without_a_word_in_clear(
    client: MailClient, contexts: Contexts, protocol: Protocol, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between our answer and the end of the handshake nothing can be sent; an attempt to would never end."""
    frontend, later = frontend_of(client, protocol, contexts[0], seconds=100), Later(monkeypatch)
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(login_at(frontend))
        await client.hear()
        assert await client.ask(START_TLS[protocol]) == BEGIN[protocol]
        await later.by(100)
        async with asyncio.timeout(60):
            assert isinstance(await waiting, LimitReached)
    client.bridge.close()
    assert await client.hear_the_end() == b""


async def test_a_client_that_has_left_when_its_time_is_over_is_no_bug(client: MailClient) -> None:
    frontend = frontend_of(client, Protocol.IMAP, seconds=0.0)
    client.reset()
    with pytest.raises((LimitReached, PeerGone)):
        await frontend.login()


@pytest.mark.parametrize("is_refused", [True, False])
@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_client_that_does_not_read_its_answer_is_gone(
    client: MailClient, protocol: Protocol, is_refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frontend_module, "FAREWELL_SECONDS", 0.05)
    frontend = frontend_of(client, protocol)
    await client.say(*LOGIN[protocol])
    await frontend.login()
    fill(client.bridge)
    with pytest.raises(PeerGone, match="does not read"):
        await (frontend.refuse(REFUSAL) if is_refused else frontend.accept(Ready(b"", b"ready")))


# --- TLS ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_starttls_then_login_over_tls(client: MailClient, contexts: Contexts, protocol: Protocol) -> None:
    frontend = frontend_of(client, protocol, contexts[0])

    async def talk() -> None:
        await client.hear()
        refusal = b" NO [PRIVACYREQUIRED]" if protocol is Protocol.IMAP else b"-ERR Start TLS first"
        assert refusal in await client.ask(LOGIN[protocol][0])
        assert await client.ask(START_TLS[protocol]) == BEGIN[protocol]
        await client.start_tls(contexts[1])
        await client.say(*LOGIN[protocol])

    async with asyncio.TaskGroup() as group:
        group.create_task(talk())
        login = await frontend.login()
    assert login.password.reveal() == b"CANARY-password"
    assert await frontend.accept(Ready(b"", b"Welcome")) == b""
    await hear_pop3_user(client, protocol)
    assert b"OK Welcome" in await client.hear()
    assert client.bridge.tls is not None


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_client_that_speaks_in_clear_in_place_of_the_handshake_is_gone(
    client: MailClient, contexts: Contexts, protocol: Protocol
) -> None:
    frontend = frontend_of(client, protocol, contexts[0])

    async def talk() -> None:
        await client.hear()
        await client.ask(START_TLS[protocol])
        await client.say(*LOGIN[protocol])

    async with asyncio.TaskGroup() as group:
        group.create_task(talk())
        with pytest.raises(PeerGone, match="TLS with the mail client failed"):
            await frontend.login()


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_plaintext_in_one_piece_with_starttls_is_a_violation_and_the_client_is_told(
    client: MailClient, contexts: Contexts, protocol: Protocol
) -> None:
    frontend = frontend_of(client, protocol, contexts[0])
    await client.say(START_TLS[protocol], *LOGIN[protocol])
    with pytest.raises(ProtocolViolation, match="plaintext behind ST"):
        await frontend.login()
    assert b"plaintext behind ST" in (await last_words(client)).splitlines()[-1]


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_implicit_tls_by_way_of_a_listener(contexts: Contexts, protocol: Protocol) -> None:
    logins: list[Login] = []

    async def serve(conn: str, channel: Channel) -> None:
        frontend = MachineFrontend(channel, server_machine(protocol, starttls=False), None)
        logins.append(await frontend.login())
        await frontend.accept(Ready(b"", b"Welcome"))
        await channel.finish()

    sock = socket.create_server(("127.0.0.1", 0))
    sock.setblocking(False)
    service = Service(serve, ConnectionCap(), lambda: contexts[0])
    listener = Listener(protocol, [sock], service, tls=TlsMode.IMPLICIT)
    async with asyncio.TaskGroup() as group:
        group.create_task(listener.run())
        reader, writer = await asyncio.open_connection(
            *sock.getsockname(), ssl=contexts[1], server_hostname="localhost"
        )
        assert (await reader.readline()).rstrip() == GREETING[protocol]
        writer.write(b"".join(line + b"\r\n" for line in LOGIN[protocol]))
        assert b"OK Welcome" in await reader.read()
        writer.close()
        listener.stop()
    assert logins[0].username == "alice@example.com"


def test_an_encrypted_key_is_an_error_and_not_a_prompt(tmp_path: Path) -> None:
    issued = trustme.CA().issue_cert("localhost")
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    issued.cert_chain_pems[0].write_to_path(certificate)
    plain = load_pem_private_key(issued.private_key_pem.bytes(), None)
    key.write_bytes(
        plain.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, BestAvailableEncryption(b"CANARY"))
    )
    with pytest.raises((OSError, ssl.SSLError)) as caught:
        listener_context(str(certificate), str(key))
    assert "CANARY" not in str(caught.value)


def test_a_certificate_file_that_is_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        listener_context(str(tmp_path / "cert.pem"), str(tmp_path / "key.pem"))


async def test_the_listeners_context_takes_tls_1_2_and_better(client: MailClient, tmp_path: Path) -> None:
    trust = Trust(tmp_path)
    issued = trust.ca.issue_cert("localhost")
    issued.private_key_and_cert_chain_pem.write_to_path(tmp_path / "both.pem")
    context = listener_context(str(tmp_path / "both.pem"), str(tmp_path / "both.pem"))
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    theirs = ssl.create_default_context(cafile=trust.ca_file)
    theirs.maximum_version = ssl.TLSVersion.TLSv1_2
    async with asyncio.TaskGroup() as group:
        group.create_task(client.bridge.start_tls(context))
        group.create_task(client.start_tls(theirs))
    assert client.bridge.tls is not None
    assert client.bridge.tls.version() == "TLSv1.2"


# --- clients that leave or misbehave ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("protocol", "half"), [(p, half) for p in PROTOCOLS for half in HALF_A_LOGIN[p]])
@pytest.mark.parametrize("by_reset", [False, True])
async def test_a_client_that_leaves_early_is_gone(
    client: MailClient, protocol: Protocol, half: bytes, by_reset: bool
) -> None:
    frontend = frontend_of(client, protocol)
    await client.send(half)
    if by_reset:
        client.reset()
    else:
        client.close()
    with pytest.raises(PeerGone):
        await frontend.login()


@pytest.mark.parametrize("protocol", Protocol)
async def test_a_client_that_begins_with_tls_and_hears_no_answer_is_told_of_all_the_same(
    client: MailClient, protocol: Protocol, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It resets the connection on reading the greeting, so the log is the only place to look for the reason."""

    async def send(channel: Channel, data: bytes) -> None:
        if b"mail-bridge ready" not in data:
            raise PeerGone("the client has left")

    frontend = SmtpFrontend(client.bridge, extensions=tuple) if protocol is Protocol.SMTP else None
    await client.send(b"\x16\x03\x01\x02\x00")
    monkeypatch.setattr(type(client.bridge), "send", send)
    with pytest.raises(ProtocolViolation, match="this port begins without TLS"):
        await (frontend or frontend_of(client, protocol)).login()


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_client_that_leaves_in_the_handshake_is_gone(
    client: MailClient, contexts: Contexts, protocol: Protocol
) -> None:
    frontend = frontend_of(client, protocol, contexts[0])
    await client.say(START_TLS[protocol])
    client.close()
    with pytest.raises(PeerGone):
        await frontend.login()


@pytest.mark.parametrize(
    ("protocol", "command", "goodbye"),
    [
        (Protocol.IMAP, b"a9 LOGOUT", b"* BYE Logging out\r\na9 OK Done\r\n"),
        (Protocol.POP3, b"QUIT", b"+OK Bye\r\n"),
    ],
)
async def test_a_client_that_takes_its_leave_gets_a_goodbye(
    client: MailClient, protocol: Protocol, command: bytes, goodbye: bytes
) -> None:
    frontend = frontend_of(client, protocol)
    await client.say(command)
    with pytest.raises(PeerGone, match="taken its leave"):
        await frontend.login()
    assert (await last_words(client)).endswith(goodbye)


@pytest.mark.parametrize(("protocol", "start"), [(Protocol.IMAP, b"* BYE "), (Protocol.POP3, b"-ERR ")])
async def test_a_violation_is_told_before_the_connection_ends(
    client: MailClient, protocol: Protocol, start: bytes
) -> None:
    frontend = frontend_of(client, protocol)
    await client.send(b"x" * 100_000)
    with pytest.raises(ProtocolViolation):
        await frontend.login()
    lines = (await last_words(client)).split(b"\r\n")
    assert lines[0] == GREETING[protocol]
    assert lines[1].startswith(start)


# --- the log --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_the_dialogue_is_shown_at_debug_with_nothing_of_what_the_client_said(
    client: MailClient, protocol: Protocol, log: io.StringIO
) -> None:
    frontend = frontend_of(client, protocol)
    await client.say(*LOGIN[protocol])
    await frontend.login()
    await frontend.refuse(REFUSAL)
    await client.say(*LOGIN[protocol])
    await frontend.login()
    await frontend.accept(Ready(b"", b"Welcome"))
    text = log.getvalue()
    assert "client.sent" in text
    assert "mail-bridge ready" in text
    assert "local password is wrong" in text
    assert "Welcome" in text
    assert "the mail client" in text, "whose connection it is"
    assert "alice" not in text
    assert "CANARY" not in text


@pytest.mark.parametrize("line", [b"CANARY-password", b"CANARY-password and more of it", b"CANARY-password CAPABILITY"])
async def test_a_password_in_the_place_of_a_tag_is_not_shown(client: MailClient, log: io.StringIO, line: bytes) -> None:
    """A client that is out of step sends its password as a command, and IMAP's answers repeat the first word."""
    frontend = frontend_of(client, Protocol.IMAP)
    await client.say(b"a1 AUTHENTICATE CRAM-MD5", line, b"a2 LOGOUT")
    with pytest.raises(BridgeError):
        await frontend.login()
    assert b"CANARY-password " in await last_words(client)
    assert "(tag) " in log.getvalue()
    assert "CANARY" not in log.getvalue()


async def test_above_debug_nothing_is_rendered(client: MailClient) -> None:
    with captured("info", "json") as log:
        assert not logs.is_detailed()
        frontend = frontend_of(client, Protocol.IMAP)
        await client.say(*LOGIN[Protocol.IMAP])
        await frontend.login()
        assert log.getvalue() == ""
