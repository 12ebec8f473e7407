"""Certificates that are renewed while the bridge runs: those of local ports, and the CAs that verify mail servers."""

from __future__ import annotations

import errno
import io
import os
import ssl
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from bridge.errors import ConfigError, TlsFailed
from bridge.relay.tls import ListenerCertificate, client_reason, listener_context
from bridge.ui.i18n import translation
from tests.relay.scripted import mail_client
from tests.relay.sockets import shaken_in_memory
from tests.servers.ca import self_signed


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


class Pair:
    """Certificate and key, as two files."""

    def __init__(self, directory: Path, authority: trustme.CA) -> None:
        self.certificate, self.key = directory / "server.pem", directory / "server.key"
        self._authority = authority

    def issue(self, *parts: str) -> None:
        issued = self._authority.issue_cert("localhost")
        if "certificate" in parts:
            issued.cert_chain_pems[0].write_to_path(self.certificate)
        if "key" in parts:
            issued.private_key_pem.write_to_path(self.key)
        self._issued = issued

    def finish(self) -> None:
        """Write the key that belongs to the certificate issued last."""
        self._issued.private_key_pem.write_to_path(self.key)


@pytest.fixture
def pair(tmp_path: Path, authority: trustme.CA) -> Pair:
    found = Pair(tmp_path, authority)
    found.issue("certificate", "key")
    return found


def serial(context: ssl.SSLContext, authority: trustme.CA) -> str:
    """The serial number of the certificate that a client gets."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(client)
    theirs = shaken_in_memory(client, context, "localhost")
    return str((theirs.getpeercert() or {})["serialNumber"])


def test_a_renewed_certificate_is_taken_up(pair: Pair, authority: trustme.CA, log: io.StringIO) -> None:
    listener = ListenerCertificate(str(pair.certificate), str(pair.key))
    first = serial(listener.context(), authority)
    pair.issue("certificate", "key")
    listener.look()
    assert serial(listener.context(), authority) != first
    assert "certificate.renewed" in log.getvalue()


def test_what_has_not_changed_is_left_alone(pair: Pair, log: io.StringIO) -> None:
    listener = ListenerCertificate(str(pair.certificate), str(pair.key))
    context = listener.context()
    listener.look()
    assert listener.context() is context
    assert log.getvalue() == ""


def test_between_two_files_the_old_certificate_stays_and_is_spoken_of_once(
    pair: Pair, authority: trustme.CA, log: io.StringIO
) -> None:
    listener = ListenerCertificate(str(pair.certificate), str(pair.key))
    first = serial(listener.context(), authority)
    pair.issue("certificate")
    for _ in range(3):
        listener.look()
    assert serial(listener.context(), authority) == first
    assert log.getvalue().count("certificate.unusable") == 1
    pair.finish()
    listener.look()
    assert serial(listener.context(), authority) != first


def test_a_file_that_is_gone_for_a_moment_changes_nothing(pair: Pair, authority: trustme.CA) -> None:
    listener = ListenerCertificate(str(pair.certificate), str(pair.key))
    first = serial(listener.context(), authority)
    pair.certificate.unlink()
    listener.look()
    assert serial(listener.context(), authority) == first


def test_a_renewed_certificate_that_cannot_be_read_yet_is_taken_up_once_it_can(
    pair: Pair, authority: trustme.CA, log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its owner and mode are corrected only after it was written, which changes neither its content nor its time."""
    listener = ListenerCertificate(str(pair.certificate), str(pair.key))
    first = serial(listener.context(), authority)
    pair.issue("certificate", "key")
    with monkeypatch.context() as patch:
        patch.setattr("bridge.relay.tls.listener_context", forbidden)
        for _ in range(3):
            assert not listener.look()
    assert log.getvalue().count("certificate.unusable") == 1
    assert listener.look()
    assert serial(listener.context(), authority) != first
    assert not listener.look()


def test_a_renewed_certificate_that_can_be_read_at_last_and_is_no_good_is_told_of_too(
    pair: Pair, log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the log's last word would be about a mode that somebody has corrected."""
    listener = ListenerCertificate(str(pair.certificate), str(pair.key))
    pair.issue("key")
    with monkeypatch.context() as patch:
        patch.setattr("bridge.relay.tls.listener_context", forbidden)
        assert not listener.look()
    for _ in range(3):
        assert not listener.look()
    assert log.getvalue().count("certificate.unusable") == 2
    assert "KEY_VALUES_MISMATCH" in log.getvalue()


def forbidden(*_: object) -> ssl.SSLContext:
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def another_key(pair: Pair) -> None:
    pair.issue("key")


def a_key_of_another_kind(pair: Pair) -> None:
    pair.key.write_text(self_signed()[1])


def no_certificate(pair: Pair) -> None:
    pair.certificate.write_text("hello\n")


def half_a_certificate(pair: Pair) -> None:
    pair.certificate.write_text(pair.certificate.read_text()[:300])


def no_key(pair: Pair) -> None:
    pair.key.write_text(pair.certificate.read_text())


def half_a_key(pair: Pair) -> None:
    pair.key.write_text(pair.key.read_text()[:100])


def locked(pair: Pair, form: PrivateFormat) -> None:
    key = load_pem_private_key(pair.key.read_bytes(), None)
    pair.key.write_bytes(key.private_bytes(Encoding.PEM, form, BestAvailableEncryption(b"CANARY")))


def a_short_key(pair: Pair) -> None:
    certificate, key = self_signed(1024)
    pair.certificate.write_text(certificate)
    pair.key.write_text(key)


def no_file(pair: Pair) -> None:
    pair.certificate.unlink()


MISMATCH = ("the key does not belong to the certificate", "la clé ne correspond pas au certificat")
CERTIFICATE = (
    "there is no certificate in PEM, or a damaged one",
    "il n’y a pas de certificat au format PEM, ou il est endommagé",
)
KEY = (
    "there is no private key in PEM, or a damaged one",
    "il n’y a pas de clé privée au format PEM, ou elle est endommagée",
)
LOCKED = (
    "the key has a password, which must be removed",
    "la clé est protégée par un mot de passe, qu’il faut enlever",
)
SHORT = ("the certificate's key is too short", "la clé du certificat est trop courte")


@pytest.mark.parametrize(
    ("breaks", "words"),
    [
        (another_key, MISMATCH),
        (a_key_of_another_kind, MISMATCH),
        (no_certificate, CERTIFICATE),
        (half_a_certificate, CERTIFICATE),
        (no_key, KEY),
        (half_a_key, KEY),
        (partial(locked, form=PrivateFormat.PKCS8), LOCKED),
        (partial(locked, form=PrivateFormat.TraditionalOpenSSL), LOCKED),
        (a_short_key, SHORT),
        (no_file, ("No such file or directory", "aucun fichier ni dossier de ce nom")),
    ],
)
def test_a_pair_that_cannot_be_used_is_named_at_start_in_any_language(
    pair: Pair, breaks: Callable[[Pair], None], words: tuple[str, str]
) -> None:
    breaks(pair)
    with pytest.raises(ConfigError) as caught:
        ListenerCertificate(str(pair.certificate), str(pair.key))
    (sentence,) = caught.value.sentences
    assert str(sentence).endswith(f"{pair.certificate} or its key cannot be used: {words[0]}")
    assert sentence.told(translation("fr")).endswith(f"{pair.certificate} ou sa clé est inutilisable\u00a0: {words[1]}")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFO in a directory")
def test_a_file_that_goes_before_it_is_known_what_was_wrong_with_it_is_no_fault_of_ours(pair: Pair) -> None:
    """A half-written file is being replaced by its successor."""
    pair.certificate.unlink()
    os.mkfifo(pair.certificate)

    def say() -> None:
        with pair.certificate.open("w") as writing:  # blocks until it is read
            writing.write("hello\n")
            pair.certificate.unlink()

    saying = threading.Thread(target=say)
    saying.start()
    with pytest.raises(ConfigError, match=r"server\.pem or its key cannot be used: .*No such file or directory"):
        ListenerCertificate(str(pair.certificate), str(pair.key))
    saying.join()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFO in a directory")
def test_what_is_replaced_while_it_is_read_is_read_once_more(pair: Pair) -> None:
    text = pair.certificate.read_text()
    pair.certificate.unlink()
    os.mkfifo(pair.certificate)

    def say() -> None:
        with pair.certificate.open("w") as writing:  # blocks until it is read
            writing.write(text)
            pair.certificate.unlink()
            pair.certificate.write_text(text)

    saying = threading.Thread(target=say)
    saying.start()
    listener = ListenerCertificate(str(pair.certificate), str(pair.key))
    saying.join()
    assert [listener.look(), listener.look()] == [True, False]


def ssl_2_hello(version: bytes) -> bytes:
    """A hello in the format of SSL 2.0, which programs with SSL 3.0 and TLS 1.0 also used (RFC 5246 appendix E.2)."""
    ciphers = bytes.fromhex("010080 00002f 00000a")
    said = b"\x01" + version + bytes([0, len(ciphers), 0, 0, 0, 16]) + ciphers + bytes(16)
    return bytes([0x80, len(said)]) + said


def hello(version: bytes, cipher: str, extensions: str = "") -> bytes:
    """A ClientHello with a single cipher."""
    told = bytes.fromhex(extensions)
    said = version + bytes(33) + bytes([0, 2]) + bytes.fromhex(cipher) + bytes([1, 0])
    said += len(told).to_bytes(2, "big") + told if told else b""
    said = b"\x01" + len(said).to_bytes(3, "big") + said
    return b"\x16\x03\x00" + len(said).to_bytes(2, "big") + said


SSL_2, SSL_3, TLS_1_0, TLS_1_2 = b"\x00\x02", b"\x03\x00", b"\x03\x01", b"\x03\x03"
CURVE_AND_SHA_1 = "000a 0004 0002 0017  000b 0002 0100  000d 0004 0002 0201"


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(ssl_2_hello(SSL_2), id="SSL 2.0"),
        pytest.param(ssl_2_hello(SSL_3), id="SSL 3.0 in the form of 2.0"),
        pytest.param(ssl_2_hello(TLS_1_0), id="TLS 1.0 in the form of SSL 2.0"),
        pytest.param(hello(SSL_3, "002f"), id="SSL 3.0"),
        pytest.param(hello(TLS_1_0, "002f"), id="TLS 1.0"),
        pytest.param(hello(TLS_1_2, "002f"), id="TLS 1.2 without forward secrecy"),
        pytest.param(hello(TLS_1_2, "c02f", CURVE_AND_SHA_1), id="TLS 1.2 with SHA-1 alone"),
    ],
)
async def test_a_mail_program_that_is_too_old_is_called_so(pair: Pair, said: bytes) -> None:
    context = listener_context(str(pair.certificate), str(pair.key))
    with mail_client() as client:
        await client.send(said)
        client.say_no_more()
        with pytest.raises(TlsFailed) as failed:
            await client.bridge.start_tls(context)
    assert "the encryption of the mail program is too old" in client_reason(failed.value)


def test_a_port_speaks_tls_1_2_or_better_without_renegotiation_or_alpn(pair: Pair) -> None:
    context = listener_context(str(pair.certificate), str(pair.key))
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_RENEGOTIATION
    assert context.options & ssl.OP_NO_COMPRESSION
    assert context.verify_mode is ssl.CERT_NONE
