"""Dovecot and Postfix behave as the tests that rely on them assume; the clients are the standard library's."""

from __future__ import annotations

import base64
import contextlib
import imaplib
import json
import poplib
import smtplib
import socket
import ssl
import threading
import time
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import trustme

from tests.servers import daemons
from tests.servers.dovecot import Dovecot, dovecot, version
from tests.servers.packages import APT_PACKAGES, missing, needs, program
from tests.servers.postfix import Postfix, postfix

pytestmark = pytest.mark.servers

ALICE, BOB = "alice@example.com", "bob@contoso.com"
TOKENS = {"CANARY-alice-" + "x" * 2000: ALICE, "CANARY-bob": BOB}
TOKEN_OF = {user: token for token, user in TOKENS.items()}
CHALLENGE = {"status": "401", "schemes": "bearer"}
MESSAGE = b"From: alice@example.com\r\nTo: bob@contoso.com\r\nSubject: probe\r\n\r\nbody\r\n"


@dataclass(frozen=True)
class Scene:
    """Both servers and a client's view of TLS."""

    dovecot: Dovecot
    postfix: Postfix
    tls: ssl.SSLContext
    certificate: Path
    key: Path
    introspection: str


class _Introspection(BaseHTTPRequestHandler):
    """A minimal introspection endpoint (RFC 7662)."""

    def do_POST(self) -> None:
        form = urllib.parse.parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        user = TOKENS.get(form.get("token", [""])[0])
        answer = json.dumps({"active": True, "username": user} if user else {"active": False}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def introspection() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Introspection) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/introspect"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    directory = tmp_path_factory.mktemp("servers")
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    certificate, key = directory / "certificate.pem", directory / "key.pem"
    certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(str(key))
    tls = ssl.create_default_context()
    authority.configure_trust(tls)
    with (
        introspection() as url,
        dovecot(directory / "dovecot", certificate, key, url, (ALICE, BOB)) as mailboxes,
        postfix(directory / "postfix", certificate, key, mailboxes) as submission,
    ):
        yield Scene(mailboxes, submission, tls, certificate, key, url)


def bearer(user: str, token: str) -> str:
    return f"user={user}\x01auth=Bearer {token}\x01\x01"


@contextlib.contextmanager
def imap(scene: Scene) -> Iterator[imaplib.IMAP4]:
    client = imaplib.IMAP4_SSL(scene.dovecot.host, scene.dovecot.imap_tls, ssl_context=scene.tls, timeout=30)
    try:
        yield client
    finally:
        client.shutdown()


@contextlib.contextmanager
def pop3(scene: Scene) -> Iterator[poplib.POP3]:
    client = poplib.POP3_SSL(scene.dovecot.host, scene.dovecot.pop3_tls, context=scene.tls, timeout=30)
    with contextlib.closing(client):
        yield client


@contextlib.contextmanager
def smtp(scene: Scene) -> Iterator[smtplib.SMTP]:
    client = smtplib.SMTP_SSL(scene.postfix.host, scene.postfix.smtps, context=scene.tls, timeout=30)
    with contextlib.closing(client):
        client.ehlo()
        yield client


def imap_login(client: imaplib.IMAP4, user: str) -> None:
    client.authenticate("XOAUTH2", lambda _: bearer(user, TOKEN_OF[user]).encode())


def pop3_auth(client: poplib.POP3, user: str, token: str) -> bytes:
    """Authenticate in two steps: RFC 5034 allows no initial response that makes the command longer than 255 bytes."""
    client.sock.sendall(b"AUTH XOAUTH2\r\n")
    assert client.file.readline().rstrip() == b"+"
    client.sock.sendall(base64.b64encode(bearer(user, token).encode()) + b"\r\n")
    return bytes(client.file.readline()).rstrip()


def smtp_login(client: smtplib.SMTP, user: str) -> None:
    client.user, client.password = user, TOKEN_OF[user]
    client.auth("XOAUTH2", lambda challenge=None: bearer(user, TOKEN_OF[user]))


def arrived(scene: Scene, user: str, subject: str) -> None:
    """Returns once the message is in the inbox of `user`."""
    deadline = time.monotonic() + 30
    with imap(scene) as client:
        imap_login(client, user)
        client.select()
        while True:
            if client.search(None, "SUBJECT", subject)[1] != [b""]:
                return
            assert time.monotonic() < deadline, scene.postfix.log() + scene.dovecot.log()
            client.noop()


@pytest.mark.parametrize("token", ["CANARY-wrong", TOKEN_OF[BOB]], ids=["an unknown token", "the token of another"])
def test_imap_refuses_with_a_challenge(scene: Scene, token: str) -> None:
    said: list[bytes] = []

    def answer(challenge: bytes) -> bytes:
        said.append(challenge)
        return bearer(ALICE, token).encode() if len(said) == 1 else b""

    with imap(scene) as client, pytest.raises(imaplib.IMAP4.error, match="AUTHENTICATIONFAILED"):
        client.authenticate("XOAUTH2", answer)
    if (2, 4) <= version() < (2, 4, 5) and token in TOKEN_OF.values():
        assert len(said) == 1  # these versions refuse another person's token at once, without a challenge
        return
    assert CHALLENGE.items() <= json.loads(said[1]).items()


def test_pop3_refuses_with_a_challenge(scene: Scene) -> None:
    with pop3(scene) as client:
        challenge = pop3_auth(client, ALICE, "CANARY-wrong")
        assert challenge.startswith(b"+ ")
        assert CHALLENGE.items() <= json.loads(base64.b64decode(challenge[2:])).items()
        client.sock.sendall(b"\r\n")
        assert bytes(client.file.readline()).startswith(b"-ERR")


def test_smtp_refuses_with_a_challenge(scene: Scene) -> None:
    with smtp(scene) as client:
        code, challenge = client.docmd("AUTH", "XOAUTH2 " + base64.b64encode(bearer(ALICE, "no").encode()).decode())
        assert code == 334
        assert CHALLENGE.items() <= json.loads(base64.b64decode(challenge)).items()
        assert client.docmd("")[0] == 535


def test_refusals_do_not_slow_down(scene: Scene) -> None:
    begin = time.monotonic()
    for _ in range(3):
        with pop3(scene) as client:
            pop3_auth(client, ALICE, "CANARY-wrong")
            client.sock.sendall(b"\r\n")
            client.file.readline()
    assert time.monotonic() - begin < 5  # 1.5 s with our settings; 6 s and growing with Dovecot's defaults
    assert "CANARY" not in scene.dovecot.log() + scene.postfix.log()


def test_no_password_is_taken_anywhere(scene: Scene) -> None:
    with imap(scene) as client:
        assert {word for word in client.capabilities if word.startswith("AUTH=")} == {
            "AUTH=XOAUTH2",
            "AUTH=OAUTHBEARER",
        }
        with pytest.raises(imaplib.IMAP4.error):
            client.login(ALICE, TOKEN_OF[BOB])
    with pop3(scene) as client:
        assert set(client.capa()["SASL"]) == {"XOAUTH2", "OAUTHBEARER"}
    with smtp(scene) as client:
        assert set(client.esmtp_features["auth"].split()) == {"XOAUTH2", "OAUTHBEARER"}


def test_the_plain_ports_ask_for_tls_first(scene: Scene) -> None:
    """Dovecot asks for TLS but would accept a token on loopback without it (see its configuration); Postfix refuses."""
    client = imaplib.IMAP4(scene.dovecot.host, scene.dovecot.imap_starttls, timeout=30)
    capabilities = set(client.capabilities)
    client.shutdown()
    assert {"STARTTLS", "LOGINDISABLED"} <= capabilities
    with smtplib.SMTP(scene.postfix.host, scene.postfix.submission, timeout=30) as plain:
        plain.ehlo()
        assert not plain.has_extn("auth")
        assert plain.docmd("MAIL", f"FROM:<{ALICE}>")[0] == 530


def test_nobody_sends_without_a_login(scene: Scene) -> None:
    with smtp(scene) as client:
        assert client.mail(ALICE)[0] == 250
        assert client.rcpt(BOB)[0] == 554


def test_mail_for_an_unknown_mailbox_is_refused(scene: Scene) -> None:
    with pytest.raises(smtplib.SMTPRecipientsRefused):
        scene.dovecot.deliver("nobody@example.com", MESSAGE)


def test_two_sets_of_servers_run_side_by_side_and_leave_nothing(scene: Scene, tmp_path: Path) -> None:
    with (
        dovecot(tmp_path / "d", scene.certificate, scene.key, scene.introspection, [ALICE]) as mailboxes,
        postfix(tmp_path / "p", scene.certificate, scene.key, mailboxes) as submission,
    ):
        other = Scene(mailboxes, submission, scene.tls, scene.certificate, scene.key, scene.introspection)
        with imap(other) as open_connection, smtp(other) as client:
            imap_login(open_connection, ALICE)
            smtp_login(client, ALICE)
            client.sendmail(ALICE, [ALICE], MESSAGE)
            arrived(other, ALICE, "probe")
            assert open_connection.noop()[0] == "OK"
            groups = {mailboxes.daemon.pid, submission.daemon.pid}
            assert all(daemons.members(group) for group in groups)
            configuration = mailboxes.log_file.with_name("dovecot.conf").read_text()
            run = Path(configuration.partition("base_dir = ")[2].splitlines()[0]).parent
            names = (str(tmp_path), str(run))
            assert run.exists()
            assert processes_with(*names)
    assert not any(daemons.members(group) for group in groups)
    assert not processes_with(*names)
    assert not run.exists()


def processes_with(*names: str) -> list[str]:
    """Command lines that contain one of the names."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            found += [line for name in names if name in line]
    return found


def test_a_killed_server_is_gone_at_once(scene: Scene, tmp_path: Path) -> None:
    with dovecot(tmp_path, scene.certificate, scene.key, scene.introspection, [ALICE]) as mailboxes:
        with socket.create_connection(("127.0.0.1", mailboxes.imap_starttls), timeout=30) as connection:
            assert connection.recv(1)
            mailboxes.kill()
            with contextlib.suppress(ConnectionResetError):
                while connection.recv(4096):
                    pass
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", mailboxes.imap_starttls), timeout=30)


def test_a_failed_start_shows_the_log(scene: Scene, tmp_path: Path) -> None:
    nothing = tmp_path / "absent.pem"
    with (
        pytest.raises(daemons.StartFailed, match=r"absent\.pem"),
        dovecot(tmp_path, nothing, scene.key, scene.introspection, [ALICE]),
    ):
        pytest.fail("started without a certificate")
    assert not processes_with(str(tmp_path))


def test_a_taken_port_means_another_attempt() -> None:
    calls: list[int] = []

    def start() -> int:
        calls.append(1)
        if len(calls) < 3:
            raise daemons.StartFailed("bind(127.0.0.1, 993) failed: Address already in use")
        return len(calls)

    assert daemons.attempts(start) == 3


def test_an_absent_program_is_a_skip_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no-such-program"):
        needs("sh", "no-such-program")


def test_an_absent_program_is_a_failure_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no-such-program"):
        needs("no-such-program")


def test_packages_are_found_by_their_programs() -> None:
    assert set(missing()) <= set(APT_PACKAGES)
    assert "dovecot-core" not in missing()
    assert program("sh") is not None
    assert program("/usr/lib/no-such/*/program") is None
