"""What a certificate and its chain say: above all, who issued it."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtensionOID, NameOID, ObjectIdentifier

from bridge.doctor.certificates import INTERCEPTORS, Certificate, read_certificate, read_certificate_file


def certificate(organization: str, *names: str) -> Certificate:
    issued = trustme.CA(organization_name=organization).issue_cert(*(names or ("a.example",)))
    der = x509.load_pem_x509_certificate(issued.cert_chain_pems[0].bytes()).public_bytes(Encoding.DER)
    found = read_certificate(der)
    assert found is not None
    return found


def test_issuer_names_and_days_are_read() -> None:
    found = certificate("Example\x07 Corp", "a.example", "192.0.2.1")
    assert "Example Corp" in found.issuer  # without the control character, which would ring the terminal's bell
    assert found.names == ("a.example", "192.0.2.1")
    assert found.first_day < found.last_day
    assert found.interceptor == ""


def test_what_is_no_certificate_is_none() -> None:
    assert read_certificate(b"\x30\x03abc") is None
    assert read_certificate(odd().replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x05")) is None, "version 6"


def odd(identifier: ObjectIdentifier = ExtensionOID.CRL_NUMBER, content: bytes = b"\x05\x00") -> bytes:
    """A certificate with an extension whose content may be anything, valid or not."""
    key, start = ec.generate_private_key(ec.SECP256R1()), datetime(2026, 1, 1, tzinfo=UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Old Box")])
    extension, other = (x509.UnrecognizedExtension(one, content) for one in (identifier, ObjectIdentifier("1.2.3.4.6")))
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, start, start + timedelta(days=99))
    made = builder.add_extension(extension, critical=False).add_extension(other, critical=False)
    return made.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


@pytest.mark.parametrize(
    "der",
    [
        odd(ExtensionOID.SUBJECT_ALTERNATIVE_NAME, b"\x30\x06\xa3\x04\x30\x02\x05\x00"),  # an X.400 name
        odd(ExtensionOID.SUBJECT_ALTERNATIVE_NAME, b"\x30\x7f"),
        odd(ExtensionOID.AUTHORITY_INFORMATION_ACCESS, b"\x30\x7f"),
        odd(ObjectIdentifier("1.2.3.4.5")).replace(b"\x2a\x03\x04\x06", b"\x2a\x03\x04\x05"),  # one extension twice
    ],
)
def test_what_an_odd_certificate_says_can_be_read_all_the_same(tmp_path: Path, der: bytes) -> None:
    """Old appliances issue such certificates, and OpenSSL serves them."""
    (tmp_path / "server.pem").write_bytes(x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM))
    found = read_certificate_file(tmp_path / "server.pem")
    assert found is not None
    assert found.certificate == read_certificate(der)
    assert (found.certificate.issuer, found.certificate.names) == ("Old Box", ())
    assert (found.is_in_order, found.lacks_chain) == (True, False)


def name(*parts: tuple[ObjectIdentifier, str]) -> x509.Name:
    return x509.Name([x509.NameAttribute(kind, value) for kind, value in parts])


SERVER, ISSUER = (name((NameOID.COMMON_NAME, one)) for one in ("server", "Issuer X1"))


def signed(issuer: x509.Name, subject: x509.Name, *, says_issuer: bool = True) -> x509.Certificate:
    """A certificate that says where to fetch its issuer's certificate, as those of public authorities do."""
    key, start = ec.generate_private_key(ec.SECP256R1()), datetime(2026, 1, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder(issuer, subject, key.public_key(), 1, start, start + timedelta(days=99))
    if says_issuer:
        where = x509.UniformResourceIdentifier("http://issuer.example/x1.crt")
        access = x509.AccessDescription(AuthorityInformationAccessOID.CA_ISSUERS, where)
        builder = builder.add_extension(x509.AuthorityInformationAccess([access]), critical=False)
    return builder.sign(key, hashes.SHA256())


@pytest.mark.parametrize(
    ("chain", "lacks_chain"),
    [
        ([signed(ISSUER, SERVER)], True),
        ([signed(ISSUER, SERVER), signed(ISSUER, ISSUER)], False),
        ([signed(ISSUER, SERVER, says_issuer=False)], False),  # as a company's own authority issues it
        ([signed(SERVER, SERVER)], False),
    ],
)
def test_only_one_that_is_alone_and_has_an_issuer_to_be_fetched_lacks_its_chain(
    tmp_path: Path, chain: list[x509.Certificate], lacks_chain: bool
) -> None:
    (tmp_path / "server.pem").write_bytes(b"".join(one.public_bytes(Encoding.PEM) for one in chain))
    found = read_certificate_file(tmp_path / "server.pem")
    assert found is not None
    assert (found.is_in_order, found.lacks_chain) == (True, lacks_chain)


@pytest.mark.parametrize(
    ("issuer", "told"),
    [
        (name((NameOID.COMMON_NAME, "X1"), (NameOID.ORGANIZATION_NAME, "Example")), "Example, X1"),
        (name((NameOID.COMMON_NAME, "Example"), (NameOID.ORGANIZATION_NAME, "Example")), "Example"),
        (name((NameOID.ORGANIZATIONAL_UNIT_NAME, "Old Box")), "OU=Old Box"),
        (name(), "?"),
    ],
)
def test_an_issuer_is_told_by_what_its_name_has(issuer: x509.Name, told: str) -> None:
    found = read_certificate(signed(issuer, SERVER).public_bytes(Encoding.DER))
    assert found is not None
    assert found.issuer == told


def test_names_steer_no_terminal_and_fill_no_page() -> None:
    """An attacker between us and the server may have made the certificate."""
    names = [f"a{number}\x1b[2J.example" for number in range(50)]
    key, start = ec.generate_private_key(ec.SECP256R1()), datetime(2026, 1, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder(ISSUER, SERVER, key.public_key(), 1, start, start + timedelta(days=99))
    builder = builder.add_extension(x509.SubjectAlternativeName(map(x509.DNSName, names)), critical=False)
    found = read_certificate(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER))
    assert found is not None
    assert found.names == tuple(f"a{number}[2J.example" for number in range(20))


def test_a_chain_that_holds_no_certificate_is_none(tmp_path: Path) -> None:
    """cryptography parses the contents of a certificate only when they are read."""
    damaged = odd().replace(b"Old Box", b"Old \xff\xff\xff")
    good, bad = (ssl.DER_cert_to_PEM_cert(der) for der in (odd(), damaged))
    (tmp_path / "server.pem").write_text(good + bad)
    assert read_certificate_file(tmp_path / "server.pem") is None


def test_makers_are_told_apart() -> None:
    assert certificate("Bitdefender Personal CA.Net-Defender").interceptor == "Bitdefender"
    assert certificate("AVG Technologies").interceptor == "AVG"
    assert certificate("Average Networks").interceptor == ""
    assert certificate("DigiCert Inc").interceptor == ""
    assert all(part == part.lower() and product for part, product in INTERCEPTORS)
