"""What goes wrong with connections in real networks: each failure is named within its time limit, and with who must
act."""

from __future__ import annotations

import asyncio
import datetime
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import trustme

from bridge.advice.base import Turn
from bridge.advice.system import name_reason
from bridge.config.load import parse_config
from bridge.config.schema import Config
from bridge.control.contract import Finding, Outcome
from bridge.doctor import findings, network
from bridge.doctor.network import network_findings
from bridge.ui.i18n import translation
from tests.addresses import behind_a_dead_address, needs_black_hole
from tests.bypassing import threads_that_look_up
from tests.doctor.servers import https, imap_without_starttls, server_context, serving, silent, tunnel
from tests.silent import no_thread

TEXT = """\
providers:
  it:
    kind: oauth2
    client_id: c
    authorization_url: https://{host}:{port}/a
    token_url: https://{host}:{port}/t
    scopes: [mail]
    {more}
    imap: {{host: {imap_host}, port: {imap_port}, tls: {tls}}}
accounts:
  - {{address: alice@example.com, provider: it}}
"""
NOBODY = 9
"""A port where nobody listens (discard)."""


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def config(
    host: str = "127.0.0.1",
    port: int = NOBODY,
    more: str = "",
    imap: tuple[str, int, str] = ("127.0.0.1", NOBODY, "implicit"),
) -> Config:
    imap_host, imap_port, tls = imap
    text = TEXT.format(host=host, port=port, more=more, imap_host=imap_host, imap_port=imap_port, tls=tls)
    return parse_config(text, directory=Path("/nowhere"), environ={}).config


async def connections(config: Config, seconds: float = network.SECONDS) -> tuple[Finding, ...]:
    """The findings about the provider and the mail server."""
    *found, clock = await network_findings(config, seconds=seconds)
    assert clock.check == "clock"
    return tuple(found)


async def sign_in(config: Config, seconds: float = 5.0) -> Finding:
    """The finding about the provider."""
    return (await connections(config, seconds))[0]


async def mail(config: Config, seconds: float = 5.0) -> Finding:
    """The finding about the mail server."""
    return (await connections(config, seconds))[-1]


def with_authority(tmp_path: Path, authority: trustme.CA) -> str:
    file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(file)
    return f"ca_file: {file}"


def assert_failed(finding: Finding, sentence: str, turn: Turn = Turn.APP_ADMIN) -> None:
    assert finding.sentence == sentence, finding.detail
    assert (finding.outcome, finding.turn) == (Outcome.FAILED, turn)


async def test_want_of_a_thread_is_no_name_server_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading.Thread, "start", no_thread)
    provider, server = await connections(config())
    for finding in (provider, server):
        assert_failed(finding, findings.VERBATIM)
        assert "start new thread" in finding.detail


async def test_a_name_server_that_hangs_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop is that of a running bridge when it is examined in the console: names are looked up in other threads."""
    looking = threads_that_look_up(monkeypatch)
    await connections(config(host="idp.invalid"))
    assert looking
    assert threading.current_thread() not in looking


async def test_one_place_is_asked_once_and_each_mail_server_for_itself(tmp_path: Path, stack: ExitStack) -> None:
    authority, requests = trustme.CA(), list[bytes]()
    port = stack.enter_context(serving(https(server_context(authority), requests=requests)))
    good, refused = await connections(config(port=port, more=with_authority(tmp_path, authority)))
    assert [good.subject, refused.subject] == [
        f"127.0.0.1:{port} (it)",
        f"127.0.0.1:{NOBODY} (it, imap)",
    ]
    assert good.outcome is Outcome.OK
    assert "TLSv1.3" in good.detail
    assert "trustme" in good.detail
    assert_failed(refused, network.REFUSED)
    assert len(requests) == 1
    assert requests[0].startswith(b"HEAD / HTTP/1.1\r\n")


async def test_an_authority_that_this_machine_does_not_know_is_named(stack: ExitStack) -> None:
    context = server_context(trustme.CA(organization_name="Example Corp IT"))
    requests = list[bytes]()
    port = stack.enter_context(serving(https(context, requests=requests)))
    finding = await sign_in(config(port=port))
    assert_failed(finding, network.FOREIGN)
    assert "(il vient d’une autorité à laquelle mail-bridge ne fait pas confiance)" in finding.told(translation("fr"))
    assert "issued by Example Corp IT, which is not a public authority" in finding.detail
    assert not any(requests)  # nothing was sent over the untrusted connection


async def test_an_authority_other_than_the_ca_file_is_named(tmp_path: Path, stack: ExitStack) -> None:
    port = stack.enter_context(serving(https(server_context(trustme.CA(organization_name="Other")))))
    finding = await sign_in(config(port=port, more=with_authority(tmp_path, trustme.CA())))
    assert_failed(finding, network.NOT_FROM_CA_FILE)
    assert "issued by Other" in finding.detail


async def test_a_ca_file_that_has_gone_meanwhile_is_named(tmp_path: Path) -> None:
    found = config(port=1, more=with_authority(tmp_path, trustme.CA()))
    (tmp_path / "ca.pem").unlink()
    finding = await sign_in(found)
    assert_failed(finding, findings.VERBATIM)
    assert f"(ca_file {tmp_path / 'ca.pem'}) cannot be used: No such file or directory." in finding.detail


@pytest.mark.parametrize(
    ("organization", "product"),
    [("Kaspersky Lab ZAO", "Kaspersky"), ("ESET, spol. s r. o.", "ESET"), ("Zscaler Inc.", "Zscaler")],
)
async def test_a_program_that_opens_the_encryption_is_named(stack: ExitStack, organization: str, product: str) -> None:
    port = stack.enter_context(serving(https(server_context(trustme.CA(organization_name=organization)))))
    finding = await sign_in(config(port=port))
    assert_failed(finding, network.OPENED)
    assert finding.detail.startswith(f"{product} opens the encryption on the way")


async def test_one_that_this_machine_trusts_is_named_too(
    tmp_path: Path, stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = trustme.CA(organization_name="Example Corp IT"), trustme.CA(organization_name="Fortinet")
    bundle = tmp_path / "system.pem"
    bundle.write_bytes(ours.cert_pem.bytes() + theirs.cert_pem.bytes())
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))  # OpenSSL takes this for the system's authorities
    port = stack.enter_context(serving(https(server_context(ours))))
    other = stack.enter_context(serving(https(server_context(theirs))))
    foreign, opened = await connections(config(port=port, imap=("127.0.0.1", other, "implicit")))
    assert (foreign.sentence, foreign.outcome) == (network.FOREIGN_TRUSTED, Outcome.OK)
    assert "Example Corp IT" in foreign.detail
    assert (opened.sentence, opened.outcome, opened.turn) == (network.OPENED_TRUSTED, Outcome.WARNING, Turn.APP_ADMIN)


async def test_a_wrong_name_tells_for_whom_the_certificate_is(tmp_path: Path, stack: ExitStack) -> None:
    authority = trustme.CA()
    port = stack.enter_context(serving(https(server_context(authority, "mail.example.org"))))
    finding = await sign_in(config(port=port, more=with_authority(tmp_path, authority)))
    assert_failed(finding, network.OTHER_NAME)
    assert "mail.example.org" in finding.detail


async def test_an_expired_certificate_tells_its_last_day(tmp_path: Path, stack: ExitStack) -> None:
    authority = trustme.CA()
    past = {"not_before": datetime.datetime(2020, 1, 1), "not_after": datetime.datetime(2021, 2, 3)}
    port = stack.enter_context(serving(https(server_context(authority, **past))))
    finding = await sign_in(config(port=port, more=with_authority(tmp_path, authority)))
    assert_failed(finding, network.EXPIRED, Turn.TENANT_ADMIN)
    assert "expired on 2021-02-03" in finding.detail


async def test_a_certificate_of_the_future_points_at_the_clock(tmp_path: Path, stack: ExitStack) -> None:
    authority = trustme.CA()
    future = {"not_before": datetime.datetime(2200, 1, 1), "not_after": datetime.datetime(2300, 1, 1)}
    port = stack.enter_context(serving(https(server_context(authority, **future))))
    assert_failed(await sign_in(config(port=port, more=with_authority(tmp_path, authority))), network.NOT_YET)


async def test_a_silent_server_is_given_up_in_time(stack: ExitStack) -> None:
    port = stack.enter_context(serving(silent))
    async with asyncio.timeout(60):
        provider, server = await connections(config(port=port, imap=("127.0.0.1", port, "starttls")), seconds=2)
    assert_failed(provider, network.TLS_SILENT)
    assert_failed(server, network.NOT_MAIL)


@needs_black_hole
async def test_an_address_that_goes_nowhere_leaves_time_for_the_next(
    tmp_path: Path, stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with IPv6 in many an office: the next address is tried a moment later, while the first is still pending."""
    authority = trustme.CA()
    port = stack.enter_context(serving(https(server_context(authority))))
    stack.enter_context(behind_a_dead_address(port, monkeypatch))
    finding = await sign_in(config(host="localhost", port=port, more=with_authority(tmp_path, authority)), seconds=30)
    assert finding.outcome is Outcome.OK, finding.detail


async def test_a_server_that_drips_is_given_up_too(stack: ExitStack) -> None:
    def drip(sock: socket.socket) -> None:
        while True:
            sock.sendall(b"* OK hello\r\n")
            sock.settimeout(0.05)
            try:
                sock.recv(10)
            except TimeoutError:
                continue

    port = stack.enter_context(serving(drip))
    async with asyncio.timeout(60):
        finding = await mail(config(imap=("127.0.0.1", port, "starttls")), seconds=0.5)
    assert finding.outcome is Outcome.FAILED


async def test_a_name_that_nobody_knows_is_said_so() -> None:
    finding = await sign_in(config(host="login.nowhere.invalid"))
    assert_failed(finding, network.NO_NAME)
    assert not any(word in finding.told(translation("fr")) for word in ("known", "failure", "hostname"))
    assert "login.nowhere.invalid" in finding.detail
    with pytest.raises(socket.gaierror) as unknown:
        socket.getaddrinfo("login.nowhere.invalid", 443)
    assert str(name_reason(unknown.value)) in finding.detail


async def test_where_a_sign_in_is_revoked_is_asked_too() -> None:
    found = await connections(config(more=f"revocation_url: https://127.0.0.2:{NOBODY}/r"))
    assert [finding.subject for finding in found] == [
        f"127.0.0.1:{NOBODY} (it)",
        f"127.0.0.2:{NOBODY} (it)",
        f"127.0.0.1:{NOBODY} (it, imap)",
    ]


async def test_the_server_of_a_protocol_without_a_port_is_not_asked(tmp_path: Path) -> None:
    everything = TEXT.format(
        host="127.0.0.1",
        port=NOBODY,
        more="pop3: {host: 127.0.0.1}",
        imap_host="127.0.0.1",
        imap_port=NOBODY,
        tls="implicit",
    )
    loaded = parse_config(f"{everything}listeners: {{pop3: off}}\n", directory=tmp_path, environ={})
    found = await connections(loaded.config)
    assert [finding.subject.partition(" ")[2] for finding in found] == ["(it)", "(it, imap)"]


async def test_a_mail_server_without_starttls_is_said_so(stack: ExitStack) -> None:
    port = stack.enter_context(serving(imap_without_starttls))
    assert_failed(await mail(config(imap=("127.0.0.1", port, "starttls"))), network.NOT_MAIL)


async def test_tls_where_there_is_none_is_said_so(stack: ExitStack) -> None:
    port = stack.enter_context(serving(imap_without_starttls))
    assert_failed(await mail(config(imap=("127.0.0.1", port, "implicit"))), network.NOT_TLS)


async def test_a_proxy_is_gone_through_and_one_that_refuses_is_named(tmp_path: Path, stack: ExitStack) -> None:
    authority, asked = trustme.CA(), list[str]()
    port = stack.enter_context(serving(https(server_context(authority, "idp.example"))))
    trusted = with_authority(tmp_path, authority)
    good = stack.enter_context(serving(tunnel(port, asked)))
    finding = await sign_in(config(host="idp.example", port=443, more=f"{trusted}\n    proxy: http://127.0.0.1:{good}"))
    assert finding.outcome is Outcome.OK, finding.detail
    assert asked == ["CONNECT idp.example:443 HTTP/1.1"]
    bad = stack.enter_context(serving(tunnel(port, asked, answer="407 Proxy Authentication Required")))
    finding = await sign_in(config(host="idp.example", port=443, more=f"{trusted}\n    proxy: http://127.0.0.1:{bad}"))
    assert_failed(finding, network.PROXY)
    assert "407 Proxy Authentication Required" in finding.detail
    finding = await sign_in(config(host="idp.example", port=443, more=f"proxy: http://127.0.0.1:{NOBODY}"))
    assert_failed(finding, network.PROXY)
    finding = await sign_in(config(host="idp.example", port=443, more=f"proxy: https://127.0.0.1:{NOBODY}"))
    assert (finding.outcome, finding.sentence) == (Outcome.SKIPPED, network.OTHER_PROXY)


@pytest.mark.skipif(sys.platform != "linux", reason="a full queue drops what comes on Linux; elsewhere it refuses")
async def test_a_silent_proxy_is_named_and_not_the_network(stack: ExitStack) -> None:
    listening = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
    proxy = listening.getsockname()[1]
    for _ in range(3):
        waiting = stack.enter_context(socket.socket())
        waiting.setblocking(False)
        waiting.connect_ex(("127.0.0.1", proxy))
    finding = await sign_in(config(host="idp.example", port=443, more=f"proxy: http://127.0.0.1:{proxy}"), seconds=2)
    assert_failed(finding, network.PROXY)
    assert f"the proxy 127.0.0.1:{proxy} does not lead there" in finding.detail


async def test_a_proxy_whose_name_leads_nowhere_is_called_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.invalid:3128")
    finding = await sign_in(config(host="idp.example", port=443))
    assert_failed(finding, network.PROXY)
    assert "the proxy proxy.invalid:3128 does not lead there" in finding.detail


async def test_a_socks_proxy_of_the_desktop_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", f"socks5://127.0.0.1:{NOBODY}")
    finding = await sign_in(config(host="idp.example", port=443))
    assert_failed(finding, network.SOCKS)
    assert "exempt idp.example from it" in finding.detail


@pytest.mark.parametrize(
    "proxy",
    [
        *("http://[::1", "http://proxy:port", "http://127.0.0.1:99999", "://", "http:// :3128", "htpp://proxy:3128"),
        *(" http://proxy:3128", "http://proxy :3128", " proxy:3128"),  # as `set HTTPS_PROXY= http://…` sets it
    ],
)
async def test_a_proxy_that_is_no_url_is_not_called_one_that_a_sign_in_goes_through(
    monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    finding = await sign_in(config(host="idp.example", port=443))
    assert_failed(finding, network.BAD_PROXY)


@pytest.mark.parametrize(("ahead", "word"), [(900.0, "900 s behind"), (-900.0, "900 s ahead"), (20.0, "close enough")])
async def test_the_clock_is_compared_with_the_providers(
    tmp_path: Path, stack: ExitStack, ahead: float, word: str
) -> None:
    authority = trustme.CA()
    port = stack.enter_context(serving(https(server_context(authority), ahead=ahead)))
    *_, finding = await network_findings(config(port=port, more=with_authority(tmp_path, authority)))
    assert word.split()[-1] in finding.detail
    assert (finding.outcome is Outcome.FAILED) == (abs(ahead) > 300)
    assert abs(float(str(dict(finding.arguments)["seconds"])) - abs(ahead)) <= 2
