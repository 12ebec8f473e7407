"""What the doctor says about the certificates of our listeners."""

from __future__ import annotations

import threading
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import AuthorityInformationAccessOID, NameOID

from bridge.advice.base import Turn
from bridge.advice.diagnosis import Diagnosis
from bridge.config.load import parse_config
from bridge.config.schema import Config
from bridge.control.contract import Finding, Outcome
from bridge.doctor.local_tls import certificate_findings, certificate_warnings
from bridge.host.local_tls import MadeCertificate
from bridge.threads import Threads
from tests.silent import fall_silent, no_thread, release

TODAY = date(2026, 6, 15)
BASE = """
providers: {gmail: {kind: google, client_id: a, client_secret: b}}
accounts: [{address: alice@example.com, provider: gmail}]
"""


def config(directory: Path, listeners: str) -> Config:
    return parse_config(f"{BASE}listeners: {listeners}\n", directory=directory, environ={}).config


def with_pair(directory: Path, first: int, last: int, *, says_issuer: bool = False, chain: str = "") -> Config:
    """Listeners whose certificate is valid from `first` to `last`, in days from today."""
    key = ec.generate_private_key(ec.SECP256R1())
    noon = datetime(TODAY.year, TODAY.month, TODAY.day, 12, tzinfo=UTC)
    subject, issuer = (x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) for name in ("bridge", "Issuer X1"))
    builder = x509.CertificateBuilder(
        issuer, subject, key.public_key(), 7, noon + timedelta(first), noon + timedelta(last)
    ).add_extension(x509.SubjectAlternativeName([x509.DNSName("bridge.example.com")]), critical=False)
    if says_issuer:
        where = x509.UniformResourceIdentifier("http://issuer.example/x1.crt")
        access = x509.AccessDescription(AuthorityInformationAccessOID.CA_ISSUERS, where)
        builder = builder.add_extension(x509.AuthorityInformationAccess([access]), critical=False)
    pem = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()
    (directory / "server.pem").write_text(pem + chain)
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (directory / "server.key").write_bytes(secret)
    port = "{{address: '127.0.0.1:{}', tls: {}, certificate: server.pem, key: server.key}}"
    return config(directory, f"{{imap: {port.format(1993, 'implicit')}, smtp: {port.format(1587, 'starttls')}}}")


async def warnings(found: Config, looks: Threads | None = None) -> tuple[Diagnosis, ...]:
    looks = looks or Threads("certificates", at_once=1, limit=10.0)
    return await certificate_warnings(found, Path("no authority"), TODAY, lambda _: looks)


def findings(found: Config) -> tuple[Finding, ...]:
    return certificate_findings(found, Path("no authority"), TODAY)


async def test_a_good_one_is_described_once_for_all_its_ports(tmp_path: Path) -> None:
    (one,) = findings(with_pair(tmp_path, -10, 31))
    assert (one.outcome, one.turn) == (Outcome.OK, Turn.NOBODY)
    assert one.subject == "imap 127.0.0.1:1993, smtp 127.0.0.1:1587"
    assert one.detail.startswith("valid until 2026-07-16, for bridge.example.com; SHA-256 ")
    assert len(one.detail.split()[-1]) == 32 * 3 - 1
    assert await warnings(with_pair(tmp_path, -10, 31)) == ()


@pytest.mark.parametrize("days", [30, 1, 0])
async def test_thirty_days_ahead_somebody_should_see_to_it(tmp_path: Path, days: int) -> None:
    found = with_pair(tmp_path, -10, days)
    (one,) = findings(found)
    assert (one.outcome, one.turn) == (Outcome.WARNING, Turn.APP_ADMIN)
    (warning,) = await warnings(found)
    assert warning.told().startswith(
        f"The certificate of imap 127.0.0.1:1993, smtp 127.0.0.1:1587: expires on {TODAY + timedelta(days)};"
    )


async def test_a_file_that_does_not_answer_is_a_warning_and_holds_up_nobody(tmp_path: Path) -> None:
    found = with_pair(tmp_path, -10, 31)
    file = fall_silent(tmp_path / "server.pem")
    looks = Threads("certificates", at_once=1, limit=0.05)
    for _ in range(2):  # the second look finds the thread of the first one still waiting
        (warning,) = await warnings(found, looks)
        assert warning.told().startswith(
            "The certificate of imap 127.0.0.1:1993, smtp 127.0.0.1:1587: its file does not answer:"
        )
    release(file)


async def test_want_of_a_thread_is_no_file_that_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = with_pair(tmp_path, -10, 31)
    monkeypatch.setattr(threading.Thread, "start", no_thread)
    (warning,) = await warnings(found)
    assert "start new thread" in warning.told()
    assert "drive" not in warning.told()


def test_one_of_ours_that_was_made_while_the_clock_was_ahead_has_failed(tmp_path: Path) -> None:
    """It is kept nevertheless, because the clock may be wrong now instead."""
    found = config(tmp_path, "{imap: {address: '127.0.0.1:1993', tls: implicit}}")
    made = MadeCertificate(tmp_path / "tls", lambda: datetime(2031, 1, 2, 12, tzinfo=UTC).timestamp())
    made.ensure([])
    (one,) = certificate_findings(found, made.authority_file, TODAY)
    assert (one.outcome, one.turn) == (Outcome.FAILED, Turn.APP_ADMIN)
    assert "2031-01-01" in one.detail
    assert "`mail-bridge certificate --new`" in one.detail
    (one,) = certificate_findings(found, made.authority_file, date(2031, 1, 2))
    assert one.outcome is Outcome.OK


@pytest.mark.parametrize(("first", "last", "words"), [(-90, -1, "expired on 2026-06-14"), (1, 90, "is the clock")])
def test_one_that_mail_programs_refuse_has_failed(tmp_path: Path, first: int, last: int, words: str) -> None:
    (one,) = findings(with_pair(tmp_path, first, last))
    assert (one.outcome, one.turn) == (Outcome.FAILED, Turn.APP_ADMIN)
    assert words in one.detail


def test_one_without_its_chain_is_told(tmp_path: Path) -> None:
    first, second = findings(with_pair(tmp_path, -10, 90, says_issuer=True))
    assert first.turn is Turn.NOBODY
    assert (second.outcome, second.turn) == (Outcome.WARNING, Turn.APP_ADMIN)
    assert "add the certificate of Issuer X1 after it" in second.detail


def test_a_chain_of_somebody_else_is_told(tmp_path: Path) -> None:
    other = trustme.CA().cert_pem.bytes().decode()
    _, second = findings(with_pair(tmp_path, -10, 90, says_issuer=True, chain=other))
    assert second.outcome is Outcome.FAILED
    assert "Issuer X1 must come second" in second.detail


def test_one_that_is_gone_since_the_start_has_failed(tmp_path: Path) -> None:
    found = with_pair(tmp_path, -10, 90)
    (tmp_path / "server.pem").unlink()
    (one,) = findings(found)
    assert one.outcome is Outcome.FAILED


def test_the_one_that_we_make(tmp_path: Path) -> None:
    found = config(tmp_path, "{imap: {address: 'localhost:1993', tls: implicit}}")
    began = datetime(2026, 6, 1, tzinfo=UTC).timestamp()
    made = MadeCertificate(tmp_path / "tls", lambda: began)
    (before,) = certificate_findings(found, made.authority_file, TODAY)
    assert before.outcome is Outcome.SKIPPED
    assert not (tmp_path / "tls").exists()  # a look at the certificate does not make it
    made.ensure([])
    (after,) = certificate_findings(found, made.authority_file, TODAY)
    assert (after.outcome, after.turn) == (Outcome.OK, Turn.NOBODY)
    assert "mail-bridge certificate" in after.detail
    late = date(2036, 6, 10)
    (end,) = certificate_findings(found, made.authority_file, late)
    assert end.turn is Turn.APP_ADMIN
    assert "certificate --new" in end.detail


def test_the_one_that_we_make_is_good_from_its_first_day_to_thirty_before_its_last(tmp_path: Path) -> None:
    found = config(tmp_path, "{imap: {address: 'localhost:1993', tls: implicit}}")
    made = MadeCertificate(tmp_path / "tls", lambda: datetime(2026, 6, 1, tzinfo=UTC).timestamp())
    made.ensure([])
    (one,) = certificate_findings(found, made.authority_file, TODAY)
    last_day = date.fromisoformat(str(dict(one.arguments)["day"]))
    for day, outcome in (
        (date(2026, 5, 30), Outcome.FAILED),
        (date(2026, 5, 31), Outcome.OK),
        (last_day - timedelta(31), Outcome.OK),
        (last_day - timedelta(30), Outcome.WARNING),
    ):
        (one,) = certificate_findings(found, made.authority_file, day)
        assert (day, one.outcome) == (day, outcome)


def test_one_of_ours_that_is_none_has_failed(tmp_path: Path) -> None:
    found, file = config(tmp_path, "{imap: {address: 'localhost:1993', tls: implicit}}"), tmp_path / "authority.crt"
    file.write_bytes(b"")
    (one,) = certificate_findings(found, file, TODAY)
    assert (one.outcome, one.turn, one.detail) == (
        *(Outcome.FAILED, Turn.APP_ADMIN),
        "the file cannot be read as a certificate",
    )
    file.unlink()
    file.mkdir()
    (one,) = certificate_findings(found, file, TODAY)
    assert (one.outcome, one.turn) == (Outcome.FAILED, Turn.APP_ADMIN)
    assert one.detail.startswith(f"{tmp_path}, where mail-bridge keeps the certificate of its ports, cannot be used: ")


def test_without_tls_there_is_nothing_to_say(tmp_path: Path) -> None:
    found = config(tmp_path, "{imap: 127.0.0.1:1993}")
    assert findings(found) == certificate_findings(found, tmp_path / "authority.crt", TODAY) == ()
    both = config(tmp_path, "{imap: 127.0.0.1:1143, pop3: {address: '127.0.0.1:1995', tls: implicit}}")
    (one,) = certificate_findings(both, tmp_path / "authority.crt", TODAY)
    assert one.subject == "pop3 127.0.0.1:1995"


def test_each_certificate_is_told_with_its_own_ports(tmp_path: Path) -> None:
    with_pair(tmp_path, 0, 90)
    named = "{address: '127.0.0.1:1993', tls: implicit, certificate: server.pem, key: server.key}"
    found = config(tmp_path, f"{{imap: {named}, pop3: {{address: '127.0.0.1:1995', tls: implicit}}}}")
    rows = certificate_findings(found, tmp_path / "authority.crt", TODAY)
    assert [(one.subject, one.outcome) for one in rows] == [
        ("imap 127.0.0.1:1993", Outcome.OK),  # the certificate becomes valid today
        ("pop3 127.0.0.1:1995", Outcome.SKIPPED),
    ]
