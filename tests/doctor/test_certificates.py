"""Who issued a certificate."""

from __future__ import annotations

import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from bridge.doctor.certificates import INTERCEPTORS, Certificate, read_certificate


def certificate(organization: str, *names: str) -> Certificate:
    issued = trustme.CA(organization_name=organization).issue_cert(*(names or ("a.example",)))
    der = x509.load_pem_x509_certificate(issued.cert_chain_pems[0].bytes()).public_bytes(Encoding.DER)
    found = read_certificate(der)
    assert found is not None
    return found


def test_issuer_names_and_days_are_read() -> None:
    found = certificate("Example\x07 Corp", "a.example", "192.0.2.1")
    assert "Example Corp" in found.issuer  # and no bell on the terminal
    assert found.names == ("a.example", "192.0.2.1")
    assert found.first_day < found.last_day
    assert found.interceptor == ""


def test_what_is_no_certificate_is_none() -> None:
    assert read_certificate(b"\x30\x03abc") is None


def test_makers_are_told_apart() -> None:
    assert certificate("Bitdefender Personal CA.Net-Defender").interceptor == "Bitdefender"
    assert certificate("AVG Technologies").interceptor == "AVG"
    assert certificate("Average Networks").interceptor == ""
    assert certificate("DigiCert Inc").interceptor == ""
    assert all(part == part.lower() and product for part, product in INTERCEPTORS)
