"""The real servers, started once per test process, and a bridge in front of them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.e2e.bridge import Bridge, Section, configuration, running
from tests.servers.authorization import AuthorizationServer, authorization_server
from tests.servers.ca import Authority
from tests.servers.dovecot import Dovecot, dovecot
from tests.servers.needed import absent
from tests.servers.packages import needs, needs_root, program
from tests.servers.postfix import Postfix, postfix

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ALICE, BOB, CAROL = "alice@example.com", "bob@example.com", "carol@example.com"
"""Alice is at the Google-shaped provider (implicit TLS), Bob at the Microsoft-shaped one (STARTTLS); Carol at Google
too, but never signs in."""


@dataclass(frozen=True)
class World:
    """Everything upstream."""

    authority: Authority
    provider: AuthorizationServer
    dovecot: Dovecot
    postfix: Postfix

    def providers(self) -> dict[str, Section]:
        """A Google-shaped and a Microsoft-shaped provider over the same mail servers."""
        google = self.provider.google_config() | {
            "imap": {"host": "localhost", "port": self.dovecot.imap_tls, "tls": "implicit"},
            "pop3": {"host": "localhost", "port": self.dovecot.pop3_tls, "tls": "implicit"},
            "smtp": {"host": "localhost", "port": self.postfix.smtps, "tls": "implicit"},
        }
        microsoft = self.provider.microsoft_config() | {
            "imap": {"host": "localhost", "port": self.dovecot.imap_starttls, "tls": "starttls"},
            "pop3": {"host": "localhost", "port": self.dovecot.pop3_starttls, "tls": "starttls"},
            "smtp": {"host": "localhost", "port": self.postfix.submission, "tls": "starttls"},
        }
        return {"gmail": google, "office365": microsoft}

    def bridge(self, directory: Path) -> Bridge:
        """A bridge that is configured but not started."""
        accounts = [
            {"address": ALICE, "provider": "gmail"},
            {"address": BOB, "provider": "office365"},
            {"address": CAROL, "provider": "gmail"},
        ]
        bridge = Bridge(directory, configuration(directory, self.providers(), accounts))
        port = bridge.console_port
        self.provider.allow_redirect(f"http://localhost:{port}/")
        return bridge


@contextmanager
def ever_expired(world: World) -> Iterator[None]:
    """Tokens that are issued meanwhile are stale at once, so that each login needs a refresh."""
    world.provider.lifetime = 0
    try:
        yield
    finally:
        world.provider.lifetime = 3600


@contextmanager
def whole_world(authority: Authority) -> Iterator[World]:
    """All servers, until the context ends."""
    needs("dovecot", "postfix")
    needs_root()
    with tempfile.TemporaryDirectory(prefix="mb-") as name:
        directory = Path(name)
        certificate, key = authority.write_pair(directory)
        with (
            authorization_server(authority) as provider,
            dovecot(directory / "dovecot", certificate, key, provider.introspection_url, (ALICE, BOB, CAROL)) as imap,
            postfix(directory / "postfix", certificate, key, imap) as smtp,
        ):
            provider.people |= {ALICE, BOB, CAROL}
            yield World(authority, provider, imap, smtp)


@pytest.fixture(scope="session")
def world(authority: Authority) -> Iterator[World]:
    with whole_world(authority) as world:
        yield world


@pytest.fixture
def fresh(world: World, tmp_path: Path) -> Iterator[Bridge]:
    """A running bridge where nobody has signed in yet."""
    with running(world.bridge(tmp_path)) as bridge:
        yield bridge


@pytest.fixture(scope="module")
def bridge(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bridge]:
    """A running bridge where Alice and Bob have signed in; shared by the tests of a module."""
    with running(world.bridge(tmp_path_factory.mktemp("bridge"))) as bridge:
        for address in (ALICE, BOB):
            bridge.sign_in(world.provider, address)
        yield bridge


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    needs("chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:  # pragma: no cover
        absent("playwright")
    with sync_playwright() as playwright:
        # Chromium does not trust the test provider's certificate: only the bridge is given its authority.
        browser = playwright.chromium.launch(executable_path=str(program("chromium")), args=["--no-sandbox"])
        yield browser
        browser.close()
