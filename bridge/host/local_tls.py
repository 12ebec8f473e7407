"""The certificate that the bridge makes for its own ports, where no other is configured; its files and its renewal.

It is signed by an authority of its own, which people import once into the machines whose mail programs connect. Such an
authority is a risk to those machines, so it can do nothing else: its name constraints (critical) permit only this
bridge's names, it signs no further authorities, and its key is thrown away once it has signed. The certificates of ten
years are signed at once, and take turns, so that no client meets one valid for more than 397 days, which some refuse.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from bridge.advice.said import said
from bridge.advice.system import system_reason
from bridge.errors import BridgeError
from bridge.files.drafts import staged
from bridge.files.replacing import replace
from bridge.host.paths import AUTHORITY_NAME, ensure_private
from bridge.observe.logs import event

LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")
"""Names for which every certificate is valid."""
TURNS = 10
"""Certificates that are signed in advance, one for each year."""
TURN = timedelta(days=365)
LIFE = timedelta(days=397)
"""Browsers' limit for public certificates (Apple's for all is 825 days)."""
LATE = timedelta(days=14)
"""How long after the start of its validity a certificate takes over, since a client's clock may be slow."""
BACKDATED = timedelta(days=1)
"""For clients whose clock is slow on the first day."""
KEY_BITS = 2048
"""RSA, which every mail program's TLS supports; 3072 bits would make each handshake three times as expensive."""

HOST_OCTETS = 36
"""Octets of the machine's name in the authority's common name, which may have 64 (RFC 5280 appendix A.1)."""

_BUNDLE, _SERVER = "made.pem", "server.pem"


class CertificateTrouble(BridgeError):
    """The certificate that the bridge makes itself cannot be made, or read."""


@dataclass(frozen=True, slots=True)
class _Bundle:
    """All that was made at once: the source from which the two other files are derived."""

    key: str
    authority: x509.Certificate
    turns: Sequence[x509.Certificate]

    @property
    def names(self) -> frozenset[str]:
        return frozenset(_names_of(self.turns[0]))

    def of(self, now: datetime) -> x509.Certificate:
        begun = [one for one in self.turns if one.not_valid_before_utc + LATE <= now]
        return begun[-1] if begun else self.turns[0]


class MadeCertificate:
    """The files in one directory, readable by their owner alone. Safe with several processes: files are replaced
    whole."""

    def __init__(self, directory: Path, now: Callable[[], float]) -> None:
        self._directory = directory
        self._now = now

    @property
    def authority_file(self) -> Path:
        """The authority's certificate, which people import. It exists once the first certificate was made."""
        return self._directory / AUTHORITY_NAME

    def ensure(self, names: Iterable[str]) -> str:
        """Make sure that there is a certificate for these names, besides localhost, and that today's is in place.

        Makes a new one, with a new authority, only if there is none, if it lacks one of the names, or if the last one
        has expired. Returns: the PEM file of key and certificate. Raises: CertificateTrouble.
        """
        wanted = _wanted(names)
        try:
            bundle = self._read()
            if bundle is None or not wanted <= bundle.names or bundle.turns[-1].not_valid_after_utc < self._today:
                return str(self._make(wanted))
            return str(self._put_in_place(self._derived(bundle)))
        except OSError as problem:
            raise self._unusable(problem) from problem

    def make_anew(self, names: Iterable[str]) -> None:
        """Replace key, certificate and authority, in case somebody has seen the key. Raises: CertificateTrouble; if the
        disk has no room, none of them was replaced."""
        try:
            self._make(_wanted(names))
        except OSError as problem:
            raise self._unusable(problem) from problem

    def _unusable(self, problem: OSError) -> CertificateTrouble:
        return CertificateTrouble(
            said(
                "{directory}, where mail-bridge keeps the certificate of its ports, cannot be used: {reason}",
                directory=self._directory,
                reason=system_reason(problem),
            )
        )

    @property
    def _today(self) -> datetime:
        return datetime.fromtimestamp(self._now(), UTC)

    def _read(self) -> _Bundle | None:
        file = self._directory / _BUNDLE
        try:
            text = file.read_text(encoding="ascii")
            key, end, rest = text.partition("-----END PRIVATE KEY-----\n")
            authority, first, *others = x509.load_pem_x509_certificates(rest.encode())
            return _Bundle(key + end, authority, [first, *others])
        except FileNotFoundError:
            return None
        except ValueError as problem:
            raise CertificateTrouble(
                said(
                    "{file} is damaged; restore it from a backup, or remove it: a new certificate is then made, which "
                    "must be imported on all machines again",
                    file=file,
                )
            ) from problem

    def _make(self, names: frozenset[str]) -> Path:
        ensure_private(self._directory, directory=True)
        bundle = _issue(names, self._today)
        texts = [bundle.key, _pem(bundle.authority), *(_pem(one) for one in bundle.turns)]
        server = self._put_in_place({self._directory / _BUNDLE: "".join(texts), **self._derived(bundle)})
        event("certificate.made", names=", ".join(sorted(names)), authority=str(self.authority_file))
        return server

    def _derived(self, bundle: _Bundle) -> dict[Path, str]:
        return {
            self.authority_file: _pem(bundle.authority),
            self._directory / _SERVER: bundle.key + _pem(bundle.of(self._today)),
        }

    def _put_in_place(self, texts: Mapping[Path, str]) -> Path:
        """Write the files that differ; whoever watches one reloads it. All are on the disk before the first is put in
        place: otherwise, on a full disk, a new bundle could be in place without its authority's file, and take effect
        some day although nobody has imported it."""
        with ExitStack() as stack:
            differing = {file: text for file, text in texts.items() if not _holds(file, text)}
            drafts = {file: stack.enter_context(staged(file, text)) for file, text in differing.items()}
            for file, draft in drafts.items():
                replace(draft, file)
        return self._directory / _SERVER


def _holds(file: Path, text: str) -> bool:
    try:
        return file.read_bytes() == text.encode("ascii")
    except FileNotFoundError:
        return False


# --- X.509 ----------------------------------------------------------------------------------------------------------


def _wanted(names: Iterable[str]) -> frozenset[str]:
    return frozenset(_written(name) for name in (*LOCAL_NAMES, *names))


def _written(name: str) -> str:
    """The name as it stands in a certificate: an address in its short form, a host name in ASCII and lower case."""
    try:
        return str(ipaddress.ip_address(name.partition("%")[0]))  # without its zone: fe80::1%eth0
    except ValueError:
        pass
    try:
        return name.lower().encode("idna").decode("ascii")
    except UnicodeError:
        raise CertificateTrouble(said("the name {name} cannot be used in a certificate", name=name)) from None


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _permitted(name: str) -> x509.GeneralName:
    """A name constraint: an address as a network of one; a host name, which here covers its subdomains as well."""
    try:
        return x509.IPAddress(ipaddress.ip_network(name))
    except ValueError:
        return x509.DNSName(name)


def _names_of(certificate: x509.Certificate) -> list[str]:
    extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    addresses = extension.get_values_for_type(x509.IPAddress)
    return [*extension.get_values_for_type(x509.DNSName), *(str(address) for address in addresses)]


def _issue(names: frozenset[str], now: datetime) -> _Bundle:
    """An authority, its certificates and their key; the authority's own key is gone when this returns."""
    first_day = (now - BACKDATED).replace(microsecond=0)
    last_day = first_day + TURN * (TURNS - 1) + LIFE
    authority_key = rsa.generate_private_key(65537, KEY_BITS)
    key = rsa.generate_private_key(65537, KEY_BITS)
    authority = _authority(names, authority_key, first_day, last_day)
    turns = [
        _certificate(names, key.public_key(), authority, authority_key, first_day + TURN * number)
        for number in range(TURNS)
    ]
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return _Bundle(pem, authority, turns)


def _authority(
    names: frozenset[str], key: rsa.RSAPrivateKey, first_day: datetime, last_day: datetime
) -> x509.Certificate:
    host = "".join(c for c in socket.gethostname() if c.isalnum() or c in "-.")
    host = host.encode()[:HOST_OCTETS].decode("utf-8", "ignore")
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "mail-bridge"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"mail-bridge on {host or 'this machine'} ({first_day:%Y-%m-%d})"),
        ]
    )
    return (
        _builder(subject, subject, key.public_key(), first_day, last_day)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.NameConstraints([_permitted(name) for name in sorted(names)], None), critical=True)
        .sign(key, hashes.SHA256())
    )


def _certificate(
    names: frozenset[str],
    key: rsa.RSAPublicKey,
    authority: x509.Certificate,
    authority_key: rsa.RSAPrivateKey,
    first_day: datetime,
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mail-bridge")])
    signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
    return (
        _builder(subject, authority.subject, key, first_day, first_day + LIFE)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.SubjectAlternativeName([_general(name) for name in sorted(names)]), critical=False)
        .add_extension(signer, critical=False)
        .sign(authority_key, hashes.SHA256())
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: rsa.RSAPublicKey, first_day: datetime, last_day: datetime
) -> x509.CertificateBuilder:
    """What both kinds have in common: an unguessable serial number, and no use but a server's."""
    return (
        x509.CertificateBuilder(issuer, subject, key, x509.random_serial_number(), first_day, last_day)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_encipherment=not signs_certificates,  # TLS 1.2 with plain RSA, which old programs may want
        key_cert_sign=signs_certificates,
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode("ascii")
