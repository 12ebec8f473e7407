"""PEM files as administrators have them: which can be used, and what the errors say about the others."""

from __future__ import annotations

import base64
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from bridge.errors import ProviderRefused
from bridge.oauth.microsoft.certificates import LONGEST_FILE, ClientCertificate
from bridge.ui.i18n import translation
from tests.servers.ca import self_signed

Pair = tuple[str, str]


@pytest.fixture(scope="module")
def pair() -> Pair:
    return self_signed()


@pytest.fixture(scope="module")
def other() -> Pair:
    return self_signed()


def written(directory: Path, certificate: str, key: str | None) -> ClientCertificate:
    (directory / "app.pem").write_text(certificate)
    if key is not None:
        (directory / "app.key").write_text(key)
    return ClientCertificate(str(directory / "app.pem"), None if key is None else str(directory / "app.key"))


def in_french(problem: ProviderRefused) -> str:
    assert problem.diagnosis is not None
    return problem.diagnosis.told(translation("fr"))


def test_a_certificate_and_its_key_of_pkcs8(pair: Pair, tmp_path: Path) -> None:
    found = written(tmp_path, *pair).credential()
    assert found["public_certificate"] == pair[0]
    written_key = found["private_key"].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    assert written_key.decode() == pair[1]
    assert "thumbprint" not in found  # msal would take it for SHA-1


def test_a_key_of_pkcs1(tmp_path: Path) -> None:
    certificate, key = self_signed(encoding=PrivateFormat.TraditionalOpenSSL)
    assert "BEGIN RSA PRIVATE KEY" in key
    assert written(tmp_path, certificate, key).credential()["public_certificate"] == certificate


@pytest.mark.parametrize("order", [lambda c, k: c + k, lambda c, k: k + c], ids=["certificate first", "key first"])
def test_both_in_one_file_with_remarks_between_them(
    pair: Pair, tmp_path: Path, order: Callable[[str, str], str]
) -> None:
    text = order(pair[0], "Bag Attributes\n    friendlyName: mail-bridge\n" + pair[1])
    assert written(tmp_path, text, None).credential()["public_certificate"] == pair[0]


def test_of_a_chain_the_keys_own_certificate_is_shown(pair: Pair, other: Pair, tmp_path: Path) -> None:
    assert written(tmp_path, other[0] + pair[0], pair[1]).credential()["public_certificate"] == pair[0]


def test_a_key_is_loaded_once_until_a_file_changes(pair: Pair, other: Pair, tmp_path: Path) -> None:
    certificate = written(tmp_path, *pair)
    assert certificate.credential() is certificate.credential()
    written(tmp_path, *other)
    assert certificate.credential()["public_certificate"] == other[0]


def test_a_certificate_that_is_renewed_for_the_same_key_is_used(pair: Pair, tmp_path: Path) -> None:
    certificate = written(tmp_path, *pair)
    certificate.credential()
    loaded = load_pem_private_key(pair[1].encode(), None)
    assert isinstance(loaded, RSAPrivateKey)
    renewed, _ = self_signed(key=loaded)
    (tmp_path / "app.pem").write_text(renewed)
    assert certificate.credential()["public_certificate"] == renewed


def test_a_key_is_missed_although_its_certificate_is_the_same(pair: Pair, other: Pair, tmp_path: Path) -> None:
    certificate = written(tmp_path, *pair)
    certificate.credential()
    (tmp_path / "app.key").write_text(other[1])
    with pytest.raises(ProviderRefused, match="belongs to no certificate"):
        certificate.credential()


def encrypted(key: str) -> str:
    loaded = load_pem_private_key(key.encode(), None)
    return loaded.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"CANARY")).decode()


def encrypted_pkcs1(key: str) -> str:
    loaded = load_pem_private_key(key.encode(), None)
    kind = PrivateFormat.TraditionalOpenSSL
    return loaded.private_bytes(Encoding.PEM, kind, BestAvailableEncryption(b"CANARY")).decode()


def elliptic(_: str) -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


P256, NO_CURVE = bytes.fromhex("06082a8648ce3d030107"), bytes.fromhex("06082a8648ce3d03017f")
"""The OID of a curve, and an OID that stands for no curve, so that nobody knows such a key."""


def edwards(_: str) -> str:
    key = ed25519.Ed25519PrivateKey.generate()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def unknown(_: str) -> str:
    key = ec.generate_private_key(ec.SECP256R1()).private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    body = base64.encodebytes(key.replace(P256, NO_CURVE)).decode()
    return f"-----BEGIN PRIVATE KEY-----\n{body}-----END PRIVATE KEY-----\n"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (encrypted, "has a password"),
        (encrypted_pkcs1, "has a password"),
        (elliptic, "RSA keys of at least 2048 bits"),
        (edwards, "RSA keys of at least 2048 bits"),
        (unknown, "damaged"),
        (lambda _: self_signed(1024)[1], "RSA keys of at least 2048 bits"),
        (lambda key: key[:200] + "!" + key[240:], "damaged"),
        (lambda key: key[:200], "holds no private key"),
        (lambda _: self_signed()[1], "belongs to no certificate"),
        (lambda _: "", "holds no private key"),
        (lambda key: " " * LONGEST_FILE + key, "holds no private key"),
        (lambda _: self_signed()[0], "holds no private key"),
    ],
    ids=[
        "encrypted",
        "encrypted PKCS#1",
        "EC",
        "Ed25519",
        "unknown",
        "short",
        "damaged",
        "cut",
        "another's",
        "empty",
        "behind a megabyte",
        "a certificate",
    ],
)
def test_a_key_that_cannot_be_used_is_named_with_its_file_and_nothing_of_it_is_shown(
    pair: Pair, tmp_path: Path, change: Callable[[str], str], words: str
) -> None:
    key = change(pair[1])
    with pytest.raises(ProviderRefused, match=words) as caught:
        written(tmp_path, pair[0], key).credential()
    text = str(caught.value)
    assert str(tmp_path / "app.key") in text
    assert "administrator must" in text
    assert "administrator" not in in_french(caught.value)
    assert str(tmp_path / "app.key") in in_french(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None, "a log would print what led to it"
    assert not any(line in text for line in key.splitlines() if line)


@pytest.mark.parametrize("text", ["", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_a_certificate_that_is_none_is_named_with_its_file(pair: Pair, tmp_path: Path, text: str) -> None:
    with pytest.raises(ProviderRefused, match="holds no certificate") as caught:
        written(tmp_path, text, pair[1]).credential()
    assert str(tmp_path / "app.pem") in str(caught.value)
    assert f"{tmp_path / 'app.pem'} ne contient pas de certificat" in in_french(caught.value)


def test_a_certificate_whose_kind_of_key_nobody_knows_is_none(pair: Pair, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "mail-bridge")])
    since, until = datetime(2026, 1, 1, tzinfo=UTC), datetime(2036, 1, 1, tzinfo=UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, since, until).sign(key, hashes.SHA256())
    odd = made.public_bytes(Encoding.DER).replace(P256, NO_CURVE)
    with pytest.raises(ProviderRefused, match="holds no certificate"):
        written(tmp_path, ssl.DER_cert_to_PEM_cert(odd), pair[1]).credential()


def test_files_that_cannot_be_read_are_named(pair: Pair, tmp_path: Path) -> None:
    certificate = written(tmp_path, *pair)
    (tmp_path / "app.key").unlink()
    (tmp_path / "app.key").mkdir()
    with pytest.raises(ProviderRefused, match="cannot be read") as caught:
        certificate.credential()
    assert f"{tmp_path / 'app.key'} cannot be read (Is a directory)" in str(caught.value)
    assert f"{tmp_path / 'app.key'} ne peut pas être lu (c’est un dossier" in in_french(caught.value)
