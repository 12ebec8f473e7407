"""A certificate authority of the tests' own."""

from __future__ import annotations

import ssl
from pathlib import Path

import trustme

NAMES = ("localhost", "127.0.0.1")


class Authority:
    """Issues certificates that only who is told of `ca_file` trusts."""

    def __init__(self, directory: Path) -> None:
        self._ca = trustme.CA()
        self.ca_file = directory / "ca.pem"
        self._ca.cert_pem.write_to_path(self.ca_file)

    def server_context(self, *names: str) -> ssl.SSLContext:
        """A server's side for these names."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._ca.issue_cert(*(names or NAMES)).configure_cert(context)
        return context

    def client_context(self) -> ssl.SSLContext:
        """A client's side that trusts this authority and no other."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._ca.configure_trust(context)
        return context

    def write_pair(self, directory: Path, *names: str) -> tuple[Path, Path]:
        """Certificate and key as two PEM files, for servers that are programs of their own."""
        issued = self._ca.issue_cert(*(names or NAMES))
        certificate, key = directory / "server.pem", directory / "server.key"
        issued.cert_chain_pems[0].write_to_path(certificate)
        issued.private_key_pem.write_to_path(key)
        key.chmod(0o600)
        return certificate, key
