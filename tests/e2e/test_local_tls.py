"""TLS between mail program and bridge: implicit on one port, by STARTTLS on another."""

from __future__ import annotations

import imaplib
import poplib
import shutil
import signal
import smtplib
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.e2e.bridge import Bridge, running
from tests.e2e.conftest import ALICE, World
from tests.servers.ca import Authority
from tests.servers.daemons import free_ports
from tests.silent import fall_silent, release

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def secured(world: World, authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bridge]:
    directory = tmp_path_factory.mktemp("secured")
    certificate, key = authority.write_pair(directory)
    bridge = world.bridge(directory)
    pair = {"certificate": str(certificate), "key": str(key)}
    for protocol, extra in zip(("imap", "pop3", "smtp"), free_ports(3), strict=True):
        plain = bridge.config["listeners"][protocol]
        bridge.config["listeners"][protocol] = [
            {"address": plain, "tls": "implicit", **pair},
            {"address": f"localhost:{extra}", "tls": "starttls", **pair},
        ]
    with running(bridge):
        bridge.sign_in(world.provider, ALICE)
        yield bridge


def port(bridge: Bridge, protocol: str, which: int) -> int:
    return int(bridge.config["listeners"][protocol][which]["address"].rsplit(":", 1)[1])


def test_implicit_tls(secured: Bridge, authority: Authority) -> None:
    password, context = secured.password(ALICE), authority.client_context()
    with imaplib.IMAP4_SSL("localhost", port(secured, "imap", 0), ssl_context=context, timeout=30) as imap:
        assert "AUTH=PLAIN" in imap.capabilities
        imap.login(ALICE, password)
        assert imap.select("INBOX")[0] == "OK"
    pop3 = poplib.POP3_SSL("localhost", port(secured, "pop3", 0), context=context, timeout=30)
    assert pop3.capa()["SASL"] == ["PLAIN", "LOGIN"]
    pop3.user(ALICE)
    pop3.pass_(password)
    pop3.quit()
    with smtplib.SMTP_SSL("localhost", port(secured, "smtp", 0), context=context, timeout=30) as smtp:
        smtp.login(ALICE, password)
        smtp.sendmail(ALICE, [ALICE], b"Subject: over TLS\r\n\r\nx\r\n")


def test_starttls_comes_before_the_password(secured: Bridge, authority: Authority) -> None:
    password, context = secured.password(ALICE), authority.client_context()
    with imaplib.IMAP4("localhost", port(secured, "imap", 1), timeout=30) as imap:
        with pytest.raises(imaplib.IMAP4.error, match="PRIVACYREQUIRED"):
            imap.login(ALICE, password)
        imap.starttls(context)
        imap.login(ALICE, password)
        assert imap.select("INBOX")[0] == "OK"
    pop3 = poplib.POP3("localhost", port(secured, "pop3", 1), timeout=30)
    pop3.stls(context)
    pop3.user(ALICE)
    pop3.pass_(password)
    pop3.quit()
    with smtplib.SMTP("localhost", port(secured, "smtp", 1), timeout=30) as smtp:
        smtp.starttls(context=context)
        smtp.login(ALICE, password)
        smtp.sendmail(ALICE, [ALICE], b"Subject: after STARTTLS\r\n\r\nx\r\n")


def test_a_certificate_that_does_not_fit_its_key_is_named_at_start(
    world: World, authority: Authority, tmp_path: Path
) -> None:
    bridge = world.bridge(tmp_path)
    (tmp_path / "other").mkdir()
    certificate, _ = authority.write_pair(tmp_path)
    _, key = authority.write_pair(tmp_path / "other")
    address = bridge.config["listeners"]["imap"]
    pair = {"certificate": str(certificate), "key": str(key)}
    bridge.config["listeners"]["imap"] = {"address": address, "tls": "implicit", **pair}
    said = bridge.run("run", code=2)
    assert f"{key} is not the key of the certificate in {certificate}" in said
    assert "Traceback" not in said
    bridge.config["language"] = "fr"
    assert f"{key} n’est pas la clé du certificat de {certificate}" in bridge.run("run", code=2)


def test_a_renewed_certificate_is_used_at_a_reload_and_its_end_is_told_of(
    world: World, authority: Authority, tmp_path: Path
) -> None:
    bridge = world.bridge(tmp_path)
    certificate, key = authority.write_pair(tmp_path)
    address = bridge.config["listeners"]["imap"]
    pair = {"certificate": str(certificate), "key": str(key)}
    bridge.config["listeners"]["imap"] = {"address": address, "tls": "implicit", **pair}
    with running(bridge):
        at = ("127.0.0.1", int(address.rpartition(":")[2]))
        assert ssl.get_server_certificate(at) == certificate.read_text()
        assert bridge.json("status")["warnings"] == []
        last_day = datetime.now(UTC) + timedelta(days=12)
        authority.write_pair(tmp_path, "localhost", not_after=last_day)
        assert bridge.process is not None
        bridge.process.send_signal(signal.SIGHUP)
        bridge.wait_for_log("certificate.renewed")
        assert ssl.get_server_certificate(at) == certificate.read_text()
        (warning,) = bridge.json("status")["warnings"]
        assert warning.startswith(f"The certificate of imap {address}: expires on {last_day:%Y-%m-%d};")


def test_files_on_a_drive_that_is_away_hold_up_nobody(world: World, authority: Authority, tmp_path: Path) -> None:
    """A certificate and a CA file stop answering: logins go on with what was read before, and the bridge reports it."""
    bridge = world.bridge(tmp_path)
    certificate, key = authority.write_pair(tmp_path)
    address = bridge.config["listeners"]["imap"]
    bridge.config["listeners"]["imap"] = {
        "address": address,
        "tls": "implicit",
        "certificate": str(certificate),
        "key": str(key),
    }
    company = Path(shutil.copy(authority.ca_file, tmp_path / "company.pem"))
    bridge.config["providers"]["gmail"]["ca_file"] = str(company)
    number = int(address.rpartition(":")[2])
    with running(bridge):
        bridge.sign_in(world.provider, ALICE)
        password, context = bridge.password(ALICE), authority.client_context()

        def log_in() -> None:
            with imaplib.IMAP4_SSL("localhost", number, ssl_context=context, timeout=30) as imap:
                imap.login(ALICE, password)

        log_in()
        silent = [fall_silent(certificate), fall_silent(company)]
        while "authorities.unusable" not in bridge.log:
            log_in()
        log_in()
        (warning,) = bridge.json("status")["warnings"]
        assert warning.startswith(f"The certificate of imap {address}: its file does not answer")
        for file in silent:
            release(file)
    assert bridge.log.count("authorities.unusable") == 1
