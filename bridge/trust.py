"""Which CAs we trust when we connect: this machine's, or those in a file that the administrator names."""

from __future__ import annotations

import contextlib
import functools
import os
import ssl
import sys
from typing import Any

from bridge.advice.diagnosis import Diagnosis
from bridge.advice.said import said
from bridge.advice.system import system_reason

Stamp = tuple[int, int, int] | None
"""Tells whether a file has changed; None if there is no such file."""


def client_context(ca_file: str | None) -> ssl.SSLContext:
    """TLS 1.2 or better; certificate and name are verified, by `ca_file` alone or, without one, by what this machine
    trusts.

    That means the operating system's certificates, not only certifi's: a company that inspects TLS has put its own
    there. Windows shows a program only the roots that have been used before, and Python on a Mac may come without any:
    there certifi's are added.
    Raises: OSError, ssl.SSLError if the file cannot be used; see unusable().
    """
    context = ssl.create_default_context(cafile=ca_file)
    if ca_file is None:
        _insist_on_the_systems(context)
    if ca_file is None and not _system_is_complete():
        import certifi  # late: not needed where the system's certificates are enough

        context.load_verify_locations(certifi.where())
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Python 3.13 enforces RFC 5280 strictly, but CA certificates of TLS-inspecting proxies often lack a key usage.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def unusable(ca_file: str | None, problem: OSError) -> Diagnosis:
    """What to tell people if client_context() has raised this error."""
    # An SSLError is an OSError whose number is OpenSSL's, not the system's.
    is_content = isinstance(problem, ssl.SSLError)
    reason = said("there is no certificate in PEM, or a damaged one") if is_content else system_reason(problem, ca_file)
    place = said("those of this system") if ca_file is None else f"ca_file {ca_file}"
    return Diagnosis.of("trust.unusable", place=place, reason=reason)


def take_windows_certificates_one_by_one() -> None:
    """Call once on Windows, before all else: it is for every context, including the one that aiohttp makes on import.

    Python 3.11, and early 3.12, load each of Windows' stores as a whole (CPython issues 79846, 104135): a single
    certificate that cannot be parsed, such as one from a citizen's card, makes every context fail.
    """
    ssl.SSLContext._load_windows_store_certs = _load_one_by_one  # type: ignore[attr-defined]  # no public way in


def _load_one_by_one(context: ssl.SSLContext, store: str, purpose: Any) -> None:
    with contextlib.suppress(PermissionError):
        for certificate, encoding, purposes in getattr(ssl, "enum_certificates")(store):  # noqa: B009  Windows' alone
            if encoding == "x509_asn" and (purposes is True or purpose.oid in purposes):
                with contextlib.suppress(ssl.SSLError):
                    context.load_verify_locations(cadata=certificate)


def stamp(file: str | None) -> Stamp:
    """The file's stamp, which differs once the file has changed; for None the stamp of this machine's CA file, if it
    has all CAs in one file.

    OpenSSL itself looks into a CA directory at each connection. Windows' stores are read once, at the start.
    """
    try:
        found = os.stat(file or os.environ.get(*_systems_file()))
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


@functools.cache
def _systems_file() -> tuple[str, str]:
    """The environment variable that names the system's CA file, and its path without that. Cached, because each login
    asks and OpenSSL takes 30 us."""
    paths = ssl.get_default_verify_paths()
    return paths.openssl_cafile_env, paths.openssl_cafile


def _insist_on_the_systems(context: ssl.SSLContext) -> None:
    """Raises OSError if this machine's CA file cannot be read now: OpenSSL ignores that silently, and the context would
    trust nobody for as long as it is kept."""
    file = ssl.get_default_verify_paths().cafile
    if sys.platform != "win32" and file is not None and not context.cert_store_stats()["x509"]:
        # The file has no certificate, or we may not read it: that is accepted, and OpenSSL looks in the CA directory.
        with contextlib.suppress(ssl.SSLError, PermissionError):
            context.load_verify_locations(file)


def _system_is_complete() -> bool:
    if sys.platform == "win32":
        return False
    paths = ssl.get_default_verify_paths()
    return paths.cafile is not None or (paths.capath is not None and bool(os.listdir(paths.capath)))
