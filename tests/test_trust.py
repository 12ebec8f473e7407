"""Which of the system's certificates a client context trusts."""

from __future__ import annotations

import errno
import os
import ssl
import sys
from pathlib import Path

import pytest
import trustme

from bridge.trust import client_context, take_windows_certificates_one_by_one
from tests.host.limits import out_of_descriptors


def test_a_certificate_in_windows_store_that_is_none_takes_nothing_from_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Runs Python's own code, with a store of the test in place of Windows'."""
    good, other = (ssl.PEM_cert_to_DER_cert(trustme.CA().cert_pem.bytes().decode()) for _ in range(2))
    broken = b"\x30\x82\x01\x00"
    entries = [(broken, "x509_asn", True), (good, "x509_asn", True), (other, "x509_asn", {"1.3.6.1.5.5.7.3.2"})]
    stores = {"CA": [(b"", "pkcs_7_asn", True)], "ROOT": entries}

    def as_on_windows(self: ssl.SSLContext, purpose: object = ssl.Purpose.SERVER_AUTH) -> None:
        for name in stores:
            self._load_windows_store_certs(name, purpose)  # type: ignore[attr-defined]

    loading = ssl.SSLContext._load_windows_store_certs  # type: ignore[attr-defined]
    monkeypatch.setattr(ssl.SSLContext, "_load_windows_store_certs", loading)  # so that monkeypatch restores it
    monkeypatch.setattr(ssl, "enum_certificates", stores.__getitem__, raising=False)
    monkeypatch.setattr(ssl.SSLContext, "load_default_certs", as_on_windows)
    take_windows_certificates_one_by_one()
    context = client_context(None)
    # Windows' and macOS' own Python has certifi's certificates as well
    assert {good, other, broken} & set(context.get_ca_certs(binary_form=True)) == {good}
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has its own store, not a file")
def test_a_systems_file_that_cannot_be_read_just_now_is_not_taken_for_an_empty_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """OpenSSL makes a context without any certificate from it, which would trust nobody until the next start."""
    file, directory = tmp_path / "bundle.pem", tmp_path / "none"
    directory.mkdir()
    trustme.CA().cert_pem.write_to_path(file)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    monkeypatch.setenv("SSL_CERT_DIR", str(directory))
    with out_of_descriptors(), pytest.raises(OSError, match=os.strerror(errno.EMFILE)):
        client_context(None)
    assert client_context(None).cert_store_stats()["x509"] == 1
    file.write_text("")
    client_context(None)  # a file without certificates is still no error, since a directory may have some
