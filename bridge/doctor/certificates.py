"""Who issued a certificate, and whether that is a program that intercepts TLS on the way."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import certifi
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AuthorityInformationAccessOID, NameOID

Extension = TypeVar("Extension", bound=x509.ExtensionType)

INTERCEPTORS: tuple[tuple[str, str], ...] = (
    ("adguard", "AdGuard"),
    ("avast", "Avast"),
    ("avg ", "AVG"),
    ("avira", "Avira"),
    ("barracuda", "Barracuda"),
    ("bitdefender", "Bitdefender"),
    ("blue coat", "Blue Coat (Symantec ProxySG)"),
    ("bluecoat", "Blue Coat (Symantec ProxySG)"),
    ("charles proxy", "Charles"),
    ("check point", "Check Point"),
    ("cisco umbrella", "Cisco Umbrella"),
    ("cloudflare for teams", "Cloudflare Gateway"),
    ("gateway ca - cloudflare", "Cloudflare Gateway"),
    ("do_not_trust_fiddlerroot", "Fiddler"),
    ("dr.web", "Dr.Web"),
    ("eset ssl filter", "ESET"),
    ("eset, spol", "ESET"),
    ("f-secure", "F-Secure"),
    ("fireware", "WatchGuard"),
    ("watchguard", "WatchGuard"),
    ("forcepoint", "Forcepoint"),
    ("websense", "Forcepoint"),
    ("fortigate", "Fortinet"),
    ("fortinet", "Fortinet"),
    ("g data", "G DATA"),
    ("iboss", "iboss"),
    ("kaspersky", "Kaspersky"),
    ("lightspeed", "Lightspeed"),
    ("mcafee", "McAfee (Skyhigh, Trellix)"),
    ("skyhigh", "McAfee (Skyhigh, Trellix)"),
    ("mitmproxy", "mitmproxy"),
    ("netskope", "Netskope"),
    ("norton", "Norton"),
    ("palo alto", "Palo Alto Networks"),
    ("securly", "Securly"),
    ("smoothwall", "Smoothwall"),
    ("sonicwall", "SonicWall"),
    ("sophos", "Sophos"),
    ("squid", "Squid"),
    ("pfsense", "pfSense"),
    ("stormshield", "Stormshield"),
    ("trend micro", "Trend Micro"),
    ("untangle", "Untangle"),
    ("zscaler", "Zscaler"),
)
"""A part of the issuer's name, in lower case, and the product. Used only where no public authority has issued the
certificate, so that the makers' own public certificates do not matter."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a person wants to know of a server's certificate."""

    issuer: str
    """Organization and name, as far as it has them."""
    names: tuple[str, ...]
    """The names for which it is valid (RFC 6125 section 6.4)."""
    first_day: date
    last_day: date

    @property
    def interceptor(self) -> str:
        """The product that made it on the way; empty if its issuer is no interceptor that we know."""
        issuer = f"{self.issuer.lower()} "
        return next((product for part, product in INTERCEPTORS if part in issuer), "")


@dataclass(frozen=True, slots=True)
class CertificateFile:
    """A PEM file of a server's certificate and, behind it, its chain."""

    certificate: Certificate
    sha256: str
    """Fingerprint, as Firefox and Thunderbird show it: AA:BB:…"""
    sha1: str
    """The same, as Windows has it ("thumbprint")."""
    is_in_order: bool
    """Each certificate is followed by its issuer's."""
    lacks_chain: bool
    """The certificate is alone, and says where its issuer's certificate can be fetched: the issuer is hardly a root
    that clients know."""


def read_certificate_file(path: Path) -> CertificateFile | None:
    """What is in the file, which may hold a key as well; None if it cannot be read."""
    try:
        chain = x509.load_pem_x509_certificates(path.read_bytes())
        first = read_certificate(chain[0].public_bytes(Encoding.DER))
        # Inside the try as well: the fields of a certificate are parsed only when they are accessed.
        is_in_order = all(one.issuer == signer.subject for one, signer in pairwise(chain))
        lacks_chain = len(chain) == 1 and chain[0].issuer != chain[0].subject and _names_issuer(chain[0])
    except (OSError, ValueError, x509.InvalidVersion):
        return None
    if first is None:
        return None
    return CertificateFile(
        first,
        chain[0].fingerprint(hashes.SHA256()).hex(":").upper(),
        chain[0].fingerprint(hashes.SHA1()).hex(":").upper(),  # noqa: S303  to be compared by eye, not trusted
        is_in_order,
        lacks_chain,
    )


def _names_issuer(found: x509.Certificate) -> bool:
    extension = _extension(found, x509.AuthorityInformationAccess)
    return any(one.access_method == AuthorityInformationAccessOID.CA_ISSUERS for one in extension or ())


def read_certificate(der: bytes) -> Certificate | None:
    """Parse a certificate that need not be trusted; None if it cannot be read."""
    try:
        found = x509.load_der_x509_certificate(der)
        issuer = _name(found.issuer)
        return Certificate(issuer, _names(found), found.not_valid_before_utc.date(), found.not_valid_after_utc.date())
    except (ValueError, x509.InvalidVersion):
        return None


def public_authorities() -> ssl.SSLContext:
    """A context that trusts what browsers trust, and nothing that was added to this machine."""
    context = ssl.create_default_context(cafile=certifi.where())
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def no_verification() -> ssl.SSLContext:
    """A context only for looking at a refused certificate: nothing is sent over such a connection."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _name(name: x509.Name) -> str:
    kinds = (NameOID.ORGANIZATION_NAME, NameOID.COMMON_NAME)
    parts = [str(part.value) for kind in kinds for part in name.get_attributes_for_oid(kind)]
    text = ", ".join(dict.fromkeys(parts)) or name.rfc4514_string()
    return "".join(c for c in text if c.isprintable())[:120] or "?"


def _extension(found: x509.Certificate, kind: type[Extension]) -> Extension | None:
    """The extension of this kind. None, too, where any extension is unknown to the library, duplicate or damaged:
    OpenSSL serves such a certificate all the same, and the rest of it is worth knowing."""
    try:
        return found.extensions.get_extension_for_class(kind).value
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        return None


def _names(found: x509.Certificate) -> tuple[str, ...]:
    extension = _extension(found, x509.SubjectAlternativeName)
    if extension is None:
        return ()
    names = [*extension.get_values_for_type(x509.DNSName)]
    names += [str(address) for address in extension.get_values_for_type(x509.IPAddress)]
    return tuple("".join(c for c in name if c.isprintable())[:253] for name in names[:20])
