"""Ports with the certificate that the bridge makes, and the programs that a person would use with it."""

from __future__ import annotations

import imaplib
import ipaddress
import json
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from tests.e2e.bridge import Bridge, running
from tests.e2e.clients import PATH, PROTOCOLS, run
from tests.e2e.conftest import ALICE, World
from tests.relay.key_updates import NOT_REQUESTED, KeyUpdater
from tests.servers.daemons import free_ports
from tests.servers.packages import needs

pytestmark = pytest.mark.servers

MODES = ("implicit", "starttls")


@pytest.fixture(scope="module")
def bridge(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bridge]:
    """Each protocol with implicit TLS and, on another port, with STARTTLS; the configuration names no certificate."""
    bridge = world.bridge(tmp_path_factory.mktemp("made"))
    for protocol, extra in zip(PROTOCOLS, free_ports(3), strict=True):
        plain = str(bridge.config["listeners"][protocol])
        bridge.config["listeners"][protocol] = [
            {"address": f"localhost:{plain.rpartition(':')[2]}", "tls": "implicit"},
            {"address": f"localhost:{extra}", "tls": "starttls", "names": ["bridge.example.com"]},
        ]
    with running(bridge):
        bridge.sign_in(world.provider, ALICE)
        yield bridge


@pytest.fixture(scope="module")
def trusted(bridge: Bridge) -> Path:
    """The authority's certificate, as a person exports and imports it."""
    file = bridge.directory / "authority.crt"
    assert f"certutil -addstore Root {file.name}" in bridge.run("certificate", "--export", str(file))
    return file


def port(bridge: Bridge, protocol: str, mode: str) -> int:
    listener = bridge.config["listeners"][protocol][MODES.index(mode)]
    return int(str(listener["address"]).rpartition(":")[2])


@pytest.mark.parametrize("mode", MODES)
def test_curl_reads_and_sends(bridge: Bridge, trusted: Path, tmp_path: Path, mode: str) -> None:
    user = tmp_path / "curl.conf"
    user.write_text(f'user = "{ALICE}:{bridge.password(ALICE)}"\n')
    how = ["curl", "-sS", "--cacert", str(trusted), "--config", str(user), "--ssl-reqd"]
    url = {name: f"{name}{'s' * (mode == 'implicit')}://localhost:{port(bridge, name, mode)}" for name in PROTOCOLS}
    message = tmp_path / "message.eml"
    message.write_bytes(f"Subject: over {mode}\r\n\r\nx\r\n".encode())
    run([*how, url["smtp"], "--mail-from", ALICE, "--mail-rcpt", ALICE, "--upload-file", str(message)])
    assert b"INBOX" in run([*how, url["imap"]])
    run([*how, url["pop3"]])


@pytest.mark.parametrize("mode", MODES)
def test_mbsync_takes_the_inbox(bridge: Bridge, trusted: Path, tmp_path: Path, mode: str) -> None:
    needs("isync")
    config = tmp_path / "mbsyncrc"
    config.write_text(
        f"IMAPAccount bridge\nHost localhost\nPort {port(bridge, 'imap', mode)}\nUser {ALICE}\n"
        f"Pass {bridge.password(ALICE)}\nSSLType {'IMAPS' if mode == 'implicit' else 'STARTTLS'}\n"
        f"SystemCertificates no\nCertificateFile {trusted}\nAuthMechs LOGIN\n\n"
        "IMAPStore remote\nAccount bridge\n\n"
        f"MaildirStore local\nPath {tmp_path}/mail/\nInbox {tmp_path}/mail/INBOX\n\n"
        "Channel all\nFar :remote:\nNear :local:\nPatterns INBOX\nCreate Near\nSync Pull\n"
        f"SyncState {tmp_path}/state-\n"
    )
    (tmp_path / "mail").mkdir()
    run(["mbsync", "-c", str(config), "all"])
    assert (tmp_path / "mail" / "INBOX").is_dir()


@pytest.mark.parametrize("mode", MODES)
def test_swaks_sends_to_a_server_that_it_has_verified(bridge: Bridge, trusted: Path, mode: str) -> None:
    needs("swaks", "libnet-ssleay-perl")
    how = "--tls-on-connect" if mode == "implicit" else "--tls"
    command = ["swaks", "--server", "localhost", "--port", str(port(bridge, "smtp", mode)), how, "--tls-verify"]
    command += ["--tls-ca-path", str(trusted), "--auth", "LOGIN", "--auth-user", ALICE]
    command += ["--auth-password", bridge.password(ALICE), "--from", ALICE, "--to", ALICE]
    assert b"Ok: queued" in run(command)


@pytest.mark.parametrize(("mode", "flag"), [("implicit", "ssl"), ("starttls", "tls-sslv23")])
@pytest.mark.parametrize("protocol", ["imap", "pop3"])
def test_php_gets_in_by_the_words_of_the_guide(
    bridge: Bridge, trusted: Path, protocol: str, mode: str, flag: str
) -> None:
    """PHP's library uses TLS 1.0 with `/tls`, and also by itself if STARTTLS is offered."""
    needs("php-cli", "php-imap")
    script = f"""<?php
        putenv('SSL_CERT_FILE={trusted}');
        $where = '{{localhost:{port(bridge, protocol, mode)}/{protocol}/{flag}}}INBOX';
        echo json_encode(@imap_open($where, '{ALICE}', '{bridge.password(ALICE)}', 0, 1) !== false);
    """
    assert json.loads(run(["php"], stdin=script.encode()).splitlines()[0]) is True


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", ["localhost", "bridge.example.com"])
def test_openssl_verifies_the_name(bridge: Bridge, trusted: Path, protocol: str, mode: str, name: str) -> None:
    said = s_client(bridge, trusted, protocol, mode, "-verify_hostname", name, "-servername", name)
    assert "Verification: OK" in said
    assert "No ALPN negotiated" in s_client(bridge, trusted, protocol, mode, "-alpn", protocol)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_tls_1_1_and_another_name_get_nobody_in_and_the_log_says_why(
    bridge: Bridge, trusted: Path, protocol: str
) -> None:
    for mode in MODES:
        before = len(bridge.log)
        old = ("-tls1_1", "-cipher", "ALL:@SECLEVEL=0")
        assert "alert protocol version" in s_client(bridge, trusted, protocol, mode, *old, code=1)
        wait_for_words(bridge, before, "the encryption of the mail program is too old")
        assert "mismatch" in s_client(bridge, trusted, protocol, mode, "-verify_hostname", "example.com", code=1)
        wait_for_words(bridge, before, "the mail program does not trust the certificate")


def test_renegotiation_is_refused(bridge: Bridge, trusted: Path) -> None:
    """openssl renegotiates at a line that is only an R. It is sent after our greeting, which could confuse openssl."""
    where = f"localhost:{port(bridge, 'imap', 'implicit')}"
    command = ["openssl", "s_client", "-connect", where, "-CAfile", str(trusted), "-tls1_2"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        while not client.stdout.readline().startswith(b"* OK "):
            assert client.poll() is None
        client.stdin.write(b"R\n")
        client.stdin.flush()
        rest = client.stdout.read()
    assert b"RENEGOTIATING" in rest
    assert b"no renegotiation" in rest


@pytest.mark.parametrize("mode", MODES)
def test_a_client_that_only_ever_wants_new_keys_is_cut_off(bridge: Bridge, trusted: Path, mode: str) -> None:
    """OpenSSL would process them all in one call, and nobody else would be served meanwhile: see
    bridge/relay/records.py."""
    before = len(bridge.log)
    with (
        socket.create_connection(("localhost", port(bridge, "imap", mode))) as sock,
        closing(KeyUpdater(sock)) as client,
    ):
        if mode == "starttls":
            assert sock.recv(1000).startswith(b"* OK ")
            sock.sendall(b"a1 STARTTLS\r\n")
            assert sock.recv(1000).startswith(b"a1 OK ")
        client.shake_hands()
        for _ in range(20_000):
            client.update_keys(NOT_REQUESTED)
        client.write(b"a2 NOOP\r\n")
        with suppress(ConnectionError):
            sock.sendall(client.take())
        said = b""
        while b"a2 OK" not in said and (more := client.read(1000)):
            said += more
        assert b"a2 OK" not in said
    assert "Traceback" not in bridge.log[before:]
    with imaplib.IMAP4("localhost", port(bridge, "imap", "starttls"), timeout=30) as other:
        other.starttls(ssl.create_default_context(cafile=str(trusted)))
        assert other.login(ALICE, bridge.password(ALICE))[0] == "OK"


@pytest.mark.parametrize(
    ("protocol", "said", "answer"),
    [
        ("imap", f"a1 LOGIN {ALICE} secret\r\n", b"a1 NO [PRIVACYREQUIRED]"),
        ("pop3", f"USER {ALICE}\r\n", b"-ERR"),
        ("smtp", "EHLO crm.example\r\nAUTH LOGIN\r\n", b"530 5.7.0"),
    ],
)
def test_a_login_before_starttls_is_refused(bridge: Bridge, protocol: str, said: str, answer: bytes) -> None:
    with socket.create_connection(("localhost", port(bridge, protocol, "starttls")), timeout=30) as sock:
        sock.sendall(said.encode())
        lines = sock.makefile("rb")
        for line in lines:
            if line.startswith(answer):
                break
        else:
            pytest.fail("no refusal")


@pytest.mark.parametrize(
    ("protocol", "said", "farewell"),
    [
        ("imap", b"a1 STARTTLS\r\na2 LOGIN alice injected\r\n", b"* BYE plaintext behind STARTTLS\r\n"),
        ("pop3", b"STLS\r\nUSER alice\r\n", b"-ERR plaintext behind STLS\r\n"),
        ("smtp", b"STARTTLS\r\nMAIL FROM:<injected@example.com>\r\n", b"500 5.5.2 plaintext behind STARTTLS\r\n"),
    ],
)
def test_what_is_pipelined_behind_starttls_ends_the_connection(
    bridge: Bridge, protocol: str, said: bytes, farewell: bytes
) -> None:
    """RFC 3207 section 6: otherwise an attacker on the way could inject commands before the person's own."""
    with socket.create_connection(("localhost", port(bridge, protocol, "starttls")), timeout=30) as sock:
        lines = sock.makefile("rb")
        lines.readline()
        sock.sendall(said)
        assert lines.read() == farewell


def test_the_doctor_and_the_command_name_the_same_fingerprint(bridge: Bridge, trusted: Path) -> None:
    command = ["openssl", "x509", "-in", str(trusted), "-noout", "-fingerprint", "-sha256"]
    fingerprint = run(command).decode().strip().partition("=")[2]
    assert bridge.json("certificate")["sha256"] == fingerprint
    assert fingerprint in bridge.run("certificate")
    (found,) = [one for one in bridge.json_of("check") if one["check"] == "certificate"]
    assert fingerprint in found["detail"]


def test_the_files_are_beside_the_store(bridge: Bridge) -> None:
    assert {file.name for file in (bridge.directory / "tls").iterdir()} == {"made.pem", "server.pem", "authority.pem"}


def test_a_name_that_is_added_and_a_new_key_are_in_force_at_once(world: World, tmp_path: Path) -> None:
    bridge = world.bridge(tmp_path)
    where = bridge.config["listeners"]["imap"]
    bridge.config["listeners"]["imap"] = {"address": where, "tls": "implicit"}
    number = int(where.rpartition(":")[2])
    with running(bridge):
        before = ssl.get_server_certificate(("127.0.0.1", number))
        bridge.config["listeners"]["imap"]["names"] = ["crm.example.com"]
        bridge.write_config()
        bridge.wait_for_log("configuration.read")  # by then two new keys have been made too
        renamed = ssl.get_server_certificate(("127.0.0.1", number))
        assert renamed != before
        bridge.run("certificate", "--new")
        bridge.wait_for_log("certificate.renewed")
        assert ssl.get_server_certificate(("127.0.0.1", number)) not in {before, renamed}


@pytest.mark.parametrize("failing", ["fsync:error=EIO:when=2", "fsync:error=ENOSPC:when=3"])
def test_a_new_key_that_a_disk_does_not_take_leaves_all_as_it_was(world: World, tmp_path: Path, failing: str) -> None:
    """Otherwise half of the change would take effect the next day, when nobody thinks of it any more."""
    needs("strace")
    bridge = world.bridge(tmp_path)
    bridge.config["listeners"]["imap"] = {"address": bridge.config["listeners"]["imap"], "tls": "implicit"}
    bridge.run("certificate")
    before = files(tmp_path / "tls")
    command = ["strace", "-D", "-f", "-e", f"inject={failing}", "-o", str(tmp_path / "trace")]
    command += bridge.command("certificate", "--new")
    done = subprocess.run(command, capture_output=True, text=True, env=bridge.environ, timeout=60, check=False)
    assert "(INJECTED)" in (tmp_path / "trace").read_text()
    (sentence,) = done.stderr.splitlines()
    assert (done.returncode, "cannot be used: " in sentence) == (1, True), sentence
    assert files(tmp_path / "tls") == before
    bridge.run("certificate", "--new")
    assert files(tmp_path / "tls").keys() == before.keys()


def files(directory: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in directory.iterdir()}


def test_who_cannot_have_the_new_one_where_they_want_it_hears_that_there_is_a_new_one(
    world: World, tmp_path: Path
) -> None:
    bridge = world.bridge(tmp_path)
    bridge.config["listeners"]["imap"] = {"address": bridge.config["listeners"]["imap"], "tls": "implicit"}
    said = bridge.run("certificate", "--new", "--export", str(tmp_path / "not there" / "a.crt"), code=1)
    assert "The certificate has been replaced, but" in said
    assert str(tmp_path / "tls" / "authority.pem") in said


def test_a_certificate_is_written_over_an_earlier_one_and_nothing_else(world: World, tmp_path: Path) -> None:
    bridge = world.bridge(tmp_path)
    bridge.config["listeners"]["imap"] = {"address": bridge.config["listeners"]["imap"], "tls": "implicit"}
    bridge.run("certificate", "--export", "a.crt")
    exported = (tmp_path / "a.crt").read_bytes()
    made = tmp_path / "tls" / "made.pem"
    kept = made.read_bytes()
    for name in ("config.yaml", "tls/made.pem"):  # the second begins with a certificate, but also holds a key
        before = (tmp_path / name).read_bytes()
        said = bridge.run("certificate", "--new", "--export", name, code=2)
        assert f"{name} already exists, and is something else: name another file" in said
        assert (tmp_path / name).read_bytes() == before
    assert made.read_bytes() == kept, "and there is no new one"
    bridge.run("certificate", "--new", "--export", "a.crt")
    assert (tmp_path / "a.crt").read_bytes() != exported


def test_without_such_a_port_the_command_says_so(world: World, tmp_path: Path) -> None:
    assert "No port uses" in world.bridge(tmp_path).run("certificate", code=1)
    assert world.bridge(tmp_path).json_of("certificate", code=1) is None
    assert not (tmp_path / "tls").exists()


def test_two_commands_at_once_make_one_whole_certificate(world: World, tmp_path: Path) -> None:
    bridge = world.bridge(tmp_path)
    bridge.config["listeners"]["imap"] = {"address": bridge.config["listeners"]["imap"], "tls": "implicit"}
    threads = [threading.Thread(target=bridge.run, args=("certificate",)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    authority, server = tmp_path / "tls" / "authority.pem", tmp_path / "tls" / "server.pem"
    bridge.run("certificate")
    assert run(["openssl", "verify", "-CAfile", str(authority), str(server)]).endswith(b": OK\n")


def test_an_exposed_port_is_reached_by_the_machines_own_address(world: World, tmp_path: Path) -> None:
    outside = address_of_this_machine()
    bridge = world.bridge(tmp_path)
    (number,) = free_ports(1)
    bridge.config["listeners"]["imap"] = {"address": f"{outside}:{number}", "tls": "implicit", "exposed": True}
    with running(bridge):
        bridge.run("certificate", "--export", str(tmp_path / "authority.crt"))
        context = ssl.create_default_context(cafile=str(tmp_path / "authority.crt"))
        with (
            socket.create_connection((outside, number), timeout=30) as sock,
            context.wrap_socket(sock, server_hostname=outside) as tls,
        ):
            assert tls.recv(100).startswith(b"* OK ")
    bridge.config["listeners"]["imap"].pop("exposed")
    said = bridge.run("check", code=2)
    assert "if that is intended, add `exposed: true`" in said


def address_of_this_machine() -> str:
    """An IPv4 address of this machine that is not loopback; skips the test on a machine without a network."""
    found = json.loads(subprocess.run(["ip", "-j", "-4", "addr"], capture_output=True, check=True).stdout)
    for interface in found:
        for one in interface["addr_info"]:
            if not ipaddress.ip_address(one["local"]).is_loopback:
                return str(one["local"])
    pytest.skip("this machine has no address but loopback")


def wait_for_words(bridge: Bridge, start: int, words: str) -> None:
    """Wait until the log has these words after position `start`."""
    bridge.wait_until(lambda: words in bridge.log[start:], words)


def s_client(bridge: Bridge, trusted: Path, protocol: str, mode: str, *more: str, code: int = 0) -> str:
    where = f"localhost:{port(bridge, protocol, mode)}"
    command = ["openssl", "s_client", "-connect", where, "-CAfile", str(trusted), "-verify_return_error", *more]
    if mode == "starttls":
        command += ["-starttls", protocol]
    done = subprocess.run(
        command, input=b"Q\n", capture_output=True, timeout=60, check=False, env={"PATH": PATH, "HOME": "/nonexistent"}
    )
    said = (done.stdout + done.stderr).decode(errors="replace")
    assert done.returncode == code, said
    return said
