"""Both SASL mechanisms on Dovecot and Postfix, which support each of them natively (RFC 7628; XOAUTH2)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.errors import TokenRefused
from bridge.model import AccessToken, Account, Endpoint, Mechanism, Protocol, TlsMode
from bridge.relay.authorities import UpstreamContexts
from bridge.relay.dialer import Dialer
from bridge.relay.upstream import Upstream
from bridge.secret import Secret
from tests.e2e.bridge import Bridge, Section, configuration, running
from tests.e2e.conftest import ALICE, World
from tests.e2e.mailing import found_by_imap, found_by_pop3, send_bytes, smtp, without_trace
from tests.e2e.messages import awkward

pytestmark = pytest.mark.servers

EVERY = [(protocol, mechanism, tls) for protocol in Protocol for mechanism in Mechanism for tls in TlsMode]


@contextlib.contextmanager
def upstream_of(protocol: Protocol) -> Iterator[Upstream]:
    yield Upstream(protocol, Dialer(), UpstreamContexts())


def mailbox(world: World, protocol: Protocol, mechanism: Mechanism, tls: TlsMode) -> Account:
    port = {
        (Protocol.IMAP, TlsMode.IMPLICIT): world.dovecot.imap_tls,
        (Protocol.IMAP, TlsMode.STARTTLS): world.dovecot.imap_starttls,
        (Protocol.POP3, TlsMode.IMPLICIT): world.dovecot.pop3_tls,
        (Protocol.POP3, TlsMode.STARTTLS): world.dovecot.pop3_starttls,
        (Protocol.SMTP, TlsMode.IMPLICIT): world.postfix.smtps,
        (Protocol.SMTP, TlsMode.STARTTLS): world.postfix.submission,
    }[protocol, tls]
    endpoint = Endpoint("localhost", port, tls, str(world.authority.ca_file), mechanism=mechanism)
    return Account(ALICE, "own", ALICE, {protocol: endpoint})


def token(text: str) -> AccessToken:
    return AccessToken(Secret(text), 2e9, 1e9)


@pytest.mark.parametrize(("protocol", "mechanism", "tls"), EVERY)
async def test_a_real_server_takes_a_good_token_and_refuses_a_wrong_one(
    world: World, protocol: Protocol, mechanism: Mechanism, tls: TlsMode
) -> None:
    account = mailbox(world, protocol, mechanism, tls)
    with upstream_of(protocol) as upstream:
        opened = await upstream.open(account, token(world.provider.issue(ALICE)))
        opened.channel.close()
        with pytest.raises(TokenRefused) as caught:
            await upstream.open(account, token("CANARY-wrong"))
        # The server's own words, and not its answer to an aborted SASL dialogue.
        assert "uthentication failed" in caught.value.text
        assert "abort" not in caught.value.text
        assert "CANARY" not in str(caught.value)


@pytest.fixture
def company(world: World, tmp_path: Path) -> Iterator[Bridge]:
    """A bridge with `kind: oauth2` and `sasl: oauthbearer`, where Alice has signed in."""
    provider: Section = world.provider.generic_config() | {
        "sasl": "oauthbearer",
        "client_authentication": "basic",
        "imap": {"host": "localhost", "port": world.dovecot.imap_tls, "tls": "implicit"},
        "pop3": {"host": "localhost", "port": world.dovecot.pop3_starttls, "tls": "starttls"},
        "smtp": {"host": "localhost", "port": world.postfix.smtps, "tls": "implicit"},
    }
    accounts = [{"address": ALICE, "provider": "company"}]
    bridge = Bridge(tmp_path, configuration(tmp_path, {"company": provider}, accounts))
    world.provider.allow_redirect(f"http://localhost:{bridge.console_port}/")
    with running(bridge):
        bridge.sign_in(world.provider, ALICE)
        yield bridge


def test_mail_goes_through_a_provider_of_ones_own_with_oauthbearer(company: Bridge) -> None:
    login, message = company.login(ALICE), awkward("by oauthbearer")
    with smtp(login) as session:
        send_bytes(session, ALICE, ALICE, message)
    assert without_trace(found_by_imap(login, "by oauthbearer")) == message
    assert without_trace(found_by_pop3(login, "by oauthbearer")) == message
    assert "AUTHENTICATE OAUTHBEARER (token)" in company.log
    assert "XOAUTH2" not in company.log
    assert "bixhP" not in company.log  # `n,a=` in base64
    assert "CANARY" not in company.log
