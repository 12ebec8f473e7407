"""A certificate authority of the tests' own."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

NAMES = ("localhost", "127.0.0.1", "login.bridge.test")


class Authority:
    """Issues certificates that a client trusts only if it is given `ca_file`."""

    def __init__(self, directory: Path) -> None:
        self._ca = trustme.CA()
        self.ca_file = directory / "ca.pem"
        self._ca.cert_pem.write_to_path(self.ca_file)

    def client_pair(self) -> tuple[Path, Path]:
        """Certificate and key as two PEM files, for an app registration; the same pair on each call."""
        certificate, key = self.ca_file.parent / "client.pem", self.ca_file.parent / "client.key"
        if not key.exists():
            certificate_pem, key_pem = self_signed()
            certificate.write_text(certificate_pem)
            key.write_text(key_pem)
        return certificate, key

    def server_context(self, *names: str, not_after: datetime | None = None) -> ssl.SSLContext:
        """A server's TLS context with a certificate for these names."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._ca.issue_cert(*(names or NAMES), not_after=not_after).configure_cert(context)
        return context

    def client_context(self) -> ssl.SSLContext:
        """A client's TLS context that trusts this authority and no other."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._ca.configure_trust(context)
        return context

    def write_pair(self, directory: Path, *names: str, not_after: datetime | None = None) -> tuple[Path, Path]:
        """Certificate and key as two PEM files, for servers that run as separate programs."""
        issued = self._ca.issue_cert(*(names or NAMES), not_after=not_after)
        certificate, key = directory / "server.pem", directory / "server.key"
        issued.cert_chain_pems[0].write_to_path(certificate)
        issued.private_key_pem.write_to_path(key)
        key.chmod(0o600)
        return certificate, key


def self_signed(
    bits: int = 2048, encoding: PrivateFormat = PrivateFormat.PKCS8, key: rsa.RSAPrivateKey | None = None
) -> tuple[str, str]:
    """A self-signed certificate and its RSA key, both in PEM. The key is new unless `key` is given."""
    key = key or rsa.generate_private_key(65537, bits)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "mail-bridge")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(Encoding.PEM, encoding, NoEncryption()).decode()
    return certificate.public_bytes(Encoding.PEM).decode(), pem
