"""A mail server that plays one script per connection and records what it heard.

It runs in threads over blocking sockets. So it shares neither the event loop nor the channels with the code under
test, and goes on when the loop is blocked. After the last step of a script it listens until the peer has closed:
leaving the context manager fails if a connection is still open.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import re
import socket
import ssl
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trustme

from bridge.model import Endpoint, Protocol, TlsMode
from bridge.relay.channel import Channel
from bridge.relay.connected import open_channel
from tests.relay.sockets import close_with_reset, tcp_pair

PATIENCE_SECONDS = 60.0
"""The limit for any one step; a test that passes needs milliseconds."""
POLL_SECONDS = 0.02
"""How often the accepting thread checks whether it is to end."""


@dataclass(frozen=True)
class Say:
    """Send `data`, in which `<tag>` stands for the first word of the last line heard."""

    data: bytes


@dataclass(frozen=True)
class Expect:
    """Read one line, which must match as a whole (without its CRLF)."""

    pattern: bytes


@dataclass(frozen=True)
class StartTls:
    """Shake hands as the server. If that fails, the script ends and `Heard.tls_error` says why."""

    context: ssl.SSLContext


@dataclass(frozen=True)
class Close:
    """Close the connection in an orderly way (with close_notify, if TLS is on)."""


@dataclass(frozen=True)
class Reset:
    """End the connection with a TCP reset."""


@dataclass(frozen=True)
class Hold:
    """Stay silent until `until` is set or the peer has closed, whichever comes first."""

    until: threading.Event = field(default_factory=threading.Event)
    reached: threading.Event = field(default_factory=threading.Event)
    """The server sets this when it arrives at this step."""


@dataclass(frozen=True)
class Listen:
    """Wait until the peer has sent something, whatever it is."""


Step = Say | Expect | Listen | StartTls | Close | Reset | Hold
Script = Sequence[Step]


class Left(Exception):
    """The peer has closed or reset the connection."""


@dataclass
class Heard:
    """What was received on one connection."""

    lines: list[bytes] = field(default_factory=list)
    """The lines that the script expected, without CRLF."""
    rest: bytes = b""
    """What the script left unread, and what came after its last step."""
    tls_version: str | None = None
    resumed: bool = False
    """True if the peer resumed a TLS session."""
    tls_error: str = ""

    @property
    def text(self) -> bytes:
        """Everything that was received, for a search."""
        return b"\r\n".join([*self.lines, self.rest])


class ScriptedServer:
    """Made by scripted(); see the module's docstring."""

    def __init__(self, scripts: Sequence[Script], host: str) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.heard: list[Heard] = []
        """One for each connection, in the order of their arrival."""
        self._scripts = scripts
        self._listener = socket.create_server((host, 0), family=family)
        self._listener.settimeout(POLL_SECONDS)
        self.port: int = self._listener.getsockname()[1]
        self._is_ending = threading.Event()
        self._failures: list[BaseException] = []
        self._threads: list[threading.Thread] = []
        self._accepting = threading.Thread(target=self._accept, name="scripted", daemon=True)

    def start(self) -> None:
        """Start to accept connections."""
        self._accepting.start()

    def finish(self) -> None:
        """Wait until every connection has ended; raises the first failure in any of them."""
        self._is_ending.set()
        self._accepting.join()
        self._listener.close()
        for thread in self._threads:
            thread.join()
        if self._failures:
            raise self._failures[0]
        assert len(self.heard) == len(self._scripts), f"{len(self.heard)} of {len(self._scripts)} connections came"

    def abandon(self) -> None:
        """End without a further complaint, because the test has failed already."""
        with contextlib.suppress(BaseException):
            self.finish()

    def _accept(self) -> None:
        while True:
            is_ending = self._is_ending.is_set()  # before accept(): by then the last connection may have come
            try:
                sock, _ = self._listener.accept()
            except TimeoutError:
                if is_ending:
                    return
                continue
            number = len(self.heard)
            heard = Heard()
            self.heard.append(heard)
            if number >= len(self._scripts):
                self._failures.append(AssertionError("a connection that no script foresees"))
                sock.close()
                continue
            thread = threading.Thread(
                target=self._serve, args=(sock, self._scripts[number], heard), name=f"scripted-{number}", daemon=True
            )
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket, script: Script, heard: Heard) -> None:
        sock.settimeout(PATIENCE_SECONDS)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        talk = _Talk(sock, heard)
        try:
            for step in script:
                if not talk.play(step):
                    return
            talk.listen_to_the_end()
        except BaseException as failure:  # noqa: BLE001  told to the test's own thread
            self._failures.append(failure)
        finally:
            talk.sock.close()


class _Talk:
    """One connection."""

    def __init__(self, sock: socket.socket, heard: Heard) -> None:
        self.sock = sock
        self._heard = heard
        self._buffer = b""

    def play(self, step: Step) -> bool:
        """Play one step; False if the connection is over."""
        match step:
            case Say(data):
                tag = self._heard.lines[-1].partition(b" ")[0] if self._heard.lines else b""
                self.sock.sendall(data.replace(b"<tag>", tag))
            case Expect(pattern):
                line = self._next_line()
                assert re.fullmatch(pattern, line), f"heard {line!r} for {pattern!r}"
                self._heard.lines.append(line)
            case Listen():
                self._buffer += self._receive()
            case StartTls(context):
                return self._start_tls(context)
            case Hold(until, reached):
                reached.set()
                return self._hold(until)
            case Close():
                if isinstance(self.sock, ssl.SSLSocket):
                    with contextlib.suppress(OSError):
                        self.sock.unwrap()
                return False
            case Reset():
                close_with_reset(self.sock)
                return False
        return True

    def listen_to_the_end(self) -> None:
        """Read until the peer has closed."""
        self._heard.rest += self._buffer
        with contextlib.suppress(Left):
            while True:
                self._heard.rest += self._receive()

    def _next_line(self) -> bytes:
        while b"\r\n" not in self._buffer:
            try:
                self._buffer += self._receive()
            except Left:
                raise AssertionError(f"the peer left after {self._heard.lines} {self._buffer!r}") from None
        line, _, self._buffer = self._buffer.partition(b"\r\n")
        return line

    def _receive(self) -> bytes:
        try:
            data = self.sock.recv(65536)
        except TimeoutError:
            raise AssertionError("the peer neither speaks nor closes") from None
        except OSError as problem:
            raise Left from problem
        if not data:
            raise Left
        return data

    def _start_tls(self, context: ssl.SSLContext) -> bool:
        assert not self._buffer, f"plaintext before the handshake: {self._buffer!r}"
        wrapped = context.wrap_socket(self.sock, server_side=True, do_handshake_on_connect=False)
        self.sock = wrapped
        try:
            wrapped.do_handshake()
        except OSError as problem:
            self._heard.tls_error = str(problem) or type(problem).__name__
            return False
        self._heard.tls_version = wrapped.version()
        self._heard.resumed = bool(wrapped.session_reused)
        return True

    def _hold(self, until: threading.Event) -> bool:
        """Wait for the event or the end of the connection; what comes meanwhile is kept."""
        self.sock.settimeout(POLL_SECONDS)
        for _ in range(int(PATIENCE_SECONDS / POLL_SECONDS)):
            if until.is_set():
                self.sock.settimeout(PATIENCE_SECONDS)
                return True
            try:
                data = self.sock.recv(65536)
            except TimeoutError:
                continue
            except OSError:
                return False
            if not data:
                return False
            self._buffer += data
        raise AssertionError("held for too long")


class Trust:
    """A CA that the bridge is told to trust, and a certificate for localhost that it has issued."""

    def __init__(self, directory: Path) -> None:
        self.ca = trustme.CA()
        self.ca_file = str(directory / "ca.pem")
        self.ca.cert_pem.write_to_path(self.ca_file)
        self.good = context_of(self.ca, "localhost")

    def endpoint(self, port: int, mode: TlsMode, host: str = "localhost") -> Endpoint:
        return Endpoint(host, port, mode, self.ca_file)


def context_of(ca: trustme.CA, name: str, not_after: datetime.datetime | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(name, not_after=not_after).configure_cert(context)
    return context


@contextmanager
def scripted(*scripts: Script, host: str = "127.0.0.1") -> Iterator[ScriptedServer]:
    """A server that plays one script per connection: exactly as many must come, and all must be closed in the end."""
    server = ScriptedServer(scripts, host)
    server.start()
    try:
        yield server
    except BaseException:
        server.abandon()
        raise
    server.finish()


# --- what the three protocols say -----------------------------------------------------------------------------------

TOKEN_LINE = {
    Protocol.IMAP: rb"\w+ AUTHENTICATE XOAUTH2 [\w+/=]+",
    Protocol.POP3: rb"[\w+/=]+",
    Protocol.SMTP: rb"[\w+/=]+",
}

GREETING = {
    Protocol.IMAP: b"* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=XOAUTH2] server ready\r\n",
    Protocol.POP3: b"+OK server ready\r\n",
    Protocol.SMTP: b"220 server ready\r\n",
}

CLEAR_GREETING = GREETING | {Protocol.IMAP: b"* OK [CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED] server ready\r\n"}

ACCEPTED = {
    Protocol.IMAP: b"* CAPABILITY IMAP4rev1 UIDPLUS\r\n<tag> OK Welcome\r\n",
    Protocol.POP3: b"+OK Welcome\r\n",
    Protocol.SMTP: b"235 2.7.0 Welcome\r\n",
}

EHLO = Say(b"250-server\r\n250-8BITMIME\r\n250-SIZE 1000\r\n250 AUTH XOAUTH2\r\n")


def asks_for_tls(protocol: Protocol) -> list[Step]:
    """The steps in plaintext, from the greeting up to the STARTTLS command, which is not answered yet."""
    greeting = Say(CLEAR_GREETING[protocol])
    match protocol:
        case Protocol.IMAP:
            return [greeting, Expect(rb"\w+ STARTTLS")]
        case Protocol.POP3:
            return [greeting, Expect(rb"STLS")]
        case Protocol.SMTP:
            return [greeting, Expect(rb"EHLO .+"), Say(b"250-server\r\n250 STARTTLS\r\n"), Expect(rb"STARTTLS")]


GO_AHEAD = {
    Protocol.IMAP: b"<tag> OK Begin TLS\r\n",
    Protocol.POP3: b"+OK Begin TLS\r\n",
    Protocol.SMTP: b"220 2.0.0 Begin TLS\r\n",
}


def secured(protocol: Protocol, mode: TlsMode, context: ssl.SSLContext) -> list[Step]:
    """The steps up to the TLS handshake and including it."""
    if mode is TlsMode.IMPLICIT:
        return [StartTls(context)]
    return [*asks_for_tls(protocol), Say(GO_AHEAD[protocol]), StartTls(context)]


def asks_for_login(protocol: Protocol, mode: TlsMode) -> list[Step]:
    """The steps over TLS up to the token, which is not answered yet."""
    is_greeted = mode is TlsMode.IMPLICIT
    token = Expect(TOKEN_LINE[protocol])
    match protocol:
        case Protocol.IMAP if is_greeted:
            return [Say(GREETING[protocol]), token]
        case Protocol.IMAP:
            capabilities = Say(b"* CAPABILITY IMAP4rev1 SASL-IR AUTH=XOAUTH2\r\n<tag> OK Done\r\n")
            return [Expect(rb"\w+ CAPABILITY"), capabilities, token]
        case Protocol.POP3:
            greeting = [Say(GREETING[protocol])] if is_greeted else []
            return [*greeting, Expect(rb"AUTH XOAUTH2"), Say(b"+ \r\n"), token]
        case Protocol.SMTP:
            greeting = [Say(GREETING[protocol])] if is_greeted else []
            return [*greeting, Expect(rb"EHLO .+"), EHLO, Expect(rb"AUTH XOAUTH2"), Say(b"334 \r\n"), token]


def accepts(protocol: Protocol, mode: TlsMode, context: ssl.SSLContext, *, behind: bytes = b"") -> list[Step]:
    """A whole login that succeeds; `behind` is sent in the same piece as the server's answer, after it."""
    return [
        *secured(protocol, mode, context),
        *asks_for_login(protocol, mode),
        Say(ACCEPTED[protocol] + behind),
    ]


def refuses(protocol: Protocol, mode: TlsMode, context: ssl.SSLContext, words: bytes) -> list[Step]:
    """A whole login that fails with `words` (IMAP: after the tag and NO), without an error challenge."""
    answer = b"<tag> NO " + words if protocol is Protocol.IMAP else words
    return [*secured(protocol, mode, context), *asks_for_login(protocol, mode), Say(answer + b"\r\n")]


# --- the other side: a mail client ------------------------------------------------------------------------------------


class MailClient:
    """A mail client that a test drives by hand, and the bridge's end of its connection."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self._socket, theirs = tcp_pair()
        self.bridge = open_channel(theirs, loop, peer="the mail client")
        self._channel: Channel = open_channel(self._socket, loop)
        self._received = b""

    async def say(self, *lines: bytes) -> None:
        """Send all lines in one piece."""
        await self._channel.send(b"".join(line + b"\r\n" for line in lines))

    async def send(self, data: bytes) -> None:
        """Send the octets as they are."""
        await self._channel.send(data)

    async def hear(self) -> bytes:
        """The next line, without CRLF."""
        while b"\r\n" not in self._received:
            data = await self._channel.receive()
            assert data, f"closed after {self._received!r}"
            self._received += data
        line, _, self._received = self._received.partition(b"\r\n")
        return line

    async def ask(self, *lines: bytes) -> bytes:
        """Send the lines, then read the next line."""
        await self.say(*lines)
        return await self.hear()

    async def hear_the_end(self) -> bytes:
        """Everything that comes until the bridge closes."""
        while data := await self._channel.receive():
            self._received += data
        rest, self._received = self._received, b""
        return rest

    async def start_tls(self, context: ssl.SSLContext) -> None:
        """Shake hands as the client."""
        assert not self._received
        await self._channel.start_tls(context, server_hostname="localhost")

    def say_no_more(self) -> None:
        """Send FIN and go on listening; only on a plaintext connection."""
        self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close in an orderly way. Idempotent."""
        self._channel.close()

    def reset(self) -> None:
        """End with a TCP reset; only on a plaintext connection."""
        close_with_reset(self._socket)


@contextmanager
def mail_client() -> Iterator[MailClient]:
    """A connected client; both ends are closed after the block."""
    client = MailClient()
    try:
        yield client
    finally:
        client.close()
        client.bridge.close()
