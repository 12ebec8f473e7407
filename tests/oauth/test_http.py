"""The only HTTPS transport: trust, time limits, size limits, redirects, proxies."""

from __future__ import annotations

import asyncio
import base64
import re
import socket
import ssl
import sys
import threading
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests
import trustme
from urllib3 import PoolManager

from bridge.advice.base import Turn
from bridge.errors import ProviderNotAsked, ProviderUnavailable
from bridge.oauth.http import AT_ONCE, Https, Reply, json_object, trust
from bridge.oauth.limits import Limits
from bridge.oauth.transport import BODY_LIMIT
from bridge.ui.i18n import translation
from tests.addresses import behind_a_dead_address, needs_black_hole
from tests.host.limits import out_of_descriptors
from tests.oauth.raw import OK, Raw, Tls, certificates, http, serving


async def get(raw: Raw, limits: Limits | None = None) -> Reply:
    https = Https("test", ca_file=raw.ca_file, limits=limits)
    try:
        return await https.run(partial(https.get, raw.url))
    finally:
        https.close()


def dripping(begun: bytes, drop: bytes) -> Callable[[socket.socket], None]:
    """An answer that goes on until the client has gone."""

    def drip(channel: socket.socket) -> None:
        channel.sendall(begun)
        while True:
            channel.sendall(drop)
            threading.Event().wait(0.01)

    return drip


async def test_an_answer_arrives_whole(tls: Tls) -> None:
    with serving(http(b'{"a": 1}', headers="X-Test: yes\r\n"), *tls) as raw:
        reply = await get(raw)
    assert (reply.status_code, reply.json(), reply.headers["x-test"]) == (200, {"a": 1}, "yes")


async def test_an_answer_behind_interim_ones_arrives(tls: Tls) -> None:
    """RFC 9110 section 15.2: a client must be ready for them. A new refresh token behind one was lost."""
    interim = b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n"
    with serving(b"".join([*interim, *interim, http(b'{"a": 1}')]), *tls) as raw:
        reply = await get(raw)
    assert (reply.status_code, reply.json(), reply.headers.get("Link")) == (200, {"a": 1}, None)


async def test_headers_that_are_none_are_not_repeated_in_the_log(tls: Tls, caplog: pytest.LogCaptureFixture) -> None:
    """urllib3 repeated them all, and added a traceback, each time."""
    with serving(OK + b"no header\r\nSet-Cookie: CANARY\r\n\r\n{}", *tls) as raw:
        assert (await get(raw)).json() == {}
    assert caplog.text == ""


async def test_a_request_asks_for_a_plain_answer_on_a_connection_of_its_own(tls: Tls) -> None:
    with serving(http(b"{}"), *tls) as raw:
        await get(raw)
    head = raw.requests[0].lower()
    assert b"\r\nconnection: close\r\n" in head
    assert b"\r\naccept-encoding: identity\r\n" in head
    assert b"python" not in head


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("500 Oops", "HTTP 500"),
        ("503 Later", "HTTP 503"),
        ("504 Silent", "HTTP 504"),
        ("529 Overloaded", "HTTP 529"),
        ("429 Slow", "asks mail-bridge to wait 7 seconds"),
        ("408 Late", "408"),
        ("425 Early", "425"),
    ],
)
async def test_a_provider_in_trouble_is_unavailable_whatever_the_body_says(tls: Tls, status: str, words: str) -> None:
    with (
        serving(http(b'{"error": "invalid_grant"}', status, "Retry-After: 7\r\n"), *tls) as raw,
        pytest.raises(ProviderUnavailable, match=words),
    ):
        await get(raw)


async def test_a_request_that_has_not_gone_out_is_told_from_one_that_may_have_arrived(
    tls: Tls, tmp_path_factory: pytest.TempPathFactory
) -> None:
    ca_file, context = tls
    stranger, _ = certificates(tmp_path_factory.mktemp("other"))

    async def problem(url: str, ca_file: str = ca_file, proxy: str | None = None) -> type[BaseException]:
        https = Https("test", ca_file=ca_file, proxy=proxy, limits=Limits(connect=2, read=1, overall=5, answer=1))
        try:
            with pytest.raises(ProviderUnavailable) as caught:
                await https.run(partial(https.post, url, data={"code": "c"}))
        finally:
            https.close()
        return caught.type

    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))  # bound, but not listening
        port = deaf.getsockname()[1]
        for url in (f"https://localhost:{port}/", f"http://127.0.0.1:{port}/", "https://nowhere.invalid/"):
            assert await problem(url) is ProviderNotAsked, url
        assert await problem("https://localhost:1/", proxy=f"http://127.0.0.1:{port}") is ProviderNotAsked
    with serving(http(b"{}"), ca_file, context) as raw:
        assert await problem(raw.url, stranger) is ProviderNotAsked, "the handshake failed"
        assert await problem(raw.url.replace("localhost", "127.0.0.2"), ca_file) is ProviderNotAsked
    with serving(lambda channel: channel.shutdown(socket.SHUT_RDWR), ca_file, context) as raw:
        assert await problem(raw.url) is ProviderUnavailable, "it has read the request, and has gone"
    with serving(b"", ca_file, None) as raw:
        assert await problem(raw.url) is ProviderNotAsked, "it speaks no TLS"
        assert await problem(f"http://127.0.0.1:{raw.port}/") is ProviderUnavailable
    with serving(http(b"{}", "429 Slow", "Retry-After: 7\r\n"), ca_file, context) as raw:
        assert await problem(raw.url) is ProviderUnavailable


@pytest.mark.parametrize("scheme", ["https", "http"])
async def test_no_connection_is_kept_for_a_next_request(tls: Tls, scheme: str) -> None:
    """Nor with a server that ignores `Connection: close`: it might hang up just as the next refresh is sent."""
    ends: list[bytes] = []

    def answer(channel: socket.socket) -> None:
        channel.sendall(http(b"{}"))
        ends.append(channel.recv(65536))  # returns b"" once the client has closed

    with serving(answer, tls[0], tls[1] if scheme == "https" else None) as raw:
        https = Https("test", ca_file=raw.ca_file, limits=Limits(connect=2, read=1, overall=5, answer=1))
        url = raw.url if scheme == "https" else f"http://127.0.0.1:{raw.port}/"
        for _ in range(2):
            assert (await https.run(partial(https.post, url, data={"code": "c"}))).status_code == 200
        https.close()
    assert ends == [b"", b""]


async def test_an_office_that_comes_back_at_once_does_not_queue_for_a_provider_that_takes_its_time() -> None:
    https, all_are_there = Https("office", limits=Limits(overall=60, answer=60)), threading.Barrier(32, timeout=20)
    async with asyncio.TaskGroup() as group:
        calls = [group.create_task(https.run(all_are_there.wait)) for _ in range(all_are_there.parties)]
    assert sorted(call.result() for call in calls) == list(range(32))
    https.close()


async def test_many_requests_at_once_leave_no_word_about_a_pool(tls: Tls, caplog: pytest.LogCaptureFixture) -> None:
    """urllib3 warns when more connections are returned than its pool keeps, by default ten."""
    all_are_there = threading.Barrier(AT_ONCE, timeout=20)

    class Together(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            all_are_there.wait()
            self.wfile.write(http(b"{}"))

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = 2 * AT_ONCE

    with Server(("127.0.0.1", 0), Together) as server:
        server.socket = tls[1].wrap_socket(server.socket, server_side=True)
        serving_all = threading.Thread(target=server.serve_forever)
        serving_all.start()
        https = Https("test", ca_file=tls[0])
        ask = partial(https.get, f"https://localhost:{server.server_port}/")
        try:
            async with asyncio.TaskGroup() as group:
                answers = [group.create_task(https.run(ask)) for _ in range(AT_ONCE)]
        finally:
            https.close()
            server.shutdown()
            serving_all.join()
    assert {answer.result().status_code for answer in answers} == {200}
    assert [record.message for record in caplog.records if record.name.startswith("urllib3")] == []


async def test_a_call_that_found_no_place_has_not_gone_out() -> None:
    https, over = Https("office", limits=Limits(overall=0.01, answer=60)), threading.Event()
    async with asyncio.TaskGroup() as group:
        hanging = [group.create_task(https.run(over.wait)) for _ in range(AT_ONCE)]
        await asyncio.sleep(0)
        with pytest.raises(ProviderNotAsked, match="too many requests are waiting"):
            await https.run(over.wait)
        over.set()
    assert all(one.result() for one in hanging)
    https.close()


async def test_an_answer_that_is_too_large_is_not_read_to_its_end(tls: Tls) -> None:
    with serving(http(b" " * (BODY_LIMIT + 1)), *tls) as raw, pytest.raises(ProviderUnavailable, match="larger"):
        await get(raw)


async def test_silence_ends_with_the_time_limit(tls: Tls) -> None:
    over = threading.Event()
    with serving(lambda _: over.wait(60), *tls) as raw:
        try:
            with pytest.raises(ProviderUnavailable, match="did not answer within"):
                await get(raw, Limits(connect=2, read=1, overall=5, answer=1))
        finally:
            over.set()


async def test_a_call_that_does_not_come_back_is_given_up_and_told_of_in_any_language() -> None:
    over = threading.Event()
    https = Https("office", limits=Limits(overall=0.01, answer=0.01))
    with pytest.raises(ProviderUnavailable) as caught:
        await https.run(over.wait)
    over.set()
    https.close()
    assert caught.value.diagnosis is not None
    assert "(office: no answer within 0.03 seconds)" in caught.value.diagnosis.told()
    assert "(office\u00a0: pas de réponse en 0.03 secondes)" in caught.value.diagnosis.told(translation("fr"))


class _Short(Limits):
    call = 60.0  # long enough for the thread to end by itself first


SHORT = _Short(connect=30, read=30, overall=0.5, answer=0.5)


@pytest.mark.parametrize(
    ("begun", "drop"),
    [
        (OK + b"Content-Length: 1000\r\n\r\n", b" "),
        (OK + b"X: ", b"x"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n1;", b"x"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    ],
    ids=["body", "head", "chunk", "interim answers"],
)
async def test_an_answer_in_drops_ends_with_the_overall_limit(tls: Tls, begun: bytes, drop: bytes) -> None:
    with serving(dripping(begun, drop), *tls) as raw:
        https = Https("test", ca_file=raw.ca_file, limits=SHORT)
        for ask in (https.get, https.post):
            # The thread itself reports this and has ended, rather than the caller that waits for it.
            with pytest.raises(ProviderUnavailable, match="takes too long"):
                await https.run(partial(ask, raw.url))
        https.close()


async def test_a_proxy_whose_answer_comes_in_drops_ends_with_the_overall_limit() -> None:
    with serving(dripping(b"HTTP/1.1 200 Established\r\nX: ", b"x"), "", None) as proxy:
        url = f"http://localhost:{proxy.port}"
        text, _ = await proxied(Https("test", proxy=url, limits=SHORT), "https://login.invalid/token")
    assert "takes too long" in text


async def test_drops_inside_the_tls_of_a_proxy_with_tls_end_with_the_overall_limit(tls: Tls) -> None:
    def drip(channel: socket.socket) -> None:
        channel.sendall(b"HTTP/1.1 200 Established\r\n\r\n")
        channel.recv(4096)
        dripping(b"\x16\x03\x03\x40\x00", b"x")(channel)  # the header of a record of 16 KiB

    with serving(drip, *tls) as proxy:
        https = Https("test", ca_file=proxy.ca_file, proxy=f"https://localhost:{proxy.port}", limits=SHORT)
        text, _ = await proxied(https, "https://login.invalid/token")
    assert "takes too long" in text


async def test_an_answer_cut_short_is_trouble_on_the_way(tls: Tls) -> None:
    with serving(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}", *tls) as raw, pytest.raises(ProviderUnavailable):
        await get(raw)


async def test_no_http_at_all_is_trouble_on_the_way(tls: Tls) -> None:
    with serving(b"* OK IMAP4rev1 ready\r\n", *tls) as raw, pytest.raises(ProviderUnavailable):
        await get(raw)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'\xef\xbb\xbf{"a": "\xc3\xa9"}', "application/json"),
        (b'{"a": "\xc3\xa9"}', "text/html"),
        (b'{"a": "\xc3\xa9"}', "application/json; charset=idna"),  # a codec of Python's, but no character set
    ],
)
async def test_an_answer_is_utf_8_whatever_its_header_says(tls: Tls, body: bytes, kind: str) -> None:
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nContent-Type: {kind}\r\n\r\n"
    with serving(head.encode() + body, *tls) as raw:
        assert (await get(raw)).json() == {"a": "é"}


@pytest.mark.parametrize("location", [b"http://[", b"/token", b"/\xe4"])
async def test_a_redirect_that_leads_nowhere_is_trouble_on_the_way(tls: Tls, location: bytes) -> None:
    answer = b"HTTP/1.1 302 There\r\nContent-Length: 0\r\nLocation: " + location + b"\r\n\r\n"
    with serving(answer, *tls) as raw, pytest.raises(ProviderUnavailable, match="answers with a redirect"):
        await get(raw)


@pytest.mark.parametrize("has_pysocks", [False, True])
async def test_a_socks_proxy_of_the_desktop_is_named(monkeypatch: pytest.MonkeyPatch, has_pysocks: bool) -> None:
    """It is not bypassed, even where requests itself could use it."""
    if has_pysocks:
        monkeypatch.setattr("requests.adapters.SOCKSProxyManager", lambda *_, **__: PoolManager())
    monkeypatch.setenv("ALL_PROXY", "socks5://user:CANARY@127.0.0.1:1")
    https = Https("test")
    with pytest.raises(ProviderUnavailable, match="this system's proxy is a SOCKS proxy") as caught:
        await https.run(partial(https.post, "https://login.example.com/token"))
    assert "CANARY" not in str(caught.value)
    https.close()


def test_what_a_library_sends_later_has_its_own_time(tls: Tls, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not what is left of an earlier request in the same context: it may carry a refresh token."""
    with serving(http(b"{}"), *tls) as raw:
        https = Https("test", ca_file=raw.ca_file)
        https.get(raw.url)
        now = time.monotonic
        monkeypatch.setattr(time, "monotonic", lambda: now() + 3600)
        with requests.Session() as session:
            https.equip(session)
            assert session.post(raw.url).status_code == 200
        https.close()


async def test_a_post_follows_no_redirect(tls: Tls) -> None:
    with serving(http(b"", "307 There", "Location: /elsewhere\r\n"), *tls) as raw:
        https = Https("test", ca_file=raw.ca_file)
        with pytest.raises(ProviderUnavailable, match="redirect"):
            await https.run(partial(https.post, raw.url, data={"code": "c"}))
        https.close()
    assert len(raw.requests) == 1


async def test_a_get_follows_no_redirect_to_another_place(tls: Tls) -> None:
    with (
        serving(http(b"", "302 There", "Location: https://localhost:1/portal\r\n"), *tls) as raw,
        pytest.raises(ProviderUnavailable, match="captive portal"),
    ):
        await get(raw)


async def test_a_certificate_of_a_stranger_is_refused_with_the_remedy(tls: Tls, tmp_path: Path) -> None:
    stranger, _ = certificates(tmp_path)
    with (
        serving(http(b"{}"), stranger, tls[1]) as raw,
        pytest.raises(ProviderUnavailable, match=r"localhost is not trusted .* ca_file"),
    ):
        await get(raw)
    assert raw.requests == []


@pytest.mark.parametrize(
    ("names", "days", "words"),
    [
        (["localhost"], (-9, -1), "certificate has expired). This machine's clock may be wrong"),
        (["localhost"], (1, 9), "certificate is not yet valid). This machine's clock may be wrong"),
        (["portal.example"], (-9, 9), "not valid for this name). There is a captive portal"),
    ],
    ids=["expired", "not yet valid", "another name"],
)
async def test_a_certificate_that_is_refused_leads_to_its_usual_reason(
    tmp_path: Path, names: list[str], days: tuple[int, int], words: str
) -> None:
    ca, context, now = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), datetime.now(UTC)
    first, last = (now + timedelta(days=number) for number in days)
    ca.issue_cert(*names, not_before=first, not_after=last).configure_cert(context)
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    with (
        serving(http(b"{}"), str(tmp_path / "ca.pem"), context) as raw,
        pytest.raises(ProviderUnavailable, match=re.escape(words)) as caught,
    ):
        await get(raw)
    assert "ca_file" not in str(caught.value)


async def test_trap_13_the_environment_does_not_replace_our_trust(
    tls: Tls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger, _ = certificates(tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", stranger)
    monkeypatch.setenv("CURL_CA_BUNDLE", stranger)
    with serving(http(b"{}"), *tls) as raw:
        assert (await get(raw)).status_code == 200


async def test_a_library_cannot_switch_verification_off(tls: Tls, tmp_path: Path) -> None:
    stranger, _ = certificates(tmp_path)
    with serving(http(b"{}"), stranger, tls[1]) as raw:
        https = Https("test", ca_file=raw.ca_file)
        session = requests.Session()
        https.equip(session)
        with pytest.raises(ProviderUnavailable, match="not trusted"):
            await https.run(partial(session.get, raw.url, verify=False))
        https.close()


async def test_without_ca_file_the_systems_certificates_count(tls: Tls, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", tls[0])  # OpenSSL's own variable for the system's certificates
    with serving(http(b"{}"), *tls) as raw:
        https = Https("test")
        assert (await https.run(partial(https.get, raw.url))).status_code == 200
        https.close()


async def test_a_ca_file_that_has_changed_is_read_anew(tls: Tls, tmp_path: Path) -> None:
    other, context = certificates(tmp_path)
    named = tmp_path / "company.pem"
    named.write_bytes(Path(tls[0]).read_bytes())
    https = Https("test", ca_file=str(named))
    with serving(http(b"{}"), *tls) as before, serving(http(b"{}"), other, context) as after:
        assert (await https.run(partial(https.get, before.url))).status_code == 200
        named.write_text("half of it")
        assert (await https.run(partial(https.get, before.url))).status_code == 200
        named.write_bytes(Path(other).read_bytes())
        assert (await https.run(partial(https.get, after.url))).status_code == 200
    https.close()


async def test_this_machines_certificates_are_read_anew_when_their_file_has_changed(
    tls: Tls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The company has added its own CA while the bridge runs."""
    other, _ = certificates(tmp_path)
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(Path(other).read_bytes())
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    https = Https("test")
    with serving(http(b"{}"), *tls) as raw:
        with pytest.raises(ProviderUnavailable, match="not trusted"):
            await https.run(partial(https.get, raw.url))
        bundle.write_bytes(Path(other).read_bytes() + Path(tls[0]).read_bytes())
        assert (await https.run(partial(https.get, raw.url))).status_code == 200
        bundle.unlink()  # the file may be missing for a moment while it is replaced
        assert (await https.run(partial(https.get, raw.url))).status_code == 200
    https.close()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("nowhere.pem", "No such file or directory"),
        (".", "Is a directory"),
        ("empty.pem", "there is no certificate in PEM"),
    ],
)
def test_a_ca_file_that_cannot_be_used_is_named_and_the_administrators_turn(
    tmp_path: Path, name: str, reason: str
) -> None:
    (tmp_path / "empty.pem").touch()
    file = tmp_path / name
    with pytest.raises(ProviderUnavailable, match=f"ca_file {re.escape(str(file))}.* {reason}") as caught:
        trust(str(file))
    assert caught.value.diagnosis is not None
    assert caught.value.diagnosis.advice.turn is Turn.APP_ADMIN


def test_trust_is_strict_about_names_and_versions() -> None:
    context = trust(None)
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2


async def test_a_closed_port_is_named(tls: Tls) -> None:
    with serving(b"", *tls) as raw:
        pass
    with pytest.raises(ProviderUnavailable, match="localhost refuses the connection"):
        await get(raw)


@needs_black_hole
async def test_an_address_that_goes_nowhere_leaves_time_for_the_next(tls: Tls, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with IPv6 in many offices. The first address alone could use up more than the request's time."""
    with serving(http(b"{}"), *tls) as raw, behind_a_dead_address(raw.port, monkeypatch):
        assert (await get(raw, Limits(connect=40, read=40, overall=30, answer=40))).status_code == 200


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
def test_without_a_file_descriptor_no_network_and_no_firewall_is_blamed(tls: Tls) -> None:
    https = Https("test", ca_file=tls[0])
    with pytest.raises(ProviderUnavailable):
        https.get("https://127.0.0.1:9/token")  # loads everything that a request needs
    with out_of_descriptors(), pytest.raises(ProviderUnavailable, match="Too many open files"):
        https.get("https://127.0.0.1:9/token")
    https.close()


async def test_a_name_that_does_not_exist_is_named(tls: Tls) -> None:
    https = Https("test", ca_file=tls[0])
    with pytest.raises(ProviderUnavailable, match=r"login\.invalid cannot be found"):
        await https.run(partial(https.get, "https://login.invalid/token"))
    https.close()


async def proxied(https: Https, url: str) -> tuple[str, bytes]:
    """The error text of a request that the proxy refuses."""
    try:
        await https.run(partial(https.get, url))
    except ProviderUnavailable as problem:
        return str(problem), b""
    finally:
        https.close()
    raise AssertionError("the proxy was not used")


async def test_the_configured_proxy_is_used_and_its_password_does_not_show() -> None:
    with serving(http(b"", "407 Who are you"), "", None) as proxy:
        url = f"http://joe:pr0xy-pass@localhost:{proxy.port}"
        text, _ = await proxied(Https("test", proxy=url), "https://login.invalid/token")
    assert proxy.requests[0].startswith(b"CONNECT login.invalid:443 ")
    assert b"Proxy-Authorization: Basic" in proxy.requests[0]
    assert "administrator must check the proxy" in text
    assert "pr0xy" not in text


async def test_a_proxys_password_may_have_any_letters() -> None:
    with serving(http(b"", "407 Who are you"), "", None) as proxy:
        url = f"http://joe:pr0xy%E2%82%AC-p%C3%A9ss@localhost:{proxy.port}"
        text, _ = await proxied(Https("test", proxy=url), "https://login.invalid/token")
    assert b"\r\nProxy-Authorization: Basic " + base64.b64encode("joe:pr0xy€-péss".encode()) in proxy.requests[0]
    assert "administrator must check the proxy" in text


@pytest.mark.parametrize("password", ["CANARY[", "[CANARY]"])
def test_a_proxys_password_with_a_bracket_is_a_sentence_without_it(
    monkeypatch: pytest.MonkeyPatch, password: str
) -> None:
    """In a URL the bracket has to be %5B; Python takes it for an IPv6 address, and quotes it as invalid."""
    monkeypatch.setenv("https_proxy", f"http://joe:{password}@localhost:1")
    with pytest.raises(ProviderUnavailable, match="the URL or the proxy's URL cannot be used") as caught:
        Https("test").get("https://login.invalid/token")
    assert "CANARY" not in "".join(traceback.format_exception(caught.value))


async def test_without_one_the_environments_proxy_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(http(b"", "403 No"), "", None) as proxy:
        monkeypatch.setenv("https_proxy", f"http://localhost:{proxy.port}")
        monkeypatch.setenv("no_proxy", "other.invalid")
        await proxied(Https("test"), "https://login.invalid/token")
        text, _ = await proxied(Https("test"), "https://other.invalid/token")
    assert len(proxy.requests) == 1
    assert "cannot be found" in text


async def test_a_provider_on_this_machine_needs_no_proxy_of_the_environment(
    tls: Tls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", "http://localhost:1")
    with serving(http(b"{}"), *tls) as raw:
        assert (await get(raw)).status_code == 200


@pytest.mark.parametrize("text", ["", "<html>", "[1]", '"x"', '{"access_token": "abc'])
def test_what_is_not_a_json_object_is_not_from_the_provider(text: str) -> None:
    with pytest.raises(ProviderUnavailable) as problem:
        json_object(text)
    assert "abc" not in str(problem.value)
