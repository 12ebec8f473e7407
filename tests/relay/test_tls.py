"""The certificates of local ports: renewed on the disk while the bridge runs."""

from __future__ import annotations

import io
import ssl
from pathlib import Path

import pytest
import trustme

from bridge.errors import ConfigError
from bridge.relay.tls import ListenerCertificate, listener_context
from tests.relay.sockets import shaken_in_memory


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
        """The key that belongs to the certificate that was issued last."""
        self._issued.private_key_pem.write_to_path(self.key)


@pytest.fixture
def pair(tmp_path: Path, authority: trustme.CA) -> Pair:
    found = Pair(tmp_path, authority)
    found.issue("certificate", "key")
    return found


def serial(context: ssl.SSLContext, authority: trustme.CA) -> str:
    """Of the certificate that a client meets."""
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


def test_a_pair_that_does_not_fit_is_named_at_start(pair: Pair) -> None:
    pair.issue("key")
    with pytest.raises(ConfigError, match=r"server\.pem"):
        ListenerCertificate(str(pair.certificate), str(pair.key))


def test_a_port_speaks_tls_1_2_or_better_without_renegotiation_or_alpn(pair: Pair) -> None:
    context = listener_context(str(pair.certificate), str(pair.key))
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_RENEGOTIATION
    assert context.options & ssl.OP_NO_COMPRESSION
    assert context.verify_mode is ssl.CERT_NONE
