"""Whose certificates are believed where we connect: this machine's, or those of a file that the administrator names."""

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
"""Of a file's content; None while there is no such file."""


def client_context(ca_file: str | None) -> ssl.SSLContext:
    """TLS 1.2 or better, certificate and name verified: by `ca_file` alone, or without one by what this machine trusts.

    The operating system's certificates, and not only certifi's: a company that inspects TLS has put its own there.
    Windows shows a program only those roots that have been used before, and Python on a Mac may come without any:
    there certifi's are added.
    Raises: OSError, ssl.SSLError if the file cannot be used; see unusable().
    """
    context = ssl.create_default_context(cafile=ca_file)
    if ca_file is None:
        _insist_on_the_systems(context)
    if ca_file is None and not _system_is_complete():
        import certifi  # late: where the system's are enough nobody needs it

        context.load_verify_locations(certifi.where())
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Python 3.13 asks for RFC 5280 to the letter, and certificates of inspecting proxies often lack a key usage.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def unusable(ca_file: str | None, problem: OSError) -> Diagnosis:
    """What people are to be told where client_context() has raised this."""
    # An SSLError is an OSError whose number is OpenSSL's, not the system's.
    is_content = isinstance(problem, ssl.SSLError)
    reason = said("there is no certificate in PEM, or a damaged one") if is_content else system_reason(problem, ca_file)
    place = said("those of this system") if ca_file is None else f"ca_file {ca_file}"
    return Diagnosis.of("trust.unusable", place=place, reason=reason)


def take_windows_certificates_one_by_one() -> None:
    """Call once, first, on Windows: for every context that anybody makes, aiohttp's among them, at its import.

    Python 3.11, and 3.12 at first, loads Windows' stores in one piece each (CPython issues 79846, 104135): of one
    certificate that cannot be read, such as a citizen's card brings along, every context dies.
    """
    ssl.SSLContext._load_windows_store_certs = _load_one_by_one  # type: ignore[attr-defined]  # no public way in


def _load_one_by_one(context: ssl.SSLContext, store: str, purpose: Any) -> None:
    with contextlib.suppress(PermissionError):
        for certificate, encoding, purposes in getattr(ssl, "enum_certificates")(store):  # noqa: B009  Windows' alone
            if encoding == "x509_asn" and (purposes is True or purpose.oid in purposes):
                with contextlib.suppress(ssl.SSLError):
                    context.load_verify_locations(cadata=certificate)


def stamp(file: str | None) -> Stamp:
    """Another one when the file has changed; for None that of this machine, where it has its authorities in one file.

    A directory of them is looked into by OpenSSL itself. What Windows' stores hold is known as of the start.
    """
    try:
        found = os.stat(file or os.environ.get(*_systems_file()))
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


@functools.cache
def _systems_file() -> tuple[str, str]:
    """The variable that names it, and where it is without. Asked for once: each login asks, and OpenSSL takes 30 us."""
    paths = ssl.get_default_verify_paths()
    return paths.openssl_cafile_env, paths.openssl_cafile


def _insist_on_the_systems(context: ssl.SSLContext) -> None:
    """OpenSSL says nothing of this machine's file where it cannot be read just now, and the context would believe
    nobody for as long as it is kept. Raises: OSError."""
    file = ssl.get_default_verify_paths().cafile
    if sys.platform != "win32" and file is not None and not context.cert_store_stats()["x509"]:
        # None in it, or not for us: it stays so, and those of the directory are looked for with each connection.
        with contextlib.suppress(ssl.SSLError, PermissionError):
            context.load_verify_locations(file)


def _system_is_complete() -> bool:
    if sys.platform == "win32":
        return False
    paths = ssl.get_default_verify_paths()
    return paths.cafile is not None or (paths.capath is not None and bool(os.listdir(paths.capath)))
