"""Network errors on the way to a mail server or a provider: reported in the reader's language, logged in English."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.doctor.servers import Talk, https, serving
from tests.e2e.bridge import Bridge, Section, configuration, running
from tests.oauth import raw
from tests.servers.authorization import AuthorizationServer
from tests.servers.ca import Authority

NBSP = "\u00a0"


def plain(sock: socket.socket) -> None:
    """A mail server's port without TLS."""
    sock.sendall(b"* OK ready\r\n")
    sock.recv(4096)


def leaves(sock: socket.socket) -> None:
    """A server that reads the first message of the handshake and ends the connection."""
    sock.recv(4096)


@contextmanager
def unused_port() -> Iterator[int]:
    """A port that is bound but not listening, so that nobody else can take it."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


def address(case: str) -> str:
    return f"{case}@example.com"


def bridge_of(directory: Path, providers: dict[str, Section]) -> Bridge:
    """A bridge with one account for each provider; their apps need no sign-in."""
    accounts = [{"address": address(case), "provider": case} for case in providers]
    return Bridge(directory, configuration(directory, providers, accounts))


def told(bridge: Bridge, language: str, cases: list[str]) -> dict[str, str]:
    """The output of the command that tries the mail servers, with a new token if one is needed."""
    bridge.config["language"] = language
    return {case: bridge.run("accounts", "check", address(case), code=1) for case in cases}


# --- mail servers ---------------------------------------------------------------------------------------------------

MAIL = {
    "closed": (
        "localhost:{port} cannot be reached: Connection refused",
        "localhost:{port} est injoignable : connexion refusée",
    ),
    "nameless": (
        "the name mail.nowhere.invalid cannot be looked up: ",
        "le nom mail.nowhere.invalid est introuvable : ",
    ),
    "expired": (
        "localhost:{port}: the certificate is not accepted: certificate has expired",
        "localhost:{port} : le certificat n’est pas accepté : il a expiré",
    ),
    "misnamed": (
        "localhost:{port}: the certificate is not accepted: Hostname mismatch, certificate is not valid for this name",
        "localhost:{port} : le certificat n’est pas accepté : il n’est pas établi pour ce nom",
    ),
    "unknown": (
        "localhost:{port}: the certificate is not accepted: unable to get local issuer certificate",
        "localhost:{port} : le certificat n’est pas accepté : il vient d’une autorité à laquelle mail-bridge ne fait "
        "pas confiance",
    ),
    "plain": ("localhost:{port}: ", "localhost:{port} : ce qui répond ne parle pas TLS"),
    "leaves": (
        "localhost:{port}: unexpected eof while reading",
        "localhost:{port} : l’autre côté a coupé la connexion",
    ),
}
ENGLISH = ("cannot", "certificate", "version", "connection", "eof", "[Errno", "known", "resolution")


@pytest.fixture
def ports(authorization_server: AuthorizationServer, tmp_path: Path) -> Iterator[dict[str, int]]:
    """By case: the port where its server listens."""
    trusted = authorization_server.authority
    yesterday = datetime.now(UTC) - timedelta(days=1)
    (tmp_path / "stranger").mkdir()
    stranger = Authority(tmp_path / "stranger")
    talks: dict[str, Talk] = {
        "expired": https(trusted.server_context("localhost", not_after=yesterday)),
        "misnamed": https(trusted.server_context("else.example")),
        "unknown": https(stranger.server_context("localhost")),
        "plain": plain,
        "leaves": leaves,
    }
    with ExitStack() as stack:
        found = {case: stack.enter_context(serving(talk)) for case, talk in talks.items()}
        yield {**found, "closed": stack.enter_context(unused_port()), "nameless": 993}


def test_a_mail_server_that_does_not_open(
    authorization_server: AuthorizationServer, tmp_path: Path, ports: dict[str, int]
) -> None:
    known = authorization_server.google_config()
    authorization_server.apps[known["client_id"]] = {address(case) for case in MAIL}
    office = app(known["token_url"], authorization_server.authority)
    office |= {name: known[name] for name in ("client_id", "client_secret")}
    providers = {}
    for case in MAIL:
        host = "mail.nowhere.invalid" if case == "nameless" else "localhost"
        imap = {"host": host, "port": ports[case], "tls": "implicit"}
        providers[case] = {**office, "imap": imap}
    bridge = bridge_of(tmp_path, providers)
    with running(bridge):
        english, french = told(bridge, "en", list(MAIL)), told(bridge, "fr", list(MAIL))
    for case, (sentence, phrase) in MAIL.items():
        assert f"({sentence.format(port=ports[case])}" in english[case]
        assert f"({phrase.format(port=ports[case])}".replace(" :", f"{NBSP}:") in french[case]
        assert sentence.format(port=ports[case]) in bridge.log
        assert not any(word in french[case] for word in ENGLISH), french[case]
    assert "injoignable" not in bridge.log


# --- providers ------------------------------------------------------------------------------------------------------

PROVIDER = {
    "closed": ("localhost refuses the connection.", "localhost refuse la connexion."),
    "busy": (
        "127.0.0.1 is having problems or is busy (HTTP 503); it asks mail-bridge to wait 600 seconds.",
        # The second sentence appears after five seconds, when only the host's own request keeps the bridge from asking.
        "127.0.0.1 est en difficulté ou surchargé (HTTP 503) ; il demande d’attendre 600 secondes."
        "|127.0.0.1 a demandé à mail-bridge d’attendre : il sera de nouveau interrogé dans ",
    ),
    "broken": (
        "localhost is having problems or is busy (HTTP 500).",
        "localhost est en difficulté ou surchargé (HTTP 500).",
    ),
    "portal": (
        "localhost answers with a redirect: there is a captive portal, or a URL is wrong.",
        "localhost répond par une redirection : il y a un portail captif, ou une URL est incorrecte.",
    ),
    "expired": (
        "The certificate of localhost is not trusted (certificate has expired).",
        "Le certificat de localhost n’est pas reconnu (il a expiré).",
    ),
}


def test_a_provider_that_does_not_answer_as_it_should(
    authorization_server: AuthorizationServer, tmp_path: Path
) -> None:
    trusted = authorization_server.authority
    yesterday = datetime.now(UTC) - timedelta(days=1)
    answers = {
        "busy": raw.http(b"", "503 Later", "Retry-After: 600\r\n"),
        "broken": raw.http(b"", "500 Oops"),
        "portal": raw.http(b"", "302 There", "Location: https://portal.example/\r\n"),
        "expired": raw.http(b"{}"),
    }
    with ExitStack() as stack:
        urls = {"closed": f"https://localhost:{stack.enter_context(unused_port())}/token"}
        for case, answer in answers.items():
            context = trusted.server_context(not_after=yesterday if case == "expired" else None)
            urls[case] = stack.enter_context(raw.serving(answer, str(trusted.ca_file), context)).url
        urls["busy"] = urls["busy"].replace("localhost", "127.0.0.1")  # another host, since a busy host is left alone
        bridge = bridge_of(tmp_path, {case: app(url, trusted) for case, url in urls.items()})
        with running(bridge):
            english, french = told(bridge, "en", list(PROVIDER)), told(bridge, "fr", list(PROVIDER))
    for case, (sentence, phrase) in PROVIDER.items():
        assert sentence in english[case]
        assert any(words in french[case].replace(NBSP, " ") for words in phrase.split("|"))
        assert sentence in bridge.log
        assert "No action is needed" not in french[case]


def app(token_url: str, authority: Authority) -> Section:
    return {
        "kind": "oauth2",
        "flow": "client_credentials",
        "client_id": "c",
        "client_secret": "CANARY-client-secret",
        "token_url": token_url,
        "scopes": ["mail"],
        "ca_file": str(authority.ca_file),
        "imap": {"host": "127.0.0.1", "port": 9},
    }
