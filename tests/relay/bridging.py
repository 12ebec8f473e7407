"""A session and what it needs, over real sockets: mail client, account, tokens, and the way to a scripted upstream."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

from bridge.errors import BridgeError, LoginRefused
from bridge.model import AccessToken, Account, Endpoint, Login, Protocol, TlsMode
from bridge.protocols.registry import server_machine
from bridge.relay.authorities import UpstreamContexts
from bridge.relay.channel import Channel
from bridge.relay.dialer import Dialer
from bridge.relay.frontend import Frontend, MachineFrontend
from bridge.relay.limits import ConnectionCap, Turns
from bridge.relay.session import AskCaller, Services, Session
from bridge.relay.smtp_frontend import SmtpFrontend
from bridge.relay.upstream import Upstream
from bridge.secret import Secret
from tests.relay.scripted import (
    Close,
    Expect,
    MailClient,
    Say,
    ScriptedServer,
    Step,
    Trust,
    mail_client,
)

IMPLICIT = TlsMode.IMPLICIT
PROTOCOLS = list(Protocol)

ADDRESS = "alice@example.com"
PASSWORD = "CANARY-local-password"
TOKENS = [AccessToken(Secret(f"CANARY-access-token-{n}"), 2e9, 1e9) for n in range(9)]


def blob(token: AccessToken) -> bytes:
    return base64.b64encode(f"user={ADDRESS}\x01auth=Bearer {token.value.reveal()}\x01\x01".encode())


def plain(password: str) -> bytes:
    return base64.b64encode(f"\0{ADDRESS}\0{password}".encode())


def events(log: io.StringIO) -> list[dict[str, object]]:
    """The log's events at INFO and above; checks that every line has the connection's id."""
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    assert all(line["conn"] == "conn-1" for line in lines)
    return [line for line in lines if line["level"] != "debug"]


class Office:
    """The account and its tokens, as the session asks for them."""

    def __init__(self, protocol: Protocol, endpoint: Endpoint) -> None:
        self.account = Account(ADDRESS, "own", ADDRESS, {protocol: endpoint})
        self.logins: list[Login] = []
        self.asked: list[AccessToken | None] = []
        """For each request for a token: the token that the server had refused before, or None."""
        self.problem: BridgeError | None = None
        """token_for() raises this instead of returning a token."""
        self.known = asyncio.Event()
        """Set when a login with the right password has come."""
        self.on_login: Callable[[], None] = lambda: None
        """Called with each login."""

    async def who(self, login: Login, caller_of: AskCaller) -> Account:
        self.logins.append(login)
        self.on_login()
        if login.password.reveal() != PASSWORD.encode():
            raise LoginRefused(f"{login.username}: wrong password")
        self.known.set()
        return self.account

    async def token_for(self, account: Account, *, refused: AccessToken | None = None) -> AccessToken:
        assert account is self.account
        self.asked.append(refused)
        if self.problem is not None:
            raise self.problem
        return TOKENS[len(self.asked) - 1]


class Bridge:
    """What all sessions of a test share."""

    def __init__(self, protocol: Protocol, endpoint: Endpoint, dialer: Dialer, most: int) -> None:
        self.protocol = protocol
        self.office = Office(protocol, endpoint)
        self.cap = ConnectionCap(most)
        self.turns = Turns()
        self.services = Services(self.office.who, self.office.token_for, self.turns, self.cap)
        self.upstream = Upstream(protocol, dialer, UpstreamContexts())

    def frontend(self, channel: Channel) -> Frontend:
        if self.protocol is Protocol.SMTP:
            return SmtpFrontend(channel, extensions=lambda: ("SIZE 1000",))
        return MachineFrontend(channel, server_machine(self.protocol, starttls=False), None)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[tuple[MailClient, asyncio.Task[None]]]:
        """A mail client and the task of its running session, which must end within 30 s after the block."""
        with mail_client() as client:
            session = Session("conn-1", self.protocol, client.bridge, self.frontend, self.upstream, self.services)
            async with asyncio.TaskGroup() as group:
                running = group.create_task(session.run())
                yield client, running
                client.close()
                async with asyncio.timeout(30):
                    await asyncio.wait([running])


@contextmanager
def bridge_to(
    server: ScriptedServer,
    protocol: Protocol,
    trust: Trust,
    mode: TlsMode = IMPLICIT,
    *,
    connections: int | None = None,
    most: int = 10,
) -> Iterator[Bridge]:
    endpoint = Endpoint("localhost", server.port, mode, trust.ca_file, connections=connections)
    yield Bridge(protocol, endpoint, Dialer(), most)


async def greeted(client: MailClient, protocol: Protocol) -> None:
    """Read the greeting and, with SMTP, send EHLO and read its reply."""
    await client.hear()
    if protocol is Protocol.SMTP:
        await client.say(b"EHLO crm.example")
        while (await client.hear())[3:4] == b"-":
            pass


def login_lines(protocol: Protocol, password: str = PASSWORD) -> list[bytes]:
    match protocol:
        case Protocol.IMAP:
            return [f"a1 LOGIN {ADDRESS} {password}".encode()]
        case Protocol.POP3:
            return [f"USER {ADDRESS}".encode(), f"PASS {password}".encode()]
        case Protocol.SMTP:
            return [b"AUTH PLAIN " + plain(password)]


async def log_in(client: MailClient, protocol: Protocol, password: str = PASSWORD) -> bytes:
    """Send a login and return the last line of the answer."""
    await client.say(*login_lines(protocol, password))
    return await answered(client)


async def answered(client: MailClient) -> bytes:
    """The last line of the answer to a login."""
    while (answer := await client.hear()).startswith((b"* ", b"+OK And")):
        pass
    return answer


def alone() -> bool:
    """True if this task is the only one."""
    return asyncio.all_tasks() == {asyncio.current_task()}


ACCEPTED = {
    Protocol.IMAP: b"a1 OK Welcome",
    Protocol.POP3: b"+OK Welcome",
    Protocol.SMTP: b"235 2.7.0 Welcome",
}
BYE: list[Step] = [Expect(b"bye"), Say(b"farewell\r\n"), Close()]
