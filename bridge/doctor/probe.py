"""One connection as far as it goes: name, TCP, proxy, STARTTLS, TLS, the answer's Date. Blocks, within limits.

Nothing secret is sent: no token, no user name. For a mail server with STARTTLS our own client state machine talks until
TLS starts, so that the check does what a session does.
"""

from __future__ import annotations

import re
import socket
import ssl
import time
from collections import deque
from dataclasses import dataclass
from enum import Enum, auto

from bridge.advice.said import Said, said
from bridge.advice.system import name_reason, system_reason
from bridge.advice.tls import certificate_reason, tls_reason
from bridge.dialing import connected, look_up
from bridge.errors import ProtocolViolation
from bridge.model import Protocol, TlsMode
from bridge.protocols.base import Credentials, Event, Hangup, Refused, Send, StartTLS
from bridge.protocols.registry import client_machine
from bridge.secret import Secret

HEAD_LIMIT = 16 * 1024
"""Octets of an answer's head; real ones have 1 to 4 KiB."""


class Stage(Enum):
    """How far it went."""

    NAME = auto()
    CONNECT = auto()
    PROXY = auto()
    GREETING = auto()
    TLS = auto()
    ANSWER = auto()


@dataclass(frozen=True, slots=True)
class Target:
    """Where to connect, and as what."""

    host: str
    port: int
    tls: TlsMode | None
    """None: plain HTTP, which the configuration allows on loopback only."""
    protocol: Protocol | None = None
    """None for HTTP; the server is then asked for its Date."""
    ca_file: str | None = None
    proxy: tuple[str, int] | None = None

    @property
    def place(self) -> str:
        """Host and port, for people."""
        return f"{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Reached:
    """A connection that went all the way."""

    address: str
    milliseconds: int
    tls_version: str = ""
    certificate: bytes = b""
    """DER; empty without TLS."""
    date: str = ""
    """The Date header of the answer."""
    asked: float = 0.0
    answered: float = 0.0
    """Seconds since the epoch, by our clock, around the answer."""


class Stopped(Exception):
    """A connection that did not get that far."""

    def __init__(self, stage: Stage, reason: str | Said, *, verify_code: int = 0, timed_out: bool = False) -> None:
        super().__init__(f"{stage.name.lower()}: {reason}")
        self.stage = stage
        self.reason = reason
        """The system's or the server's own words, on one line."""
        self.verify_code = verify_code
        """OpenSSL's X509_V_ERR_*; 0 unless a certificate was refused."""
        self.timed_out = timed_out


class _Deadline:
    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds that are left. Raises: TimeoutError once there are none."""
        seconds = self._end - time.monotonic()
        if seconds <= 0:
            raise TimeoutError("timed out")
        return seconds


def probe(target: Target, context: ssl.SSLContext | None, seconds: float, *, only_look: bool = False) -> Reached:
    """Connect, and close again. Only the lookup of a name can take longer than `seconds`.

    Args: only_look, end after the handshake: nothing is sent over a connection that is not verified.
    Raises: Stopped.
    """
    deadline = _Deadline(seconds)
    started = time.monotonic()
    sock, address = _connected(target, deadline)
    try:
        if target.proxy is not None:
            _through_proxy(sock, target, deadline)
        if target.tls is TlsMode.STARTTLS and target.protocol is not None:
            _until_starttls(sock, target.protocol, deadline)
        version, certificate = "", b""
        if target.tls is not None and context is not None:
            sock = _start_tls(sock, target, context, deadline)
            version, certificate = sock.version() or "TLS", sock.getpeercert(binary_form=True) or b""
        milliseconds = round((time.monotonic() - started) * 1000)
        if target.protocol is not None or only_look:
            return Reached(address, milliseconds, version, certificate)
        asked = time.time()
        date = _date(sock, target, deadline)
        return Reached(address, milliseconds, version, certificate, date, asked, time.time())
    finally:
        sock.close()


def _connected(target: Target, deadline: _Deadline) -> tuple[socket.socket, str]:
    host, port = target.proxy or (target.host, target.port)
    try:
        found = look_up(host, port)
    except (OSError, UnicodeError) as problem:
        raise Stopped(Stage.NAME, _words(problem)) from problem
    try:
        sock = connected(found, deadline.left())
        return sock, str(sock.getpeername()[0])
    except OSError as problem:
        raise _stopped(Stage.CONNECT, problem) from problem


def _through_proxy(sock: socket.socket, target: Target, deadline: _Deadline) -> None:
    """Open a tunnel with CONNECT (RFC 9110 section 9.3.6)."""
    request = f"CONNECT {target.place} HTTP/1.1\r\nHost: {target.place}\r\nUser-Agent: mail-bridge\r\n\r\n"
    try:
        head = _asked(sock, request, deadline)
    except OSError as problem:
        raise _stopped(Stage.PROXY, problem) from problem
    status = re.match(r"HTTP/1\.[01] (\d{3})([^\r\n]*)", head)
    if status is None or not status[1].startswith("2"):
        raise Stopped(Stage.PROXY, f"{status[1]}{status[2]}"[:100] if status else said("no HTTP answer"))


def _until_starttls(sock: socket.socket, protocol: Protocol, deadline: _Deadline) -> None:
    """Return when the server is ready for the TLS handshake."""
    nobody = Credentials("", Secret(""))  # never sent: before TLS the machine sends no more than STARTTLS
    machine = client_machine(protocol, nobody, starttls=True, client_name="localhost")
    events: deque[Event] = deque(machine.start())
    try:
        while True:
            while events:
                match events.popleft():
                    case Send(data, _):
                        sock.settimeout(deadline.left())
                        sock.sendall(data)
                    case StartTLS(farewell):
                        sock.settimeout(deadline.left())
                        sock.sendall(farewell)
                        return
                    case Refused(_, text):
                        raise Stopped(Stage.GREETING, _line(text))
                    case Hangup():
                        raise Stopped(Stage.GREETING, said("it hangs up"))
                    case other:
                        raise AssertionError(f"a client machine does not say {other!r} before TLS")
            sock.settimeout(deadline.left())
            data = sock.recv(4096)
            events.extend(machine.receive(data) if data else machine.closed())
    except (OSError, ProtocolViolation) as problem:
        raise _stopped(Stage.GREETING, problem) from problem


def _start_tls(sock: socket.socket, target: Target, context: ssl.SSLContext, deadline: _Deadline) -> ssl.SSLSocket:
    try:
        sock.settimeout(deadline.left())
        return context.wrap_socket(sock, server_hostname=target.host)
    except ssl.SSLCertVerificationError as problem:
        raise Stopped(Stage.TLS, certificate_reason(problem), verify_code=problem.verify_code) from problem
    except (OSError, ValueError) as problem:  # ValueError: a name that cannot be in a certificate
        raise _stopped(Stage.TLS, problem) from problem


def _date(sock: socket.socket, target: Target, deadline: _Deadline) -> str:
    request = f"HEAD / HTTP/1.1\r\nHost: {target.place}\r\nUser-Agent: mail-bridge\r\nConnection: close\r\n\r\n"
    try:
        head = _asked(sock, request, deadline)
    except OSError as problem:
        raise _stopped(Stage.ANSWER, problem) from problem
    if not head.startswith("HTTP/1."):
        raise Stopped(Stage.ANSWER, said("no HTTP answer"))
    found = re.search(r"(?im)^date:[ \t]*([^\r\n]{1,100})", head)
    return found[1].strip() if found else ""


def _asked(sock: socket.socket, request: str, deadline: _Deadline) -> str:
    """Send, and read one answer's head, byte by bounded byte. Raises: OSError."""
    sock.settimeout(deadline.left())
    sock.sendall(request.encode("ascii", "replace"))
    head = bytearray()
    while b"\r\n\r\n" not in head and len(head) < HEAD_LIMIT:
        sock.settimeout(deadline.left())
        if not (data := sock.recv(4096)):
            break
        head += data
    return head.decode("latin-1")


def _stopped(stage: Stage, problem: Exception) -> Stopped:
    return Stopped(stage, _words(problem), timed_out=isinstance(problem, TimeoutError))


def _words(problem: BaseException) -> str | Said:
    if isinstance(problem, ssl.SSLError):
        return tls_reason(problem)
    if isinstance(problem, (socket.gaierror, UnicodeError)):
        return name_reason(problem)
    if isinstance(problem, OSError) and problem.strerror:
        return system_reason(problem)
    return _line(str(problem)) or type(problem).__name__


def _line(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)[:200]
