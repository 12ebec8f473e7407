"""Packages that a start must not import, checked with the interpreter's own list of imports: importing them late saves
half of the start's time and a quarter of the memory. Importing one of them at the start again fails this test."""

from __future__ import annotations

import imaplib
import poplib
import re
import smtplib
from pathlib import Path

import pytest

from bridge.host.packages import LATE
from tests.e2e.bridge import Bridge, running
from tests.e2e.clients import Login
from tests.e2e.conftest import ALICE, BOB, World

pytestmark = pytest.mark.servers

OTHERS = ("cryptography.x509", "keyring", "oauthlib", "sqlalchemy", "urllib3", "bridge.doctor.examination")
"""Packages that come with those in LATE, and packages that few configurations need at all."""


def imported(bridge: Bridge) -> set[str]:
    """The modules that the running bridge has imported so far."""
    return set(re.findall(r"^import time:\s+\d+ \|\s+\d+ \|\s+(\S+)$", bridge.log, re.MULTILINE))


def log_in(login: Login) -> None:
    """Log in once by each protocol."""
    with imaplib.IMAP4("127.0.0.1", login.imap) as imap:
        assert imap.login(login.username, login.password)[0] == "OK"
    pop3 = poplib.POP3("127.0.0.1", login.pop3)
    pop3.user(login.username)
    assert pop3.pass_(login.password).startswith(b"+OK")
    pop3.quit()
    with smtplib.SMTP("127.0.0.1", login.smtp) as smtp:
        assert smtp.login(login.username, login.password)[0] == 235


def test_a_start_and_the_first_logins_import_no_heavy_package_and_a_visitor_does(world: World, tmp_path: Path) -> None:
    bridge = world.bridge(tmp_path)
    with running(bridge):
        for address in (ALICE, BOB):
            bridge.sign_in(world.provider, address)
        logins = [bridge.login(address) for address in (ALICE, BOB)]
    bridge.environment["PYTHONPROFILEIMPORTTIME"] = "1"
    with running(bridge):
        for login in logins:
            log_in(login)
        found = imported(bridge)
        assert {"bridge.app", "pydantic", "cryptography", "bridge.ui.web.console_sockets"} <= found
        assert found & {*LATE, *OTHERS} == set()
        status, page = bridge.get("/")
        assert (status, "</html>" in page) == (200, True)
        bridge.wait_until(lambda: {"aiohttp", "jinja2"} <= imported(bridge), "aiohttp")
        assert found & {"requests", "msal"} == set()
