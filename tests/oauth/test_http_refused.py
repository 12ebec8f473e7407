"""The HTTPS session: which answers it refuses, and how it closes the connection."""

from __future__ import annotations

import gzip
import socket
import ssl
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import trustme

from bridge.errors import ProviderNotAsked, ProviderUnavailable
from bridge.oauth.http import Https
from bridge.oauth.limits import Limits
from bridge.oauth.transport import BODY_LIMIT
from tests.addresses import black_hole, needs_black_hole, needs_ipv6
from tests.oauth.raw import OK, Tls, http, serving
from tests.oauth.test_http import get


async def test_who_says_too_much_is_hung_up_on_whoever_keeps_the_error(tls: Tls) -> None:
    """The connection is closed although the error's cause holds the answer, which holds the connection."""
    heard: list[bytes] = []

    def talk(channel: socket.socket) -> None:
        channel.sendall(OK + b"Content-Length: 1000000000\r\n\r\n" + b" " * (BODY_LIMIT + 1))
        heard.append(channel.recv(1))  # b"", the end

    with serving(talk, *tls) as raw:
        with pytest.raises(ProviderUnavailable, match="larger") as caught:
            await get(raw)
        assert caught.value.__traceback__ is not None
    assert heard == [b""]


async def test_a_certificate_that_is_for_no_address_leads_to_the_same(tmp_path: Path) -> None:
    """As with a captive portal, or a host that the configuration names by its IP address."""
    ca, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("localhost").configure_cert(context)
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    with serving(http(b"{}"), str(tmp_path / "ca.pem"), context) as raw:
        https = Https("test", ca_file=raw.ca_file)
        with pytest.raises(ProviderUnavailable, match=r"for this address\)\. There is a captive portal") as caught:
            await https.run(partial(https.get, raw.url.replace("localhost", "127.0.0.1")))
        https.close()
    assert "ca_file" not in str(caught.value)


async def test_an_answer_of_the_largest_size_is_read(tls: Tls) -> None:
    with serving(http(b" " * (BODY_LIMIT - 8) + b'{"a": 1}'), *tls) as raw:
        assert (await get(raw)).json() == {"a": 1}


@pytest.mark.parametrize("times", [1, 10])
async def test_an_answer_that_is_packed_all_the_same_counts_by_what_is_in_it(tls: Tls, times: int) -> None:
    """Some gateways ignore `Accept-Encoding: identity`; and a small compressed body may hold very much."""
    packed = gzip.compress(b" " * (BODY_LIMIT // 8 * times) + b'{"a": 1}')
    with serving(http(packed, headers="Content-Encoding: gzip\r\n"), *tls) as raw:
        if times == 1:
            assert (await get(raw)).json() == {"a": 1}
        else:
            with pytest.raises(ProviderUnavailable, match="larger"):
                await get(raw)


HEADER = b": " + b"a;" * 30_000 + b"\r\n"
"""The rest of one that is nearly as long as http.client takes; it takes a hundred of them."""


def without_end(begun: bytes, again: bytes) -> Callable[[socket.socket], None]:
    """An answer that goes on, as fast as it is read, until the client has gone."""

    def talk(channel: socket.socket) -> None:
        channel.sendall(begun)
        while True:
            channel.sendall(again)

    return talk


@pytest.mark.parametrize(
    "answer",
    [
        without_end(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 600),
        without_end(OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n", b"X: y\r\n" * 3000),
        without_end(OK + b"Content-Encoding: gzip\r\n\r\n", gzip.compress(b"") * 800),
        OK + (b"Set-Cookie" + HEADER) * 90 + b"\r\n{}",
    ],
    ids=["interim answers", "trailers", "nothing that is packed", "cookies"],
)
async def test_whatever_an_answer_is_made_of_its_octets_are_counted(
    tls: Tls, answer: bytes | Callable[[socket.socket], None]
) -> None:
    """The cookies alone took 240 MB; the others kept a thread busy until the deadline."""
    with serving(answer, *tls) as raw, pytest.raises(ProviderUnavailable, match="larger than 262144 octets"):
        await get(raw)


async def test_what_a_proxy_says_is_counted_as_well() -> None:
    flood = without_end(b"HTTP/1.1 200 Established\r\n", b"X" + HEADER)
    with serving(flood, "", None) as proxy:
        https = Https("test", proxy=f"http://localhost:{proxy.port}")
        with pytest.raises(ProviderNotAsked, match="larger than 262144 octets"):
            await https.run(partial(https.post, "https://login.invalid/token"))
        https.close()


async def test_who_hangs_up_without_an_answer_is_asked_once(tls: Tls) -> None:
    with serving(b"", *tls) as raw, pytest.raises(ProviderUnavailable, match="was lost"):
        await get(raw)
    assert len(raw.requests) == 1


@pytest.mark.parametrize("host", ["login..example.com", f"{'a' * 64}.example.com"])
async def test_a_name_that_can_be_none_is_not_found(host: str) -> None:
    """A typing error in the configuration; the system's resolver is not even asked."""
    https = Https("test")
    with pytest.raises(ProviderNotAsked, match=f"{host} cannot be found"):
        await https.run(partial(https.get, f"https://{host}/token"))
    https.close()


async def test_a_second_question_of_one_call_has_not_gone_out_because_the_first_has(tls: Tls) -> None:
    """As with the discovery document and then the code, at different hosts."""
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        port = deaf.getsockname()[1]

    def both() -> None:
        assert https.get(raw.url).status_code == 200
        https.post(f"https://localhost:{port}/", data={"code": "c"})

    with serving(http(b"{}"), *tls) as raw:
        https = Https("test", ca_file=raw.ca_file)
        with pytest.raises(ProviderNotAsked):
            await https.run(both)
        https.close()


@needs_black_hole
async def test_a_host_that_lets_nothing_through_is_told_from_one_that_is_silent(tls: Tls) -> None:
    https = Https("test", ca_file=tls[0], limits=Limits(connect=0.05))
    with black_hole() as dead, pytest.raises(ProviderNotAsked, match="cannot be reached: no network, or a firewall"):
        await https.run(partial(https.get, f"https://127.0.0.1:{dead}/token"))
    https.close()


@needs_ipv6
async def test_an_address_of_ipv6_is_no_name(tls: Tls) -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as deaf:
        port = deaf.getsockname()[1]
    https = Https("test", ca_file=tls[0])
    with pytest.raises(ProviderNotAsked, match="::1 refuses the connection"):
        await https.run(partial(https.get, f"https://[::1]:{port}/token"))
    https.close()
