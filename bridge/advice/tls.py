"""Why TLS fails: what happens often, to be told in any language.

The English is OpenSSL's own wherever that is clear, because it is what an administrator looks up.
"""

from __future__ import annotations

import ssl
from typing import Final

from bridge.advice.said import Said, quoted, said

_CERTIFICATE: Final = {
    9: said("certificate is not yet valid"),
    10: said("certificate has expired"),
    18: said("self-signed certificate"),
    19: said("self-signed certificate in certificate chain"),
    20: said("unable to get local issuer certificate"),
    21: said("unable to verify the first certificate"),
    62: said("Hostname mismatch, certificate is not valid for this name"),
    64: said("IP address mismatch, certificate is not valid for this address"),
}
"""By OpenSSL's X509_V_ERR_*."""

_HANDSHAKE: Final = {
    "WRONG_VERSION_NUMBER": said("wrong version number"),  # no TLS at all: OpenSSL before 3.2
    "RECORD_LAYER_FAILURE": said("record layer failure"),  # and since
    "TLSV1_ALERT_PROTOCOL_VERSION": said("tlsv1 alert protocol version"),
    "UNSUPPORTED_PROTOCOL": said("unsupported protocol"),
    "SSLV3_ALERT_HANDSHAKE_FAILURE": said("sslv3 alert handshake failure"),
    "UNEXPECTED_EOF_WHILE_READING": said("unexpected eof while reading"),
}
"""By OpenSSL's reason."""


def tls_reason(problem: ssl.SSLError) -> Said:
    """The part of OpenSSL's message that helps a person; without source file and line."""
    if isinstance(problem, ssl.SSLCertVerificationError):
        return said("the certificate is not accepted: {reason}", reason=certificate_reason(problem))
    if isinstance(problem, (ssl.SSLZeroReturnError, ssl.SSLEOFError)):
        # A close_notify, or any EOF, see relay.tls; without a reason where it was met while writing.
        return _HANDSHAKE["UNEXPECTED_EOF_WHILE_READING"]
    if not problem.reason:
        return said("the TLS handshake failed")
    return _HANDSHAKE.get(problem.reason) or quoted(problem.reason.replace("_", " ").lower())


def certificate_reason(problem: ssl.SSLCertVerificationError) -> Said:
    """What is wrong with the other side's certificate, for a sentence that has named it."""
    return _CERTIFICATE.get(problem.verify_code) or quoted(problem.verify_message)
