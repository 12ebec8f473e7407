"""aiosmtpd until AUTH, behind Frontend; only importer of aiosmtpd.

aiosmtpd is used as a machine: it never sees a socket. It is given one line at a time and a transport that keeps what
it writes; the next line follows when it has answered the last. So nothing a client pipelines is ever inside aiosmtpd
(no private buffer to rescue at the hand-over), no timer of its can cut a session that is ours by then, and STARTTLS is
the channel's business. None of its private names is used.

What its own AUTH does not do well is done here, by its `handle_AUTH` hook: mechanism names of any case, responses up to
12,288 octets, challenges that Outlook accepts, one reply after a cancel, bytes that are no ASCII (docs/quirks.md).
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from collections.abc import Callable
from typing import Any

from aiosmtpd.smtp import MISSING, SMTP, Envelope, Session

from bridge.errors import BridgeError, BridgeStops, LimitReached, PeerGone, ProtocolViolation
from bridge.model import Login, Protocol
from bridge.protocols import missteps, sasl
from bridge.protocols.base import Ready
from bridge.protocols.lines import ClientLines, LineTooLong
from bridge.protocols.smtp.replies import refusal_reply
from bridge.relay.channel import Channel
from bridge.relay.frontend import LOGIN_SECONDS, Patience, answering, start_tls
from bridge.secret import Secret

LINE_LIMIT = 12288 + 16
"""Octets of one line: the longest AUTH response (RFC 4954 section 4) and its command."""
COMMAND_LIMIT = 512
"""Octets of any other command (RFC 5321 section 4.5.3.1.4)."""
COMMANDS_BEFORE_LOGIN = 50
"""More than any client needs; a scanner is sent away."""
UNKNOWN_BEFORE_LOGIN = 5
"""Unknown commands before a client that speaks something else is sent away. HTTP is gone at its first line (ClientLines)."""
OWN_TIMER_SECONDS = 24 * 3600.0
"""aiosmtpd's own timer must never fire: the limit is ours (LOGIN_SECONDS)."""
IN_CLEAR = frozenset({b"EHLO", b"HELO", b"NOOP", b"QUIT", b"RSET", b"STARTTLS"})
"""What a listener with STARTTLS takes before TLS (RFC 3207 section 4)."""

AFTER_LOGIN = frozenset({b"MAIL", b"RCPT", b"DATA", b"BDAT", b"VRFY", b"EXPN", b"ETRN", b"BURL"})
"""Answered with 530 by us: aiosmtpd's own auth_required would warn of AUTH without TLS, which is meant on loopback."""

NAMELESS = b" [127.0.0.1]\r\n"
"""For EHLO without the name that RFC 5321 section 4.1.1.1 wants: Exchange takes it, and programs rely on that."""

KNOWN = frozenset({b"AUTH", b"EHLO", b"HELO", b"HELP", b"NOOP", b"QUIT", b"RSET"})
"""What aiosmtpd gets to see. It repeats other commands in a warning, and what a client sends behind an AUTH that was
refused, without a look at the answer, is its password."""

_NOT_PRINTABLE = re.compile(rb"[^\x21-\x7e]")
_STATUSLESS = re.compile(rb"\A([245])(\d\d) (?![245]\.\d)")
_STATUS = {b"501": b"5.5.4", b"503": b"5.5.1", b"500": b"5.5.2"}
"""RFC 3463 section 3.6: wrong arguments, not now, no command."""
_WHOLE_REPLY = re.compile(rb"(?:^|\n)\d{3}(?: [^\n]*)?\r\n\Z")


class _Pipe(asyncio.Transport):
    """What aiosmtpd takes for its connection: keeps the bytes, notes the end."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 0)})
        self.written = bytearray()
        self.moved = asyncio.Event()
        self._is_closing = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Keep a reply; wake the driver when it is whole."""
        self.written += data
        if _WHOLE_REPLY.search(self.written):
            self.moved.set()

    def close(self) -> None:
        """Note it; the socket is the driver's."""
        self._is_closing = True
        self.moved.set()

    abort = close

    def is_closing(self) -> bool:
        """True once aiosmtpd wants to hang up."""
        return self._is_closing


class _Handler:
    """aiosmtpd's hooks."""

    def __init__(self, frontend: SmtpFrontend) -> None:
        self._frontend = frontend

    def __dir__(self) -> tuple[str, ...]:
        return _HOOKS

    async def handle_EHLO(
        self, server: SMTP, session: Session, envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        session.host_name = hostname
        lines = [responses[0][4:], *self._frontend.ehlo_lines()]
        return [f"250-{line}" for line in lines[:-1]] + [f"250 {lines[-1]}"]

    async def handle_HELO(self, server: SMTP, session: Session, envelope: Envelope, hostname: str) -> str:
        session.host_name = hostname
        session.extended_smtp = True  # else no AUTH; Postfix takes it, and programs of the nineties count on that
        return "250 localhost"

    async def handle_AUTH(self, server: SMTP, session: Session, envelope: Envelope, args: list[str]) -> str | None:
        return await self._frontend.authenticate(server, args)

    async def handle_exception(self, error: Exception) -> str:
        """aiosmtpd's default would show the class and text of our bug to the client."""
        self._frontend.failed(error)
        return "421 4.3.0 Internal trouble; see the log of mail-bridge"


class SmtpFrontend:
    """The SMTP side of a mail client's connection, up to AUTH."""

    def __init__(
        self,
        channel: Channel,
        *,
        extensions: Callable[[], tuple[str, ...]],
        context: ssl.SSLContext | None = None,
        login_seconds: float = LOGIN_SECONDS,
    ) -> None:
        """`extensions` gives the EHLO lines that every upstream honours; `context` offers STARTTLS."""
        self._channel = channel
        self._extensions = extensions
        self._context = context
        self._lines = ClientLines(LINE_LIMIT)
        self._commands = 0
        self._unknown = 0
        self._patience = Patience(login_seconds)
        self._is_tls = channel.tls is not None
        self._is_shaking_hands = False
        self._login: Login | None = None
        self._verdict: asyncio.Future[str] | None = None
        self._error: Exception | None = None
        self._misstep = ""
        """See ServerMachine."""
        self._is_unheard = self._is_tls
        """The client has said nothing since its handshake."""
        self._has_tried = False
        """The client has tried to log in by a mechanism of ours, whatever came of it."""
        self._no_mail = b"530 5.7.0 Authentication required\r\n"
        """The answer to commands that need a login."""
        self._pipe, self._smtp = self._new_server()

    # --- Frontend -----------------------------------------------------------------------------------------------

    async def login(self) -> Login:
        """See Frontend."""
        try:
            async with self._patience.running():
                return await self._next_login()
        except PeerGone as gone:
            misstep = missteps.MISTRUST if self._is_unheard else self._misstep
            if not misstep:
                raise
            raise PeerGone(f"{gone}; {misstep}") from gone
        except TimeoutError:
            if self._patience.has_ended:
                await self._say_goodbye(refusal_reply(BridgeStops()))
                raise PeerGone("mail-bridge stops") from None
            await self._say_goodbye("421 4.4.2 No login in time")
            raise LimitReached("no login in time") from None
        except ProtocolViolation as problem:
            is_of_auth = isinstance(problem, LineTooLong) and self._is_authenticating
            # RFC 4954 section 4 has a status of its own for what is too long for the login.
            await self._say_goodbye(f"500 {'5.5.6' if is_of_auth else '5.5.2'} {problem}")
            raise problem

    @property
    def has_more(self) -> bool:
        """See Frontend."""
        return len(self._lines) > 0

    async def refuse(self, problem: BridgeError) -> None:
        """See Frontend."""
        assert self._verdict is not None  # noqa: S101  only after login()
        self._login = None
        self._pipe.moved.clear()
        reply = refusal_reply(problem)
        # Some programs ignore the answer to AUTH and show the one to MAIL: it says the same, and is as temporary.
        told = f"530 5.7.0{reply.removeprefix('535 5.7.8')}" if reply.startswith("535") else reply
        self._no_mail = told.encode("ascii") + b"\r\n"
        self._verdict.set_result(reply)
        async with answering():
            await self._pass_on_reply()
        if isinstance(problem, LimitReached):
            raise PeerGone("sent away")

    async def accept(self, ready: Ready) -> bytes:
        """See Frontend."""
        self._discard()
        text = ready.text.decode("ascii", "replace").replace("\n", " ").strip()
        reply = text if re.match(r"[245]\.\d+\.\d+ ", text) else f"2.7.0 {text or 'Authentication successful'}"
        async with answering():
            await self._channel.send(f"235 {reply}\r\n".encode("ascii", "replace"))
        return self._lines.leftover()

    def stop(self) -> None:
        """See Frontend."""
        self._patience.end()

    def close(self) -> None:
        """See Frontend: aiosmtpd's task and its timer would outlive a session that ends between login and verdict. And
        what aiosmtpd leaves refers to itself, and to us: neither password nor channel waits there for the collector."""
        self._discard()
        self._login = None
        vars(self).pop("_channel", None)

    # --- hooks --------------------------------------------------------------------------------------------------

    def ehlo_lines(self) -> list[str]:
        """What our EHLO offers: nothing that an upstream lacks, AUTH only where it may be used (trap 43)."""
        offered = list(self._extensions())
        if self._context is not None and not self._is_tls:
            return [*offered, "STARTTLS"]
        return [*offered, "AUTH PLAIN LOGIN", "AUTH=PLAIN LOGIN"]  # the second form is for clients of the nineties

    async def authenticate(self, server: SMTP, args: list[str]) -> str | None:
        """handle_AUTH: get the credentials, then wait for the session's decision."""
        self._has_tried = True
        try:
            self._login = await self._credentials(server, args)
        except sasl.SaslError as problem:
            if self._verdict is None:  # see _own_answer()
                self._misstep = problem.misstep or self._misstep
            return f"501 5.5.2 {problem.public}"
        if self._login is None:
            return None
        self._verdict = asyncio.get_running_loop().create_future()
        self._pipe.moved.set()
        return await self._verdict

    def failed(self, error: Exception) -> None:
        """handle_exception: remember it for login() to raise, where the session's supervisor logs it."""
        self._error = error

    # --- driving aiosmtpd ---------------------------------------------------------------------------------------

    async def _next_login(self) -> Login:
        await self._pass_on_reply(has_status=False)  # the greeting, the first time
        while True:
            line = await self._next_line()
            verb = line.split(b" ", 1)[0].strip().upper()
            self._commands += 1
            if self._commands > COMMANDS_BEFORE_LOGIN or self._unknown >= UNKNOWN_BEFORE_LOGIN:
                await self._say_goodbye("421 4.7.0 Too many commands without a login")
                raise LimitReached("too many commands without a login")
            if (reply := self._own_answer(verb, line)) is not None:
                is_tls_next = verb == b"STARTTLS" and reply.startswith(b"220")
                if is_tls_next and len(self._lines):
                    raise ProtocolViolation("plaintext behind STARTTLS")
                await self._channel.send(reply)
                if is_tls_next:
                    await self._start_tls()
                continue
            self._pipe.moved.clear()
            self._smtp.data_received(line if self._is_in_exchange else _as_aiosmtpd_takes_it(verb, line))
            if (login := await self._answer_or_login(verb)) is not None:
                return login

    def _own_answer(self, verb: bytes, line: bytes) -> bytes | None:
        """The reply to a command that aiosmtpd must not see; None for one that it gets."""
        if self._is_in_exchange:
            return None
        if len(line) > COMMAND_LIMIT and verb != b"AUTH":
            return b"500 5.5.2 Command line too long\r\n"
        if verb in AFTER_LOGIN and (self._context is None or self._is_tls):
            if verb == b"MAIL" and not self._has_tried and self._misstep != missteps.OTHER_WAY:
                self._misstep = missteps.NO_LOGIN
            return self._no_mail
        if verb == b"STARTTLS":
            return self._answer_to_starttls()
        if self._context is not None and not self._is_tls and verb not in IN_CLEAR:
            if verb in {b"AUTH", b"MAIL"}:
                self._misstep = missteps.BEFORE_TLS
            return b"530 5.7.0 Must issue a STARTTLS command first\r\n"
        if verb == b"AUTH" and _is_another_way(line):
            if self._verdict is None:  # who was refused is told why by then
                self._misstep = missteps.OTHER_WAY
            return b"504 5.5.4 Use AUTH with PLAIN or LOGIN\r\n"
        if verb in KNOWN:
            return None
        self._unknown += 1
        return b"500 5.5.2 Command not recognized\r\n"

    def _answer_to_starttls(self) -> bytes:
        if self._is_tls:
            return b"503 5.5.1 TLS is on already\r\n"
        if self._context is None:
            self._misstep = missteps.WANTS_TLS
            return b"502 5.5.1 No TLS on this port\r\n"
        return b"220 2.0.0 Go ahead\r\n"

    async def _answer_or_login(self, verb: bytes) -> Login | None:
        await self._pipe.moved.wait()
        if self._login is not None:
            self._misstep = ""
            return self._login
        await self._pass_on_reply(has_status=verb not in {b"EHLO", b"HELO"})
        return None

    async def _pass_on_reply(self, *, has_status: bool = True) -> None:
        await self._pipe.moved.wait()
        reply = bytes(self._pipe.written)
        if has_status:
            reply = _STATUSLESS.sub(_status_of, reply)
        self._pipe.written.clear()
        self._is_in_exchange = reply.startswith(b"334")
        await self._channel.send(reply)
        if self._error is not None:
            raise self._error
        if self._pipe.is_closing():
            raise PeerGone("the client has taken its leave")

    async def _next_line(self) -> bytes:
        while (line := self._lines.next_line()) is None:
            data = await self._channel.receive()
            if not data:
                raise PeerGone("the client has left")
            self._is_unheard = False
            self._lines.append(data)
        return line

    @property
    def _is_authenticating(self) -> bool:
        """True if what has arrived and is no whole line yet belongs to a login. It is not kept."""
        return self._is_in_exchange or self._lines.leftover()[:5].upper() == b"AUTH "

    async def _start_tls(self) -> None:
        self._is_shaking_hands = True
        self._misstep = ""
        await start_tls(self._channel, self._context)
        # RFC 3207 section 4.2: forget everything. A new server has nothing to forget, but it greets: not passed on.
        self._is_shaking_hands = False
        self._is_tls = self._is_unheard = True
        self._discard()
        self._pipe, self._smtp = self._new_server()
        await self._pipe.moved.wait()
        self._pipe.written.clear()

    async def _say_goodbye(self, reply: str) -> None:
        if self._is_shaking_hands:
            return  # nothing can be said between the answer to STARTTLS and the end of the handshake
        async with answering():
            with contextlib.suppress(PeerGone):  # who has left is not told why; the log is
                await self._channel.send(reply.encode("ascii") + b"\r\n")

    def _new_server(self) -> tuple[_Pipe, SMTP]:
        self._is_in_exchange = False
        server = _Server(
            _Handler(self),
            hostname="localhost",  # else aiosmtpd asks the DNS for it, and waits
            ident="ESMTP mail-bridge ready",
            auth_require_tls=False,  # on loopback there is none; where the configuration wants TLS, we see to it
            enable_SMTPUTF8=True,  # else an EHLO with a computer name in French is refused
            timeout=OWN_TIMER_SECONDS,
            loop=asyncio.get_running_loop(),
        )
        pipe = _Pipe()
        server.connection_made(pipe)
        return pipe, server

    def _discard(self) -> None:
        """End aiosmtpd's task and timer; it holds nothing of ours. Idempotent."""
        if self._smtp.transport is not None:
            self._smtp.connection_lost(None)

    # --- SASL ---------------------------------------------------------------------------------------------------

    async def _credentials(self, server: SMTP, args: list[str]) -> Login | None:
        """PLAIN (RFC 4616) or LOGIN; None if the client cancelled or sent no base64, which is answered already."""
        initial = args[1] if len(args) > 1 else None
        if args[0] == "PLAIN":
            blob = await _response(server, b"", initial)
            if blob is None:
                return None
            username, password = sasl.decode_plain(blob)
        else:
            asks_name, asks_password = sasl.LOGIN_CHALLENGES
            name = await _response(server, asks_name, initial)
            word = None if name is None else await _response(server, asks_password, None)
            if name is None or word is None:
                return None
            username, password = sasl.decode_text(name), Secret(word)
        client_name = server.session.host_name if server.session is not None else ""
        return Login(Protocol.SMTP, username, password, client_name=client_name or "")


async def _response(server: SMTP, challenge: bytes, initial: str | None) -> bytes | None:
    """The initial response if there is one, else the answer to `challenge`."""
    if initial is not None:
        return b"" if initial == "=" else sasl.decode_base64(initial.encode("ascii", "replace"))
    answer: Any = await server.challenge_auth(challenge)
    return None if answer is MISSING else bytes(answer)


class _Server(SMTP):
    """The library's server with the limits of RFC 4954; AUTH's arguments are cut by us before it looks at them."""

    line_length_limit = LINE_LIMIT + 2

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # A class-wide dict, cleared whenever any connection is built: to be set for each.
        self.command_size_limits["AUTH"] = LINE_LIMIT

    def __dir__(self) -> tuple[str, ...]:
        return _COMMANDS


def _is_another_way(line: bytes) -> bool:
    """True for an AUTH with a mechanism that is not ours."""
    words = line.split()
    return len(words) > 1 and words[1].upper().decode("ascii", "replace") not in sasl.MECHANISMS


def _status_of(head: re.Match[bytes]) -> bytes:
    """The number of one of aiosmtpd's replies, with the status that RFC 2034 section 4 wants behind it."""
    number = head[1] + head[2]
    return b"%s %s " % (number, _STATUS.get(number, head[1] + b".0.0"))


def _as_aiosmtpd_takes_it(verb: bytes, line: bytes) -> bytes:
    """`auth login` as `AUTH LOGIN`: to it the mechanism's case matters (trap 35). And a name for who says none.

    No mechanism and no base64 has other signs than ASCII's: aiosmtpd would cut a text at what is space in Unicode, and
    fall over one that is nothing else.
    """
    words = line.split()
    if verb in {b"EHLO", b"HELO"} and len(words) == 1:
        return verb + NAMELESS
    if verb != b"AUTH":
        return line
    words = [_NOT_PRINTABLE.sub(b"?", word) for word in words]
    if len(words) > 1:
        words[1] = words[1].upper()
    return b" ".join(words) + b"\r\n"


# aiosmtpd searches all names of the server and its handler for these, for each connection: half a millisecond of CPU,
# as much as the rest of an SMTP dialogue.
_HOOKS = tuple(name for name in dir(_Handler) if name.startswith("handle_"))
_COMMANDS = tuple(name for name in dir(_Server) if name.startswith(("smtp_", "auth_")))
