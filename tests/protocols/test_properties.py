"""Properties that hold for any bytes, divided in any way."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bridge.errors import AuthorizationRequired, LoginRefused, ProtocolViolation, UpstreamRefused
from bridge.model import Mechanism, Protocol
from bridge.protocols import sasl
from bridge.protocols.base import (
    ClientMachine,
    Credentials,
    Event,
    Hangup,
    LoginRequested,
    Ready,
    RefusalKind,
    Refused,
    Send,
    ServerMachine,
    StartTLS,
)
from bridge.protocols.imap import syntax
from bridge.protocols.lines import LineBuffer
from bridge.protocols.refusals import kind_of_refusal, public_line
from bridge.protocols.registry import client_machine, server_machine
from bridge.protocols.smtp.extensions import NOT_PASSED_ON, offered_extensions, upstream_extensions
from bridge.secret import Secret

SERVERS = [(protocol, starttls) for protocol in (Protocol.IMAP, Protocol.POP3) for starttls in (False, True)]
CLIENTS = [
    (protocol, starttls, mechanism) for protocol in Protocol for starttls in (False, True) for mechanism in Mechanism
]

WORDS = st.sampled_from(
    [
        b"a1 LOGIN ",
        b"a AUTHENTICATE PLAIN ",
        b"USER a\r\n",
        b"PASS b\r\n",
        b"AUTH LOGIN\r\n",
        b"{3}\r\n",
        b"{3+}\r\n",
        b'"',
        b" ",
        b"*",
    ]
    + [
        b"\r\n",
        b"\n",
        b"+ ",
        b"* OK [CAPABILITY IMAP4rev1 AUTH=XOAUTH2]\r\n",
        b"* CAPABILITY AUTH=XOAUTH2\r\n",
        b"* CAPABILITY AUTH=OAUTHBEARER SASL-IR\r\n",
        b"B1 OK\r\n",
        b"B2 NO x\r\n",
    ]
    + [
        b"+OK\r\n",
        b"+\r\n",
        b"-ERR\r\n",
        b"220 x\r\n",
        b"250 AUTH XOAUTH2 OAUTHBEARER\r\n",
        b"334 \r\n",
        b"535 x\r\n",
        b"a STARTTLS\r\n",
        b"STLS\r\n",
    ]
)
ANSWERS = st.sampled_from(
    [
        b"* OK ready\r\n",
        b"* OK [CAPABILITY SASL-IR AUTH=XOAUTH2] ready\r\n",
        b"* CAPABILITY IMAP4rev1 STARTTLS\r\nB1 OK\r\n",
        b"* CAPABILITY AUTH=XOAUTH2 AUTH=OAUTHBEARER\r\nB1 OK done\r\n",
        b"B1 OK [CAPABILITY IMAP4rev1] in\r\n",
        b"B2 OK in\r\n",
        b"B3 NO [ALERT] too many\r\n",
        b"* BYE gone\r\n",
        b"+ \r\n",
        b"+OK ready\r\n",
        b"-ERR [SYS/TEMP] later\r\n",
        b"220 ready\r\n",
        b"250-x\r\n250-SIZE 1\r\n250 STARTTLS\r\n",
        b"250-x\r\n250 AUTH XOAUTH2 OAUTHBEARER\r\n",
        b"334 \r\n",
        b"235 in\r\n",
        b"535-5.7.8 no\r\n535 5.7.8 really\r\n",
        b"421 bye\r\n",
    ]
)
"""Lines in an order in which a login can succeed."""
STREAMS = st.lists(st.one_of(WORDS, st.binary(max_size=40)), max_size=30).map(b"".join)
CUTS = st.lists(st.integers(1, 50), max_size=60)


def pieces(stream: bytes, cuts: list[int]) -> list[bytes]:
    found = []
    for size in cuts:
        if stream:
            found.append(stream[:size])
        stream = stream[size:]
    return [*found, stream] if stream else found


def server_says(machine: ServerMachine, chunks: list[bytes]) -> list[str]:
    """The bytes sent, the logins and the end; each login is refused, so that the dialogue goes on."""
    said: list[str] = []

    def take(events: list[Event]) -> None:
        for event in events:
            match event:
                case LoginRequested(login):
                    said.append(f"{login.username} {login.password.reveal()!r}")
                    take(machine.refuse(LoginRefused("no")))
                case Send(data) if said and said[-1].startswith("S"):
                    said[-1] += data.decode("latin-1")
                case Send(data):
                    said.append("S" + data.decode("latin-1"))
                case Hangup(farewell, violation):
                    said.append(f"{farewell!r} {violation}")
                case other:
                    said.append(type(other).__name__)

    take(machine.greet())
    for chunk in chunks:
        if any(isinstance(line, str) and line.startswith(("b'", "StartTLS")) for line in said):
            break
        take(machine.receive(chunk))
    return said


@pytest.mark.parametrize(("protocol", "starttls"), SERVERS)
@given(stream=STREAMS, cuts=CUTS)
@example(stream=b"a1 LOGIN {3+}\r\nabc {3+}\r\nx\r\n\r\n\r\n", cuts=[1, 2, 3])
def test_a_server_machine_says_the_same_for_any_cut(
    protocol: Protocol, starttls: bool, stream: bytes, cuts: list[int]
) -> None:
    whole = server_says(server_machine(protocol, starttls=starttls), [stream] if stream else [])
    cut = server_says(server_machine(protocol, starttls=starttls), pieces(stream, cuts))
    if "StartTLS" in cut or any("plaintext" in line for line in whole):
        return  # nothing may come directly after STARTTLS: with it in one piece, the whole stream is a violation
    assert whole == cut


@pytest.mark.parametrize(("protocol", "starttls", "mechanism"), CLIENTS)
@given(stream=STREAMS, cuts=CUTS)
def test_random_bytes_make_a_client_machine_raise_nothing_but_protocol_violation(
    protocol: Protocol, starttls: bool, mechanism: Mechanism, stream: bytes, cuts: list[int]
) -> None:
    credentials = Credentials("a@example.com", Secret("CANARY"), mechanism, "mail.example.com", 993)
    machine = client_machine(protocol, credentials, starttls=starttls)
    assert machine.start() == []
    try:
        for piece in pieces(stream, cuts):
            if any(isinstance(event, Ready | Refused) for event in machine.receive(piece)):
                return
        machine.closed()
    except ProtocolViolation as problem:
        assert "CANARY" not in str(problem)


def client_says(machine: ClientMachine, chunks: list[bytes]) -> list[str]:
    """The bytes sent and the facts reported, up to the end; what comes after the end belongs to the mail client."""
    said: list[str] = []
    events = machine.start()
    for number, chunk in enumerate([*chunks, b""]):
        try:
            events = machine.receive(chunk) if chunk else machine.closed()
            while events:
                match event := events.pop(0):
                    case Send(data):
                        said.append(data.decode("latin-1"))
                    case StartTLS():
                        said.append("StartTLS")
                        events = machine.tls_started()
                    case Ready(leftover, text, untagged):
                        behind = leftover + b"".join(chunks[number + 1 :])
                        return [*said, f"Ready {text!r} {untagged!r} {behind!r}"]
                    case Refused(kind, words):
                        return [*said, f"{kind.name} {words}"]
                    case _:
                        said.append(type(event).__name__)
        except ProtocolViolation as problem:
            return [*said, f"Violation {problem}"]
    return said


@pytest.mark.parametrize(("protocol", "starttls", "mechanism"), CLIENTS)
@given(answers=st.lists(st.one_of(ANSWERS, ANSWERS, WORDS, st.binary(max_size=20)), max_size=12), cuts=CUTS)
@example(
    answers=[b"* OK [CAPABILITY AUTH=XOAUTH2 SASL-IR] x\r\n", b"B1 OK [CAPABILITY A] in\r\n", b"* 1"], cuts=[9, 30]
)
@example(answers=[b"+OK\r\n", b"+ \r\n", b"+OK in\r\n", b"more"], cuts=[1] * 12)
@example(
    answers=[b"220 x\r\n", b"250-x\r\n250 AUTH XOAUTH2\r\n", b"334 \r\n", b"535-5.7.8 a\r\n535 b\r\n"], cuts=[3] * 20
)
def test_a_client_machine_says_the_same_for_any_cut(
    protocol: Protocol, mechanism: Mechanism, starttls: bool, answers: list[bytes], cuts: list[int]
) -> None:
    def machine() -> ClientMachine:
        credentials = Credentials("a@example.com", Secret("CANARY"), mechanism, "mail.example.com", 993)
        return client_machine(protocol, credentials, starttls=starttls)

    stream = b"".join(answers)
    whole = client_says(machine(), [stream] if stream else [])
    cut = client_says(machine(), pieces(stream, cuts))
    if "StartTLS" in cut and "plaintext" in whole[-1]:
        return  # nothing may come directly after the STARTTLS answer: in one piece it is a violation
    if whole[-1].startswith("Violation"):  # and its answers to earlier lines of the same piece are missing then
        whole, cut = whole[-1:], cut[-1:]
    assert whole == cut


@given(lines=st.lists(st.lists(st.text(max_size=20), max_size=6), max_size=4))
def test_what_is_offered_is_what_every_upstream_has(lines: list[list[str]]) -> None:
    upstreams = [upstream_extensions(each) for each in lines]
    for line in offered_extensions(upstreams):
        keyword = line.split(" ")[0]
        assert all(keyword in {each.split(" ", 1)[0].upper() for each in upstream} for upstream in upstreams)
        assert keyword not in NOT_PASSED_ON


@given(text=st.text(max_size=200))
def test_any_words_of_a_refusal_have_one_meaning_and_one_printable_line(text: str) -> None:
    assert kind_of_refusal(text) in RefusalKind
    for problem in (
        UpstreamRefused("x", text=text),
        AuthorizationRequired(text.ljust(400, "x"), "http://localhost:3017/"),
    ):
        line = public_line(problem)
        assert line.isascii()
        assert line.isprintable()
        assert len(line) <= 400


@given(chunks=st.lists(st.binary(max_size=30), max_size=20), limit=st.integers(1, 60))
def test_a_line_buffer_is_split_by_line_ends(chunks: list[bytes], limit: int) -> None:
    stream = b"".join(chunks)
    buffer = LineBuffer(limit)
    lines = []
    try:
        for chunk in chunks:
            buffer.append(chunk)
            while (line := buffer.next_line()) is not None:
                lines.append(line)
    except ProtocolViolation:
        rest = stream[len(b"".join(lines)) :]
        assert b"\n" not in rest[:limit]
        assert len(rest[: rest.find(b"\n") + 1 or None]) >= limit
        return
    assert b"".join(lines) + buffer.leftover() == stream
    assert all(line.endswith(b"\n") and line.count(b"\n") == 1 and len(line) <= limit for line in lines)


def test_an_endless_line_is_looked_at_once_however_it_is_cut() -> None:
    buffer = LineBuffer(1_000_000)
    for _ in range(999_999):
        buffer.append(b"x")
        assert buffer.next_line() is None  # would take minutes if it were quadratic
    with pytest.raises(ProtocolViolation):
        buffer.append(b"x")
        buffer.next_line()


@given(username=st.text(min_size=1).filter(lambda text: "\0" not in text), password=st.binary())
def test_plain_gives_back_what_was_put_in(username: str, password: bytes) -> None:
    password = password.replace(b"\0", b"")
    name, secret = sasl.decode_plain(b"\0" + username.encode("utf-8", "surrogatepass") + b"\0" + password)
    assert secret.reveal() == password
    if not any("\ud800" <= c <= "\udfff" for c in username):
        assert name == username


@given(response=st.binary(max_size=100), mechanism=st.sampled_from(sasl.MECHANISMS))
def test_random_responses_are_understood_or_refused(response: bytes, mechanism: str) -> None:
    exchange = sasl.Exchange(mechanism)
    try:
        if exchange.respond(response) is None:
            exchange.respond(base64.b64encode(response))
    except sasl.SaslError as problem:
        assert "response" in problem.public or "Logging in" in problem.public


def test_xoauth2_is_the_vector_of_microsofts_documentation() -> None:
    credentials = Credentials("test@contoso.onmicrosoft.com", Secret("EwBAAl3BAAUFFpUAo7J3Ve0bjLBWZWCclRC3EoAA"))
    assert sasl.initial_response(credentials) == (
        b"dXNlcj10ZXN0QGNvbnRvc28ub25taWNyb3NvZnQuY29tAWF1dGg9QmVhcmVyIEV3QkFBbDNCQUFVRkZwVUFvN0ozVmUwYmpMQldaV0NjbFJDM0"
        b"VvQUEBAQ=="
    )


def test_oauthbearer_is_the_vector_of_rfc_7628() -> None:
    token = Secret("vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==")
    credentials = Credentials("user@example.com", token, Mechanism.OAUTHBEARER, "server.example.com", 143)
    assert sasl.initial_response(credentials) == (
        b"bixhPXVzZXJAZXhhbXBsZS5jb20sAWhvc3Q9c2VydmVyLmV4YW1wbGUuY29tAXBvcnQ9MTQzAWF1dGg9QmVhcmVyIHZGOWRmdDRxbVRjMk5"
        b"2YjNSbGNrQmhiSFJoZG1semRHRXVZMjl0Q2c9PQEB"
    )


PRINTABLE = st.text(st.characters(min_codepoint=0x20, exclude_categories=["Cs", "Cc"]), max_size=40)


@given(address=PRINTABLE, token=PRINTABLE, host=PRINTABLE, port=st.integers(1, 65535))
@example(address="a=2Cb,c=@example.com", token="t", host="h", port=1)
def test_oauthbearer_gives_back_what_was_put_in(address: str, token: str, host: str, port: int) -> None:
    """Parsed as a server does: the header ends at its third comma, whatever characters the mailbox's name has."""
    credentials = Credentials(address, Secret(token), Mechanism.OAUTHBEARER, host, port)
    header, *pairs = base64.b64decode(sasl.initial_response(credentials)).decode().split("\x01")
    binding, authzid, nothing = header.split(",")
    assert (binding, authzid[:2], nothing) == ("n", "a=", "")
    assert authzid[2:].replace("=2C", ",").replace("=3D", "=") == address
    assert pairs == [f"host={host}", f"port={port}", f"auth=Bearer {token}", "", ""]


@pytest.mark.parametrize("mechanism", list(Mechanism))
def test_a_token_of_4096_characters_is_one_line_without_a_break(mechanism: Mechanism) -> None:
    blob = sasl.initial_response(Credentials("a@example.com", Secret("x" * 4096), mechanism, "mail.example.com", 993))
    assert b"\n" not in blob
    assert len(blob) > 5000


QUOTABLE = st.binary(max_size=60).map(lambda data: data.translate(None, b"\r\n\0"))


@given(values=st.lists(QUOTABLE, min_size=1, max_size=4))
def test_quoted_strings_give_back_what_was_quoted(values: list[bytes]) -> None:
    quoted = [b'"' + value.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"' for value in values]
    assert syntax.strings([b" ".join(quoted)]) == values


@given(text=st.binary(max_size=80))
def test_random_arguments_are_understood_or_refused(text: bytes) -> None:
    bounded: Callable[[list[bytes]], int] = lambda found: sum(map(len, found))  # noqa: E731
    with contextlib.suppress(syntax.BadSyntax):
        assert bounded(syntax.strings([text])) <= len(text)
