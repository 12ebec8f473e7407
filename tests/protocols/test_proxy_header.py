"""The PROXY protocol's header: the specification's own examples, every cut, and whatever else may come."""

from __future__ import annotations

import contextlib
import ipaddress
import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bridge.errors import ProtocolViolation
from bridge.protocols.proxy_header import LONGEST_BODY, LONGEST_LINE, Origin, ProxyHeader

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
LONGEST_OF_ALL = b"PROXY UNKNOWN " + b" ".join([b"f" * 39] * 2) + b" 65535 65535\r\n"
assert len(LONGEST_OF_ALL) == LONGEST_LINE


def binary(command: int, family: int, body: bytes, size: int | None = None) -> bytes:
    return SIGNATURE + bytes([command, family]) + struct.pack("!H", len(body) if size is None else size) + body


def tcp4(source: str, port: int, more: bytes = b"") -> bytes:
    addresses = ipaddress.IPv4Address(source).packed + ipaddress.IPv4Address("10.0.0.1").packed
    return binary(0x21, 0x11, addresses + struct.pack("!HH", port, 143) + more)


def tcp6(source: str, port: int, more: bytes = b"") -> bytes:
    addresses = ipaddress.IPv6Address(source).packed + ipaddress.IPv6Address("::1").packed
    return binary(0x21, 0x21, addresses + struct.pack("!HH", port, 143) + more)


GOOD = [
    (b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n", Origin("192.168.0.1", 56324)),
    (b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", Origin("255.255.255.255", 65535)),
    (b"PROXY TCP6 2001:db8::1 ::1 0 143\r\n", Origin("2001:db8::1", 0)),
    (b"PROXY TCP6 ::ffff:10.0.0.7 ::1 1 143\r\n", Origin("10.0.0.7", 1)),
    (b"PROXY UNKNOWN\r\n", None),
    (b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", None),
    (LONGEST_OF_ALL, None),
    (tcp4("192.0.2.7", 50000), Origin("192.0.2.7", 50000)),
    (tcp4("192.0.2.7", 1, b"\x04\x00\x03abc\x30\x00\x01x"), Origin("192.0.2.7", 1)),
    (tcp6("2001:db8::7", 50000), Origin("2001:db8::7", 50000)),
    (tcp6("::ffff:192.0.2.7", 2), Origin("192.0.2.7", 2)),
    (tcp4("192.0.2.7", 1, b"\x04" * (LONGEST_BODY - 12)), Origin("192.0.2.7", 1)),
    (binary(0x20, 0x00, b""), None),
    (binary(0x20, 0x11, b"\x00" * 12), None),
    (binary(0x20, 0xFF, b"what a LOCAL command carries is skipped"), None),
    (binary(0x21, 0x00, b""), None),
    (binary(0x21, 0x31, b"/run/client".ljust(216, b"\x00")), None),
]

BAD = [
    b"a1 LOGIN alice secret\r\n",
    b"EHLO client.example.com\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 10,
    b"\r\n\r\n\x00\r\nQUIT\r\n....",
    b"PROXY TCP4 192.168.0.1 192.168.0.11 56324\r\n",
    b"PROXY TCP4 192.168.0.1 192.168.0.11 65536 443\r\n",
    b"PROXY TCP4 192.168.0.1 192.168.0.11 1 65536\r\n",
    b"PROXY TCP4 192.168.0.1 192.168.0.11 1 99999\r\n",
    b"PROXY TCP4 192.168.0.1 192.168.0.300 1 443\r\n",
    b"PROXY PROXY TCP4 192.168.0.1 192.168.0.11 1 443\r\n",
    b"PROXY TCP4 192.168.0.1  192.168.0.11 1 443\r\n",
    b"PROXY TCP4 192.168.0.300 192.168.0.11 1 443\r\n",
    b"PROXY TCP4 ::1 ::1 1 443\r\n",
    b"PROXY TCP6 192.168.0.1 ::1 1 443\r\n",
    b"PROXY TCP6 fe80::1%eth0\xe9 ::1 1 443\r\n",
    b"PROXY UDP4 192.168.0.1 192.168.0.11 1 443\r\n",
    b"PROXY UNKNOWN\x00\x00\r\n",
    b"PROXY UNKNOWNXX\r\n",
    b"PROXY TCP4 192.168.0.1 192.168.0.11 1 443\n" + b"x" * 80,
    b"PROXY UNKNOWN " + b"f" * LONGEST_LINE,
    LONGEST_OF_ALL.replace(b"UNKNOWN ", b"UNKNOWN f"),
    binary(0x11, 0x11, b"\x00" * 12),
    binary(0x22, 0x11, b"\x00" * 12),
    binary(0x21, 0x12, b"\x00" * 12),
    binary(0x21, 0x11, b"\x00" * 11),
    binary(0x21, 0x21, b"\x00" * 12),
    binary(0x21, 0x11, b"", size=LONGEST_BODY + 1),
]


def read(stream: bytes, piece: int = 1 << 16) -> tuple[ProxyHeader, int]:
    """Reads as from a socket: at most `piece` octets, and no more than wanted. Returns the number of octets, too."""
    header, at = ProxyHeader(), 0
    while header.wanted and at < len(stream):
        data = stream[at : at + min(piece, header.wanted)]
        at += len(data)
        header.take(data)
    return header, at


@pytest.mark.parametrize("piece", [1, 2, 7, 1 << 16])
@pytest.mark.parametrize(("stream", "origin"), GOOD)
def test_a_header_is_read_to_its_last_octet_and_not_further(stream: bytes, origin: Origin | None, piece: int) -> None:
    header, read_octets = read(stream + b"\x16\x03\x01 the ClientHello", piece)
    assert header.is_complete
    assert header.origin == origin
    assert read_octets == len(stream)


@pytest.mark.parametrize("piece", [1, 5, 1 << 16])
@pytest.mark.parametrize("stream", BAD)
def test_what_is_no_header_is_refused(stream: bytes, piece: int) -> None:
    with pytest.raises(ProtocolViolation):
        read(stream, piece)


def test_no_more_than_107_or_4112_octets_are_read_of_anybody() -> None:
    """These limits hold before the peer is known; docs/security.md names the numbers."""
    line, body = ProxyHeader(), ProxyHeader()
    line.take(b"PROXY UNKNOWN ".ljust(106, b"f"))
    assert line.wanted > 0
    with pytest.raises(ProtocolViolation):
        line.take(b"f")
    body.take(binary(0x21, 0x11, b"", size=4112 - 16))
    assert body.wanted == 4112 - 16
    with pytest.raises(ProtocolViolation):
        ProxyHeader().take(binary(0x21, 0x11, b"", size=4113 - 16))


@pytest.mark.parametrize(("stream", "_"), GOOD)
def test_half_a_header_is_not_enough(stream: bytes, _: Origin | None) -> None:
    for end in range(len(stream)):
        header, _read = read(stream[:end])
        assert not header.is_complete
        assert header.wanted > 0


def test_a_mail_program_without_a_header_is_found_out_by_its_first_octets() -> None:
    header = ProxyHeader()
    with pytest.raises(ProtocolViolation, match="no PROXY protocol header"):
        header.take(b"a")


@given(st.binary(max_size=300) | st.sampled_from([b"PROXY ", SIGNATURE]).flatmap(
    lambda start: st.binary(max_size=300).map(lambda rest: start + rest)
), st.integers(1, 20))  # fmt: skip
@example(b"PROXY \r\n\x00", 1)  # the line ends before it may
def test_any_octets_raise_only_violations_in_any_cut_and_all_cuts_agree(stream: bytes, piece: int) -> None:
    outcomes = []
    for size in (piece, 1 << 16):
        with contextlib.suppress(ProtocolViolation):
            header, octets = read(stream, size)
            outcomes.append((header.is_complete, header.origin, octets))
            continue
        outcomes.append((False, None, -1))
    assert outcomes[0] == outcomes[1]


@given(st.ip_addresses(), st.integers(0, 65535), st.binary(max_size=64))
def test_what_a_balancer_writes_is_what_we_read(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int, more: bytes
) -> None:
    is_v4 = isinstance(address, ipaddress.IPv4Address)
    line = f"PROXY {'TCP4' if is_v4 else 'TCP6'} {address} {'10.0.0.1' if is_v4 else '::1'} {port} 143\r\n"
    made = tcp4(str(address), port, more) if is_v4 else tcp6(str(address), port, more)
    mapped = None if isinstance(address, ipaddress.IPv4Address) else address.ipv4_mapped
    for stream in (line.encode(), made):
        assert read(stream)[0].origin == Origin(str(mapped or address), port)
