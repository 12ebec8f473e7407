"""Errors of TLS and the system, from handshakes and lookups that really fail: those that we know in any language, the
rest quoted."""

from __future__ import annotations

import datetime
import errno
import socket
import ssl
from collections.abc import Callable
from typing import Any

import pytest
import trustme

from bridge.advice.said import Said
from bridge.advice.system import name_reason, system_reason
from bridge.advice.tls import certificate_reason, tls_reason
from bridge.ui.i18n import translation
from tests.relay.sockets import shaken_in_memory
from tests.servers.ca import self_signed

FRENCH = translation("fr")
NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def server(authority: trustme.CA, *names: str, **life: Any) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*(names or ("localhost",)), **life).configure_cert(context)
    return context


def of_its_own(bits: int) -> tuple[ssl.SSLContext, str]:
    """A server with a self-signed certificate. Returns: its context, and the certificate with its key."""
    certificate, key = self_signed(bits)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("ALL:@SECLEVEL=0")
    return context, certificate + key


def refusal(client: ssl.SSLContext, server: ssl.SSLContext, name: str = "localhost") -> ssl.SSLError:
    with pytest.raises(ssl.SSLError) as caught:
        shaken_in_memory(client, server, name)
    return caught.value


def client(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(context)
    return context


CERTIFICATES: dict[str, tuple[Callable[[trustme.CA], ssl.SSLContext], str, str]] = {
    "expired": (
        lambda ca: server(ca, not_before=NOW - 3 * DAY, not_after=NOW - DAY),
        "certificate has expired",
        "il a expiré",
    ),
    "not yet": (
        lambda ca: server(ca, not_before=NOW + DAY, not_after=NOW + 3 * DAY),
        "certificate is not yet valid",
        "il n’est pas encore valable (ou l’horloge de cet ordinateur n’est pas à l’heure)",
    ),
    "other name": (
        lambda ca: server(ca, "else.example"),
        "Hostname mismatch, certificate is not valid for this name",
        "il n’est pas établi pour ce nom",
    ),
    "stranger": (
        lambda ca: server(trustme.CA()),
        "unable to get local issuer certificate",
        "il vient d’une autorité à laquelle mail-bridge ne fait pas confiance",
    ),
}


@pytest.mark.parametrize("case", CERTIFICATES)
def test_a_certificate_that_is_refused(authority: trustme.CA, case: str) -> None:
    context, sentence, phrase = CERTIFICATES[case]
    problem = refusal(client(authority), context(authority))
    assert str(tls_reason(problem)) == f"the certificate is not accepted: {sentence}"
    assert tls_reason(problem).told(FRENCH) == f"le certificat n’est pas accepté\u00a0: {phrase}"


def test_a_certificate_that_is_not_of_this_address(authority: trustme.CA) -> None:
    problem = refusal(client(authority), server(authority, "127.0.0.2"), "127.0.0.1")
    assert isinstance(problem, ssl.SSLCertVerificationError)
    assert "IP address mismatch" in str(certificate_reason(problem))
    assert certificate_reason(problem).told(FRENCH) == "il n’est pas établi pour cette adresse IP"


@pytest.fixture
def alone(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], tuple[ssl.SSLContext, str]]:
    def made(bits: int) -> tuple[ssl.SSLContext, str]:
        context, pem = of_its_own(bits)
        file = tmp_path_factory.mktemp("own") / "server.pem"
        file.write_text(pem)
        context.load_cert_chain(file)
        return context, str(file)

    return made


def test_a_certificate_that_nobody_has_signed(
    authority: trustme.CA, alone: Callable[[int], tuple[ssl.SSLContext, str]]
) -> None:
    problem = refusal(client(authority), alone(2048)[0])
    assert str(tls_reason(problem)).endswith(": self-signed certificate")
    assert tls_reason(problem).told(FRENCH).endswith("\u00a0: il est autosigné")


def test_what_openssl_says_and_we_have_no_words_for_is_quoted(
    alone: Callable[[int], tuple[ssl.SSLContext, str]],
) -> None:
    """The certificate is trusted explicitly, but its key is too short for OpenSSL."""
    weak, file = alone(1024)
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.load_verify_locations(file)
    problem = refusal(trusting, weak)
    assert isinstance(problem, ssl.SSLCertVerificationError)
    theirs = problem.verify_message
    assert str(tls_reason(problem)) == f'the certificate is not accepted: "{theirs}"'
    assert tls_reason(problem).told(FRENCH) == f"le certificat n’est pas accepté\u00a0: «\u00a0{theirs}\u00a0»"


def test_a_handshake_that_is_none(authority: trustme.CA) -> None:
    incoming = ssl.MemoryBIO()
    incoming.write(b"* OK IMAP4rev1 ready\r\n")
    ours = client(authority).wrap_bio(incoming, ssl.MemoryBIO(), server_hostname="localhost")
    with pytest.raises(ssl.SSLError) as caught:
        ours.do_handshake()
    assert tls_reason(caught.value).told(FRENCH) == "ce qui répond ne parle pas TLS"


def test_a_name_that_leads_nowhere() -> None:
    told: list[Said] = []
    for name in ("no-such-name.invalid", "mail..example.com"):
        with pytest.raises((socket.gaierror, UnicodeError)) as caught:
            socket.getaddrinfo(name, 993)
        assert isinstance(caught.value, socket.gaierror | UnicodeError)
        told.append(name_reason(caught.value))
    assert told[0].told(FRENCH) in {"ce nom est inconnu", "le serveur de noms (DNS) ne répond pas pour le moment"}
    assert told[1].told(FRENCH) == "ce n’est pas un nom d’hôte valable"


def test_what_the_system_says_and_we_have_no_words_for_is_quoted() -> None:
    problem = OSError(errno.ELOOP, "Too many levels of symbolic links")
    assert str(system_reason(problem)) == '"Too many levels of symbolic links"'
    assert system_reason(problem).told(FRENCH) == "«\u00a0Too many levels of symbolic links\u00a0»"


def test_windows_has_a_second_number_for_a_refused_connection() -> None:
    assert str(system_reason(ConnectionRefusedError(22, "…"))) == "Connection refused"
