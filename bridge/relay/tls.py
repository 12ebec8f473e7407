"""The TLS of our own ports: certificates that are renewed while we run, and what a failed handshake means."""

from __future__ import annotations

import ssl

from bridge.advice.said import Said, said
from bridge.advice.system import system_reason
from bridge.advice.tls import tls_reason
from bridge.errors import ConfigError, TlsFailed
from bridge.observe.logs import event, trouble
from bridge.trust import Stamp, stamp

LONGEST_KEY = 64 * 1024
"""Octets of a key file to search; a key of 4096 bits has 3,300."""

TOO_OLD = "the encryption of the mail program is too old: this port takes TLS 1.2 or newer, with forward secrecy"
NOT_TRUSTED = "the mail program does not trust the certificate, or knows the server by a name that is not in it"
HUNG_UP = "the mail program hung up in the middle: so do some that do not trust the certificate"
_SEEN_FROM_HERE = {
    "UNKNOWN_PROTOCOL": TOO_OLD,
    "VERSION_TOO_LOW": TOO_OLD,
    "UNSUPPORTED_PROTOCOL": TOO_OLD,
    "NO_SHARED_CIPHER": TOO_OLD,
    "NO_SHARED_SIGNATURE_ALGORITHMS": TOO_OLD,
    "TLSV1_ALERT_UNKNOWN_CA": NOT_TRUSTED,
    "SSLV3_ALERT_BAD_CERTIFICATE": NOT_TRUSTED,
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": NOT_TRUSTED,
}
"""OpenSSL's reason for a failed handshake does not say which side it is about; here it is the mail client. A scanner of
2010 is `unsupported protocol`, one with SSL 3.0 `version too low`, with SSL 2.0 `unknown protocol`; a client with TLS
1.2 and no hash but SHA-1 is `no shared signature algorithms`, a PC that lacks our authority `tlsv1 alert unknown
ca`."""

_UNSAID_END_IS_ONE: int = getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
"""LibreSSL and OpenSSL before 3 have no such option: there a FIN without close_notify ends only the reading."""


def listener_context(certificate: str, key: str) -> ssl.SSLContext:
    """TLS 1.2 or better for mail clients. Raises: OSError, ssl.SSLError for files that cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION  # of no use to a mail program, and costly for us
    # Otherwise OpenSSL 3 sends nothing more to a mail program that half-closes without close_notify.
    context.options |= _UNSAID_END_IS_ONE
    # An empty password callback: an encrypted key is an error at start, not a prompt on the console.
    context.load_cert_chain(certificate, key, password=lambda: b"")
    return context


def client_reason(problem: TlsFailed) -> str:
    """Why a mail client's handshake failed, for the log; the frequent reasons come with their meaning."""
    reason = getattr(problem.__cause__, "reason", None) or ""
    meaning = HUNG_UP if has_hung_up(problem) else _SEEN_FROM_HERE.get(reason)
    return f"{problem}; {meaning}" if meaning else str(problem)


def has_hung_up(problem: TlsFailed) -> bool:
    """True if the handshake failed only because the client hung up."""
    return isinstance(problem.__cause__, (ssl.SSLEOFError, ssl.SSLZeroReturnError))


class ListenerCertificate:
    """A local port's certificate: read again when its files have changed, for the handshakes that follow."""

    def __init__(self, certificate: str, key: str) -> None:
        """Raises: ConfigError for files that cannot be used."""
        self.files = certificate, key
        self.is_unread = False
        """True if the files have changed and could not be read since (no permission, no descriptor left). That can be
        cured without a change to the files, so each look tries again."""
        self._stamp = self._stamped()
        try:
            self._context = listener_context(*self.files)
        except (OSError, ssl.SSLError) as problem:
            raise ConfigError((_unusable(certificate, key, problem),)) from problem

    def context(self) -> ssl.SSLContext:
        """The context of the certificate as it is now."""
        return self._context

    def look(self) -> bool:
        """Take up files that have changed; if they cannot be used, say so, and go on with the old certificate.

        Certificate and key are two files, replaced one after the other: if they do not match yet, they are tried again
        when the second one has changed. Returns: True if there is a new certificate now.
        """
        now = self._stamped()
        if now == self._stamp and not self.is_unread:
            return False
        is_told, self._stamp = now == self._stamp, now
        try:
            self._context = listener_context(*self.files)
        except (OSError, ssl.SSLError) as problem:
            self.is_unread = not isinstance(problem, ssl.SSLError)
            if not (is_told and self.is_unread):  # that a file can be read at last, but is no good, is news, too
                reason = f"{problem}; the old one stays in use"
                trouble("certificate.unusable", certificate=self.files[0], reason=reason)
            return False
        self.is_unread = False
        event("certificate.renewed", certificate=self.files[0])
        return True

    def _stamped(self) -> tuple[Stamp, ...]:
        return tuple(map(stamp, self.files))


def _unusable(certificate: str, key: str, problem: OSError) -> Said:
    try:
        reason = (
            _wrong_content(certificate, key, problem)
            if isinstance(problem, ssl.SSLError)  # an OSError whose number is OpenSSL's, not the system's
            else system_reason(problem)
        )
    except OSError as gone:  # the files are opened once more, and may be being replaced at this moment
        reason = system_reason(gone)
    return said(
        "listeners: the certificate {certificate} or its key cannot be used: {reason}",
        certificate=certificate,
        reason=reason,
    )


def _wrong_content(certificate: str, key: str, problem: ssl.SSLError) -> Said:
    if problem.reason in {"KEY_VALUES_MISMATCH", "NO_CERTIFICATE_ASSIGNED"}:  # the second: one is RSA, the other EC
        return said("the key does not belong to the certificate")
    if problem.reason == "EE_KEY_TOO_SMALL":
        return said("the certificate's key is too short")
    if problem.reason:
        return tls_reason(problem)
    # OpenSSL says no more than "PEM lib", whichever of the two files is wrong.
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(certificate)
    except ssl.SSLError:
        return said("there is no certificate in PEM, or a damaged one")
    if _is_locked(key):
        return said("the key has a password, which must be removed")
    return said("there is no private key in PEM, or a damaged one")


def _is_locked(key: str) -> bool:
    """True for both kinds of encrypted keys: `ENCRYPTED PRIVATE KEY`, and `Proc-Type: 4,ENCRYPTED` within the text."""
    with open(key, "rb") as file:
        return b"ENCRYPTED" in file.read(LONGEST_KEY)
