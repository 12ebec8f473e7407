"""Load balancers in front of a port: who may be one, and for whom it speaks."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Awaitable, Callable, Sequence

from bridge.errors import PeerGone, ProtocolViolation
from bridge.model import Ends
from bridge.observe.logs import detail
from bridge.protocols.proxy_header import Origin, ProxyHeader
from bridge.relay.channel import Channel

HEADER_SECONDS = 10.0
"""A balancer sends its header at once; three seconds are for one lost packet (the specification, section 2)."""


Receive = Callable[[int], Awaitable[bytes]]
"""Receives at most so many octets of a connection, none at its end. Raises: PeerGone."""


class Balancers:
    """The addresses that must introduce each connection by a PROXY protocol header; nobody else is served."""

    def __init__(self, networks: Sequence[str]) -> None:
        """`networks`: as ipaddress.ip_network reads them."""
        self._networks = [ipaddress.ip_network(network) for network in networks]

    async def introduce(self, conn: str, channel: Channel) -> None:
        """Read the header, and nothing after it; from now on the channel's peer is the one that the header names.

        Raises: as introduced().
        """
        channel.is_direct = False
        balancer = channel.peer
        channel.peer, channel.origin = await self.introduced(conn, balancer, channel.receive_first)
        channel.is_check = channel.peer == balancer

    async def introduced(self, conn: str, balancer: str, receive: Receive) -> tuple[str, Ends | None]:
        """The same for a connection that is no channel yet. Returns: the peer, and the ends of its connection.

        Raises: ProtocolViolation for an unknown balancer, or if no valid header comes in time; PeerGone.
        """
        if not self._knows(balancer):
            raise ProtocolViolation(f"{balancer} is none of proxy_protocol_from")
        header = ProxyHeader()
        try:
            async with asyncio.timeout(HEADER_SECONDS):
                while wanted := header.wanted:
                    data = await receive(wanted)
                    if not data:
                        raise PeerGone(f"{balancer}: left before its PROXY protocol header was whole")
                    header.take(data)
        except TimeoutError:
            raise ProtocolViolation(f"no PROXY protocol header within {HEADER_SECONDS:.0f} s") from None
        origin = header.origin
        peer = balancer if origin is None else f"{origin.host}:{origin.port}"
        detail("session.introduced", conn=conn, balancer=balancer, client=peer)
        return peer, None if origin is None else _ends(origin)

    def _knows(self, peer: str) -> bool:
        host = peer.rpartition(":")[0].partition("%")[0]
        address = ipaddress.ip_address(host)
        return any(address in network for network in self._networks)


def _ends(origin: Origin) -> Ends | None:
    """The client's end, for counting; None for a loopback address, which means nothing outside its own machine."""
    if ipaddress.ip_address(origin.host.partition("%")[0]).is_loopback:
        return None
    return Ends((origin.host, origin.port), ("", 0))
