"""The configuration file and the files that it names (certificates, keys, secrets): what may be wrong with them, and
who may read them."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trustme

from bridge.config.load import load_config, parse_config
from bridge.config.microsoft import MicrosoftProvider
from bridge.errors import ConfigError
from tests.closed import closed
from tests.config.bad_values import GOOD, MICROSOFT
from tests.config.loading import CANARY, edited, load, problems
from tests.host.limits import out_of_descriptors
from tests.servers.ca import Authority
from tests.servers.disks import small_disk


def with_tls(tmp_path: Path, certificate: str = "server.pem", key: str = "server.key") -> str:
    issued = trustme.CA().issue_cert("localhost")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "server.pem")
    issued.private_key_pem.write_to_path(tmp_path / "server.key")
    trustme.CA().issue_cert("localhost").private_key_pem.write_to_path(tmp_path / "other.key")
    (tmp_path / "empty.pem").write_text("")
    (tmp_path / "damaged.pem").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    (tmp_path / "locked.key").write_text(
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"
    )
    pair = f"certificate: {certificate}, key: {key}"
    return f"{GOOD}listeners:\n  imap: {{address: 0.0.0.0:993, tls: implicit, exposed: true, {pair}}}\n"


def test_a_certificate_and_its_key_are_accepted(tmp_path: Path) -> None:
    (door,) = load(with_tls(tmp_path), tmp_path).config.listeners.imap
    assert (door.certificate, door.key) == (str(tmp_path / "server.pem"), str(tmp_path / "server.key"))


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({"key": "none"}, "key: there is no file {}none"),
        ({"key": "other.key"}, "key: {0}other.key is not the key of the certificate in {0}server.pem"),
        ({"key": "locked.key"}, "key: the key in {}locked.key has a password; store it without one"),
        (
            {"key": "server.pem"},
            "key: the file {}server.pem holds no private key in PEM form (-----BEGIN … PRIVATE KEY-----)",
        ),
        (
            {"certificate": "empty.pem"},
            "certificate: the file {}empty.pem holds no certificate in PEM form (-----BEGIN … CERTIFICATE-----)",
        ),
        (
            {"certificate": "damaged.pem"},
            "key: {0}server.key is damaged, or cannot be used with the certificate in {0}damaged.pem",
        ),
    ],
)
def test_a_certificate_that_cannot_be_used_is_found_before_the_start(
    files: dict[str, str], problem: str, tmp_path: Path
) -> None:
    (found,) = problems(with_tls(tmp_path, **files), tmp_path)
    assert found.partition("listeners.imap.")[2] == problem.format(f"{tmp_path}{os.sep}")


@pytest.mark.parametrize("gone", ["server.pem", "server.key"])
def test_a_pair_that_is_renewed_in_that_moment_is_looked_at_again_later(
    gone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenSSL opens both files by their paths, after we have looked at them: either may be gone by then."""
    text, really_open = with_tls(tmp_path), Path.open

    def renewed(path: Path, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        opened = really_open(path, mode, *arguments, **options)
        if path.name != "server.key":  # we look at the key last
            return opened
        with opened:  # closed first, because Windows removes no open file
            content = opened.read()
        (tmp_path / gone).unlink()
        return io.BytesIO(content)

    monkeypatch.setattr(Path, "open", renewed)
    with pytest.raises(ConfigError) as caught:
        load(text, tmp_path)
    (found,) = caught.value.problems
    assert f"the file {tmp_path / gone} cannot be read (No such file or directory)" in found
    assert caught.value.may_pass


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on descriptors")
@pytest.mark.parametrize("secret", ["client_secret: text\n    ca_file: file.pem", "client_secret: ${file:file.pem}"])
def test_a_file_that_the_system_does_not_give_just_now_is_looked_at_again_later(secret: str, tmp_path: Path) -> None:
    (tmp_path / "file.pem").write_text("text")
    text = edited(("client_secret: text", secret))
    with out_of_descriptors(), pytest.raises(ConfigError, match="Too many open files") as caught:
        load(text, tmp_path)
    assert caught.value.may_pass


def test_a_damaged_ca_file_is_found_before_the_start(tmp_path: Path) -> None:
    with_tls(tmp_path)
    text = edited(("client_secret: text", "client_secret: text\n    ca_file: damaged.pem"))
    assert problems(text, tmp_path) == [
        f"config.yaml:6:5: providers.gmail.ca_file: the certificates in {tmp_path / 'damaged.pem'} are damaged"
    ]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"a: caf\xe9", ":1:7: there is a byte here that is not UTF-8; save the file as UTF-8"),
        (b"a: 1\nb: \xc3\xa9\xff", ":2:5: there is a byte here that is not UTF-8; save the file as UTF-8"),
        ("a: b".encode("utf-16"), ":1:1: the file is UTF-16; save it as UTF-8"),
        ("a: b".encode("utf-16-le"), ":1:1: the file is UTF-16; save it as UTF-8"),
        ("a: b".encode("utf-16-be"), ":1:1: the file is UTF-16; save it as UTF-8"),
        (b"#" * (1024 * 1024 + 1), ": the file is larger than 1 MiB; it is hardly a configuration"),
    ],
)
def test_a_file_that_is_no_text_has_one_sentence(content: bytes, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert caught.value.problems == (f"{path}{problem}",)


def test_a_file_that_is_not_there_is_named_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "none.yaml")
    assert str(caught.value) == f"{tmp_path / 'none.yaml'}: there is no such file"
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path)
    assert str(caught.value) == f"{tmp_path}: this is a directory, not a file"


def test_a_directory_that_is_refused_as_windows_does_it_is_one_all_the_same(tmp_path: Path) -> None:
    class Closed(type(tmp_path)):  # type: ignore[misc]
        def open(self, mode: str) -> None:
            raise PermissionError(13, "Permission denied")

    for directory, told in ((tmp_path, "this is a directory, not a file"), (tmp_path / "none", "this file cannot be")):
        with pytest.raises(ConfigError, match=told):
            load_config(Closed(directory))


def test_a_file_in_a_directory_of_somebody_elses_is_not_said_to_be_missing(tmp_path: Path) -> None:
    text = with_tls(tmp_path).replace("client_secret: text", "client_secret: ${file:secret.txt}")
    (tmp_path / "secret.txt").write_text(CANARY)
    (tmp_path / "config.yaml").write_text(text)
    why = "cannot be read (Permission denied); let mail-bridge's user read it"
    with closed(tmp_path):
        assert [problem.partition(": the file ")[2] for problem in problems(text, tmp_path)] == [
            f"'secret.txt' {why}",
            f"{tmp_path}/server.pem {why}",
            f"{tmp_path}/server.key {why}",
        ]
        with pytest.raises(ConfigError, match=r"config\.yaml: this file cannot be read: Permission denied$"):
            load_config(tmp_path / "config.yaml")


def test_a_text_over_one_mebibyte_is_refused() -> None:
    assert problems("#" * (1024 * 1024 + 1)) == [
        "config.yaml: the file is larger than 1 MiB; it is hardly a configuration"
    ]


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
def test_a_secret_in_a_file_for_everybody_is_warned_of(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(edited(("text", CANARY)))
    path.chmod(0o644)
    (warning,) = load_config(path).warnings
    assert str(warning) == (
        f"{path}:5:5: providers.gmail.client_secret: every user of this machine can read this secret; run: "
        f"chmod 600 {path} (or write ${{ENV}}, ${{file:path}} or ${{keyring:name}} in its place)"
    )
    entry = "\n  {}: {{kind: google, client_id: 1234.apps.googleusercontent.com, client_secret: '{}'}}"
    more = entry.format("work", "${SECRET}") + entry.format("play", CANARY)
    path.write_text(edited(("client_secret: text", f"client_secret: {CANARY}{more}")))
    (warning,) = load_config(path, environ={"SECRET": CANARY}).warnings
    assert str(warning) == (
        f"{path}:5:5: providers.gmail.client_secret, providers.play.client_secret: every user of this machine can read "
        f"these secrets; run: chmod 600 {path} (or write ${{ENV}}, ${{file:path}} or ${{keyring:name}} in their place)"
    )
    path.chmod(0o640)
    assert not load_config(path, environ={"SECRET": CANARY}).warnings
    path.write_text(edited(("text", "${SECRET}")))
    path.chmod(0o644)
    assert not load_config(path, environ={"SECRET": CANARY}).warnings


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
def test_a_secret_in_another_file_for_everybody_is_warned_of(tmp_path: Path) -> None:
    path, secret = tmp_path / "config.yaml", tmp_path / "office365.txt"
    path.write_text(edited(("text", "${file:office365.txt}")))
    path.chmod(0o600)
    secret.write_text(CANARY)
    secret.chmod(0o644)
    (warning,) = load_config(path).warnings
    assert str(warning) == (
        f"{path}:5:5: providers.gmail.client_secret: every user of this machine can read the secret in "
        f"{secret}; run: chmod 600 {secret}"
    )
    secret.chmod(0o640)
    assert not load_config(path).warnings


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
def test_a_configuration_that_everybody_can_change_is_warned_of(tmp_path: Path) -> None:
    """It names programs to run, and a running bridge reloads it by itself."""
    path = tmp_path / "config.yaml"
    path.write_text(edited(("text", "${SECRET}")))
    for place, mode in ((path, 0o666), (tmp_path, 0o777)):
        before = place.stat().st_mode
        place.chmod(mode)
        (warning,) = load_config(path, environ={"SECRET": CANARY}).warnings
        assert str(warning) == (
            f"{path}: every user of this machine can change {place}, and with it what mail-bridge does: which "
            f"programs it starts, and where it sends sign-ins; run: chmod o-w {place}"
        )
        place.chmod(before)
        assert not load_config(path, environ={"SECRET": CANARY}).warnings
    tmp_path.chmod(0o1777)  # as /tmp: only owners replace their files
    assert not load_config(path, environ={"SECRET": CANARY}).warnings
    link, shared = tmp_path / "link.yaml", tmp_path / "shared"
    shared.mkdir()
    link.symlink_to(path.rename(shared / "config.yaml"))
    assert not load_config(link, environ={"SECRET": CANARY}).warnings
    shared.chmod(0o777)
    (warning,) = load_config(link, environ={"SECRET": CANARY}).warnings
    assert str(warning).endswith(f"run: chmod o-w {shared}")


def test_a_configuration_that_nobody_can_change_is_not_warned_of(tmp_path: Path) -> None:
    """As in a container: it is mounted read-only, with the modes that it has outside."""
    with small_disk(tmp_path / "mounted") as disk:
        path = disk / "config.yaml"
        path.write_text(edited(("text", "${SECRET}")))
        path.chmod(0o666)
        disk.chmod(0o777)
        assert load_config(path, environ={"SECRET": CANARY}).warnings
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        assert not load_config(path, environ={"SECRET": CANARY}).warnings


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
def test_a_private_key_for_everybody_is_warned_of(tmp_path: Path, authority: Authority) -> None:
    certificate, key = authority.write_pair(tmp_path)
    path = tmp_path / "config.yaml"
    path.write_text(
        edited(("text", "${SECRET}"))
        + f"listeners:\n  imap: {{address: '127.0.0.1:1143', tls: starttls, certificate: {certificate}, key: {key}}}\n"
    )
    key.chmod(0o644)
    (warning,) = load_config(path, environ={"SECRET": CANARY}).warnings
    assert "listeners.imap.key: every user of this machine can read the secret in" in str(warning)
    key.chmod(0o600)
    assert not load_config(path, environ={"SECRET": CANARY}).warnings


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
def test_a_stores_key_for_everybody_is_left_to_the_store_which_refuses_it(tmp_path: Path) -> None:
    path, key = tmp_path / "config.yaml", tmp_path / "store.key"
    path.write_text(edited(("text", "${SECRET}")) + "store: {key_file: store.key}\n")
    key.write_bytes(bytes(32))
    key.chmod(0o644)
    assert not load_config(path, environ={"SECRET": CANARY}).warnings


class Lists:
    """A system without POSIX modes, where no store refuses an open key file. Tests of the real access lists:
    tests/host/test_access_lists.py."""

    refuses_open_key_files = False

    def __init__(self, *for_all: Path) -> None:
        self._for_all = for_all

    def everybody_reads(self, path: Path) -> bool:
        return path in self._for_all

    def closing(self, path: Path) -> str:
        return f"close {path}"

    def everybody_changes(self, file: Path) -> Path | None:
        return None

    def keeping(self, place: Path) -> str:
        return f"keep {place}"


def test_who_reads_is_asked_of_the_system(tmp_path: Path) -> None:
    path, secret, key = tmp_path / "config.yaml", tmp_path / "secret.txt", tmp_path / "store.key"
    secret.write_text(CANARY)
    path.write_text(edited(("text", "${file:secret.txt}")) + "store: {key_file: store.key}\n")

    def warned(*for_all: Path) -> list[str]:
        return [str(warning) for warning in load_config(path, readers=Lists(*for_all)).warnings]

    assert not warned()
    assert not warned(path), "no secret stands in it"
    assert warned(secret) == [
        f"{path}:5:5: providers.gmail.client_secret: every user of this machine can read the secret in "
        f"{secret}; run: close {secret}"
    ]
    (where,) = warned(tmp_path)
    assert f"store.key_file: every user of this machine can read the secret in {tmp_path}; run: close " in where
    key.write_bytes(bytes(32))
    assert not warned(tmp_path), "it is made already"
    (where,) = warned(key)
    assert f"the secret in {key}; run: close {key}" in where
    path.write_text(edited())
    (where,) = warned(path)
    assert f"every user of this machine can read this secret; run: close {path} (or write" in where


def test_a_key_that_the_system_does_not_let_us_look_at_is_passed_over(tmp_path: Path) -> None:
    """Usually because it is in a directory that is closed to us; here its name is too long."""
    path = tmp_path / "config.yaml"
    path.write_text(edited() + f"store: {{key_file: {'k' * 300}}}\n")
    assert not load_config(path, readers=Lists()).warnings


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
def test_what_is_warned_of_comes_in_the_order_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    text = edited(("client_id: 1234.apps.googleusercontent.com", "client_id: 1234"))
    path.write_text(text + "listeners: {imap: off, pop3: off, smtp: off}\n")
    path.chmod(0o644)
    found = [str(warning).split(": ")[:2] for warning in load_config(path).warnings]
    assert found == [
        [f"{path}:4:5", "providers.gmail.client_id"],
        [f"{path}:5:5", "providers.gmail.client_secret"],
        [f"{path}:9:1", "listeners"],
    ]


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
def test_a_clients_certificate_for_everybody_is_warned_of_where_its_key_is_in_it(tmp_path: Path) -> None:
    issued = trustme.CA().issue_cert("app.example")
    pem, key, path = tmp_path / "app.pem", tmp_path / "app.key", tmp_path / "config.yaml"
    issued.private_key_and_cert_chain_pem.write_to_path(pem)
    pem.chmod(0o644)
    flow = "tenant: contoso.com\n    flow: client_credentials\n    client_certificate: app.pem"
    path.write_text(edited(("tenant: contoso.com", flow), text=MICROSOFT))
    (warning,) = load_config(path).warnings
    assert "office365.client_certificate: every user of this machine can read the secret in" in str(warning)
    issued.private_key_pem.write_to_path(key)
    key.chmod(0o600)
    path.write_text(edited(("tenant: contoso.com", f"{flow}\n    client_certificate_key: app.key"), text=MICROSOFT))
    assert not load_config(path).warnings  # a certificate without its key is no secret


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
@pytest.mark.parametrize(
    ("section", "content"),
    [
        ("store:\n  url: ${file:secret.txt}\n", f"postgresql://bridge:{CANARY}@db.example/mail"),
        ("notify:\n  webhook: ${file:secret.txt}\n", f"https://chat.example/{CANARY}"),
    ],
)
def test_a_url_with_a_secret_is_one_too(tmp_path: Path, section: str, content: str) -> None:
    path, secret = tmp_path / "config.yaml", tmp_path / "secret.txt"
    secret.write_text(content)
    secret.chmod(0o644)
    path.write_text(edited(("text", "${SECRET}")) + section)
    (warning,) = load_config(path, environ={"SECRET": CANARY}).warnings
    assert f"every user of this machine can read the secret in {secret}" in str(warning)
    path.write_text(edited(("text", "${SECRET}")) + section.replace("${file:secret.txt}", content))
    path.chmod(0o644)
    (warning,) = load_config(path, environ={"SECRET": CANARY}).warnings
    assert "every user of this machine can read this secret" in str(warning)
    assert CANARY not in str(warning)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "is not the JSON key of a service account"),
        ("[]", "is not the JSON key of a service account"),
        ("[" * 10_000, "is not the JSON key of a service account"),
        (
            '{"installed": {"client_id": "a", "client_secret": "CANARY"}}',
            "is another kind of key file; make a key (type JSON)",
        ),
        ('{"type": "service_account", "client_email": "a@b.example"}', "lacks client_email or private_key"),
        (
            '{"type": "service_account", "client_email": 5, "private_key": "CANARY"}',
            "lacks client_email or private_key: download the key again",
        ),
    ],
)
def test_a_service_account_key_that_is_none_is_told_apart(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "key.json").write_text(content)
    text = edited(
        (
            "    client_id: 1234.apps.googleusercontent.com\n    client_secret: text\n",
            "    flow: service_account\n    service_account_file: key.json\n",
        )
    )
    with pytest.raises(ConfigError) as caught:
        parse_config(text, name="config.yaml", directory=tmp_path)
    (problem,) = caught.value.problems
    assert problem.startswith("config.yaml:5:5: providers.gmail.service_account_file: the file ")
    assert words in problem
    assert "CANARY" not in problem


def test_one_file_may_hold_the_clients_certificate_and_its_key(tmp_path: Path) -> None:
    issued = trustme.CA().issue_cert("app.example")
    pem = tmp_path / "app.pem"
    pem.write_bytes(issued.private_key_and_cert_chain_pem.bytes())
    text = edited(
        ("tenant: contoso.com", "tenant: contoso.com\n    flow: client_credentials\n    client_certificate: app.pem"),
        text=MICROSOFT,
    )
    (provider,) = parse_config(text, name="c", directory=tmp_path).config.providers.values()
    assert isinstance(provider, MicrosoftProvider)
    assert provider.client_certificate == str(pem)
    pem.write_bytes(issued.cert_chain_pems[0].bytes())
    with pytest.raises(ConfigError, match="holds no private key"):
        parse_config(text, name="c", directory=tmp_path)
