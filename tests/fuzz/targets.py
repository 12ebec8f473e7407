"""The fuzz targets: functions of bytes that raise if the code breaks a promise. scripts/fuzz.py runs them.

The first octets of an input choose the variant and how the rest is cut; the rest is the data from the wire or the file.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

from bridge.config.load import parse_config
from bridge.control.redirect import pasted
from bridge.errors import ConfigError, LimitReached, LoginRefused, PeerGone, ProtocolViolation
from bridge.model import Ends, Mechanism, Protocol
from bridge.protocols.base import (
    Credentials,
    Event,
    Hangup,
    LoginRequested,
    Ready,
    Refused,
    Send,
    ServerMachine,
    StartTLS,
)
from bridge.protocols.registry import client_machine, server_machine
from bridge.protocols.smtp.client import SmtpClient
from bridge.protocols.smtp.extensions import offered_extensions
from bridge.relay.channel import Channel
from bridge.relay.limits import console_cap
from bridge.relay.smtp_frontend import SmtpFrontend
from bridge.secret import Secret
from tests.consoles import Console
from tests.fakes_control import FakeControl

CANARY = "CANARY-7d1c"
"""A secret that no answer may contain."""
LOGINS = 5
"""So many refused logins end a connection, as in relay.session."""
BY_LINES = b"\x3f"
"""Cuts an input by lines: a mail server's answer that comes too early is refused, so other cuts never succeed."""
HELD_AT_MOST = 64 * 1024
"""The octets that a client may make a machine keep before its login."""

Target = Callable[[bytes], None]


def imap(data: bytes) -> None:
    """The IMAP server machine, plain or with STARTTLS."""
    _server(Protocol.IMAP, data)


def pop3(data: bytes) -> None:
    """The POP3 server machine, plain or with STLS."""
    _server(Protocol.POP3, data)


def smtp(data: bytes) -> None:
    """SMTP: aiosmtpd behind our frontend, up to the login."""
    _loop().run_until_complete(_smtp(_Script(_pieces(data))))


def upstream(data: bytes) -> None:
    """The three client machines: a mail server's data can only end a login, or is passed whole to the mail program."""
    protocol = list(Protocol)[data[:1].rjust(1, b"\0")[0] % 3]
    mechanism = list(Mechanism)[data[1:2].rjust(1, b"\0")[0] % len(Mechanism)]
    credentials = Credentials("a@example.com", Secret(CANARY), mechanism, "mail.example.com", 993)
    machine = client_machine(protocol, credentials, starttls=bool(data[2:3] and data[2] & 1))
    try:
        events = machine.start()
        for piece in [*_pieces(data[3:]), b""]:
            events += machine.receive(piece) if piece else machine.closed()
            for event in events:
                if isinstance(event, Ready):
                    _accepted(protocol, event)
            if isinstance(machine, SmtpClient):
                _offered(machine.extensions)
            if any(isinstance(event, Ready | Refused | Hangup) for event in events):
                return
            if any(isinstance(event, StartTLS) for event in events):
                machine.tls_started()
            events = []
    except ProtocolViolation as problem:
        _no_secret(str(problem).encode())


def _accepted(protocol: Protocol, ready: Ready) -> None:
    """Checks what the mail program is told of the accepted login."""
    if protocol is Protocol.SMTP:
        script = _Script([b"EHLO a\r\nAUTH PLAIN AGEAYg==\r\n"])
        _loop().run_until_complete(_smtp(script, ready=ready))
        return
    server = server_machine(protocol, starttls=False)
    server.greet()
    server.receive(b"a LOGIN u p\r\n" if protocol is Protocol.IMAP else b"USER u\r\nPASS p\r\n")
    for event in server.accept(ready):
        assert isinstance(event, Ready) or (isinstance(event, Send) and event.data.endswith(b"\r\n")), event


def _offered(lines: frozenset[str]) -> None:
    """Checks that the EHLO reply with these extensions has each on a line of its own."""
    script, offered = _Script([b"EHLO a\r\n"]), offered_extensions([lines])
    _loop().run_until_complete(_smtp(script, extensions=offered))
    said = script.said.split(b"\r\n")
    assert said.pop() == b""
    assert len(said) == 1 + 1 + len(offered) + 2, said
    assert all(line[:4] in {b"220 ", b"250-", b"250 "} for line in said), said


def redirect(data: bytes) -> None:
    """The console's port, and the text that a person pastes: no bug is found, and no pending sign-in ends."""
    with contextlib.suppress(ValueError):
        pasted(data.decode("utf-8", "replace"))
    _loop().run_until_complete(_Redirect.of(_loop()).ask(data))


def yaml(data: bytes) -> None:
    """The configuration file: the result is a Config, or errors that name their place."""
    text = data.decode("utf-8", "replace")
    try:
        parse_config(text, directory=Path("/nonexistent"), environ={"SECRET": CANARY}, read_keyring=lambda name: CANARY)
    except ConfigError as refused:
        assert refused.problems
        for line in refused.problems:
            assert re.match(r"config\.yaml(:\d+:\d+)?: \S", line), line
            assert CANARY not in line, line


TARGETS: dict[str, Target] = {
    "imap": imap,
    "pop3": pop3,
    "smtp": smtp,
    "upstream": upstream,
    "redirect": redirect,
    "yaml": yaml,
}


def seeds(name: str) -> Iterator[bytes]:
    """Inputs to begin with: transcripts line by line, the example configuration, and redirects of a provider."""
    root = Path(__file__).parents[1]
    if name in {"imap", "pop3", "smtp", "upstream"}:
        folders = [name] if name != "upstream" else [protocol.value for protocol in Protocol]
        for place, folder in enumerate(folders):  # in Protocol's order, as the target counts
            side = "S: " if name == "upstream" else "C: "
            for path in sorted((root / "transcripts" / folder).glob("*.txt")):
                lines = path.read_text("utf-8").splitlines()
                said = "".join(line[3:] + "\r\n" for line in lines if line.startswith(side))
                yield {"upstream": bytes([place, 0, 0]), "smtp": b""}.get(name, b"\0") + BY_LINES + said.encode()
        if name == "smtp":
            yield BY_LINES + b"EHLO a\r\nAUTH \x1d\r\n"  # aiosmtpd used to fail at this
    elif name == "redirect":
        yield b"GET /?code=abc&state=def HTTP/1.1\r\nHost: localhost:3017\r\n\r\n"
        yield b"POST / HTTP/1.1\r\nHost: localhost:3017\r\nContent-Length: 11\r\n\r\ncode=a&state=b"
        yield b"GET /sign-in/alice%40example.com HTTP/1.1\r\nHost: localhost:3017\r\nCookie: a=b\r\n\r\n"
    else:
        yield (root.parent / "config.example.yaml").read_bytes()
        yield b"accounts: [{address: '*@a.example', provider: x}]\nproviders: {x: {kind: oauth2, client_id: ${SECRET}}}"


# --- machines -------------------------------------------------------------------------------------------------------


def _pieces(data: bytes) -> list[bytes]:
    """The rest of an input, in pieces of the size that its first octet names; 0 means whole, 63 line by line."""
    size, rest = (data[0] % 64, data[1:]) if data else (0, b"")
    if size == BY_LINES[0]:
        return re.findall(rb"[^\n]*\n|[^\n]+", rest)
    step = size or max(len(rest), 1)
    return [rest[at : at + step] for at in range(0, len(rest), step)]


def _server(protocol: Protocol, data: bytes) -> None:
    starttls = bool(data[:1] and data[0] & 1)
    machine = server_machine(protocol, starttls=starttls)
    logins = 0
    pending: list[Event] = machine.greet()
    for piece in [b"", *_pieces(data[1:]), b""]:
        pending += machine.receive(piece) if piece else []
        while pending:
            event = pending.pop(0)
            match event:
                case Send(said):
                    assert said.endswith(b"\r\n"), said
                    assert said.isascii(), said
                case LoginRequested():
                    logins += 1
                    if logins == LOGINS:
                        pending += machine.accept(Ready(text=b"in", untagged=b""))
                    else:
                        pending += machine.refuse(LoginRefused(CANARY))
                case StartTLS():
                    pending += machine.tls_started()
                case Ready() | Hangup():
                    return
                case other:
                    raise AssertionError(other)
        assert _held(machine) <= HELD_AT_MOST
    machine.closed()


def _held(machine: ServerMachine) -> int:
    """The octets in a machine's buffers, which are all of its bytes, bytearrays and lists."""
    return sum(len(value) for value in vars(machine).values() if isinstance(value, bytes | bytearray | list))


def _no_secret(said: bytes) -> None:
    assert CANARY.encode() not in said, said


# --- SMTP -----------------------------------------------------------------------------------------------------------


class _Script(Channel):
    """A mail client that sends these pieces and then ends; it checks the form of the data that it receives."""

    peer = "script"

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = iter(pieces)
        self._is_plain = True
        self.said = b""
        """What it was sent, up to HELD_AT_MOST."""

    async def receive(self) -> bytes:
        return next(self._pieces, b"")

    async def receive_first(self, most: int) -> bytes:
        return await self.receive()

    async def send(self, data: bytes) -> None:
        _no_secret(data)
        assert data.endswith(b"\r\n"), data
        self.said += data if len(self.said) < HELD_AT_MOST else b""

    async def start_tls(
        self,
        context: ssl.SSLContext,
        *,
        server_hostname: str | None = None,
        session: ssl.SSLSession | None = None,
    ) -> None:
        self._is_plain = False

    @property
    def ends(self) -> Ends | None:
        return None

    @property
    def tls(self) -> ssl.SSLSocket | ssl.SSLObject | None:
        return None

    @property
    def has_begun_handshake(self) -> bool:
        return False

    @property
    def has_left(self) -> bool:
        return False

    def close(self) -> None:
        pass

    def _shut_for_sending(self) -> None:
        pass


async def _smtp(
    channel: Channel, *, extensions: tuple[str, ...] = ("SIZE 1000000", "8BITMIME"), ready: Ready | None = None
) -> None:
    """Runs the frontend: accepts the first login with `ready`; without it, refuses all but the last of LOGINS."""
    frontend = SmtpFrontend(channel, extensions=lambda: extensions)
    try:
        for number in itertools.count(1):
            await frontend.login()
            if ready is not None or number == LOGINS:
                await frontend.accept(ready or Ready(text=b"in"))
                return
            await frontend.refuse(LoginRefused(CANARY))
    except (PeerGone, ProtocolViolation, LimitReached, TimeoutError):
        pass
    finally:
        frontend.close()


# --- the console ----------------------------------------------------------------------------------------------------

_loops: list[asyncio.AbstractEventLoop] = []


def _loop() -> asyncio.AbstractEventLoop:
    """One loop for all inputs, because making one takes longer than an input."""
    if not _loops:
        _loops.append(asyncio.new_event_loop())
    return _loops[0]


class _Redirect:
    """A console with one pending sign-in, on a real socket."""

    _known: _Redirect | None = None

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.control = FakeControl("alice@example.com")
        sock = socket.create_server(("127.0.0.1", 0))
        self._port = sock.getsockname()[1]
        hosts = frozenset({"localhost:3017", f"localhost:{self._port}"})
        console = Console(self.control, admin_token=Secret(CANARY), hosts=hosts, places=console_cap())
        self._serving = console.serving([sock])
        loop.run_until_complete(self._serving.__aenter__())
        loop.run_until_complete(self.control.begin_authorization("alice@example.com"))
        self._before = dict(self.control.states)

    @classmethod
    def of(cls, loop: asyncio.AbstractEventLoop) -> _Redirect:
        if cls._known is None:
            cls._known = cls(loop)
        return cls._known

    async def ask(self, data: bytes) -> None:
        """Send everything on one connection, then end it. An answer, if any, must be HTTP without our secrets."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            writer.write(data)
            writer.write_eof()
            answer = await reader.read()
        except ConnectionError:
            return
        finally:
            writer.close()
        version, _, rest = answer.partition(b" ")
        # The version is the request's; a request line without a version is HTTP/0.9 to aiohttp.
        assert answer == b"" or version == b"HTTP/0.9" or version.startswith(b"HTTP/1."), answer
        assert not rest.startswith(b"500"), answer
        _no_secret(answer)
        assert self.control.states == self._before
