"""What a transcript cannot show: limits, leftover data, and what a log may show."""

from __future__ import annotations

import pytest

from bridge.errors import ProtocolViolation
from bridge.model import Mechanism, Protocol
from bridge.protocols import sasl
from bridge.protocols.base import Credentials, Hangup, LoginRequested, Ready, RefusalKind, Refused, Send, StartTLS
from bridge.protocols.refusals import kind_of_refusal
from bridge.protocols.registry import client_machine, server_machine
from bridge.secret import Secret

CREDENTIALS = Credentials("alice@example.com", Secret("CANARY-token"))


@pytest.mark.parametrize(
    ("protocol", "stream", "leftover"),
    [
        (
            Protocol.IMAP,
            b"* OK [CAPABILITY AUTH=XOAUTH2 SASL-IR] x\r\n|B1 OK [CAPABILITY A] x\r\n* 1 EXISTS\r\n",
            b"* 1 EXISTS\r\n",
        ),
        (Protocol.POP3, b"+OK x\r\n|+\r\n|+OK in\r\nmore", b"more"),
        (Protocol.SMTP, b"220 x\r\n|250-x\r\n250 AUTH XOAUTH2\r\n|334 \r\n|235 in\r\n250 more\r\n", b"250 more\r\n"),
    ],
)
def test_what_comes_behind_the_answer_is_for_the_mail_client(
    protocol: Protocol, stream: bytes, leftover: bytes
) -> None:
    machine = client_machine(protocol, CREDENTIALS, starttls=False)
    *before, last = stream.split(b"|")
    for part in before:
        machine.receive(part)
    (ready,) = machine.receive(last)
    assert isinstance(ready, Ready)
    assert ready.leftover == leftover


@pytest.mark.parametrize(
    ("protocol", "stream"),
    [
        (Protocol.IMAP, [b"* OK [CAPABILITY STARTTLS] x\r\n", b"B1 OK go\r\n* CAPABILITY AUTH=XOAUTH2\r\n"]),
        (Protocol.POP3, [b"+OK x\r\n", b"+OK go\r\n+OK injected\r\n"]),
        (Protocol.SMTP, [b"220 x\r\n", b"250-x\r\n250 STARTTLS\r\n", b"220 go\r\n250 INJECTED\r\n"]),
    ],
)
def test_trap_37_peer_12_an_answer_injected_behind_starttls_is_a_violation(
    protocol: Protocol, stream: list[bytes]
) -> None:
    machine = client_machine(protocol, CREDENTIALS, starttls=True)
    *before, last = stream
    for part in before:
        machine.receive(part)
    with pytest.raises(ProtocolViolation, match="plaintext behind ST"):
        machine.receive(last)


@pytest.mark.parametrize(
    ("protocol", "command"), [(Protocol.IMAP, b"a STARTTLS\r\na LOGIN x y\r\n"), (Protocol.POP3, b"STLS\r\nUSER x\r\n")]
)
def test_a_command_injected_behind_our_starttls_is_a_violation(protocol: Protocol, command: bytes) -> None:
    machine = server_machine(protocol, starttls=True)
    (event,) = machine.receive(command)
    assert isinstance(event, Hangup)
    assert "plaintext behind ST" in event.violation


@pytest.mark.parametrize(
    ("protocol", "command"), [(Protocol.IMAP, b"a STARTTLS\r\n"), (Protocol.POP3, b"USER x\r\nSTLS\r\n")]
)
def test_starttls_alone_is_carried_out(protocol: Protocol, command: bytes) -> None:
    machine = server_machine(protocol, starttls=True)
    assert isinstance(machine.receive(command)[-1], StartTLS)


@pytest.mark.parametrize("name", ["BUREAU\\Lœtitia d’Arc", "Hélène", "chloé@example.com"])
@pytest.mark.parametrize("encoding", ["utf-8", "cp1252"])
@pytest.mark.parametrize(
    ("protocol", "before", "behind"),
    [(Protocol.IMAP, b"a LOGIN {%d+}\r\n", b" CANARY\r\n"), (Protocol.POP3, b"USER ", b"\r\nPASS CANARY\r\n")],
)
def test_a_windows_program_sends_a_user_name_as_windows_writes_it(
    protocol: Protocol, before: bytes, behind: bytes, encoding: str, name: str
) -> None:
    sent = name.encode(encoding)
    stream = (before % len(sent) if b"%" in before else before) + sent + behind
    found = server_machine(protocol, starttls=False).receive(stream)[-1]
    assert isinstance(found, LoginRequested)
    assert found.login.username == name


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252"])
def test_plain_holds_the_user_name_as_windows_writes_it(encoding: str) -> None:
    username, password = sasl.decode_plain("\0Lœtitia\0CANARY".encode(encoding))
    assert (username, password.reveal()) == ("Lœtitia", b"CANARY")


def test_a_user_name_from_before_tls_is_none_behind_it() -> None:
    machine = server_machine(Protocol.POP3, starttls=True)
    machine.receive(b"USER somebody-else\r\nSTLS\r\n")
    machine.tls_started()
    (refusal,) = machine.receive(b"PASS secret\r\n")
    assert isinstance(refusal, Send)
    assert refusal.data.startswith(b"-ERR")


@pytest.mark.parametrize("protocol", [Protocol.IMAP, Protocol.POP3])
def test_an_endless_line_ends_the_connection(protocol: Protocol) -> None:
    machine = server_machine(protocol, starttls=False)
    assert machine.receive(b"x" * 8191) == []
    (event,) = machine.receive(b"x")
    assert isinstance(event, Hangup)
    assert "8192 octets" in event.violation


def test_a_command_has_eight_literals_of_4096_octets_and_no_more() -> None:
    machine = server_machine(Protocol.IMAP, starttls=False)
    line = b"a1 ID {4096}\r\n"
    for _ in range(8):
        (go_ahead,) = machine.receive(line)
        assert isinstance(go_ahead, Send)
        assert go_ahead.data.startswith(b"+ ")
        line = b"x" * 4096 + b" {4096}\r\n"
    for wanted in (line, b"a2 LOGIN {4097}\r\n"):
        (refusal,) = machine.receive(wanted)
        assert isinstance(refusal, Send)
        assert b"NO [TOOBIG]" in refusal.data
    assert isinstance(machine.receive(b"a3 LOGIN alice secret\r\n")[0], LoginRequested)


@pytest.mark.parametrize(("protocol", "command"), [(Protocol.IMAP, b"a NOOP\r\n"), (Protocol.POP3, b"CAPA\r\n")])
def test_fifty_commands_without_a_login_are_enough(protocol: Protocol, command: bytes) -> None:
    machine = server_machine(protocol, starttls=False)
    events = machine.receive(command * 51)
    assert len(events) == 51, "each is answered, and the last one is one too many"
    assert isinstance(events[-1], Hangup)
    assert b"Too many commands" in events[-1].farewell
    assert all(isinstance(event, Send) for event in events[:-1])


@pytest.mark.parametrize("greeting", [b"SASL-IR", b""])
@pytest.mark.parametrize("mechanism", list(Mechanism))
@pytest.mark.parametrize("protocol", list(Protocol))
def test_a_log_of_what_is_sent_holds_no_token(protocol: Protocol, mechanism: Mechanism, greeting: bytes) -> None:
    name = mechanism.sasl_name.encode()
    answers = {
        Protocol.IMAP: [b"* OK [CAPABILITY AUTH=%b %b] x\r\n" % (name, greeting), *([] if greeting else [b"+ \r\n"])],
        Protocol.POP3: [b"+OK\r\n", b"+\r\n"],
        Protocol.SMTP: [b"220 x\r\n", b"250-x\r\n250 AUTH %b\r\n" % name, b"334\r\n"],
    }[protocol]
    credentials = Credentials(CREDENTIALS.address, CREDENTIALS.token, mechanism, "mail.example.com", 993)
    machine = client_machine(protocol, credentials, starttls=False)
    sent = [event for answer in answers for event in machine.receive(answer) if isinstance(event, Send)]
    blob = sasl.initial_response(credentials)
    with_token = [event for event in sent if blob in event.data]
    assert len(with_token) == 1
    assert with_token[0].log.endswith("(token)")
    assert not any(blob[:20].decode() in event.log for event in sent)


@pytest.mark.parametrize("protocol", list(Protocol))
def test_a_reply_that_does_not_end_is_a_violation(protocol: Protocol) -> None:
    machine = client_machine(protocol, CREDENTIALS, starttls=False)
    with pytest.raises(ProtocolViolation, match="octets"):
        for _ in range(40):
            machine.receive(b"x" * 1000)


IMAP_PROMPT = [b"* OK [CAPABILITY AUTH=XOAUTH2] x\r\n"]
IMAP_VERDICT = [b"* OK [CAPABILITY AUTH=XOAUTH2 SASL-IR] x\r\n"]


@pytest.mark.parametrize(
    ("protocol", "stream", "what"),
    [
        (Protocol.IMAP, [b"* OK x\r\n", b"+ go on\r\n"], "nothing to say"),
        (Protocol.IMAP, [b"* OK x\r\n", b"B1 OK done\r\n"], "capabilities"),
        (Protocol.IMAP, [b"* OK x\r\n", b"* CAPABILITY AUTH=XOAUTH2\r\nB1 NO\r\n"], "capabilities"),
        (Protocol.IMAP, [*IMAP_VERDICT, b"A1 OK in\r\n"], "foreign tag"),
        (Protocol.IMAP, [*IMAP_PROMPT, b"B1 OK in\r\n"], "no sense"),
        (Protocol.IMAP, [*IMAP_VERDICT, b"B1 YES\r\n"], "no sense"),
        (Protocol.IMAP, [b"* OK x\r\n", b"* x\r\n" * 30_000], "does not stop talking"),
        (Protocol.IMAP, [*IMAP_PROMPT, *[b"* OK %b\r\n" % (b"x" * 8000)] * 9], "does not stop talking"),
        (Protocol.IMAP, [*IMAP_VERDICT, *[b"* OK %b\r\n" % (b"x" * 8000)] * 9], "does not stop talking"),
        (Protocol.POP3, [b"+OK x\r\n", b"+OK in\r\n"], "no sense"),
        (Protocol.POP3, [b"+OK x\r\n", b"go on\r\n"], "no sense"),
        (Protocol.POP3, [b"+OK x\r\n", b"+\r\n", b"go on\r\n"], "no sense"),
        (Protocol.SMTP, [b"220 x\r\n", b"250-x\r\n" * 101], "does not end"),
        (Protocol.SMTP, [b"554-%b\r\n" % (b"x" * 8000)] * 3, "does not end"),
        (Protocol.SMTP, [b"220 x\r\n", b"250-x\r\n250 AUTH XOAUTH2\r\n", b"235 in\r\n"], "no sense"),
    ],
)
def test_an_answer_that_is_none_is_a_violation_and_no_login(protocol: Protocol, stream: list[bytes], what: str) -> None:
    machine = client_machine(protocol, CREDENTIALS, starttls=False)
    *before, last = stream
    for part in before:
        assert not any(isinstance(event, Ready) for event in machine.receive(part))
    with pytest.raises(ProtocolViolation, match=what):
        machine.receive(last)


def test_what_a_server_offered_before_tls_is_not_believed_behind_it() -> None:
    machine = client_machine(Protocol.IMAP, CREDENTIALS, starttls=True)
    machine.receive(b"* OK [CAPABILITY STARTTLS AUTH=XOAUTH2] x\r\n")
    machine.receive(b"B1 OK go\r\n")
    machine.tls_started()
    with pytest.raises(ProtocolViolation, match="capabilities"):
        machine.receive(b"B2 OK none\r\n")


@pytest.mark.parametrize(
    ("protocol", "stream"),
    [
        (Protocol.IMAP, [*IMAP_PROMPT, b"B1 NO [UNAVAILABLE] later\r\n"]),
        (Protocol.POP3, [b"+OK x\r\n", b"-ERR [SYS/TEMP] later\r\n"]),
        (Protocol.SMTP, [b"220 x\r\n", b"250-x\r\n250 AUTH XOAUTH2\r\n", b"454 4.7.0 later\r\n"]),
        (Protocol.SMTP, [b"220 x\r\n", b"250-x\r\n250 AUTH XOAUTH2\r\n", b"550 5.2.0 Request is throttled.\r\n"]),
    ],
)
def test_a_server_that_is_busy_before_it_has_seen_the_token_refuses_nobody(
    protocol: Protocol, stream: list[bytes]
) -> None:
    machine = client_machine(protocol, CREDENTIALS, starttls=False)
    *before, last = stream
    for part in before:
        machine.receive(part)
    (refused,) = machine.receive(last)
    assert isinstance(refused, Refused)
    assert refused.kind is RefusalKind.BUSY


def test_a_farewell_that_names_a_policy_is_no_busy_server() -> None:
    machine = client_machine(Protocol.IMAP, CREDENTIALS, starttls=False)
    machine.receive(IMAP_VERDICT[0])
    machine.receive(b"* BYE [ALERT] Please log in via your web browser\r\n")
    (refused,) = machine.closed()
    assert isinstance(refused, Refused)
    assert refused.kind is RefusalKind.POLICY


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("AUTHENTICATE failed.", RefusalKind.TOKEN),
        ('AUTHENTICATE failed. Error="AuthFailed:LogonDenied-Something"', RefusalKind.TOKEN),
        ("[AUTHENTICATIONFAILED] Invalid credentials (Failure)", RefusalKind.TOKEN),
        ("[AUTHENTICATIONFAILED] AUTHENTICATE invalid credentials or IMAP is disabled sc=x", RefusalKind.TOKEN),
        ("[ALERT] Too many simultaneous connections. (Failure)", RefusalKind.BUSY),
        ("Request is throttled. Suggested Backoff Time: 10 milliseconds", RefusalKind.BUSY),
        ("[UNAVAILABLE] Try later", RefusalKind.BUSY),
        ("[SYS/TEMP] Try later", RefusalKind.BUSY),
        ("User is authenticated but not connected.", RefusalKind.POLICY),
        ("[ALERT] Please log in via your web browser", RefusalKind.POLICY),
        ("[AUTHORIZATIONFAILED] no right", RefusalKind.POLICY),
        (
            "535 5.7.139 Authentication unsuccessful, locked by your organization's security defaults policy",
            RefusalKind.POLICY,
        ),
        ("550 5.7.30 Basic authentication is not supported for Client Submission.", RefusalKind.POLICY),
        ("[ALERT] Your account is not enabled for IMAP use", RefusalKind.POLICY),
    ],
)
def test_the_words_of_a_refusal_decide_what_it_means(text: str, kind: RefusalKind) -> None:
    assert kind_of_refusal(text) is kind


def test_a_final_answer_ends_the_machine() -> None:
    machine = client_machine(Protocol.POP3, CREDENTIALS, starttls=False)
    machine.receive(b"+OK\r\n+\r\n")
    (refused,) = machine.receive(b"-ERR no\r\n")
    assert isinstance(refused, Refused)
    assert machine.receive(b"+OK\r\n") == []
