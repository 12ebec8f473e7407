"""The PROXY protocol's header (versions 1 and 2): whom a load balancer speaks for. Octets in, an Origin out.

The octets after the header belong to TLS or to the mail program, and none of them may be read here: `wanted` never asks
for more than what certainly belongs to the header. Source: HAProxy's proxy-protocol.txt, sections 2.1 and 2.2.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from bridge.errors import ProtocolViolation

_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_PREFIX = b"PROXY "
SHORTEST = len(b"PROXY UNKNOWN\r\n")
"""Octets of the shortest header of either version; a header of version 2 has at least sixteen."""
LONGEST_LINE = 107
"""Octets of a header of version 1, its line end included (section 2.1)."""
LONGEST_BODY = 4096
"""Octets that we take after the first sixteen of version 2; the format allows 65,535. Two IPv6 addresses need 36, the
rest is for what a balancer adds about itself or about a TLS client's certificate."""

_FIXED = 16
_LINE = re.compile(rb"PROXY (?:UNKNOWN(?: [\x20-\x7e]*)?|(TCP[46]) (\S+) (\S+) ([0-9]{1,5}) ([0-9]{1,5}))\r\n")
_LOCAL, _PROXY = 0x20, 0x21
_UNSPECIFIED, _TCP4, _TCP6, _UNIX = 0x00, 0x11, 0x21, 0x31
_ADDRESS_SIZE = {_UNSPECIFIED: 0, _TCP4: 12, _TCP6: 36, _UNIX: 216}


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a connection really comes from."""

    host: str
    """An IP address; an IPv4 address never in its IPv4-mapped form."""
    port: int


class ProxyHeader:
    """Parses one header, however the stream was cut."""

    def __init__(self) -> None:
        self._taken = bytearray()
        self.is_complete = False
        self.origin: Origin | None = None
        """None if the balancer speaks for itself (a health check) or does not know the client's address: the connection
        then comes from its peer."""

    @property
    def wanted(self) -> int:
        """How many octets may be read now; 0 once the header is complete."""
        if self.is_complete:
            return 0
        have = len(self._taken)
        if have < SHORTEST:
            return SHORTEST - have
        if self._taken.startswith(_SIGNATURE):
            return (_FIXED if have < _FIXED else _FIXED + self._body_size()) - have
        return 1 if self._taken.endswith(b"\r") else 2

    def take(self, data: bytes) -> None:
        """Add what was read, at most `wanted` octets.

        Raises: ProtocolViolation as soon as this cannot become a header that we accept.
        """
        self._taken += data
        start = bytes(self._taken[: len(_SIGNATURE)])
        if not (_SIGNATURE.startswith(start) or start[: len(_PREFIX)] == _PREFIX[: len(start)]):
            raise ProtocolViolation("no PROXY protocol header, although the configuration demands one")
        if self._taken.startswith(_SIGNATURE):
            self._take_binary()
        elif self._taken.startswith(_PREFIX) and b"\r\n" in self._taken and len(self._taken) <= LONGEST_LINE:
            self._finish(_origin_of_line(bytes(self._taken)))
        elif len(self._taken) >= LONGEST_LINE:
            raise ProtocolViolation(f"a PROXY protocol header of more than {LONGEST_LINE} octets")

    def _take_binary(self) -> None:
        if len(self._taken) < _FIXED:
            return
        size = self._body_size()
        if size > LONGEST_BODY:
            raise ProtocolViolation(f"a PROXY protocol header of {size} octets")
        if len(self._taken) == _FIXED + size:
            command, family = self._taken[12], self._taken[13]
            self._finish(_origin_of_body(command, family, bytes(self._taken[_FIXED:])))

    def _body_size(self) -> int:
        return int.from_bytes(self._taken[14:16])

    def _finish(self, origin: Origin | None) -> None:
        self.origin = origin
        self.is_complete = True


def _origin_of_line(line: bytes) -> Origin | None:
    found = _LINE.fullmatch(line)
    if found is None:
        raise ProtocolViolation("a malformed PROXY protocol header")
    if found[1] is None:
        return None
    try:
        kind = ipaddress.IPv4Address if found[1] == b"TCP4" else ipaddress.IPv6Address
        source, _ = kind(found[2].decode("ascii")), kind(found[3].decode("ascii"))
    except ValueError:
        raise ProtocolViolation("a malformed address in a PROXY protocol header") from None
    port = int(found[4])
    if port > 65535 or int(found[5]) > 65535:
        raise ProtocolViolation("a malformed port in a PROXY protocol header")
    return _origin(source, port)


def _origin_of_body(command: int, family: int, body: bytes) -> Origin | None:
    """Whatever follows the addresses (TLVs about the balancer) is skipped."""
    if command not in (_LOCAL, _PROXY):
        raise ProtocolViolation(f"PROXY protocol: unknown version or command {command:#04x}")
    if command == _LOCAL:
        return None
    if family not in _ADDRESS_SIZE or len(body) < _ADDRESS_SIZE[family]:
        raise ProtocolViolation(f"PROXY protocol: no TCP addresses (family {family:#04x}, {len(body)} octets)")
    if family == _TCP4:
        return _origin(ipaddress.IPv4Address(body[:4]), int.from_bytes(body[8:10]))
    if family == _TCP6:
        return _origin(ipaddress.IPv6Address(body[:16]), int.from_bytes(body[32:34]))
    return None


def _origin(address: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int) -> Origin:
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return Origin(str(mapped or address), port)
