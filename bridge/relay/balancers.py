"""Load balancers in front of a port: who may be one, and for whom it speaks."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Sequence

from bridge.errors import PeerGone, ProtocolViolation
from bridge.model import Ends
from bridge.observe.logs import detail
from bridge.protocols.proxy_header import Origin, ProxyHeader
from bridge.relay.channel import Channel

HEADER_SECONDS = 10.0
"""A balancer sends its header at once; three seconds are for one lost packet (the specification, section 2)."""


class Balancers:
    """The addresses that must introduce each connection by a PROXY protocol header; nobody else is served."""

    def __init__(self, networks: Sequence[str]) -> None:
        """`networks`: as ipaddress.ip_network reads them."""
        self._networks = [ipaddress.ip_network(network) for network in networks]

    async def introduce(self, conn: str, channel: Channel) -> None:
        """Read the header, and nothing behind it; the channel's peer is from now on whom it names.

        Raises: ProtocolViolation for a stranger and for what is no header, in time; PeerGone.
        """
        balancer = channel.peer
        if not self._knows(balancer):
            raise ProtocolViolation(f"{balancer} is none of proxy_protocol_from")
        channel.is_direct = False
        header = ProxyHeader()
        try:
            async with asyncio.timeout(HEADER_SECONDS):
                while wanted := header.wanted:
                    data = await channel.receive_first(wanted)
                    if not data:
                        raise PeerGone(f"{balancer}: left before its PROXY protocol header was whole")
                    header.take(data)
        except TimeoutError:
            raise ProtocolViolation(f"no PROXY protocol header within {HEADER_SECONDS:.0f} s") from None
        if header.origin is not None:
            channel.peer = f"{header.origin.host}:{header.origin.port}"
            channel.origin = _ends(header.origin)
        detail("session.introduced", conn=conn, balancer=balancer, client=channel.peer)

    def _knows(self, peer: str) -> bool:
        host = peer.rpartition(":")[0].partition("%")[0]
        address = ipaddress.ip_address(host)
        return any(address in network for network in self._networks)


def _ends(origin: Origin) -> Ends | None:
    """Whose connection it is, for counting; what is on the loopback of some machine tells nothing here."""
    if ipaddress.ip_address(origin.host.partition("%")[0]).is_loopback:
        return None
    return Ends((origin.host, origin.port), ("", 0))
