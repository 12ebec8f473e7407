"""Who may introduce a connection by a PROXY header, and what remains of the connection's data after the header."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator

import pytest

from bridge.errors import PeerGone, ProtocolViolation
from bridge.model import Ends
from bridge.relay.balancers import Balancers
from bridge.relay.channel import Channel
from tests.relay.sockets import KINDS, receive_exactly, tcp_pair

HEADER = b"PROXY TCP4 192.0.2.7 192.0.2.1 50000 143\r\n"
BALANCER = "10.1.2.3:40000"


@pytest.fixture(params=KINDS)
async def accepted(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Channel, socket.socket]]:
    """Our channel of a connection, and the balancer's socket."""
    ours, theirs = tcp_pair()
    channel = request.param(ours, asyncio.get_running_loop(), BALANCER)
    yield channel, theirs
    channel.close()
    theirs.close()


def test_a_channel_is_direct_unless_somebody_speaks_for_the_peer() -> None:
    async def work() -> None:
        for kind in KINDS:
            ours, theirs = tcp_pair()
            channel = kind(ours, asyncio.get_running_loop(), "127.0.0.1:1")
            assert channel.is_direct
            channel.close()
            theirs.close()

    asyncio.run(work())


async def test_the_peer_is_whom_the_header_names(accepted: tuple[Channel, socket.socket]) -> None:
    channel, balancer = accepted
    balancer.sendall(HEADER + b"a1 CAPABILITY\r\n")
    await Balancers(["10.1.0.0/16"]).introduce("imap-1", channel)
    assert channel.peer == "192.0.2.7:50000"
    assert not channel.is_check
    assert channel.origin == Ends(("192.0.2.7", 50000), ("", 0)), "which counts its connections"
    assert not channel.is_direct
    assert await receive_exactly(channel, 15) == b"a1 CAPABILITY\r\n"


async def test_a_header_is_read_from_the_wire_and_leaves_the_handshake_whole(
    accepted: tuple[Channel, socket.socket], contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    channel, balancer = accepted

    def shake_hands() -> bytes:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = contexts[1].wrap_bio(incoming, outgoing, server_hostname="localhost")
        with pytest.raises(ssl.SSLWantReadError):
            tls.do_handshake()
        balancer.sendall(HEADER + outgoing.read())  # header and ClientHello in one piece
        while True:
            incoming.write(balancer.recv(65536))
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                continue
            tls.write(b"hello")
            balancer.sendall(outgoing.read())
            return b"done"

    async with asyncio.TaskGroup() as group:
        client = group.create_task(asyncio.to_thread(shake_hands))
        await Balancers(["10.1.2.3"]).introduce("imap-1", channel)
        await channel.start_tls(contexts[0])
        assert await receive_exactly(channel, 5) == b"hello"
    assert client.result() == b"done"


async def test_a_health_check_keeps_the_balancers_own_address(accepted: tuple[Channel, socket.socket]) -> None:
    channel, balancer = accepted
    balancer.sendall(b"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00")
    await Balancers(["10.1.2.3"]).introduce("imap-1", channel)
    assert channel.peer == BALANCER
    assert channel.is_check
    assert not channel.is_direct


@pytest.mark.parametrize("said", ["TCP4 127.0.0.1 127.0.0.1", "TCP6 ::1 ::1", "TCP6 ::ffff:127.0.0.1 ::1", "UNKNOWN"])
async def test_nobody_becomes_a_user_of_this_machine_by_a_header(
    accepted: tuple[Channel, socket.socket], said: str
) -> None:
    """Otherwise a colleague who may connect as a balancer could name the port of somebody else's program."""
    channel, balancer = accepted
    balancer.sendall(f"PROXY {said}{'' if said == 'UNKNOWN' else ' 50000 143'}\r\n".encode())
    await Balancers(["10.1.2.3"]).introduce("imap-1", channel)
    assert not channel.is_direct
    assert channel.ends is None


@pytest.mark.parametrize("networks", [["10.1.2.4"], ["10.2.0.0/16", "::/0"]])
async def test_a_stranger_is_not_even_listened_to(networks: list[str], accepted: tuple[Channel, socket.socket]) -> None:
    channel, stranger = accepted
    stranger.sendall(HEADER)
    with pytest.raises(ProtocolViolation, match="none of proxy_protocol_from"):
        await Balancers(networks).introduce("imap-1", channel)
    assert channel.peer == BALANCER


async def test_who_says_nothing_is_waited_for_ten_seconds(
    accepted: tuple[Channel, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a clock that only this test moves."""
    loop, now = asyncio.get_running_loop(), [1000.0]
    monkeypatch.setattr(loop, "time", lambda: now[0])
    channel, balancer = accepted
    balancer.sendall(HEADER[:20])

    async def turned_away() -> None:
        with pytest.raises(ProtocolViolation, match="no PROXY protocol header within 10 s"):
            await Balancers(["10.1.2.3"]).introduce("imap-1", channel)

    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(turned_away())
        for seconds in (0.0, 9.9, 10.1):
            assert not waiting.done()
            now[0] = 1000.0 + seconds
            for _ in range(10):
                await asyncio.sleep(0)
        assert waiting.done()


async def test_who_leaves_within_the_header_is_gone(accepted: tuple[Channel, socket.socket]) -> None:
    channel, balancer = accepted
    balancer.sendall(HEADER[:20])
    balancer.close()
    with pytest.raises(PeerGone):
        await Balancers(["10.1.2.3"]).introduce("imap-1", channel)


async def test_addresses_of_both_families_are_compared_as_addresses() -> None:
    for peer, network in (("2001:db8::7:40000", "2001:db8::/32"), ("fe80::1%eth0:40000", "fe80::/10")):
        ours, theirs = tcp_pair()
        channel = KINDS[0](ours, asyncio.get_running_loop(), peer)
        theirs.sendall(HEADER)
        await Balancers([network]).introduce("imap-1", channel)
        assert channel.peer == "192.0.2.7:50000"
        channel.close()
        theirs.close()
