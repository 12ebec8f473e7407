"""The SMTP Frontend: aiosmtpd until AUTH; the only module that imports aiosmtpd.

aiosmtpd is used as a machine: it never sees a socket. It gets one line at a time and a transport that keeps what it
writes; it gets the next line once it has answered the last. So aiosmtpd never holds anything that a client pipelines
(there is no private buffer to rescue at the hand-over), none of its timers can cut a session that we have taken over,
and STARTTLS is the channel's business. None of its private names is used.

What aiosmtpd's own AUTH does not do well is done in its `handle_AUTH` hook: mechanism names in any case, responses of
up to 12,288 octets, challenges that Outlook accepts, one reply after a cancel, non-ASCII bytes (docs/quirks.md).
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
"""More than any client needs; a scanner that goes on is sent away."""
UNKNOWN_BEFORE_LOGIN = 5
"""Unknown commands before a client that speaks something else is sent away; HTTP goes at once (ClientLines)."""
OWN_TIMER_SECONDS = 24 * 3600.0
"""aiosmtpd's own timer must never fire: the limit is ours (LOGIN_SECONDS)."""
IN_CLEAR = frozenset({b"EHLO", b"HELO", b"NOOP", b"QUIT", b"RSET", b"STARTTLS"})
"""Commands that a listener with STARTTLS accepts before TLS (RFC 3207 section 4)."""

AFTER_LOGIN = frozenset({b"MAIL", b"RCPT", b"DATA", b"BDAT", b"VRFY", b"EXPN", b"ETRN", b"BURL"})
"""Answered with 530 by us: aiosmtpd's own auth_required would warn of AUTH without TLS, which is meant on loopback."""

NAMELESS = b" [127.0.0.1]\r\n"
"""Appended to an EHLO without the name that RFC 5321 section 4.1.1.1 wants: Exchange accepts a bare EHLO, and programs
rely on that."""

KNOWN = frozenset({b"AUTH", b"EHLO", b"HELO", b"HELP", b"NOOP", b"QUIT", b"RSET"})
"""Commands that aiosmtpd gets to see. It repeats unknown commands in a warning; but a client that does not look at the
answer to its AUTH sends its password next, and that must not be logged."""

_NOT_PRINTABLE = re.compile(rb"[^\x21-\x7e]")
_STATUSLESS = re.compile(rb"\A([245])(\d\d) (?![245]\.\d)")
_STATUS = {b"501": b"5.5.4", b"503": b"5.5.1", b"500": b"5.5.2"}
"""RFC 3463 section 3.6: invalid arguments, invalid command (at this point), syntax error."""
_WHOLE_REPLY = re.compile(rb"(?:^|\n)\d{3}(?: [^\n]*)?\r\n\Z")


class _Pipe(asyncio.Transport):
    """The transport that aiosmtpd takes for its connection: keeps the bytes, notes the close."""

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
        """Note the wish to close; the socket belongs to the driver."""
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
        session.extended_smtp = True  # aiosmtpd refuses AUTH otherwise; programs of the nineties, and Postfix, allow it
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
            # RFC 4954 section 4 has a status of its own for an AUTH line that is too long.
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
        # Some programs ignore the answer to AUTH and show the one to MAIL, so that one must say the same, and be just
        # as temporary or final.
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
        """See Frontend. aiosmtpd's task and its timer would outlive a session that ends between login and verdict. It
        refers to us until the loop's next turn, so password and channel are dropped here; and so is the pipe, whose
        Event takes 800 octets."""
        self._discard()
        self._login = None
        for name in ("_channel", "_pipe"):
            vars(self).pop(name, None)

    # --- hooks --------------------------------------------------------------------------------------------------

    def ehlo_lines(self) -> list[str]:
        """What our EHLO offers: nothing that an upstream lacks, and AUTH only where it may be used."""
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
            if self._verdict is None:  # a client that was refused before has been told why
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
        """True if the incomplete line that has arrived belongs to a login. Asking discards that line."""
        return self._is_in_exchange or self._lines.leftover()[:5].upper() == b"AUTH "

    async def _start_tls(self) -> None:
        self._is_shaking_hands = True
        self._misstep = ""
        await start_tls(self._channel, self._context)
        # RFC 3207 section 4.2: forget everything. A new server knows nothing from before; its greeting is dropped.
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
            with contextlib.suppress(PeerGone):  # a client that has left cannot be told why, but the log is
                await self._channel.send(reply.encode("ascii") + b"\r\n")

    def _new_server(self) -> tuple[_Pipe, SMTP]:
        self._is_in_exchange = False
        server = _Server(
            _Handler(self),
            hostname="localhost",  # otherwise aiosmtpd looks it up in the DNS, and blocks
            ident="ESMTP mail-bridge ready",
            auth_require_tls=False,  # there is none on loopback; where the configuration wants TLS, we enforce it
            enable_SMTPUTF8=True,  # otherwise an EHLO with an accented computer name (French, say) is refused
            timeout=OWN_TIMER_SECONDS,
            loop=asyncio.get_running_loop(),
        )
        pipe = _Pipe()
        server.connection_made(pipe)
        return pipe, server

    def _discard(self) -> None:
        """End aiosmtpd's task and timer, and drop all that it holds. That is 11 KiB, and refers to itself: an idle
        session would keep it. Idempotent."""
        if self._smtp.transport is not None:
            self._smtp.connection_lost(None)
            # The task has been cancelled; its last step, which needs all of it, comes before this.
            asyncio.get_running_loop().call_soon(vars(self._smtp).clear)

    # --- SASL ---------------------------------------------------------------------------------------------------

    async def _credentials(self, server: SMTP, args: list[str]) -> Login | None:
        """PLAIN (RFC 4616) or LOGIN; None if the client cancelled or sent no base64, which has been answered then."""
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
    """The initial response if there is one, otherwise the answer to `challenge`."""
    if initial is not None:
        return b"" if initial == "=" else sasl.decode_base64(initial.encode("ascii", "replace"))
    answer: Any = await server.challenge_auth(challenge)
    return None if answer is MISSING else bytes(answer)


class _Server(SMTP):
    """The library's server with the limits of RFC 4954; we normalize the arguments of AUTH before it sees them."""

    line_length_limit = LINE_LIMIT + 2
    transport: asyncio.BaseTransport | None = None
    """For SmtpFrontend._discard(), once the library's own is forgotten."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # A dict of the class, cleared whenever any connection is made, so it has to be set for each one.
        self.command_size_limits["AUTH"] = LINE_LIMIT

    def __dir__(self) -> tuple[str, ...]:
        return _COMMANDS


def _is_another_way(line: bytes) -> bool:
    """True for an AUTH with a mechanism that we do not accept."""
    words = line.split()
    return len(words) > 1 and words[1].upper().decode("ascii", "replace") not in sasl.MECHANISMS


def _status_of(head: re.Match[bytes]) -> bytes:
    """The code of one of aiosmtpd's replies, followed by the enhanced status code that RFC 2034 section 4 wants."""
    number = head[1] + head[2]
    return b"%s %s " % (number, _STATUS.get(number, head[1] + b".0.0"))


def _as_aiosmtpd_takes_it(verb: bytes, line: bytes) -> bytes:
    """`auth login` as `AUTH LOGIN`, because aiosmtpd minds the mechanism's case; and a name for a bare EHLO.

    Neither mechanisms nor base64 have non-ASCII characters: aiosmtpd would split an argument at a Unicode space, and
    fail on one that is nothing but that. So they are replaced.
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


# For each connection, aiosmtpd goes through dir() of the server and its handler to find these: half a millisecond of
# CPU, as much as the rest of an SMTP dialogue.
_HOOKS = tuple(name for name in dir(_Handler) if name.startswith("handle_"))
_COMMANDS = tuple(name for name in dir(_Server) if name.startswith(("smtp_", "auth_")))
