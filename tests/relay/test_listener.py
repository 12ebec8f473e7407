"""Listeners accept clients, supervise their sessions and let them end."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import re
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import pytest

from bridge.host.sockets import bind
from bridge.model import Caller, Ends, Protocol, TlsMode
from bridge.relay import listener as listener_module
from bridge.relay import tls as tls_module
from bridge.relay import welcome as welcome_module
from bridge.relay.balancers import Balancers
from bridge.relay.channel import Channel
from bridge.relay.completion import CompletionChannel
from bridge.relay.limits import ConnectionCap
from bridge.relay.listener import Listener, socket_name
from bridge.relay.readiness import ReadinessChannel
from bridge.relay.welcome import CallerOf, Service, nobody_knows
from tests.addresses import needs_ipv6
from tests.relay.later import Later
from tests.relay.sockets import KINDS
from tests.servers.ca import Authority

Serve = Callable[[str, Channel], Awaitable[None]]


@asynccontextmanager
async def listening(
    serve: Serve,
    tls: TlsMode | None = None,
    context: ssl.SSLContext | None = None,
    handshakes: ConnectionCap | None = None,
    caller_of: CallerOf = nobody_knows,
    balancers: Sequence[str] = (),
) -> AsyncIterator[tuple[Listener, tuple[str, int]]]:
    sock = socket.create_server(("127.0.0.1", 0))
    sock.setblocking(False)
    service = Service(
        serve,
        handshakes or ConnectionCap(),
        None if context is None else lambda: context,
        caller_of,
        Balancers(balancers) if balancers else None,
    )
    listener = Listener(Protocol.IMAP, [sock], service, tls=tls)
    address = sock.getsockname()
    async with asyncio.TaskGroup() as group:
        group.create_task(listener.run())
        try:
            yield listener, address
        finally:
            listener.stop()


async def echo(conn: str, channel: Channel) -> None:
    while data := await channel.receive():
        await channel.send(conn.split("-")[0].encode() + b" " + data)


async def test_connections_are_served_side_by_side() -> None:
    names = set[str]()

    async def serve(conn: str, channel: Channel) -> None:
        names.add(conn)
        await echo(conn, channel)

    async with listening(serve) as (listener, address):
        streams = [await asyncio.open_connection(*address) for _ in range(20)]
        for reader, writer in streams:
            writer.write(b"hello\n")
            assert await reader.readline() == b"imap hello\n"
        assert listener.sessions == 20
        assert len(names) == 20, "each has its own in the log"
        for _, writer in streams:
            writer.close()
    assert listener.sessions == 0


async def test_a_bug_in_one_session_ends_only_that_one_and_is_logged(log: io.StringIO) -> None:
    async def serve(conn: str, channel: Channel) -> None:
        if await channel.receive() == b"bug\n":
            raise RuntimeError("a bug of ours")
        await channel.send(b"fine\n")

    async with listening(serve) as (_, address):
        for said, heard in ((b"bug\n", b""), (b"ok\n", b"fine\n")):
            reader, writer = await asyncio.open_connection(*address)
            writer.write(said)
            assert await reader.read() == heard
            writer.close()
    assert "session.bug" in log.getvalue()


async def test_a_session_for_which_there_is_no_memory_ends_and_is_no_bug(log: io.StringIO) -> None:
    """As with `ulimit -v` or `LimitAS=`."""

    async def serve(conn: str, channel: Channel) -> None:
        bytearray(sys.maxsize)

    async with listening(serve) as (_, address):
        reader, writer = await asyncio.open_connection(*address)
        assert await reader.read() == b""
        writer.close()
    (line,) = (line for line in map(json.loads, log.getvalue().splitlines()) if line["event"] == "session.ended")
    assert "left for mail-bridge: Cannot allocate memory" in line["reason"]
    assert re.fullmatch(r"bridge\.\S+:\d+, .*tests\.relay\.test_listener:\d+", line["places"])
    assert "session.bug" not in log.getvalue()
    assert "Traceback" not in log.getvalue()


async def test_implicit_tls_is_up_before_the_session_and_a_plain_client_is_let_go(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext], log: io.StringIO
) -> None:
    server, client = contexts
    async with listening(echo, TlsMode.IMPLICIT, server) as (_, address):
        reader, writer = await asyncio.open_connection(*address, ssl=client, server_hostname="localhost")
        writer.write(b"x\n")
        assert await reader.readline() == b"imap x\n"
        writer.close()
        plain_reader, plain_writer = await asyncio.open_connection(*address)
        plain_writer.write(b"a1 LOGIN alice secret\r\n")
        assert b"imap" not in await plain_reader.read()
        plain_writer.close()
    assert "session.bug" not in log.getvalue()


async def test_stop_lets_sessions_end_and_then_ends_those_that_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener_module, "DRAIN_SECONDS", 1000)
    later, ended = Later(monkeypatch), list[str]()

    async def serve(conn: str, channel: Channel) -> None:
        try:
            await channel.receive()
            await channel.send(b"done\n")
            await asyncio.Event().wait()  # an idle IMAP session
        finally:
            ended.append(conn)

    async with listening(serve) as (listener, address):
        reader, writer = await asyncio.open_connection(*address)
        while not listener.sessions:  # a connection is established before it is accepted
            await asyncio.sleep(0)
        listener.stop()
        writer.write(b"last\n")
        assert await reader.readline() == b"done\n"
        await later.by(900)
        assert ended == []
        await later.by(100)
        assert await reader.read() == b""
        writer.close()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(*address)
    assert len(ended) == 1


@asynccontextmanager
async def patient(
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[tuple[Listener, tuple[str, int], asyncio.Task[None]]]:
    """A port that gives its sessions an hour once it is closed; it must be over before that."""
    monkeypatch.setattr(listener_module, "DRAIN_SECONDS", 3600)
    sock = socket.create_server(("127.0.0.1", 0))
    sock.setblocking(False)
    listener = Listener(Protocol.IMAP, [sock], Service(echo, ConnectionCap()))
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        yield listener, sock.getsockname(), group.create_task(listener.run())


@pytest.mark.parametrize("how", [Listener.stop, Listener.retire])
async def test_with_the_last_session_a_closed_port_is_over(
    how: Callable[[Listener], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """stop() need not use up its time then; after retire() nothing else would end the port."""
    async with patient(monkeypatch) as (listener, address, running):
        _, writer = await asyncio.open_connection(*address)
        while not listener.sessions:
            await asyncio.sleep(0)
        writer.close()
        while listener.sessions:  # wait until it has none any more
            await asyncio.sleep(0)
        streams = [await asyncio.open_connection(*address) for _ in range(3)]
        for reader, writer in streams:
            writer.write(b"x\n")
            await reader.readline()
        for reader, writer in streams[:2]:  # while the port is still open
            writer.close()
            await reader.read()
        reader, writer = streams[2]
        how(listener)
        for _ in range(3):
            writer.write(b"still\n")
            assert await reader.readline() == b"imap still\n"
        assert not running.done()
        writer.close()
    assert listener.sessions == 0


@pytest.mark.parametrize("how", [Listener.stop, Listener.retire])
async def test_a_closed_port_that_serves_nobody_is_over(
    how: Callable[[Listener], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with patient(monkeypatch) as (listener, _, _):
        how(listener)


async def test_a_client_that_leaves_before_it_is_served_disturbs_nobody() -> None:
    async with listening(echo) as (_, address):
        for _ in range(50):
            socket.create_connection(address).close()
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"still\n")
        assert await reader.readline() == b"imap still\n"
        writer.close()


async def test_a_client_that_arrives_in_the_moment_of_the_stop_is_no_bug_in_the_log() -> None:
    """Once logged as "invalid state": asyncio accepted a client for a future that was cancelled already."""
    problems: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))
    async with listening(echo) as (listener, address):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"up\n")
        assert await reader.readline() == b"imap up\n"
        writer.close()
        client = socket.create_connection(address)
        listener.stop()
        client.close()  # otherwise its session takes all the time of the drain
    assert problems == []


def test_a_socket_is_named_as_a_person_writes_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        assert socket_name(sock) == f"127.0.0.1:{sock.getsockname()[1]}"
    if socket.has_ipv6:
        with socket.create_server(("::1", 0), family=socket.AF_INET6) as sock:
            assert socket_name(sock) == f"[::1]:{sock.getsockname()[1]}"


@needs_ipv6
def test_both_addresses_of_localhost_are_named_as_in_the_configuration_and_the_guides() -> None:
    service = Service(echo, ConnectionCap(), None, nobody_knows, None)
    for host, name in (("localhost", "localhost"), ("127.0.0.1", "127.0.0.1"), ("::1", "[::1]")):
        with ExitStack() as held:
            sockets = [held.enter_context(sock) for sock in bind(host, 0, what="imap")]
            assert Listener(Protocol.IMAP, sockets, service).address == f"{name}:{sockets[0].getsockname()[1]}"


async def test_who_never_ends_the_handshake_takes_his_share_of_places_and_no_more(
    authority: Authority, tmp_path: Path, log: io.StringIO
) -> None:
    """The same user's next connection is closed at once; another user's handshake goes on."""
    certificate, key = authority.write_pair(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    cap, caller = ConnectionCap(most=4, share=1), Caller("bob", "1001")
    asked: list[Ends | None] = []

    async def caller_of(ends: Ends | None) -> Caller:
        asked.append(ends)
        return caller

    async with listening(echo, TlsMode.IMPLICIT, context, cap, caller_of) as (_, address):
        silent = [await asyncio.open_connection(*address) for _ in range(3)]
        while cap.count < 3:
            await asyncio.sleep(0)
        assert len(asked) == 1, "while half of the places are free nobody is asked"
        reader, refused = await asyncio.open_connection(*address)
        assert await reader.read() == b""
        caller = Caller("alice", "1000")
        reader, writer = await asyncio.open_connection(
            *address, ssl=authority.client_context(), server_hostname="localhost"
        )
        writer.write(b"hello\n")
        assert await reader.readline() == b"imap hello\n"
        for one in (writer, refused, *(writer for _, writer in silent)):
            one.close()
    assert asked[0] is not None
    assert asked[0].ours[:2] == address
    assert cap.count == 0
    assert "session.bug" not in log.getvalue(), "nor a traceback for each"


async def test_who_comes_faster_than_the_system_says_whose_he_is_holds_a_place_all_the_while(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    cap, asked, answer = ConnectionCap(most=2), asyncio.Semaphore(0), asyncio.Event()

    async def caller_of(ends: Ends | None) -> Caller:
        asked.release()
        await answer.wait()
        return Caller("bob", "1001")

    async with listening(echo, TlsMode.IMPLICIT, contexts[0], cap, caller_of) as (_, address):
        waiting = [await asyncio.open_connection(*address) for _ in range(2)]
        await asked.acquire()
        reader, refused = await asyncio.open_connection(*address)
        assert await reader.read() == b""
        assert asked.locked(), "and nobody was asked about it"
        answer.set()
        for one in (refused, *(writer for _, writer in waiting)):
            one.close()
    assert cap.count == 0


@pytest.mark.parametrize("said", [b"a1 LOGIN alice secret\r\n", b"GET / HTTP/1.1\r\n\r\n", b"EHLO a.example\r\n"])
async def test_a_client_that_speaks_plain_to_an_implicit_port_is_named_in_the_log(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext], log: io.StringIO, said: bytes
) -> None:
    async with listening(echo, TlsMode.IMPLICIT, contexts[0]) as (_, address):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(said)
        assert b"imap" not in await reader.read()
        writer.close()
    refused = next(line for line in log.getvalue().splitlines() if "session.refused" in line)
    assert "is SSL/TLS switched on in the mail program?" in refused
    assert "127.0.0.1:" in refused
    assert '"info"' in refused
    assert "secret" not in log.getvalue()


async def test_a_client_that_does_not_trust_the_certificate_has_no_session_and_no_advice_for_others(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext], log: io.StringIO
) -> None:
    served = []

    async def serve(conn: str, channel: Channel) -> None:
        served.append(conn)

    def connect(address: tuple[str, int]) -> None:
        context = ssl.create_default_context()
        with (
            pytest.raises(ssl.SSLCertVerificationError),
            socket.create_connection(address) as client,
            context.wrap_socket(client, server_hostname="localhost"),
        ):
            pass

    async with listening(serve, TlsMode.IMPLICIT, contexts[0]) as (_, address):
        await asyncio.to_thread(connect, address)
    assert served == []
    refused = next(line for line in log.getvalue().splitlines() if "session.refused" in line)
    assert "switched on" not in refused


async def test_a_client_that_waits_for_a_greeting_on_an_implicit_port_is_told_of_in_the_log(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext], log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(welcome_module, "HANDSHAKE_SECONDS", 0.05)
    async with listening(echo, TlsMode.IMPLICIT, contexts[0]) as (_, address):
        reader, writer = await asyncio.open_connection(*address)
        assert await reader.read() == b""
        writer.close()
    assert "is SSL/TLS switched on in the mail program?" in log.getvalue()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_client_that_gives_up_waiting_for_a_greeting_is_not_told_of_the_certificate(
    port_contexts: tuple[ssl.SSLContext, ssl.SSLContext],
    log: io.StringIO,
    monkeypatch: pytest.MonkeyPatch,
    kind: type[ReadinessChannel | CompletionChannel],
) -> None:
    """It has waited less long than we do, as a scanner does, and has never seen the certificate."""
    monkeypatch.setattr(welcome_module, "open_channel", kind)
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with theirs:
        theirs.shutdown(socket.SHUT_WR)
        await Service(echo, ConnectionCap(), lambda: port_contexts[0])("imap-1", ours, "a scanner")
    assert "before TLS began; is SSL/TLS switched on in the mail program?" in log.getvalue()
    assert tls_module.HUNG_UP not in log.getvalue()


def shake_hands(client: socket.socket, context: ssl.SSLContext) -> None:
    with client, pytest.raises(ssl.SSLError):
        context.wrap_socket(client, server_hostname="localhost")


def of_2008(client: socket.socket) -> None:
    context = ssl.create_default_context()
    context.minimum_version, context.maximum_version = ssl.TLSVersion.MINIMUM_SUPPORTED, ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    shake_hands(client, context)


def without_forward_secrecy(client: socket.socket) -> None:
    context = ssl.create_default_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("AES128-SHA256:AES256-SHA")
    shake_hands(client, context)


def without_our_authority(client: socket.socket) -> None:
    shake_hands(client, ssl.create_default_context())


def without_a_word(client: socket.socket) -> None:
    """Close at once, as .NET's SslStream and asyncio do when they do not trust a certificate."""
    hang_up_at_the_certificate(client, ssl.TLSVersion.TLSv1_3)


def without_a_word_in_tls_1_2(client: socket.socket) -> None:
    hang_up_at_the_certificate(client, ssl.TLSVersion.TLSv1_2)


def hang_up_at_the_certificate(client: socket.socket, newest: ssl.TLSVersion) -> None:
    with client:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = ssl.create_default_context()
        context.maximum_version = newest
        tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
        with pytest.raises(ssl.SSLWantReadError):
            tls.do_handshake()
        client.sendall(outgoing.read())
        client.shutdown(socket.SHUT_WR)
        while client.recv(4096):
            pass


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated:DeprecationWarning")
@pytest.mark.parametrize(
    ("client", "meaning"),
    [
        (of_2008, tls_module.TOO_OLD),
        (without_forward_secrecy, tls_module.TOO_OLD),
        (without_our_authority, tls_module.NOT_TRUSTED),
        (without_a_word, f"unexpected eof while reading; {tls_module.HUNG_UP}"),
        (without_a_word_in_tls_1_2, f"unexpected eof while reading; {tls_module.HUNG_UP}"),
    ],
)
async def test_a_handshake_that_the_mail_program_lets_fail_is_explained_in_the_log(
    port_contexts: tuple[ssl.SSLContext, ssl.SSLContext],
    log: io.StringIO,
    client: Callable[[socket.socket], None],
    meaning: str,
) -> None:
    """A scanner that knows no TLS 1.2 (JustinIven/smtp-oauth-relay#70), programs that refuse a self-signed certificate
    (ProtonMail/proton-bridge#232): all that they show is that sending, or the connection, has failed."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    async with asyncio.TaskGroup() as group:
        group.create_task(Service(echo, ConnectionCap(), lambda: port_contexts[0])("imap-1", ours, "a scanner"))
        await asyncio.to_thread(client, theirs)
    assert meaning in log.getvalue()


async def test_a_client_whose_socket_is_no_good_ends_nobody_elses_session(log: io.StringIO) -> None:
    """An exception in its task would end the port, and with it the bridge."""
    ours, theirs = socket.socketpair()
    with theirs:
        ours.close()
        await Service(echo, ConnectionCap())("imap-1", ours, "a scanner")
    assert log.getvalue().count("session.bug") == 1


async def test_behind_a_balancer_only_introduced_clients_are_served(log: io.StringIO) -> None:
    peers = []

    async def serve(conn: str, channel: Channel) -> None:
        peers.append((channel.peer, channel.is_direct, channel.ends))

    async with listening(serve, balancers=["127.0.0.0/8"]) as (_, address):
        for said in (b"PROXY TCP4 192.0.2.7 192.0.2.1 50000 143\r\n", b"a1 NOOP\r\n"):
            reader, writer = await asyncio.open_connection(*address)
            writer.write(said)
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
            writer.close()
    assert peers == [("192.0.2.7:50000", False, Ends(("192.0.2.7", 50000), ("", 0)))]
    assert "no PROXY protocol header" in log.getvalue()
    assert "session.bug" not in log.getvalue()


async def test_a_health_check_that_ends_before_tls_is_no_mail_program_that_hung_up(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext], log: io.StringIO
) -> None:
    """HAProxy ends its check with a reset, which is nobody's answer; other checks end with FIN."""
    async with listening(echo, TlsMode.IMPLICIT, contexts[0], balancers=["127.0.0.0/8"]) as (_, address):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"PROXY UNKNOWN\r\n")
        writer.write_eof()
        await reader.read()  # read the alert, up to the end
        writer.close()
    assert "session.gone" in log.getvalue()
    assert "session.refused" not in log.getvalue()
