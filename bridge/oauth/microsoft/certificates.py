"""Reads from PEM files what msal signs its assertions with (RFC 7523 section 2.2, RFC 7515 section 4.1.8)."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from bridge.advice.said import said
from bridge.advice.system import system_reason
from bridge.errors import ProviderRefused

LONGEST_FILE = 1024 * 1024
"""Octets; a certificate with its chain and its key has ten thousand."""

SHORTEST_KEY = 2048
"""Bits; Microsoft takes no shorter RSA key, and no other kind of key."""

_KEY = re.compile(rb"-----BEGIN (?P<kind>(?:[A-Z]+ )*)PRIVATE KEY-----.*?-----END (?P=kind)PRIVATE KEY-----", re.DOTALL)
"""PKCS#8 has no word before PRIVATE KEY, or ENCRYPTED; PKCS#1 has RSA, SEC 1 has EC."""

_REMEDY = said("the administrator must check client_certificate and client_certificate_key")


class ClientCertificate:
    """The certificate that is uploaded to the app registration, and its key. Both files are read for each use, so that
    a rotation needs no restart, but parsed only if they have changed: an RSA key takes 50 ms to check."""

    def __init__(self, certificate: str, key: str | None) -> None:
        self._certificate = certificate
        self._key = key or certificate
        self._lock = threading.Lock()
        self._known: tuple[bytes, bytes, dict[str, Any]] | None = None

    def credential(self) -> dict[str, Any]:
        """msal's `client_credential`. Given a certificate instead of a thumbprint, msal computes the SHA-256 thumbprint
        (x5t#S256) and signs with PS256; given a thumbprint, it takes that for SHA-1 and signs with RS256.

        Blocks. Raises: ProviderRefused with the file's name: the administrator must act.
        """
        certificate, key = _content(self._certificate), _content(self._key)
        with self._lock:  # one thread parses them, the others wait for it
            if self._known is None or self._known[:2] != (certificate, key):
                self._known = (certificate, key, self._pair(certificate, key))
            return self._known[2]

    def _pair(self, certificate: bytes, key: bytes) -> dict[str, Any]:
        private = _private_key(key, self._key)
        try:
            chain = [(one, one.public_key()) for one in x509.load_pem_x509_certificates(certificate)]
        except (ValueError, UnsupportedAlgorithm):
            raise ProviderRefused(
                said("The file {file} holds no certificate in PEM: {remedy}.", file=self._certificate, remedy=_REMEDY)
            ) from None
        for one, public in chain:  # the file may hold the whole chain, in any order
            if public == private.public_key():
                return {"private_key": private, "public_certificate": one.public_bytes(Encoding.PEM).decode()}
        raise ProviderRefused(
            said(
                "The key in {key} belongs to no certificate in {certificate}: {remedy}.",
                key=self._key,
                certificate=self._certificate,
                remedy=_REMEDY,
            )
        )


def _content(path: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            return file.read(LONGEST_FILE)
    except OSError as problem:
        raise ProviderRefused(
            said(
                "The file {file} cannot be read ({reason}): {remedy}.",
                file=path,
                reason=system_reason(problem),
                remedy=_REMEDY,
            )
        ) from problem


def _private_key(content: bytes, path: str) -> RSAPrivateKey:
    match = _KEY.search(content)
    if match is None:
        raise ProviderRefused(said("The file {file} holds no private key in PEM: {remedy}.", file=path, remedy=_REMEDY))
    try:
        key = load_pem_private_key(match[0], None)
    except TypeError:  # the key needs a password; from None: no part of a key may get into a log
        raise ProviderRefused(
            said("The private key in {file} has a password: the administrator must remove it.", file=path)
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise ProviderRefused(
            said("The private key in {file} is damaged: {remedy}.", file=path, remedy=_REMEDY)
        ) from None
    if not isinstance(key, RSAPrivateKey) or key.key_size < SHORTEST_KEY:
        raise ProviderRefused(
            said(
                "Microsoft only accepts RSA keys of at least {bits} bits, and the key in {file} is not one of these: "
                "the administrator must make a new certificate.",
                bits=SHORTEST_KEY,
                file=path,
            )
        )
    return key
