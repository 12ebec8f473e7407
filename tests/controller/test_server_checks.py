"""What is remembered of a trial of the mail servers, and for how long: with real servers, and a token service on a fake
provider."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, replace

import pytest

from bridge.clock import SystemClock
from bridge.controller.server_answers import ServerAnswers
from bridge.controller.server_checks import ServerChecks
from bridge.errors import AuthorizationRequired
from bridge.model import Account, Protocol, TlsMode
from bridge.notices import Forgotten, Notice, NoticeBus, ServersChecked
from bridge.relay.authorities import UpstreamContexts
from bridge.relay.dialer import Dialer
from bridge.relay.upstream import Upstream
from tests.relay.scripted import Hold, Script, Trust, accepts, refuses, scripted
from tests.tokens.fakes import ALICE
from tests.tokens.world import World, world

IMPLICIT = TlsMode.IMPLICIT


@pytest.fixture(scope="module")
def trust(tmp_path_factory: pytest.TempPathFactory) -> Trust:
    return Trust(tmp_path_factory.mktemp("trust"))


@dataclass
class Trial:
    """Alice's account, and all that a trial of its servers needs."""

    checks: ServerChecks
    remembered: ServerAnswers
    account: Account
    bus: NoticeBus
    notices: list[Notice]
    tokens: World

    def answers(self) -> list[tuple[str, bool]]:
        return [(check.protocol, check.is_ok) for check in self.remembered.of(self.account)]

    def told(self) -> list[ServersChecked]:
        return [notice for notice in self.notices if isinstance(notice, ServersChecked)]


@asynccontextmanager
async def trying(trust: Trust, *scripts: Script, smtp: Script | None = None) -> AsyncIterator[Trial]:
    """An IMAP server with one script for each trial, and perhaps an SMTP server with a single script."""
    with ExitStack() as stack:
        servers = {Protocol.IMAP: scripts} | ({Protocol.SMTP: (smtp,)} if smtp is not None else {})
        ports = {protocol: stack.enter_context(scripted(*each)).port for protocol, each in servers.items()}
        account = replace(ALICE, endpoints={name: trust.endpoint(port, IMPLICIT) for name, port in ports.items()})
        upstreams = {protocol: Upstream(protocol, Dialer(), UpstreamContexts()) for protocol in Protocol}
        bus, notices = NoticeBus(), list[Notice]()
        bus.on_notice(notices.append)
        async with world() as tokens:
            clock = SystemClock()
            answers = ServerAnswers(clock, bus)
            checks = ServerChecks(upstreams, tokens.service, answers, clock, bus)
            yield Trial(checks, answers, account, bus, notices, tokens)


def imap(trust: Trust, *, hold: Hold | None = None, says_no: bool = False) -> Script:
    login = (
        refuses(Protocol.IMAP, IMPLICIT, trust.good, b"[UNAVAILABLE] later")
        if says_no
        else accepts(Protocol.IMAP, IMPLICIT, trust.good)
    )
    return [login[0], *([hold] if hold else []), *login[1:]]  # the hold comes after the handshake


async def test_a_sign_in_is_tried_at_once_and_each_server_is_remembered(trust: Trust) -> None:
    smtp = refuses(Protocol.SMTP, IMPLICIT, trust.good, b"535 5.7.139 SmtpClientAuthentication is disabled")
    async with trying(trust, imap(trust), smtp=smtp) as it:
        assert it.answers() == []
        assert await it.checks.keep(it.account, it.tokens.provider.issue()) == ALICE.address
        assert it.answers() == [("imap", True), ("smtp", False)]
        refused = it.remembered.of(it.account)[1]
        assert refused.diagnosis is not None
        assert (refused.turn, refused.sentence) == (refused.diagnosis.advice.turn, refused.diagnosis.told())
    assert it.told() == [ServersChecked(ALICE.address, "smtp")]


async def test_what_went_elsewhere_says_nothing_of_where_it_would_go_now(trust: Trust) -> None:
    async with trying(trust, imap(trust)) as it:
        await it.checks.keep(it.account, it.tokens.provider.issue())
        assert it.remembered.of(replace(it.account, provider="another")) == ()
        assert it.remembered.of(replace(it.account, subject="bob@example.com")) == ()
        assert it.remembered.of(replace(it.account, endpoints={})) == ()
        assert it.remembered.of(replace(it.account, address="bob@example.com")) == ()
        assert it.answers() == [("imap", True)]


async def test_without_a_token_a_sign_in_is_over_all_the_same(trust: Trust) -> None:
    async with trying(trust) as it:
        with pytest.raises(AuthorizationRequired):
            await it.checks.check(it.account)
        assert it.told() == []
        await it.checks.check_new(it.account)
    assert it.told() == [ServersChecked(ALICE.address, "")]
    assert it.answers() == []


async def test_a_grant_that_was_forgotten_takes_its_check_with_it_even_one_under_way(trust: Trust) -> None:
    hold = Hold()
    async with trying(trust, imap(trust), imap(trust, hold=hold)) as it, asyncio.TaskGroup() as group:
        await it.checks.keep(it.account, it.tokens.provider.issue())
        checking = group.create_task(it.checks.check(it.account))
        assert await asyncio.to_thread(hold.reached.wait, 10)
        it.bus.publish(Forgotten(ALICE.address))
        assert it.answers() == []
        hold.until.set()
        await checking
        assert it.answers() == []


async def test_the_check_that_began_last_is_remembered(trust: Trust) -> None:
    hold = Hold()
    scripts = imap(trust, hold=hold, says_no=True), imap(trust), imap(trust, says_no=True)
    async with trying(trust, *scripts) as it, asyncio.TaskGroup() as group:
        await it.tokens.sign_in()
        slow = group.create_task(it.checks.check(it.account))
        assert await asyncio.to_thread(hold.reached.wait, 10)
        await it.checks.check(it.account)
        hold.until.set()
        await slow
        assert it.answers() == [("imap", True)]
        await it.checks.check(it.account)
        assert it.answers() == [("imap", False)]
