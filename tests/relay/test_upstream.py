"""TLS and login at a scripted server over real sockets: success, and every kind of failure."""

from __future__ import annotations

import base64
import datetime
import io
import ssl
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import trustme

from bridge.errors import TlsFailed, TokenRefused, UpstreamRefused, UpstreamUnavailable
from bridge.model import Endpoint, Mechanism, Protocol, TlsMode
from bridge.relay.authorities import UpstreamContexts
from bridge.relay.channel import Channel
from bridge.relay.dialer import Dialer
from tests.relay.dialling import (
    ADDRESS,
    BLOB,
    IMPLICIT,
    MODES,
    PROTOCOLS,
    STARTTLS,
    TOKEN,
    account_at,
    failure,
    opened,
    upstream_of,
)
from tests.relay.scripted import (
    ACCEPTED,
    GO_AHEAD,
    GREETING,
    Close,
    Expect,
    Reset,
    Say,
    StartTls,
    Step,
    Trust,
    accepts,
    asks_for_login,
    asks_for_tls,
    context_of,
    refuses,
    scripted,
    secured,
)
from tests.relay.sockets import receive_exactly

# --- success --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_the_token_opens_the_mailbox_and_bytes_pass_afterwards(
    trust: Trust, protocol: Protocol, mode: TlsMode
) -> None:
    script: list[Step] = [*accepts(protocol, mode, trust.good), Expect(b"ping"), Say(b"pong\r\n")]
    with scripted(script) as server, upstream_of(protocol) as upstream:
        async with opened(upstream, protocol, trust.endpoint(server.port, mode)) as connection:
            assert connection.ready.text == (b"2.7.0 Welcome" if protocol is Protocol.SMTP else b"Welcome")
            assert connection.ready.leftover == b""
            await connection.channel.send(b"ping\r\n")
            assert await receive_exactly(connection.channel, 6) == b"pong\r\n"
            assert connection.channel.peer == f"localhost:{server.port}"
    assert server.heard[0].tls_version == "TLSv1.3"
    token_line = server.heard[0].lines[-2]
    assert token_line.split()[-1] == BLOB


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_bytes_behind_the_answer_are_kept_for_the_mail_client(
    trust: Trust, protocol: Protocol, mode: TlsMode
) -> None:
    script = accepts(protocol, mode, trust.good, behind=b"* 1 EXISTS\r\n* 2 EX")
    with scripted(script) as server, upstream_of(protocol) as upstream:
        async with opened(upstream, protocol, trust.endpoint(server.port, mode)) as connection:
            assert connection.ready.leftover == b"* 1 EXISTS\r\n* 2 EX"


async def test_imap_capabilities_before_the_answer_are_kept(trust: Trust) -> None:
    script = accepts(Protocol.IMAP, IMPLICIT, trust.good)
    with scripted(script) as server, upstream_of(Protocol.IMAP) as upstream:
        async with opened(upstream, Protocol.IMAP, trust.endpoint(server.port, IMPLICIT)) as connection:
            assert connection.ready.untagged == b"* CAPABILITY IMAP4rev1 UIDPLUS\r\n"


async def test_smtp_extensions_are_learned_by_a_login_and_the_client_name_is_passed_on(trust: Trust) -> None:
    with (
        scripted(accepts(Protocol.SMTP, STARTTLS, trust.good)) as server,
        upstream_of(Protocol.SMTP) as upstream,
    ):
        endpoint = trust.endpoint(server.port, STARTTLS)
        assert upstream.learned_extensions(endpoint) is None
        async with opened(upstream, Protocol.SMTP, endpoint):
            assert upstream.learned_extensions(endpoint) == frozenset({"8BITMIME", "SIZE 1000"})
    assert b"EHLO crm.example" in server.heard[0].lines


async def test_what_is_known_of_a_server_holds_until_it_has_spoken(trust: Trust) -> None:
    known = frozenset({"SIZE 1"})
    with upstream_of(Protocol.SMTP) as upstream:
        assert upstream.learned_extensions(Endpoint("localhost", 1, STARTTLS, extensions=known)) == known


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_the_second_connection_resumes_the_tls_session_of_the_first(
    trust: Trust, version: ssl.TLSVersion
) -> None:
    server_context = context_of(trust.ca, "localhost")
    server_context.maximum_version = version
    script = accepts(Protocol.IMAP, IMPLICIT, server_context)
    with scripted(script, script, script) as server, upstream_of(Protocol.IMAP) as upstream:
        for _ in range(3):
            async with opened(upstream, Protocol.IMAP, trust.endpoint(server.port, IMPLICIT)):
                pass
    assert [heard.resumed for heard in server.heard] == [False, True, True]


async def test_a_session_is_taken_from_a_connection_no_more_often_than_each_minute(trust: Trust) -> None:
    """Python leaks 7 KiB whenever one is taken: a soak test found 3 MB a minute."""
    clock = [1000.0]
    contexts = UpstreamContexts(now=lambda: clock[0])
    scripts = [accepts(Protocol.IMAP, IMPLICIT, context_of(trust.ca, "localhost")) for _ in range(3)]  # cannot resume
    scripts[1:1] = [scripts[0]]
    taken = []
    with scripted(*scripts) as server, upstream_of(Protocol.IMAP, contexts=contexts) as upstream:
        endpoint = trust.endpoint(server.port, IMPLICIT)
        for _ in scripts:
            async with opened(upstream, Protocol.IMAP, endpoint):
                taken.append(contexts.session(endpoint))
            clock[0] += 31.0
    assert [heard.resumed for heard in server.heard] == [False, True, False, False]
    assert taken[0] is taken[1]  # it was still valid
    assert taken[2] is not taken[1]
    assert taken[3] is taken[2]


async def test_a_session_made_under_one_ca_file_does_not_serve_another(trust: Trust, tmp_path: Path) -> None:
    """Two providers in one configuration may name the same server with different CA files."""
    same, other = tmp_path / "same.pem", tmp_path / "other.pem"
    trust.ca.cert_pem.write_to_path(same)
    trustme.CA().cert_pem.write_to_path(other)
    script = accepts(Protocol.IMAP, IMPLICIT, trust.good)
    with (
        scripted(script, script, [StartTls(trust.good)]) as server,
        upstream_of(Protocol.IMAP) as upstream,
    ):
        async with opened(upstream, Protocol.IMAP, trust.endpoint(server.port, IMPLICIT)):
            pass
        async with opened(upstream, Protocol.IMAP, Endpoint("localhost", server.port, IMPLICIT, str(same))):
            pass
        with pytest.raises(TlsFailed):
            async with opened(upstream, Protocol.IMAP, Endpoint("localhost", server.port, IMPLICIT, str(other))):
                pass
    assert not server.heard[1].resumed


async def test_a_protocol_without_a_server_is_refused_before_anything_is_dialled(trust: Trust) -> None:
    with upstream_of(Protocol.POP3) as upstream:
        account = account_at(Protocol.IMAP, trust.endpoint(1, IMPLICIT))
        with pytest.raises(UpstreamRefused, match=r"no POP3 server is configured for alice@example\.com"):
            await upstream.open(account, TOKEN)


# --- TLS that must not be -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("unknown ca", "unable to get local issuer certificate"),
        ("wrong name", "Hostname mismatch"),
        ("expired", "certificate has expired"),
    ],
)
async def test_a_certificate_that_proves_nothing_gets_no_token(
    trust: Trust, protocol: Protocol, mode: TlsMode, kind: str, words: str
) -> None:
    yesterday = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    contexts = {
        "unknown ca": lambda: context_of(trustme.CA(), "localhost"),
        "wrong name": lambda: context_of(trust.ca, "mail.example.com"),
        "expired": lambda: context_of(trust.ca, "localhost", yesterday),
    }
    script = [*secured(protocol, mode, contexts[kind]()), *asks_for_login(protocol, mode)]
    problem, heard = await failure(protocol, script, trust, mode)
    assert isinstance(problem, TlsFailed)
    assert problem.temporary
    assert words in str(problem)
    assert str(problem).startswith("localhost:")
    assert BLOB not in heard


@pytest.mark.parametrize("mode", MODES)
async def test_a_server_that_knows_tls_1_1_at_most_is_not_spoken_to(trust: Trust, mode: TlsMode) -> None:
    old = context_of(trust.ca, "localhost")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        old.minimum_version = ssl.TLSVersion.TLSv1
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")
    problem, heard = await failure(Protocol.IMAP, secured(Protocol.IMAP, mode, old), trust, mode)
    assert isinstance(problem, TlsFailed)
    assert "protocol version" in str(problem)
    assert BLOB not in heard


async def test_a_server_that_speaks_in_clear_on_the_tls_port_is_tls_failed(trust: Trust) -> None:
    problem, _ = await failure(Protocol.IMAP, [Say(GREETING[Protocol.IMAP])], trust, IMPLICIT)
    assert isinstance(problem, TlsFailed)


async def test_a_ca_file_that_is_missing_is_named(trust: Trust, tmp_path: Path) -> None:
    missing = str(tmp_path / "nowhere.pem")
    with (
        scripted([]) as server,
        upstream_of(Protocol.IMAP) as upstream,
        pytest.raises(UpstreamUnavailable, match=r"ca_file .*nowhere\.pem"),
    ):
        async with opened(upstream, Protocol.IMAP, Endpoint("localhost", server.port, IMPLICIT, missing)):
            pass


async def test_without_a_ca_file_the_system_s_certificates_decide(trust: Trust) -> None:
    with (
        scripted([StartTls(trust.good)]) as server,
        upstream_of(Protocol.IMAP) as upstream,
        pytest.raises(TlsFailed),
    ):
        async with opened(upstream, Protocol.IMAP, Endpoint("localhost", server.port, IMPLICIT)):
            pass


STRIPPED: dict[Protocol, list[Step]] = {
    Protocol.IMAP: [Say(GREETING[Protocol.IMAP])],
    Protocol.POP3: [Say(GREETING[Protocol.POP3]), Expect(rb"STLS"), Say(b"-ERR Unknown command\r\n")],
    Protocol.SMTP: [Say(GREETING[Protocol.SMTP]), Expect(rb"EHLO .+"), Say(b"250-server\r\n250 AUTH XOAUTH2\r\n")],
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_starttls_that_was_stripped_ends_the_login_without_a_token(trust: Trust, protocol: Protocol) -> None:
    problem, heard = await failure(protocol, STRIPPED[protocol], trust, STARTTLS)
    assert problem.temporary
    assert "without TLS no token is sent" in str(problem)
    assert b"AUTH" not in heard


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_plaintext_in_one_piece_with_the_starttls_answer_ends_the_login(trust: Trust, protocol: Protocol) -> None:
    injected = Say(GO_AHEAD[protocol] + b"250 INJECTED\r\n")
    problem, heard = await failure(protocol, [*asks_for_tls(protocol), injected], trust, STARTTLS)
    assert problem.temporary
    assert "plaintext behind ST" in str(problem)
    assert b"AUTH" not in heard


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_plaintext_after_the_starttls_answer_breaks_the_handshake(trust: Trust, protocol: Protocol) -> None:
    """Sent as a separate piece, it may arrive with the answer or after it; in neither case is it taken for TLS."""
    script = [*asks_for_tls(protocol), Say(GO_AHEAD[protocol]), Say(b"250 INJECTED\r\n")]
    problem, heard = await failure(protocol, script, trust, STARTTLS)
    assert problem.temporary
    assert BLOB not in heard


async def test_nobody_waits_for_the_end_of_a_flood_before_tls(trust: Trust) -> None:
    """While more kept arriving, no other session had a turn, and not even the time limit took effect."""
    script = [*asks_for_tls(Protocol.IMAP), Say(b"* x\r\n" * 30_000)]
    problem, heard = await failure(Protocol.IMAP, script, trust, STARTTLS)
    assert problem.temporary
    assert "does not stop talking" in str(problem)
    assert b"AUTH" not in heard


# --- refusals -------------------------------------------------------------------------------------------------------

REFUSALS = [
    (Protocol.IMAP, b"[UNAVAILABLE] Temporary authentication failure", UpstreamUnavailable),
    (Protocol.IMAP, b"[ALERT] Too many simultaneous connections", UpstreamUnavailable),
    (Protocol.IMAP, b"[AUTHENTICATIONFAILED] Invalid credentials", TokenRefused),
    (Protocol.IMAP, b"[CONTACTADMIN] IMAP is disabled for this user", UpstreamRefused),
    (Protocol.POP3, b"-ERR [SYS/TEMP] try again", UpstreamUnavailable),
    (Protocol.POP3, b"-ERR [AUTH] Authentication failed", TokenRefused),
    (Protocol.POP3, b"-ERR [SYS/PERM] POP is disabled for your domain", UpstreamRefused),
    (Protocol.SMTP, b"432 4.3.2 Concurrent connections limit exceeded", UpstreamUnavailable),
    (Protocol.SMTP, b"454 4.7.0 Please log in via your web browser", UpstreamUnavailable),
    (Protocol.SMTP, b"535 5.7.3 Authentication unsuccessful", TokenRefused),
    (Protocol.SMTP, b"535 5.7.139 SmtpClientAuthentication is disabled for the Tenant", UpstreamRefused),
]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("protocol", "words", "expected"), REFUSALS)
async def test_a_refusal_is_temporary_about_the_token_or_about_a_setting(
    trust: Trust, protocol: Protocol, mode: TlsMode, words: bytes, expected: type[Exception]
) -> None:
    problem, _ = await failure(protocol, refuses(protocol, mode, trust.good, words), trust, mode)
    assert type(problem) is expected
    assert problem.temporary is (expected is UpstreamUnavailable)
    said = words.decode().removeprefix("-ERR ")
    assert str(problem) == f"localhost refuses the login: {said}"
    if isinstance(problem, UpstreamRefused):
        assert problem.text == said
    assert problem.diagnosis is not None
    assert problem.diagnosis.advice.is_temporary is problem.temporary
    assert problem.diagnosis.words == said


GREETINGS = [
    (Protocol.IMAP, b"* BYE Access denied for 192.0.2.7", "mail.turned_away"),
    (Protocol.IMAP, b"* BYE Too many connections from your address", "mail.too_many"),
    (Protocol.POP3, b"-ERR Service unavailable; client host blocked", "mail.turned_away"),
    (Protocol.POP3, b"-ERR [SYS/PERM] Your address has been blocked", "mail.turned_away"),
    (Protocol.SMTP, b"554 5.7.1 Client host [192.0.2.7] blocked using zen.spamhaus.org", "mail.turned_away"),
    (Protocol.SMTP, b"554 No SMTP service here", "mail.turned_away"),
    (Protocol.SMTP, b"550 5.7.1 Your address has been blocked", "mail.turned_away"),
    (Protocol.SMTP, b"421 4.3.2 Service not available", "mail.busy"),
]


@pytest.mark.parametrize(("protocol", "greeting", "key"), GREETINGS)
async def test_a_greeting_that_turns_everybody_away_is_no_refused_login(
    trust: Trust, protocol: Protocol, greeting: bytes, key: str
) -> None:
    """Otherwise the mail program asks for a new password; and an address on a block list needs somebody to act."""
    script: list[Step] = [StartTls(trust.good), Say(greeting + b"\r\n")]
    problem, _ = await failure(protocol, script, trust, IMPLICIT)
    assert type(problem) is UpstreamUnavailable
    assert problem.diagnosis is not None
    assert problem.diagnosis.key == key


LONG_TOKEN = "CANARY" + "a" * 6200
"""Some 8,300 octets when sent as XOAUTH2. Dovecot 2.3 reads 8,192, and hangs up without an answer."""


@pytest.mark.parametrize("end", [Close(), Reset()])
@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_who_hangs_up_on_a_very_long_token_is_not_said_to_be_away(
    trust: Trust, protocol: Protocol, end: Step
) -> None:
    login = [*secured(protocol, IMPLICIT, trust.good), *asks_for_login(protocol, IMPLICIT)[:-1], Expect(rb".*")]
    problem, _ = await failure(protocol, [*login, end], trust, IMPLICIT, token=LONG_TOKEN)
    assert type(problem) is UpstreamUnavailable
    assert problem.diagnosis is not None
    assert problem.diagnosis.key == "mail.token_long"
    assert str(problem) in problem.diagnosis.told()


@pytest.mark.parametrize("end", [Close(), Reset()])
@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_who_hangs_up_while_a_very_long_token_is_sent_is_not_said_to_be_away(
    trust: Trust, protocol: Protocol, end: Step
) -> None:
    """The token is longer than what both sides' socket buffers hold, so that sending it fails and not the wait for the
    answer."""
    unread = [*secured(protocol, IMPLICIT, trust.good), *asks_for_login(protocol, IMPLICIT)[:-1], end]
    problem, _ = await failure(protocol, unread, trust, IMPLICIT, token="CANARY" + "a" * 12_000_000)
    assert type(problem) is UpstreamUnavailable
    assert problem.diagnosis is not None
    assert problem.diagnosis.key == "mail.token_long"
    assert "handshake" not in str(problem), "which was done"


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_who_hangs_up_on_an_ordinary_token_or_before_a_long_one_has_other_reasons(
    trust: Trust, protocol: Protocol
) -> None:
    before = [*secured(protocol, IMPLICIT, trust.good), *asks_for_login(protocol, IMPLICIT)]
    problem, _ = await failure(protocol, [*before, Close()], trust, IMPLICIT)
    assert problem.diagnosis is not None
    assert problem.diagnosis.key == "mail.unreachable"
    problem, _ = await failure(protocol, [*before[:1], Close()], trust, IMPLICIT, token=LONG_TOKEN)
    assert problem.diagnosis is not None
    assert problem.diagnosis.key == "mail.unreachable"


async def test_a_word_for_a_token_that_is_too_long_is_known(trust: Trust) -> None:
    """Postfix sends it; the code is from RFC 4954."""
    words = b"500 5.5.6 SASL response limit exceeded"
    problem, _ = await failure(Protocol.SMTP, refuses(Protocol.SMTP, IMPLICIT, trust.good, words), trust, IMPLICIT)
    assert problem.diagnosis is not None
    assert problem.diagnosis.key == "mail.token_long"


@pytest.mark.parametrize(
    ("protocol", "challenge", "verdict"),
    [
        (Protocol.IMAP, b"+ eyJzdGF0dXMiOiI0MDAifQ==\r\n", b"B1 NO [AUTHENTICATIONFAILED] Invalid\r\n"),
        (Protocol.POP3, b"+ eyJzdGF0dXMiOiI0MDAifQ==\r\n", b"-ERR [AUTH] Invalid\r\n"),
        (Protocol.SMTP, b"334 eyJzdGF0dXMiOiI0MDAifQ==\r\n", b"535 5.7.8 Invalid\r\n"),
    ],
)
async def test_the_error_challenge_is_answered_by_an_empty_line_and_the_token_is_refused(
    trust: Trust, protocol: Protocol, challenge: bytes, verdict: bytes
) -> None:
    login = [*secured(protocol, IMPLICIT, trust.good), *asks_for_login(protocol, IMPLICIT)]
    script = [*login, Say(challenge), Expect(b""), Say(verdict)]
    problem, _ = await failure(protocol, script, trust, IMPLICIT)
    assert isinstance(problem, TokenRefused)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("repeated", [BLOB, b"auth=" + BLOB[:-9], TOKEN.value.reveal().encode(), b"alice@example.com"])
async def test_a_server_that_repeats_what_it_was_told_does_not_make_us_tell_the_token(
    trust: Trust, protocol: Protocol, repeated: bytes
) -> None:
    """The server's words go to the mail program, to the web pages and to the log."""
    no = {Protocol.IMAP: b"B1 NO ", Protocol.POP3: b"-ERR ", Protocol.SMTP: b"535 5.7.8 "}[protocol]
    login = [*secured(protocol, IMPLICIT, trust.good), *asks_for_login(protocol, IMPLICIT)]
    problem, _ = await failure(protocol, [*login, Say(no + b"bad: " + repeated + b" of you\r\n")], trust, IMPLICIT)
    assert isinstance(problem, UpstreamRefused)
    assert problem.diagnosis is not None
    for told in (problem.public, str(problem), problem.diagnosis.told(), problem.text):
        assert "of you" in told
        assert (repeated.decode() in told) is (repeated == b"alice@example.com")


ODD = "no \x1b[2Kway\x07 for \u202e\u00e9milie".encode()


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_of_a_servers_words_a_terminal_obeys_none(trust: Trust, protocol: Protocol) -> None:
    no = {Protocol.IMAP: b"B1 NO ", Protocol.POP3: b"-ERR ", Protocol.SMTP: b"535 5.7.8 "}[protocol]
    login = [*secured(protocol, IMPLICIT, trust.good), *asks_for_login(protocol, IMPLICIT)]
    problem, _ = await failure(protocol, [*login, Say(no + ODD + b"\r\n")], trust, IMPLICIT)
    assert isinstance(problem, UpstreamRefused)
    assert problem.diagnosis is not None
    for told in (str(problem), problem.diagnosis.told(), problem.text):
        assert "\u00e9milie" in told
        assert told.isprintable()


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_nor_of_what_somebody_on_the_way_says_before_tls(trust: Trust, protocol: Protocol) -> None:
    no = {Protocol.IMAP: b"<tag> NO ", Protocol.POP3: b"-ERR ", Protocol.SMTP: b"454 "}[protocol]
    problem, _ = await failure(protocol, [*asks_for_tls(protocol), Say(no + ODD + b"\r\n")], trust, STARTTLS)
    assert "\u00e9milie" in str(problem)
    assert str(problem).isprintable()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_of_an_endless_refusal_the_beginning_is_told(trust: Trust, protocol: Protocol, mode: TlsMode) -> None:
    """It went into the log, twice for each login, and to the pages: 7 KB of POP3, 15 of IMAP and SMTP."""
    no = {Protocol.IMAP: b"<tag> NO ", Protocol.POP3: b"-ERR ", Protocol.SMTP: b"454 "}[protocol]
    login = secured(protocol, IMPLICIT, trust.good) if mode is IMPLICIT else asks_for_tls(protocol)
    asked = asks_for_login(protocol, IMPLICIT) if mode is IMPLICIT else []
    problem, _ = await failure(protocol, [*login, *asked, Say(no + b"no way " * 1000 + b"\r\n")], trust, mode)
    assert problem.diagnosis is not None
    for told in (str(problem), problem.diagnosis.told()):
        assert "no way no way no way" in told
        assert len(told) < 2000


# --- the log --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_the_dialogue_is_shown_at_debug_without_the_token(
    trust: Trust, protocol: Protocol, mode: TlsMode, log: io.StringIO
) -> None:
    with scripted(accepts(protocol, mode, trust.good)) as server, upstream_of(protocol) as upstream:
        async with opened(upstream, protocol, trust.endpoint(server.port, mode)):
            pass
    text = log.getvalue()
    assert "upstream.sent" in text
    assert "(token)" in text
    assert "XOAUTH2" in text
    assert f"localhost:{server.port}" in text
    assert "CANARY" not in text
    assert BLOB.decode() not in text
    assert "Welcome" not in text


def oauthbearer(protocol: Protocol, *, verdict: bytes) -> list[Step]:
    """The dialogue of a server that knows only OAUTHBEARER, up to its answer to the token."""
    token = Expect(rb"(?:\w+ AUTHENTICATE OAUTHBEARER )?[\w+/=]+")
    asked: list[Step]
    match protocol:
        case Protocol.IMAP:
            asked = [Say(b"* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=OAUTHBEARER] server ready\r\n")]
        case Protocol.POP3:
            asked = [Say(GREETING[protocol]), Expect(rb"AUTH OAUTHBEARER"), Say(b"+ \r\n")]
        case Protocol.SMTP:
            hello: list[Step] = [Expect(rb"EHLO .+"), Say(b"250-server\r\n250 AUTH OAUTHBEARER\r\n")]
            asked = [Say(GREETING[protocol]), *hello, Expect(rb"AUTH OAUTHBEARER"), Say(b"334 \r\n")]
    return [*asked, token, Say(verdict)]


CHALLENGE = {Protocol.IMAP: b"+ ", Protocol.POP3: b"+ ", Protocol.SMTP: b"334 "}
NO = {Protocol.IMAP: b"B1 NO no\r\n", Protocol.POP3: b"-ERR no\r\n", Protocol.SMTP: b"535 5.7.8 no\r\n"}


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_oauthbearer_names_the_server_that_was_dialled_and_leaves_no_trace_of_the_token(
    trust: Trust, protocol: Protocol, log: io.StringIO
) -> None:
    script = [StartTls(trust.good), *oauthbearer(protocol, verdict=ACCEPTED[protocol])]
    with scripted(script) as server, upstream_of(protocol) as upstream:
        endpoint = replace(trust.endpoint(server.port, IMPLICIT), mechanism=Mechanism.OAUTHBEARER)
        async with opened(upstream, protocol, endpoint):
            pass
    blob = server.heard[0].lines[-1].split()[-1]
    pairs = f"host=localhost\x01port={server.port}\x01auth=Bearer {TOKEN.value.reveal()}\x01\x01"
    assert base64.b64decode(blob).decode() == f"n,a={ADDRESS},\x01{pairs}"
    assert "(token)" in log.getvalue()
    assert blob.decode()[:20] not in log.getvalue()
    assert "CANARY" not in log.getvalue()


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_oauthbearer_answers_a_challenge_with_one_octet_and_takes_the_final_word(
    trust: Trust, protocol: Protocol
) -> None:
    reason = CHALLENGE[protocol] + base64.b64encode(b'{"status":"invalid_token"}') + b"\r\n"
    dialogue = oauthbearer(protocol, verdict=reason)
    script = [StartTls(trust.good), *dialogue, Expect(rb"AQ=="), Say(NO[protocol])]
    with scripted(script) as server, upstream_of(protocol) as upstream, pytest.raises(TokenRefused) as caught:
        endpoint = replace(trust.endpoint(server.port, IMPLICIT), mechanism=Mechanism.OAUTHBEARER)
        async with opened(upstream, protocol, endpoint):
            pass
    assert caught.value.text.endswith("no")


async def test_a_channel_is_named_by_its_server(trust: Trust) -> None:
    with scripted([]) as server:
        dialer = Dialer()
        channel: Channel = await dialer.dial(trust.endpoint(server.port, IMPLICIT))
        assert channel.peer == f"localhost:{server.port}"
        channel.close()
