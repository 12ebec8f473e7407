"""The certificate that the bridge makes: what it is valid for, its renewal, and its files."""

from __future__ import annotations

import io
import itertools
import json
import os
import ssl
import stat
import subprocess
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from bridge.host import local_tls
from bridge.host.local_tls import CertificateTrouble, MadeCertificate
from bridge.relay.tls import listener_context
from tests.relay.sockets import shaken_in_memory
from tests.servers.packages import needs

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = 24 * 3600.0


class Days:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.passed = 0.0

    def __call__(self) -> float:
        return START.timestamp() + self.passed * DAY


@pytest.fixture
def days() -> Days:
    return Days()


@pytest.fixture
def made(tmp_path: Path, days: Days) -> MadeCertificate:
    return MadeCertificate(tmp_path / "tls", days)


def leaf(file: str) -> x509.Certificate:
    return x509.load_pem_x509_certificates(Path(file).read_bytes())[0]


def authority(made: MadeCertificate) -> x509.Certificate:
    return x509.load_pem_x509_certificate(made.authority_file.read_bytes())


def handshake(server_file: str, authority_file: Path, name: str) -> str:
    """A TLS handshake by a client that trusts the authority and verifies strictly. Returns: the TLS version."""
    server = listener_context(server_file, server_file)
    client = ssl.create_default_context(cafile=str(authority_file))
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    return shaken_in_memory(client, server, name).version() or ""


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> tuple[MadeCertificate, str]:
    """A certificate for tests with a TLS handshake, valid now because OpenSSL uses the real clock."""
    made = MadeCertificate(tmp_path_factory.mktemp("real") / "tls", lambda: datetime.now(UTC).timestamp())
    return made, made.ensure(["bridge.example.com", "192.0.2.5"])


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1", "bridge.example.com", "192.0.2.5"])
def test_a_client_that_imported_the_authority_accepts_every_name(real: tuple[MadeCertificate, str], name: str) -> None:
    made, file = real
    assert handshake(file, made.authority_file, name) == "TLSv1.3"


@pytest.mark.parametrize("name", ["bridge.example.org", "192.0.2.6", "example.com"])
def test_another_name_is_refused(real: tuple[MadeCertificate, str], name: str) -> None:
    made, file = real
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(file, made.authority_file, name)


def test_openssl_itself_finds_nothing_wrong(real: tuple[MadeCertificate, str]) -> None:
    needs("openssl")
    made, file = real
    command = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", str(made.authority_file), file]
    assert subprocess.run(command, capture_output=True, check=True, text=True).stdout.endswith(": OK\n")


@pytest.mark.parametrize("name", ["bank.example", "192.0.2.6"])
def test_the_authority_could_sign_for_no_other_name_even_with_its_key(tmp_path: Path, name: str) -> None:
    """The program throws this key away; here it is kept to see what it could sign."""
    needs("openssl")
    key = rsa.generate_private_key(65537, 2048)
    now = datetime.now(UTC)
    root = local_tls._authority(frozenset({"localhost", "127.0.0.1"}), key, now - timedelta(1), now + timedelta(9))
    good = local_tls._certificate(frozenset({"localhost"}), key.public_key(), root, key, now - timedelta(1))
    forged = local_tls._certificate(frozenset({name}), key.public_key(), root, key, now - timedelta(1))
    (tmp_path / "root.pem").write_bytes(root.public_bytes(Encoding.PEM))
    results = []
    for one in (good, forged):
        (tmp_path / "one.pem").write_bytes(one.public_bytes(Encoding.PEM))
        command = ["openssl", "verify", "-CAfile", str(tmp_path / "root.pem"), str(tmp_path / "one.pem")]
        results.append(subprocess.run(command, capture_output=True, check=False, text=True))
    assert results[0].returncode == 0
    assert results[1].returncode != 0
    assert "permitted subtree violation" in results[1].stderr


def test_the_authority_could_sign_for_nothing_but_servers_even_with_its_key(tmp_path: Path) -> None:
    """Programs that check the authority's own extended key usage, as Windows and OpenSSL do, accept no signed mail or
    code by it."""
    needs("openssl")
    key = rsa.generate_private_key(65537, 2048)
    now = datetime.now(UTC)
    root = local_tls._authority(frozenset({"localhost"}), key, now - timedelta(1), now + timedelta(9))
    somebody, until = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")]), now + timedelta(5)
    signed = (
        x509.CertificateBuilder(root.subject, somebody, key.public_key(), 5, now - timedelta(1), until)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (tmp_path / "root.pem").write_bytes(root.public_bytes(Encoding.PEM))
    (tmp_path / "one.pem").write_bytes(signed.public_bytes(Encoding.PEM))
    codes = {}
    for purpose in ("sslserver", "sslclient", "smimesign", "smimeencrypt"):
        command = ["openssl", "verify", "-purpose", purpose, "-CAfile", str(tmp_path / "root.pem")]
        codes[purpose] = subprocess.run([*command, str(tmp_path / "one.pem")], capture_output=True).returncode
    assert codes.pop("sslserver") == 0
    assert 0 not in codes.values()
    (use,) = root.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value  # the uses `openssl` cannot check
    assert use == ExtendedKeyUsageOID.SERVER_AUTH


def test_the_key_is_one_that_old_mail_programs_know(made: MadeCertificate) -> None:
    key = leaf(made.ensure([])).public_key()
    assert isinstance(key, rsa.RSAPublicKey)
    assert key.key_size == 2048


def test_the_authority_is_bound_to_its_names_and_signs_no_other_authority(made: MadeCertificate) -> None:
    made.ensure(["Bridge.Example.COM", "bücher.example", "2001:DB8::0005"])
    root = authority(made)
    limits = root.extensions.get_extension_for_class(x509.NameConstraints)
    assert limits.critical
    names = {str(one.value) for one in limits.value.permitted_subtrees or ()}
    assert names == {
        "localhost", "127.0.0.1/32", "::1/128", "bridge.example.com", "xn--bcher-kva.example", "2001:db8::5/128"
    }  # fmt: skip
    basic = root.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (basic.critical, basic.value.ca, basic.value.path_length) == (True, True, 0)


@pytest.mark.parametrize(
    ("host", "written"),
    [
        ("pc", "pc"),
        ("ip-10-1-2-3.eu-central-1.compute.internal", "ip-10-1-2-3.eu-central-1.compute.int"),
        ("Télé" * 16, "Télé" * 6),
        ("…", "this machine"),
    ],
)
def test_a_machine_may_have_any_name(
    made: MadeCertificate, monkeypatch: pytest.MonkeyPatch, host: str, written: str
) -> None:
    """RFC 5280 limits a common name to 64 octets, so the host name is shortened."""
    monkeypatch.setattr("socket.gethostname", lambda: host)
    made.ensure([])
    (name,) = authority(made).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    assert str(name.value).startswith(f"mail-bridge on {written} (20")


def test_the_key_of_the_authority_is_nowhere(made: MadeCertificate, tmp_path: Path) -> None:
    made.ensure([])
    theirs = authority(made).public_key()
    keys = 0
    for file in (tmp_path / "tls").iterdir():
        text = file.read_text()
        for part in text.split("-----BEGIN PRIVATE KEY-----")[1:]:
            key = load_pem_private_key(f"-----BEGIN PRIVATE KEY-----{part}".encode(), None)
            assert key.public_key() != theirs
            keys += 1
    assert keys == 2  # the bundle's and the server's


@pytest.mark.skipif(os.name != "posix", reason="Windows has access lists")
def test_the_files_are_for_their_owner_alone(made: MadeCertificate, tmp_path: Path) -> None:
    made.ensure([])
    files = [tmp_path / "tls", *(tmp_path / "tls").iterdir()]
    assert len(files) == 4
    assert {stat.S_IMODE(file.stat().st_mode) & 0o077 for file in files} == {0}


def turns(made: MadeCertificate, days: Days, when: Iterable[float]) -> list[x509.Certificate]:
    found = []
    for day in when:
        days.passed = day
        found.append(leaf(made.ensure([])))
    return found


def test_each_year_the_next_one_takes_its_turn_and_nobody_imports_anything(made: MadeCertificate, days: Days) -> None:
    made.ensure([])
    root = made.authority_file.read_bytes()
    found = turns(made, days, [0, 100, 377, 378.1, 379, 742, 743.1, 9 * 365 + 300])
    numbers = [one.serial_number for one in found]
    assert numbers[0] == numbers[1] == numbers[2]
    assert numbers[2] != numbers[3]
    assert numbers[3] == numbers[4] == numbers[5]
    assert numbers[5] != numbers[6]
    for one, day in zip(found, (0, 100, 377, 378.1, 379, 742, 743.1, 9 * 365 + 300), strict=True):
        now = START + timedelta(days=day)
        assert one.not_valid_before_utc < now < one.not_valid_after_utc
        assert one.not_valid_after_utc - one.not_valid_before_utc <= timedelta(days=397)
    assert made.authority_file.read_bytes() == root


def test_the_ten_follow_each_other_with_32_days_to_spare_and_the_authority_ends_with_the_last(
    made: MadeCertificate, tmp_path: Path
) -> None:
    made.ensure([])
    authority, *ten = x509.load_pem_x509_certificates((tmp_path / "tls" / "made.pem").read_bytes())
    assert len(ten) == 10
    assert all(one.public_key() == ten[0].public_key() for one in ten)
    for one, following in itertools.pairwise(ten):
        assert one.not_valid_after_utc - following.not_valid_before_utc == timedelta(days=32)
    assert authority.not_valid_after_utc == ten[-1].not_valid_after_utc


def test_a_clock_that_is_wrong_for_a_while_costs_nobody_an_import(made: MadeCertificate, days: Days) -> None:
    made.ensure([])
    root = made.authority_file.read_bytes()
    turns(made, days, [-20000, 5])
    assert made.authority_file.read_bytes() == root


def test_after_ten_years_there_is_a_new_one(made: MadeCertificate, days: Days) -> None:
    made.ensure([])
    root = made.authority_file.read_bytes()
    (found,) = turns(made, days, [10 * 365 + 40])
    assert made.authority_file.read_bytes() != root
    assert found.not_valid_before_utc < START + timedelta(days=10 * 365 + 40) < found.not_valid_after_utc


def test_the_same_and_fewer_names_change_no_file(made: MadeCertificate, tmp_path: Path) -> None:
    made.ensure(["a.example", "b.example"])
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "tls").iterdir()}
    made.ensure(["B.example"])
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "tls").iterdir()} == before


def test_an_address_of_a_link_stands_in_it_without_the_name_of_the_link(tmp_path: Path) -> None:
    """The zone of a link-local address has a meaning only on this machine (RFC 4007 section 6), and a certificate has
    no place for it."""
    made = MadeCertificate(tmp_path / "tls", lambda: datetime.now(UTC).timestamp())
    file, first = made.ensure(["fe80::1%eth0"]), authority(made)
    assert handshake(file, made.authority_file, "fe80::1")
    made.ensure(["fe80::1%eth0"])
    assert authority(made) == first


def test_another_name_makes_another_authority_and_the_log_says_what_to_import(
    made: MadeCertificate, log: io.StringIO
) -> None:
    made.ensure(["a.example"])
    root = made.authority_file.read_bytes()
    file = made.ensure(["a.example", "c.example"])
    assert made.authority_file.read_bytes() != root
    told = [json.loads(line) for line in log.getvalue().splitlines()]
    assert [line["event"] for line in told] == ["certificate.made"] * 2
    assert "c.example" in told[-1]["names"]
    assert told[-1]["authority"] == str(made.authority_file)
    assert "c.example" in local_tls._names_of(leaf(file))


def test_make_anew_changes_key_and_authority(made: MadeCertificate) -> None:
    first = leaf(made.ensure([]))
    root = made.authority_file.read_bytes()
    made.make_anew([])
    assert made.authority_file.read_bytes() != root
    assert leaf(made.ensure([])).public_key() != first.public_key()


@pytest.mark.parametrize("left", [b"half of", b"\xffwhat a disk has lost"])
def test_what_was_lost_of_the_derived_files_comes_back(made: MadeCertificate, left: bytes) -> None:
    file = made.ensure([])
    before = Path(file).read_bytes(), made.authority_file.read_bytes()
    Path(file).write_bytes(left)
    made.authority_file.unlink()
    made.ensure([])
    assert (Path(file).read_bytes(), made.authority_file.read_bytes()) == before


@pytest.mark.parametrize("text", ["", "-----BEGIN PRIVATE KEY-----\nAAAA", "rubbish\x00", "authority alone"])
def test_a_damaged_bundle_is_named_and_kept(made: MadeCertificate, tmp_path: Path, text: str) -> None:
    made.ensure([])
    bundle = tmp_path / "tls" / "made.pem"
    text = text.replace("authority alone", made.authority_file.read_text())
    bundle.write_text(text)
    with pytest.raises(CertificateTrouble, match="is damaged"):
        made.ensure([])
    assert bundle.read_text() == text


def test_a_file_in_the_place_of_the_directory_is_named(tmp_path: Path, days: Days) -> None:
    (tmp_path / "tls").write_text("")
    with pytest.raises(CertificateTrouble, match="tls"):
        MadeCertificate(tmp_path / "tls", days).ensure([])
