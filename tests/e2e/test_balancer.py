"""A real HAProxy before the bridge, as for several nodes or a farm: the PROXY protocol says who has connected."""

from __future__ import annotations

import re
import smtplib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.bridge import Bridge, running
from tests.e2e.clients import PROTOCOLS, run
from tests.e2e.conftest import ALICE, World
from tests.servers.ca import Authority
from tests.servers.daemons import free_ports
from tests.servers.haproxy import Behind, HAProxy, haproxy

pytestmark = pytest.mark.servers

CLIENT = "127.0.0.77"
"""The address from which mail programs connect; HAProxy itself connects from 127.0.0.1."""
VERSIONS = {"v1": "send-proxy", "v2": "send-proxy-v2"}


@pytest.fixture(scope="module")
def bridge(world: World, authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bridge]:
    """Each protocol with implicit TLS and with STARTTLS, for a balancer at 127.0.0.1; and a port for one elsewhere."""
    directory = tmp_path_factory.mktemp("behind")
    certificate, key = authority.write_pair(directory)
    bridge = world.bridge(directory)
    listeners = bridge.config["listeners"]
    pair = {"certificate": str(certificate), "key": str(key)}
    for protocol, extra in zip(PROTOCOLS, free_ports(3), strict=True):
        listeners[protocol] = [
            {"address": f"127.0.0.1:{port}", "tls": tls, "proxy_protocol_from": ["127.0.0.1"], **pair}
            for port, tls in ((port_of(listeners[protocol]), "implicit"), (extra, "starttls"))
        ]
    listeners["imap"].append({"address": f"127.0.0.1:{free_ports(1)[0]}", "proxy_protocol_from": ["192.0.2.0/24"]})
    with running(bridge):
        yield bridge


@pytest.fixture(scope="module")
def balancer(bridge: Bridge, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HAProxy]:
    behind = {
        f"{protocol}-{listener['tls']}-{version}": Behind(
            port_of(listener["address"]), sends, is_tls=listener["tls"] == "implicit"
        )
        for protocol in PROTOCOLS
        for listener in bridge.config["listeners"][protocol][:2]
        for version, sends in VERSIONS.items()
    }
    with haproxy(tmp_path_factory.mktemp("haproxy"), behind) as front:
        yield front


def port_of(address: object) -> int:
    return int(str(address).rsplit(":", 1)[1])


def test_its_health_checks_with_a_header_of_its_own_pass_tls_and_all(bridge: Bridge, balancer: HAProxy) -> None:
    assert set(balancer.check_status().values()) == {"L4OK", "L6OK"}
    assert "session.bug" not in bridge.log


def test_a_health_check_leaves_no_line_in_the_log_of_an_ordinary_day(bridge: Bridge, balancer: HAProxy) -> None:
    """HAProxy checks every two seconds: that would be 86,000 lines a day for each port and each balancer."""

    def checks() -> set[str]:
        found = re.finditer(r"session\.introduced balancer=(\S+) client=\1 (conn=\S+)", bridge.log)
        return {check[2] for check in found}

    asked = len(checks()) + 20
    bridge.wait_until(lambda: len(checks()) > asked, "twenty health checks more")
    of_checks = checks()
    loud = [line for line in bridge.log.splitlines() if "[debug" not in line and of_checks.intersection(line.split())]
    assert loud == []


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("tls", ["implicit", "starttls"])
def test_mail_programs_come_through_and_the_log_has_their_own_address(
    bridge: Bridge, balancer: HAProxy, world: World, authority: Authority, tmp_path: Path, tls: str, version: str
) -> None:
    bridge.sign_in(world.provider, ALICE)
    before = len(bridge.log)
    user = tmp_path / "curl.conf"
    user.write_text(f'user = "{ALICE}:{bridge.password(ALICE)}"\n')
    how = ["-sS", "--cacert", str(authority.ca_file), "--config", str(user), "--interface", CLIENT]
    if tls == "starttls":
        how.append("--ssl-reqd")
    url = {
        protocol: f"{protocol}{'s' if tls == 'implicit' else ''}://localhost:{balancer.ports[f'{protocol}-{tls}-{version}']}"
        for protocol in PROTOCOLS
    }
    message = tmp_path / "message.eml"
    message.write_bytes(f"Subject: through {tls} {version}\r\n\r\nx\r\n".encode())
    run(["curl", *how, url["smtp"], "--mail-from", ALICE, "--mail-rcpt", ALICE, "--upload-file", str(message)])
    assert b"INBOX" in run(["curl", *how, url["imap"]])
    run(["curl", *how, url["pop3"]])
    for protocol in PROTOCOLS:
        opened = [
            line for line in bridge.log[before:].splitlines() if "session.open" in line and f"{protocol}-" in line
        ]
        assert any(f"{CLIENT}:" in line for line in opened), opened


def test_who_comes_without_a_header_is_shown_out(bridge: Bridge) -> None:
    for listener in (*bridge.config["listeners"]["imap"][:2], *bridge.config["listeners"]["smtp"][:2]):
        with socket.create_connection(("127.0.0.1", port_of(listener["address"])), timeout=30) as direct:
            direct.sendall(b"EHLO client.example.com\r\n")
            assert heard(direct) == b""
    bridge.wait_for_log("no PROXY protocol header")


def test_who_is_no_balancer_is_shown_out_whatever_it_says(bridge: Bridge) -> None:
    with socket.create_connection(
        ("127.0.0.1", port_of(bridge.config["listeners"]["imap"][2]["address"])), timeout=30
    ) as stranger:
        stranger.sendall(b"PROXY TCP4 192.0.2.7 192.0.2.1 50000 143\r\n")
        assert heard(stranger) == b""
    bridge.wait_for_log("is none of proxy_protocol_from")


def test_a_header_works_in_pieces_and_its_line_is_never_taken_for_mail(bridge: Bridge, authority: Authority) -> None:
    port = port_of(bridge.config["listeners"]["smtp"][1]["address"])
    with socket.create_connection(("127.0.0.1", port), timeout=30) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for octet in b"PROXY TCP6 2001:db8::7 2001:db8::1 50000 587\r\n":
            sock.sendall(bytes([octet]))
        client = smtplib.SMTP(timeout=30, local_hostname="client.example.com")
        client.sock = sock
        assert client.getreply()[0] == 220
        client._host = "localhost"  # type: ignore[attr-defined]  # connect() would have set it, for SNI
        client.starttls(context=authority.client_context())
        assert client.ehlo()[0] == 250
        client.quit()
    bridge.wait_for_log("2001:db8::7")


def test_a_header_where_none_is_configured_is_no_header_but_named(world: World, tmp_path: Path) -> None:
    with running(world.bridge(tmp_path)) as plain:
        ports = {protocol: port_of(plain.config["listeners"][protocol]) for protocol in PROTOCOLS}
        for protocol, answer in (("imap", b"* BYE"), ("pop3", b"-ERR"), ("smtp", b"500 ")):
            with socket.create_connection(("127.0.0.1", ports[protocol]), timeout=30) as sock:
                lines = sock.makefile("rb")
                lines.readline()
                sock.sendall(b"PROXY TCP4 192.0.2.7 192.0.2.1 50000 143\r\n")
                assert answer in lines.readline()
        plain.wait_for_log("`proxy_protocol_from`")
        assert "192.0.2.7" not in "".join(line for line in plain.log.splitlines() if "session.open" in line)


def heard(sock: socket.socket) -> bytes:
    """Everything received until the connection ends, by FIN or by RST."""
    received = b""
    try:
        while data := sock.recv(4096):
            received += data
    except ConnectionResetError:
        pass
    return received
