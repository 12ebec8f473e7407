"""What mail clients are told when the bridge stops: before their login, during it, and after it."""

from __future__ import annotations

import asyncio
import contextlib
import time

import pytest

from bridge.model import Protocol, TlsMode
from bridge.relay.frontend import Patience
from bridge.relay.stopping import Stopping
from tests.relay.bridging import IMPLICIT, PROTOCOLS, Bridge, alone, bridge_to, greeted, log_in, login_lines
from tests.relay.scripted import Expect, Hold, Say, StartTls, Step, Trust, accepts, scripted
from tests.relay.sockets import fill

LAST_WORDS = {
    Protocol.IMAP: b"* BYE [UNAVAILABLE] mail-bridge is being stopped. Try again later.\r\n",
    Protocol.POP3: b"-ERR [SYS/TEMP] mail-bridge is being stopped. Try again later.\r\n",
    Protocol.SMTP: b"421 4.3.2 mail-bridge is being stopped. Try again later.\r\n",
}
HALF_A_LOGIN = {
    Protocol.IMAP: [b"", b"a1 LOG", b"a1 LOGIN {5}\r\nali", b"a1 AUTHENTICATE LOGIN\r\nYWxpY2U=\r\n"],
    Protocol.POP3: [b"", b"USER al", b"USER alice\r\n", b"AUTH LOGIN\r\nYWxpY2U=\r\n"],
    Protocol.SMTP: [b"", b"AUTH LOG", b"AUTH LOGIN\r\nYWxpY2U=\r\n", b"AUTH PLAIN\r\n", b"NOOP\r\n"],
}


def stop(bridge: Bridge) -> None:
    bridge.services.stopping.begin()


def test_each_is_told_once_and_who_comes_later_at_once() -> None:
    stopping, heard = Stopping(), []
    with stopping.told(lambda: heard.append("left in time")):
        pass
    with stopping.told(lambda: heard.append("here")):
        stopping.begin()
        assert heard == ["here"]
        stopping.begin()
    with stopping.told(lambda: heard.append("later")):
        assert heard == ["here", "later"]


async def test_a_login_whose_time_ends_in_the_moment_of_the_stop_does_not_end_the_stop() -> None:
    stopping, patience, told = Stopping(), Patience(0.01), asyncio.Event()

    def begin() -> None:
        stopping.begin()
        told.set()

    with stopping.told(patience.end), pytest.raises(TimeoutError):
        async with patience.running():
            asyncio.get_running_loop().call_later(0.02, begin)
            time.sleep(0.05)  # both timers are due in the loop's next turn
            await asyncio.Event().wait()
    assert told.is_set()
    assert patience.has_ended


@pytest.mark.parametrize(("protocol", "half"), [(p, half) for p in PROTOCOLS for half in HALF_A_LOGIN[p]])
async def test_a_client_without_a_login_is_told_and_not_waited_for(
    trust: Trust, protocol: Protocol, half: bytes
) -> None:
    with scripted() as server, bridge_to(server, protocol, trust) as bridge:
        async with bridge.serving() as (client, running):
            await greeted(client, protocol)
            await client.send(half)
            for _ in range(half.count(b"\r\n")):  # what the client is answered on the way
                await client.hear()
            stop(bridge)
            assert await client.hear_the_end() == LAST_WORDS[protocol]
            client.close()
            await running
        assert bridge.cap.count == 0
        assert alone()


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_client_that_comes_in_the_moment_of_the_stop_is_told(trust: Trust, protocol: Protocol) -> None:
    with scripted() as server, bridge_to(server, protocol, trust) as bridge:
        stop(bridge)
        async with bridge.serving() as (client, _):
            assert (await client.hear_the_end()).endswith(LAST_WORDS[protocol])


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_login_that_is_refused_behind_the_stop_is_the_last(trust: Trust, protocol: Protocol) -> None:
    with scripted() as server, bridge_to(server, protocol, trust) as bridge:
        async with bridge.serving() as (client, _):
            await greeted(client, protocol)
            bridge.office.on_login = lambda: stop(bridge)
            assert b"local password is wrong" in await log_in(client, protocol, "another")
            assert await client.hear_the_end() == LAST_WORDS[protocol]


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_login_under_way_goes_on(trust: Trust, protocol: Protocol) -> None:
    script = [*accepts(protocol, IMPLICIT, trust.good), Expect(b"ping"), Say(b"pong\r\n")]
    with scripted(script) as server, bridge_to(server, protocol, trust) as bridge:
        async with bridge.serving() as (client, _):
            await greeted(client, protocol)
            bridge.office.on_login = lambda: stop(bridge)
            assert b"Welcome" in await log_in(client, protocol)
            assert await client.ask(b"ping") == b"pong"


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_login_that_takes_longer_than_the_stop_is_told_to_come_again(trust: Trust, protocol: Protocol) -> None:
    hold = Hold()
    script: list[Step] = [StartTls(trust.good), hold]
    with scripted(script) as server, bridge_to(server, protocol, trust) as bridge:
        async with bridge.serving() as (client, running):
            await greeted(client, protocol)
            await client.say(*login_lines(protocol))
            assert await asyncio.to_thread(hold.reached.wait, 60)
            stop(bridge)
            running.cancel()
            assert (await client.hear_the_end()).removeprefix(b"+OK And the password?\r\n") == LAST_WORDS[protocol]
            client.close()
            with contextlib.suppress(asyncio.CancelledError):
                await running
        assert bridge.cap.count == 0
        assert alone()


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_login_that_waits_for_its_mailboxs_turn_is_told_to_come_again(trust: Trust, protocol: Protocol) -> None:
    script: list[Step] = [*accepts(protocol, IMPLICIT, trust.good), Hold()]
    with scripted(script) as server, bridge_to(server, protocol, trust, connections=1) as bridge:
        async with bridge.serving() as (first, inside), bridge.serving() as (second, waiting):
            for client in (first, second):
                await greeted(client, protocol)
            await log_in(first, protocol)
            bridge.office.known.clear()
            await second.say(*login_lines(protocol))
            await bridge.office.known.wait()
            (line,) = bridge.turns._lines.values()
            async with asyncio.timeout(20):
                while not line._waiting:
                    await asyncio.sleep(0)
            stop(bridge)
            for session in (inside, waiting):  # the session in the mailbox ends in the same moment
                session.cancel()
            assert (await second.hear_the_end()).removeprefix(b"+OK And the password?\r\n") == LAST_WORDS[protocol]
            for client in (first, second):
                client.close()
            assert [type(ended) for ended in await asyncio.gather(inside, waiting, return_exceptions=True)] == (
                [asyncio.CancelledError] * 2
            )
        assert bridge.cap.count == 0


async def test_a_client_that_reads_nothing_does_not_hold_up_the_stop(
    trust: Trust, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.relay.session.LAST_WORDS_SECONDS", 0.01)
    monkeypatch.setattr("bridge.relay.frontend.FAREWELL_SECONDS", 3600)  # the limit for other farewells
    hold = Hold()
    script: list[Step] = [StartTls(trust.good), hold]
    with scripted(script) as server, bridge_to(server, Protocol.IMAP, trust) as bridge:
        async with bridge.serving() as (client, running):
            await client.say(*login_lines(Protocol.IMAP))
            assert await asyncio.to_thread(hold.reached.wait, 60)
            fill(client.bridge)
            running.cancel()
            async with asyncio.timeout(60):
                await asyncio.wait([running])


async def test_a_client_in_its_mailbox_hears_no_word_of_ours(trust: Trust) -> None:
    script = [*accepts(Protocol.IMAP, TlsMode.IMPLICIT, trust.good), Expect(b"ping"), Say(b"pong\r\n")]
    with scripted(script) as server, bridge_to(server, Protocol.IMAP, trust) as bridge:
        async with bridge.serving() as (client, running):
            await greeted(client, Protocol.IMAP)
            await log_in(client, Protocol.IMAP)
            stop(bridge)
            assert await client.ask(b"ping") == b"pong"
            running.cancel()
            assert await client.hear_the_end() == b""
