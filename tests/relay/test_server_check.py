"""Each mail server is tried, and each failure is reported with what has to be done and by whom."""

from __future__ import annotations

import io
import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from bridge.advice.base import Turn
from bridge.advice.diagnosis import Diagnosis
from bridge.model import AccessToken, Account, Endpoint, Protocol, TlsMode
from bridge.relay.authorities import UpstreamContexts
from bridge.relay.dialer import Dialer
from bridge.relay.server_check import ServerCheck, check_servers
from bridge.relay.upstream import Upstream
from bridge.secret import Secret
from bridge.ui.i18n import translation
from tests.captured import captured
from tests.relay.scripted import Trust, accepts, refuses, scripted
from tests.servers.daemons import free_ports

ADDRESS = "alice@example.com"
TOKEN = AccessToken(Secret("CANARY-access-token"), 2e9, 1e9)
IMPLICIT = TlsMode.IMPLICIT


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    with captured("info", "json") as stream:
        yield stream


def upstream(protocol: Protocol, dialer: Dialer) -> Upstream:
    return Upstream(protocol, dialer, UpstreamContexts())


async def checks(
    trust: Trust, refusals: dict[Protocol, bytes | None], subject: str = ADDRESS
) -> tuple[ServerCheck, ...]:
    """Checks servers that refuse with these words or accept (None); a protocol not named here has a closed port."""
    with ExitStack() as stack:
        dialer = Dialer()
        endpoints: dict[Protocol, Endpoint] = {}
        for protocol in Protocol:
            if protocol in refusals:
                words = refusals[protocol]
                script = (
                    accepts(protocol, IMPLICIT, trust.good)
                    if words is None
                    else refuses(protocol, IMPLICIT, trust.good, words)
                )
                endpoints[protocol] = trust.endpoint(stack.enter_context(scripted(script)).port, IMPLICIT)
            else:
                endpoints[protocol] = trust.endpoint(free_ports(1)[0], IMPLICIT)
        upstreams = {protocol: upstream(protocol, dialer) for protocol in Protocol}
        return await check_servers(upstreams, Account(ADDRESS, "own", subject, endpoints), TOKEN)


async def test_each_server_is_told_apart_and_as_loud_as_the_table_has_it(trust: Trust, log: io.StringIO) -> None:
    off = b"535 5.7.139 SmtpClientAuthentication is disabled for the Tenant"
    imap, pop3, smtp = await checks(trust, {Protocol.IMAP: None, Protocol.SMTP: off})
    assert (imap.is_ok, imap.diagnosis) == (True, None)
    assert pop3.diagnosis is not None
    assert (pop3.diagnosis.key, pop3.diagnosis.advice.turn) == ("mail.unreachable", Turn.NOBODY)
    assert smtp.diagnosis is not None
    assert (smtp.diagnosis.key, smtp.diagnosis.words) == ("mail.smtp_off_tenant", off.decode())
    assert f"Set-CASMailbox {ADDRESS}" in smtp.diagnosis.sentence()
    lines = [json.loads(line) for line in log.getvalue().splitlines() if "flight.checked" in line]
    assert [(line["protocol"], line["ok"], line["level"], line.get("turn")) for line in lines] == [
        ("imap", True, "info", None),
        ("pop3", False, "warning", "nobody"),
        ("smtp", False, "error", "tenant-admin"),
    ]


async def test_a_shared_mailbox_names_both_addresses(trust: Trust) -> None:
    words = b"[AUTHENTICATIONFAILED] AUTHENTICATE failed."
    imap, *_ = await checks(trust, {Protocol.IMAP: words}, subject="bob@example.com")
    assert imap.diagnosis is not None
    assert imap.diagnosis.key == "mail.no_right"
    assert "bob@example.com has signed in, but may not open the mailbox alice@example.com" in imap.diagnosis.told()


async def test_a_certificate_that_nobody_vouches_for_is_the_administrators_turn(trust: Trust) -> None:
    with scripted(accepts(Protocol.IMAP, IMPLICIT, trust.good)) as server:
        dialer = Dialer()
        stranger = Endpoint("localhost", server.port, IMPLICIT, ssl.get_default_verify_paths().cafile)
        account = Account(ADDRESS, "own", ADDRESS, {Protocol.IMAP: stranger})
        (check,) = await check_servers({Protocol.IMAP: upstream(Protocol.IMAP, dialer)}, account, TOKEN)
    assert check.diagnosis is not None
    assert (check.diagnosis.key, check.diagnosis.advice.turn) == ("mail.tls", Turn.APP_ADMIN)
    assert f"localhost:{server.port}" in str(check.diagnosis.words)


async def test_a_server_that_takes_longer_than_a_person_waits_is_slow(
    trust: Trust, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.relay.server_check.SECONDS", 0.6)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        account = Account(ADDRESS, "own", ADDRESS, {Protocol.IMAP: trust.endpoint(silent.getsockname()[1], IMPLICIT)})
        (check,) = await check_servers({Protocol.IMAP: upstream(Protocol.IMAP, Dialer())}, account, TOKEN)
    assert check == ServerCheck(Protocol.IMAP, Diagnosis.of("mail.slow", seconds="1"), is_temporary=True)


async def test_a_ca_file_that_is_gone_is_the_administrators_turn_in_any_language(tmp_path: Path) -> None:
    missing = tmp_path / "nowhere.pem"
    with scripted([]) as server:
        endpoint = Endpoint("localhost", server.port, IMPLICIT, str(missing))
        account = Account(ADDRESS, "own", ADDRESS, {Protocol.IMAP: endpoint})
        (check,) = await check_servers({Protocol.IMAP: upstream(Protocol.IMAP, Dialer())}, account, TOKEN)
    assert check.diagnosis is not None
    assert check.diagnosis.advice.turn is Turn.APP_ADMIN
    assert f"(ca_file {missing}) cannot be used: No such file or directory. " in check.diagnosis.told()
    french = check.diagnosis.told(translation("fr"))
    assert f"(ca_file {missing}) ne peuvent pas être utilisés\u00a0: aucun fichier ni dossier de ce nom. " in french
