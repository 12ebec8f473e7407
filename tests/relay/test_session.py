"""One connection from accept to close: a mail client, the session, and a scripted upstream, all over real sockets."""

from __future__ import annotations

import asyncio
import gc
import io
import ssl
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from bridge.errors import AuthorizationRequired, BridgeError, LoginRefused, ProviderUnavailable, StoreCorrupt
from bridge.model import Account, Caller, Ends, Login, Protocol, TlsMode
from bridge.observe.metrics import BYTES, LOGINS
from bridge.relay import limits, session, wanted
from bridge.relay.channel import Channel
from bridge.relay.limits import Turns
from bridge.relay.session import LOGINS_PER_CONNECTION, AskCaller, Services, Session
from tests.relay.bridging import (
    ACCEPTED,
    ADDRESS,
    BYE,
    IMPLICIT,
    PASSWORD,
    PROTOCOLS,
    TOKENS,
    Bridge,
    alone,
    answered,
    blob,
    bridge_to,
    events,
    greeted,
    log_in,
    login_lines,
    plain,
)
from tests.relay.scripted import (
    Close,
    Expect,
    Hold,
    MailClient,
    Reset,
    Say,
    StartTls,
    Step,
    Trust,
    accepts,
    context_of,
    mail_client,
    refuses,
    scripted,
)
from tests.relay.slow_system import GONE, SlowSystem

# --- the linear story -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", list(TlsMode))
@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_login_then_bytes_both_ways_then_everything_is_closed(
    trust: Trust, protocol: Protocol, mode: TlsMode, log: io.StringIO
) -> None:
    script = [*accepts(protocol, mode, trust.good), Expect(b"ping"), Say(b"pong\r\n"), *BYE]
    with scripted(script) as server, bridge_to(server, protocol, trust, mode) as bridge:
        async with bridge.serving() as (client, _):
            await greeted(client, protocol)
            assert await log_in(client, protocol) == ACCEPTED[protocol]
            assert bridge.cap.count == 0, "a client that has logged in needs no place any more"
            assert await client.ask(b"ping") == b"pong"
            await client.say(b"bye")
            assert await client.hear_the_end() == b"farewell\r\n"
        assert bridge.office.asked == [None]
        assert bridge.office.logins[0].username == ADDRESS
        assert alone()
    assert blob(TOKENS[0]) in server.heard[0].text
    said = events(log)
    assert [line["event"] for line in said] == ["session.open", "session.ready", "session.done"]
    assert said[0]["client"] == "the mail client"
    assert (said[1]["account"], said[1]["upstream"]) == (ADDRESS, f"localhost:{server.port}")
    assert said[2]["to_upstream"] == len(b"ping\r\nbye\r\n")
    assert said[2]["to_client"] == len(b"pong\r\nfarewell\r\n")
    assert said[2]["ended_by"] == "upstream"


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_logins_are_counted_by_their_answer_and_bytes_when_the_session_has_ended(
    trust: Trust, protocol: Protocol
) -> None:
    script = [*accepts(protocol, IMPLICIT, trust.good), Expect(b"ping"), Say(b"pong\r\n"), *BYE]
    with scripted(script) as server, bridge_to(server, protocol, trust) as bridge:
        counters = bridge.services.counters
        async with bridge.serving() as (client, _):
            await greeted(client, protocol)
            bridge.office.problem = LoginRefused("wrong password")
            await log_in(client, protocol)
            bridge.office.problem = ProviderUnavailable("timeout")
            await log_in(client, protocol)
            bridge.office.problem = None
            bridge.office.asked.clear()
            assert await log_in(client, protocol) == ACCEPTED[protocol]
            assert counters.take() == {LOGINS.sample(protocol.value, answer): 1 for answer in ("yes", "no", "later")}
            assert await client.ask(b"ping") == b"pong"
            assert counters.take() == {}
            await client.say(b"bye")
            await client.hear_the_end()
    to_program, to_server = BYTES.sample(protocol.value, "program"), BYTES.sample(protocol.value, "server")
    assert counters.take() == {to_program: len(b"pong\r\nfarewell\r\n"), to_server: len(b"ping\r\nbye\r\n")}


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_how_the_mail_server_took_each_login_is_told_once_and_only_what_it_said_itself(
    trust: Trust, protocol: Protocol
) -> None:
    no = refuses(protocol, IMPLICIT, trust.good, TOKEN_REFUSED[protocol])
    busy = refuses(protocol, IMPLICIT, trust.good, BUSY[protocol])
    yes = [*accepts(protocol, IMPLICIT, trust.good), *BYE]
    told = list[tuple[Account, Protocol, str, bool]]()

    def tried(account: Account, which: Protocol, problem: BridgeError | None, seconds: float) -> None:
        told.append((account, which, type(problem).__name__, 0 <= seconds < 60))

    with scripted(no, no, no, yes, busy) as server, bridge_to(server, protocol, trust) as bridge:
        bridge.services = replace(bridge.services, tried=tried)
        account, office = bridge.office.account, bridge.office
        async with bridge.serving() as (client, _):
            await greeted(client, protocol)
            await log_in(client, protocol, "wrong")
            office.problem = ProviderUnavailable("timeout")
            await log_in(client, protocol)
            assert told == [], "nobody was dialled"
            office.problem = None
            await log_in(client, protocol)
            assert told == [(account, protocol, "TokenRefused", True)], "of the last of the two tries"
            assert await log_in(client, protocol) == ACCEPTED[protocol]
            assert told[1:] == [(account, protocol, "NoneType", True)]
            await client.say(b"bye")
            await client.hear_the_end()
        office.account = replace(account, endpoints={})
        async with bridge.serving() as (client, _):
            await greeted(client, protocol)
            await log_in(client, protocol)
            assert len(told) == 2, "there is no mail server"
            office.account = account
            await log_in(client, protocol)
        assert told[2:] == [(account, protocol, "UpstreamUnavailable", True)]


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_session_that_is_over_leaves_no_channel_to_the_collector(trust: Trust, protocol: Protocol) -> None:
    """Two channels, one of them with TLS, take 40 KiB: at a hundred logins a second that would be 4 MiB a second."""

    def channels() -> int:
        return sum(isinstance(each, Channel) for each in gc.get_objects())

    script = [*accepts(protocol, IMPLICIT, trust.good), *BYE]
    gc.collect()
    before = channels()
    gc.disable()
    try:
        with scripted(script) as server, bridge_to(server, protocol, trust) as bridge:
            async with bridge.serving() as (client, session):
                await greeted(client, protocol)
                assert await log_in(client, protocol) == ACCEPTED[protocol]
                assert channels() >= before + 2
                await client.say(b"bye")
                assert await client.hear_the_end() == b"farewell\r\n"
            del client, session
        assert channels() == before
    finally:
        gc.enable()


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_bytes_in_one_piece_with_the_login_reach_the_upstream_behind_it(trust: Trust, protocol: Protocol) -> None:
    script = [*accepts(protocol, IMPLICIT, trust.good), Expect(b"first"), Expect(b"second"), *BYE]
    with scripted(script) as server, bridge_to(server, protocol, trust) as bridge:
        async with bridge.serving() as (client, _):
            await greeted(client, protocol)
            await client.say(*login_lines(protocol), b"first", b"second", b"bye")
            heard = await client.hear_the_end()
        assert heard.endswith(ACCEPTED[protocol] + b"\r\nfarewell\r\n")


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_bytes_in_one_piece_with_the_upstreams_answer_reach_the_client_behind_ours(
    trust: Trust, protocol: Protocol, log: io.StringIO
) -> None:
    script = [*accepts(protocol, IMPLICIT, trust.good, behind=b"* early\r\n"), *BYE]
    with scripted(script) as server, bridge_to(server, protocol, trust) as bridge:
        async with bridge.serving() as (client, _):
            await greeted(client, protocol)
            assert await log_in(client, protocol) == ACCEPTED[protocol]
            await client.say(b"bye")
            assert await client.hear_the_end() == b"* early\r\nfarewell\r\n"
    assert events(log)[-1]["to_client"] == len(b"* early\r\nfarewell\r\n")


async def test_a_client_that_hangs_up_ends_the_upstream_too(trust: Trust, log: io.StringIO) -> None:
    script: list[Step] = [*accepts(Protocol.IMAP, IMPLICIT, trust.good)]
    with scripted(script) as server, bridge_to(server, Protocol.IMAP, trust) as bridge:
        async with bridge.serving() as (client, _):
            await greeted(client, Protocol.IMAP)
            await log_in(client, Protocol.IMAP)
            client.reset()
        assert alone()
    assert events(log)[-1]["ended_by"] == "client lost"


async def test_an_upstream_that_is_lost_ends_the_client_too(trust: Trust, log: io.StringIO) -> None:
    script: list[Step] = [*accepts(Protocol.IMAP, IMPLICIT, trust.good), Expect(b"die"), Reset()]
    with scripted(script) as server, bridge_to(server, Protocol.IMAP, trust) as bridge:
        async with bridge.serving() as (client, _):
            await greeted(client, Protocol.IMAP)
            await log_in(client, Protocol.IMAP)
            await client.say(b"die")
            assert await client.hear_the_end() == b""
        assert alone()
    # Older Python versions' ssl takes a reset inside TLS for the end of file (CPython gh-115627).
    assert events(log)[-1]["ended_by"] in {"upstream lost", "upstream"}


# --- refused by us --------------------------------------------------------------------------------------------------

WRONG = {
    Protocol.IMAP: b"a1 NO [AUTHENTICATIONFAILED] User name or local password is wrong.",
    Protocol.POP3: b"-ERR [AUTH] User name or local password is wrong.",
    Protocol.SMTP: b"535 5.7.8 User name or local password is wrong.",
}


def prompts(bridge: Bridge) -> list[str]:
    """The addresses for which a user is prompted to sign in; the list grows as that happens."""
    found: list[str] = []

    async def asked(address: str, ends: Ends | None, caller_of: AskCaller) -> None:
        found.append(address)

    bridge.services = replace(bridge.services, asked=asked)
    return found


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_wrong_password_dials_nobody_and_asks_for_no_token(
    trust: Trust, protocol: Protocol, log: io.StringIO
) -> None:
    with scripted() as server, bridge_to(server, protocol, trust) as bridge:
        prompted = prompts(bridge)
        async with bridge.serving() as (client, _):
            await greeted(client, protocol)
            assert (await log_in(client, protocol, "CANARY-wrong")).startswith(WRONG[protocol])
            assert bridge.cap.count == 1
        assert bridge.office.asked == []
        assert prompted == [], "a wrong password is nobody's wish"
        assert bridge.cap.count == 0
        assert alone()
    said = events(log)
    assert [line["event"] for line in said] == ["session.open", "login.refused", "session.closed"]
    assert (said[1]["error"], said[1]["username"]) == ("LoginRefused", ADDRESS)
    assert said[2]["reason"] == "the client has left"


async def test_of_a_name_that_is_nobodys_for_its_length_the_log_has_the_beginning(
    trust: Trust, log: io.StringIO
) -> None:
    """Each line of the log takes up disk space, and time to be searched for secrets."""
    with scripted() as server, bridge_to(server, Protocol.IMAP, trust) as bridge:
        async with bridge.serving() as (client, _):
            await greeted(client, Protocol.IMAP)
            assert (await client.ask(b"a1 LOGIN %b wrong" % (b"x" * 8000))).startswith(WRONG[Protocol.IMAP])
    assert events(log)[1]["username"] == "x" * 320


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_after_a_wrong_password_the_right_one_is_taken_on_the_same_connection(
    trust: Trust, protocol: Protocol
) -> None:
    script = [*accepts(protocol, IMPLICIT, trust.good), *BYE]
    with scripted(script) as server, bridge_to(server, protocol, trust) as bridge:
        async with bridge.serving() as (client, _):
            await greeted(client, protocol)
            await log_in(client, protocol, "CANARY-wrong")
            assert await log_in(client, protocol) == ACCEPTED[protocol]
            assert await client.ask(b"bye") == b"farewell"


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_wrong_login_that_comes_again_at_once_is_marked_and_no_other_is(
    trust: Trust, protocol: Protocol
) -> None:
    """Whatever is left of the mechanisms is tried with the same password."""
    with scripted() as server, bridge_to(server, protocol, trust) as bridge:
        async with bridge.serving() as (client, _):
            await greeted(client, protocol)
            for password in ("CANARY-wrong", "CANARY-wrong", "CANARY-wrong", "CANARY-other", "CANARY-wrong"):
                await log_in(client, protocol, password)
        assert [login.is_repeated for login in bridge.office.logins] == [False, True, True, False, False]


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_right_login_that_comes_again_is_no_wrong_one(trust: Trust, protocol: Protocol) -> None:
    with scripted() as server, bridge_to(server, protocol, trust) as bridge:
        bridge.office.problem = ProviderUnavailable("not just now")
        async with bridge.serving() as (client, _):
            await greeted(client, protocol)
            for _ in range(2):
                await log_in(client, protocol)
        assert [login.is_repeated for login in bridge.office.logins] == [False, False]


TOO_MANY = {
    Protocol.IMAP: b"* BYE Too many refused logins\r\n",
    Protocol.POP3: b"",
    Protocol.SMTP: b"421 4.7.0 Too many refused logins\r\n",
}
"""RFC 9051 section 3.4 and RFC 5321 section 3.8 ask for a message before the end; POP3 has only answers to commands."""


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_five_refused_logins_end_the_connection_and_each_has_its_answer(
    trust: Trust, protocol: Protocol, log: io.StringIO
) -> None:
    with scripted() as server, bridge_to(server, protocol, trust) as bridge:
        async with bridge.serving() as (client, _):
            await greeted(client, protocol)
            for _ in range(LOGINS_PER_CONNECTION):
                assert (await log_in(client, protocol, "CANARY-wrong")).startswith(WRONG[protocol])
            assert await client.hear_the_end() == TOO_MANY[protocol]
        assert len(bridge.office.logins) == LOGINS_PER_CONNECTION == 5
        assert alone()
        assert bridge.cap.count == 0
    assert events(log)[-1]["reason"] == "too many refused logins"


FULL = {
    Protocol.IMAP: b"* BYE [UNAVAILABLE] ",
    Protocol.POP3: b"-ERR [SYS/TEMP] ",
    Protocol.SMTP: b"421 4.7.0 ",
}


async def test_once_half_of_the_places_are_taken_a_newcomer_says_who_he_is(trust: Trust, log: io.StringIO) -> None:
    asked: list[Ends | None] = []

    async def caller_of(ends: Ends | None) -> Caller:
        asked.append(ends)
        return Caller("bob", "1001")

    with scripted() as server, bridge_to(server, Protocol.IMAP, trust, most=4) as bridge:
        bridge.cap._share = 1
        bridge.services = replace(bridge.services, caller_of=caller_of)
        async with bridge.serving() as (first, _), bridge.serving() as (second, _):
            assert (await first.hear()).startswith(b"* OK")
            assert (await second.hear()).startswith(b"* OK")
            assert asked == []
            async with bridge.serving() as (third, _), bridge.serving() as (fourth, _):
                assert (await third.hear()).startswith(b"* OK")
                assert (await fourth.hear()).startswith(FULL[Protocol.IMAP])
                assert len(asked) == 2
                assert bridge.cap.count == 3
    assert "1 more of user 1001" in log.getvalue()


async def test_who_could_not_be_looked_up_for_a_place_is_looked_up_again_for_the_login(trust: Trust) -> None:
    """And then not a third time, since a look-up has its cost."""
    answers = [Caller("bob", "1001"), Caller(unknown="not now", is_for_now=True)]
    found: list[str] = []

    async def caller_of(ends: Ends | None) -> Caller:
        return answers.pop()

    async def who(login: Login, caller: AskCaller) -> Account:
        found.extend([(await caller()).user, (await caller()).user])
        raise LoginRefused("wrong password")

    with scripted() as server, bridge_to(server, Protocol.IMAP, trust, most=1) as bridge:
        bridge.services = replace(bridge.services, caller_of=caller_of, who=who)
        async with bridge.serving() as (client, _):
            await greeted(client, Protocol.IMAP)
            await log_in(client, Protocol.IMAP)
    assert found == ["bob", "bob"]


async def test_who_has_gone_before_the_system_answers_is_not_whoever_has_his_port_since(trust: Trust) -> None:
    system, over = SlowSystem(Caller("carol", "1002")), asyncio.Event()
    found: list[Caller] = []

    async def who(login: Login, caller: AskCaller) -> Account:
        found.append(await caller())
        over.set()
        raise LoginRefused("wrong password")

    with scripted() as server, bridge_to(server, Protocol.IMAP, trust) as bridge:
        bridge.services = replace(bridge.services, caller_of=system.caller_of, who=who)
        async with bridge.serving() as (client, _):
            await greeted(client, Protocol.IMAP)
            await client.say(*login_lines(Protocol.IMAP))
            await system.asked.wait()
            client.reset()
            system.answer.set()
            await over.wait()
    assert found == [GONE]


async def test_who_comes_faster_than_the_system_says_whose_he_is_holds_a_place_all_the_while(trust: Trust) -> None:
    asked, answer = asyncio.Semaphore(0), asyncio.Event()

    async def caller_of(ends: Ends | None) -> Caller:
        asked.release()
        await answer.wait()
        return Caller("bob", "1001")

    with scripted() as server, bridge_to(server, Protocol.IMAP, trust, most=2) as bridge:
        bridge.services = replace(bridge.services, caller_of=caller_of)
        async with bridge.serving() as (first, _), bridge.serving() as (second, _):
            assert (await first.hear()).startswith(b"* OK")
            await asked.acquire()
            async with bridge.serving() as (third, _):
                assert (await third.hear()).startswith(FULL[Protocol.IMAP])
            assert asked.locked(), "and nobody was asked about it"
            answer.set()
            assert (await second.hear()).startswith(b"* OK")


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_full_house_is_said_in_place_of_the_greeting(
    trust: Trust, protocol: Protocol, log: io.StringIO
) -> None:
    with scripted() as server, bridge_to(server, protocol, trust, most=1) as bridge:
        with bridge.cap.place():
            async with bridge.serving() as (client, _):
                answer = await client.hear_the_end()
                assert answer.startswith(FULL[protocol])
                assert answer.count(b"\r\n") == 1
        async with bridge.serving() as (client, _):
            assert not (await client.hear()).startswith(FULL[protocol])
    assert "connections wait for their login" in str(events(log)[1]["reason"])


# --- tokens ---------------------------------------------------------------------------------------------------------

TOKEN_REFUSED = {
    Protocol.IMAP: b"[AUTHENTICATIONFAILED] Invalid credentials",
    Protocol.POP3: b"-ERR [AUTH] Invalid credentials",
    Protocol.SMTP: b"535 5.7.8 Invalid credentials",
}
NOT_AUTHORIZED = {
    Protocol.IMAP: b"a1 NO [AUTHORIZATIONFAILED] The mail server refuses this account. It says: ",
    Protocol.POP3: b"-ERR [AUTH] The mail server refuses this account. It says: ",
    Protocol.SMTP: b"535 5.7.8 The mail server refuses this account. It says: ",
}
TRY_LATER = {
    Protocol.IMAP: b"a1 NO [UNAVAILABLE] ",
    Protocol.POP3: b"-ERR [SYS/TEMP] ",
    Protocol.SMTP: b"454 4.7.0 ",
}


@pytest.mark.parametrize("mode", list(TlsMode))
@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_token_that_is_refused_once_is_renewed_and_tried_again(
    trust: Trust, protocol: Protocol, mode: TlsMode, log: io.StringIO
) -> None:
    first = refuses(protocol, mode, trust.good, TOKEN_REFUSED[protocol])
    second = [*accepts(protocol, mode, trust.good), *BYE]
    with scripted(first, second) as server, bridge_to(server, protocol, trust, mode) as bridge:
        async with bridge.serving() as (client, _):
            await greeted(client, protocol)
            assert await log_in(client, protocol) == ACCEPTED[protocol]
            assert await client.ask(b"bye") == b"farewell"
        assert bridge.office.asked == [None, TOKENS[0]]
    assert [blob(TOKENS[n]) in heard.text for n, heard in enumerate(server.heard)] == [True, True]
    assert [line["event"] for line in events(log)][1:3] == ["token.refused", "session.ready"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_token_that_is_refused_twice_is_the_end_of_the_login_but_not_of_the_connection(
    trust: Trust, protocol: Protocol
) -> None:
    no = refuses(protocol, IMPLICIT, trust.good, TOKEN_REFUSED[protocol])
    yes = [*accepts(protocol, IMPLICIT, trust.good), *BYE]
    with scripted(no, no, yes) as server, bridge_to(server, protocol, trust) as bridge:
        async with bridge.serving() as (client, _):
            await greeted(client, protocol)
            answer = await log_in(client, protocol)
            assert answer.startswith(NOT_AUTHORIZED[protocol])
            assert answer.endswith(b"Invalid credentials")
            assert await log_in(client, protocol) == ACCEPTED[protocol]
            assert await client.ask(b"bye") == b"farewell"
        assert bridge.office.asked == [None, TOKENS[0], None]


PROBLEMS = [
    (AuthorizationRequired(ADDRESS, "http://localhost:1/sign-in"), "later", b"Open http://localhost:1/sign-in"),
    (ProviderUnavailable("timeout"), "later", b"The sign-in service cannot be reached just now."),
    (StoreCorrupt("seal broken"), "admin", b"The stored sign-in cannot be read."),
]
ADMIN = {
    Protocol.IMAP: b"a1 NO [CONTACTADMIN] ",
    Protocol.POP3: b"-ERR [SYS/PERM] ",
    Protocol.SMTP: b"454 4.7.0 ",
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(("problem", "kind", "words"), PROBLEMS)
async def test_without_a_token_nobody_is_dialled_and_the_client_is_told_why(
    trust: Trust, protocol: Protocol, problem: BridgeError, kind: str, words: bytes
) -> None:
    with scripted() as server, bridge_to(server, protocol, trust) as bridge:
        bridge.office.problem = problem
        prompted = prompts(bridge)
        async with bridge.serving() as (client, _):
            await greeted(client, protocol)
            answer = await log_in(client, protocol)
            assert prompted == [ADDRESS] * isinstance(problem, AuthorizationRequired), "before the client hears of it"
            assert answer.startswith((TRY_LATER if kind == "later" else ADMIN)[protocol])
            assert words in answer


# --- the upstream's troubles ----------------------------------------------------------------------------------------

BUSY = {
    Protocol.IMAP: b"[UNAVAILABLE] Server busy",
    Protocol.POP3: b"-ERR [SYS/TEMP] Server busy",
    Protocol.SMTP: b"432 4.3.2 Concurrent connections limit exceeded",
}


CROWDED = {
    Protocol.IMAP: b"[ALERT] Too many simultaneous connections. (Failure)",
    Protocol.POP3: b"-ERR [IN-USE] Maximum number of connections exceeded",
    Protocol.SMTP: b"432 4.3.2 Concurrent connections limit exceeded",
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("words", "told"),
    [(BUSY, b"Try again later."), (CROWDED, b"The mailbox has too many connections just now. Try again later.")],
    ids=["busy", "crowded"],
)
async def test_a_busy_upstream_is_said_to_be_temporary_and_costs_no_second_token(
    trust: Trust, protocol: Protocol, words: dict[Protocol, bytes], told: bytes
) -> None:
    """A server that cannot be reached would make people look for a firewall: a full mailbox is called that."""
    script = refuses(protocol, IMPLICIT, trust.good, words[protocol])
    with scripted(script) as server, bridge_to(server, protocol, trust) as bridge:
        async with bridge.serving() as (client, _):
            await greeted(client, protocol)
            answer = await log_in(client, protocol)
        assert answer.startswith(TRY_LATER[protocol])
        assert answer.endswith(told)
        assert bridge.office.asked == [None]
        assert alone()


EXCHANGE: dict[Protocol, Sequence[Step]] = {
    Protocol.IMAP: [
        Say(b"* OK [CAPABILITY IMAP4rev1 AUTH=XOAUTH2 SASL-IR] The Microsoft Exchange IMAP4 service is ready.\r\n"),
        Expect(rb"\w+ AUTHENTICATE XOAUTH2 .+"),
        Say(b"<tag> OK AUTHENTICATE completed.\r\n"),
        Expect(rb"\w+ CAPABILITY"),
        Say(b"* CAPABILITY IMAP4 IMAP4rev1 AUTH=XOAUTH2 NAMESPACE\r\n<tag> OK CAPABILITY completed.\r\n"),
        Expect(rb"\w+ NAMESPACE"),
        Say(b"<tag> BAD User is authenticated but not connected.\r\n"),
    ],
    Protocol.POP3: [
        Say(b"+OK The Microsoft Exchange POP3 service is ready.\r\n"),
        Expect(b"AUTH XOAUTH2"),
        Say(b"+\r\n"),
        Expect(b".+"),
        Say(b"+OK User successfully authenticated.\r\n"),
        Expect(b"NOOP"),
        Say(b"-ERR User is authenticated but not connected.\r\n"),
    ],
}


@pytest.mark.parametrize("protocol", EXCHANGE)
async def test_trap_05_a_mailbox_that_exchange_does_not_open_costs_nobody_his_password_nor_a_token(
    trust: Trust, protocol: Protocol, log: io.StringIO
) -> None:
    script = [StartTls(trust.good), *EXCHANGE[protocol]]
    with scripted(script) as server, bridge_to(server, protocol, trust) as bridge:
        async with bridge.serving() as (client, _):
            await greeted(client, protocol)
            answer = await log_in(client, protocol)
            assert answer.startswith(TRY_LATER[protocol]), "it may be a server of theirs that does not answer"
            assert answer.endswith(b"It says: User is authenticated but not connected.")
        assert bridge.office.asked == [None]
    refused = events(log)[1]
    assert (refused["advice"], refused["turn"]) == ("mail.not_connected", "tenant-admin")


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_an_upstream_that_is_somebody_else_gets_no_token_and_the_client_may_try_again(
    trust: Trust, protocol: Protocol, log: io.StringIO
) -> None:
    stranger: list[Step] = [StartTls(context_of(trust.ca, "mail.example.com"))]
    with scripted(stranger) as server, bridge_to(server, protocol, trust) as bridge:
        async with bridge.serving() as (client, _):
            await greeted(client, protocol)
            answer = await log_in(client, protocol)
            assert answer.startswith(TRY_LATER[protocol])
            assert b"secure connection" in answer
    assert server.heard[0].text == b""
    assert "Hostname mismatch" in str(events(log)[1]["reason"])


# --- clients that leave, sessions that are ended --------------------------------------------------------------------


def held(protocol: Protocol, trust: Trust, hold: Hold) -> Sequence[Step]:
    """The upstream holds back its greeting, then accepts the login and closes."""
    whole = accepts(protocol, IMPLICIT, trust.good)
    return [whole[0], hold, *whole[1:], Close()]


@pytest.mark.parametrize("leave", [MailClient.close, MailClient.reset])
@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_client_that_leaves_while_the_upstream_is_dialled_leaves_nothing_behind(
    trust: Trust, protocol: Protocol, leave: Callable[[MailClient], None]
) -> None:
    """Nobody reads from the client meanwhile, so its end is noticed only with the answer, within a login's time."""
    hold = Hold()
    with scripted(held(protocol, trust, hold)) as server, bridge_to(server, protocol, trust) as bridge:
        async with bridge.serving() as (client, running):
            await greeted(client, protocol)
            await client.say(*login_lines(protocol))
            assert await asyncio.to_thread(hold.reached.wait, 60)
            leave(client)
            assert not running.done()
            hold.until.set()
        assert bridge.cap.count == 0
        assert alone()


async def test_a_session_that_is_cancelled_while_bytes_pass_closes_both_sides(trust: Trust) -> None:
    script = [*accepts(Protocol.IMAP, IMPLICIT, trust.good), Expect(b"ping"), Say(b"pong\r\n")]
    with scripted(script) as server, bridge_to(server, Protocol.IMAP, trust) as bridge:
        async with bridge.serving() as (client, running):
            await greeted(client, Protocol.IMAP)
            await log_in(client, Protocol.IMAP)
            assert await client.ask(b"ping") == b"pong"
            running.cancel()
            assert await client.hear_the_end() == b""
        assert alone()


async def test_a_client_that_breaks_the_protocol_is_told_and_logged(trust: Trust, log: io.StringIO) -> None:
    with scripted() as server, bridge_to(server, Protocol.IMAP, trust) as bridge:
        async with bridge.serving() as (client, _):
            await client.hear()
            await client.send(b"x" * 100_000)
            assert (await client.hear_the_end()).startswith(b"* BYE ")
    assert (events(log)[-1]["event"], events(log)[-1]["error"]) == ("session.ended", "ProtocolViolation")


async def test_a_bug_behind_the_session_reaches_its_supervisor_and_the_client_is_closed(trust: Trust) -> None:
    class Bug(Exception):
        pass

    async def who(login: Login, caller_of: AskCaller) -> Account:
        raise Bug

    with scripted() as server, bridge_to(server, Protocol.IMAP, trust) as bridge, mail_client() as client:
        services = Services(who, bridge.office.token_for, Turns(), bridge.cap)
        session = Session("conn-1", Protocol.IMAP, client.bridge, bridge.frontend, bridge.upstream, services)

        async def talk() -> None:
            await client.hear()
            await client.say(*login_lines(Protocol.IMAP))
            assert await client.hear_the_end() == b""
            client.close()

        async with asyncio.TaskGroup() as group:
            group.create_task(talk())
            with pytest.raises(Bug):
                await session.run()
        assert bridge.cap.count == 0


# --- turns ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_trap_34_where_one_connection_is_allowed_the_second_login_waits_for_its_turn(
    trust: Trust, protocol: Protocol
) -> None:
    script = [*accepts(protocol, IMPLICIT, trust.good), Expect(b"ping"), Say(b"pong\r\n"), *BYE]
    short = [*accepts(protocol, IMPLICIT, trust.good), *BYE]
    with scripted(script, short) as server, bridge_to(server, protocol, trust, connections=1) as bridge:
        async with bridge.serving() as (first, _), bridge.serving() as (second, _):
            await greeted(first, protocol)
            await greeted(second, protocol)
            await log_in(first, protocol)
            bridge.office.known.clear()
            await second.say(*login_lines(protocol))
            await bridge.office.known.wait()
            assert await first.ask(b"ping") == b"pong"  # many turns of the loop
            assert bridge.office.asked == [None], "no token, and so no dial, for the second yet"
            await first.say(b"bye")
            assert await first.hear_the_end() == b"farewell\r\n"
            answer = await second.hear()
            if protocol is Protocol.POP3:
                answer = await second.hear()
            while answer.startswith(b"* "):
                answer = await second.hear()
            assert answer == ACCEPTED[protocol]
            assert await second.ask(b"bye") == b"farewell"
        assert bridge.office.asked == [None, None]


async def test_trap_34_whoever_has_waited_long_behind_those_who_send_nothing_may_send(
    trust: Trust, monkeypatch: pytest.MonkeyPatch
) -> None:
    """nodemailer's pool keeps idle connections open, while Exchange counts only messages that are being sent."""
    monkeypatch.setattr(limits, "TURN_SECONDS", 0.01)
    script = [*accepts(Protocol.SMTP, IMPLICIT, trust.good), *BYE]
    with scripted(script, script) as server, bridge_to(server, Protocol.SMTP, trust, connections=1) as bridge:
        async with bridge.serving() as (first, _), bridge.serving() as (second, _):
            for client in (first, second):
                await greeted(client, Protocol.SMTP)
                assert await log_in(client, Protocol.SMTP) == ACCEPTED[Protocol.SMTP]
            for client in (first, second):
                assert await client.ask(b"bye") == b"farewell"


@pytest.mark.parametrize("protocol", [Protocol.IMAP, Protocol.POP3])
async def test_whoever_has_waited_long_for_a_mailbox_that_is_full_is_told_so(
    trust: Trust, protocol: Protocol, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gmail limits connections, and its own answer would say that the login is wrong."""
    monkeypatch.setattr(limits, "TURN_SECONDS", 0.01)
    script = [*accepts(protocol, IMPLICIT, trust.good), *BYE]
    with scripted(script) as server, bridge_to(server, protocol, trust, connections=1) as bridge:
        async with bridge.serving() as (first, _), bridge.serving() as (second, _):
            await greeted(first, protocol)
            await greeted(second, protocol)
            await log_in(first, protocol)
            answer = await log_in(second, protocol)
            assert answer.startswith(TRY_LATER[protocol])
            assert answer.endswith(b"The mailbox has too many connections just now. Try again later.")
            assert await first.ask(b"bye") == b"farewell"


async def test_a_client_that_leaves_while_it_waits_does_not_keep_the_turn(trust: Trust) -> None:
    """Its login is carried out and then turns out to be for nobody, so the next in the queue gets its turn."""
    script = [*accepts(Protocol.IMAP, IMPLICIT, trust.good), *BYE]
    lonely = [*accepts(Protocol.IMAP, IMPLICIT, trust.good), Close()]
    with (
        scripted(script, lonely, script) as server,
        bridge_to(server, Protocol.IMAP, trust, connections=1) as bridge,
    ):
        async with bridge.serving() as (first, _), bridge.serving() as (second, _), bridge.serving() as (third, _):
            for client in (first, second, third):
                await greeted(client, Protocol.IMAP)
            await log_in(first, Protocol.IMAP)
            for client in (second, third):
                bridge.office.known.clear()
                await client.say(*login_lines(Protocol.IMAP))
                await bridge.office.known.wait()
            second.reset()
            assert await first.ask(b"bye") == b"farewell"
            while not (answer := await third.hear()).startswith(b"a1"):
                pass
            assert answer == ACCEPTED[Protocol.IMAP]
            assert await third.ask(b"bye") == b"farewell"


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_whoever_gave_up_while_it_waited_is_not_logged_in(
    trust: Trust, protocol: Protocol, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise, with programs that give up sooner than the queue moves, each place would go to one that has left."""
    monkeypatch.setattr(session, "SHORT_SECONDS", 0.0)
    script = [*accepts(protocol, IMPLICIT, trust.good), *BYE]
    with scripted(script, script) as server, bridge_to(server, protocol, trust, connections=1) as bridge:
        async with (
            bridge.serving() as (first, _), bridge.serving() as (second, gone), bridge.serving() as (third, _)
        ):  # fmt: skip
            for client in (first, second, third):
                await greeted(client, protocol)
            await log_in(first, protocol)
            for client in (second, third):
                bridge.office.known.clear()
                await client.say(*login_lines(protocol))
                await bridge.office.known.wait()
            second.close()
            assert await first.ask(b"bye") == b"farewell"
            assert await answered(third) == ACCEPTED[protocol]
            assert gone.done()
            assert await third.ask(b"bye") == b"farewell"
        assert bridge.office.asked == [None, None], "no token, and so no dial, for the second"


async def test_a_login_that_waited_ends_when_its_program_gives_up_meanwhile(
    trust: Trust, monkeypatch: pytest.MonkeyPatch, log: io.StringIO
) -> None:
    monkeypatch.setattr(session, "SHORT_SECONDS", -1.0)  # not 0: Windows' clock may not move meanwhile
    monkeypatch.setattr(wanted, "LOOK_SECONDS", 0.01)
    hold = Hold()
    with (
        scripted(held(Protocol.IMAP, trust, hold)) as server,
        bridge_to(server, Protocol.IMAP, trust, connections=1) as bridge,
    ):
        async with bridge.serving() as (client, running):
            await greeted(client, Protocol.IMAP)
            await client.say(*login_lines(Protocol.IMAP))
            assert await asyncio.to_thread(hold.reached.wait, 60)
            client.reset()
            await running
            hold.until.set()
        assert alone()
    assert events(log)[-1]["reason"] == "the client has left while it waited for its turn"


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_who_has_said_all_and_listens_on_is_served_after_its_wait(
    trust: Trust, protocol: Protocol, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It sends its commands in one piece and half-closes: it still wants the answers."""
    monkeypatch.setattr(session, "SHORT_SECONDS", -1.0)  # as above
    script = [*accepts(protocol, IMPLICIT, trust.good), *BYE]
    with scripted(script) as server, bridge_to(server, protocol, trust, connections=1) as bridge:
        async with bridge.serving() as (client, _):
            await greeted(client, protocol)
            await client.say(*login_lines(protocol), b"bye")
            client.say_no_more()
            assert await answered(client) == ACCEPTED[protocol]
            assert await client.hear() == b"farewell"


async def test_trap_32_a_refusal_after_the_message_reaches_the_mail_program_as_it_is(trust: Trust) -> None:
    refusal = b"554 5.2.252 SendAsDenied; alice@example.com not allowed to send as boss@example.com"
    script = [
        *accepts(Protocol.SMTP, IMPLICIT, trust.good),
        Expect(b"MAIL FROM:<boss@example.com>"),
        Say(b"250 2.1.0 Sender OK\r\n"),
        Expect(b"DATA"),
        Say(b"354 Start mail input\r\n"),
        Expect(b"Subject: x"),
        Expect(b"\\."),
        Say(refusal + b"\r\n"),
        *BYE,
    ]
    with scripted(script) as server, bridge_to(server, Protocol.SMTP, trust) as bridge:
        async with bridge.serving() as (client, _):
            await greeted(client, Protocol.SMTP)
            await log_in(client, Protocol.SMTP)
            assert await client.ask(b"MAIL FROM:<boss@example.com>") == b"250 2.1.0 Sender OK"
            assert await client.ask(b"DATA") == b"354 Start mail input"
            assert await client.ask(b"Subject: x", b".") == refusal
            assert await client.ask(b"bye") == b"farewell"


# --- the log --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", list(TlsMode))
@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_no_secret_is_in_the_log_at_debug(
    trust: Trust, protocol: Protocol, mode: TlsMode, log: io.StringIO
) -> None:
    no = refuses(protocol, mode, trust.good, TOKEN_REFUSED[protocol])
    yes = [*accepts(protocol, mode, trust.good), Expect(b"a1 CANARY-mail"), Say(b"CANARY-mail\r\n"), *BYE]
    with scripted(no, yes) as server, bridge_to(server, protocol, trust, mode) as bridge:
        async with bridge.serving() as (client, _):
            await greeted(client, protocol)
            await log_in(client, protocol, "CANARY-wrong")
            await log_in(client, protocol)
            assert await client.ask(b"a1 CANARY-mail") == b"CANARY-mail"
            assert await client.ask(b"bye") == b"farewell"
    text = log.getvalue()
    assert "upstream.sent" in text
    assert ("client.sent" in text) is (protocol is not Protocol.SMTP)
    assert "CANARY" not in text
    for secret in (blob(TOKENS[0]), blob(TOKENS[1]), plain(PASSWORD), plain("CANARY-wrong")):
        assert secret.decode() not in text


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_client_that_begins_with_tls_on_a_plain_port_is_sent_away_and_named_in_the_log(
    protocol: Protocol, trust: Trust, log: io.StringIO
) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    hello = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        hello.do_handshake()
    with scripted() as server, bridge_to(server, protocol, trust) as bridge:
        async with bridge.serving() as (client, running):
            await client.send(outgoing.read())
            async with asyncio.timeout(60):
                await asyncio.wait([running])
    (ended,) = (one for one in events(log) if one["event"] == "session.ended")
    assert "set the mail program to no encryption" in str(ended["reason"])


HELLO_OF_SSL_2 = bytes.fromhex("802e01030100150000001000000400000500000a000009") + bytes(25)
"""OpenSSL 0.9.8 and Java 6 begin with this hello, whichever version they agree on in the end."""
PROXY_2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x0a\0\0\x05\x0a\0\0\x0b\x9c\x40\x05\xdb"
PROXY_1 = b"PROXY TCP4 10.0.0.5 10.0.0.11 40000 1499\r\n"
FORM = b"POST /?x HTTP/1.1\r\nHost: localhost:1143\r\nContent-Type: text/plain\r\n\r\n"


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("first", "told"),
    [
        (HELLO_OF_SSL_2, "set the mail program to no encryption"),
        (PROXY_1, "`proxy_protocol_from`"),
        (PROXY_2, "`proxy_protocol_from`"),
        (FORM, "HTTP"),
    ],
    ids=["ssl-2", "proxy-1", "proxy-2", "http"],
)
async def test_who_begins_with_what_is_no_mail_is_sent_away_and_named_in_the_log(
    protocol: Protocol, first: bytes, told: str, trust: Trust, log: io.StringIO
) -> None:
    """Unexpected PROXY headers: simonrob/email-oauth2-proxy#232 and #234, where a printer's log shows "QUIT"."""
    with scripted() as server, bridge_to(server, protocol, trust) as bridge:
        async with bridge.serving() as (client, running):
            await client.send(first[:3])
            await client.send(first[3:])
            async with asyncio.timeout(60):
                await asyncio.wait([running])
    (ended,) = (one for one in events(log) if one["event"] == "session.ended")
    assert told in str(ended["reason"])


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_what_a_web_page_has_a_browser_say_is_no_login(
    protocol: Protocol, trust: Trust, log: io.StringIO
) -> None:
    """Any website can post a form to any port, with lines of its choice after the headers; the request comes from a
    program of the user who visits that page."""
    with scripted() as server, bridge_to(server, protocol, trust) as bridge:
        async with bridge.serving() as (client, running):
            await client.send(FORM + b"\r\n".join([*login_lines(protocol), b""]))
            async with asyncio.timeout(5):
                await asyncio.wait([running])
        assert bridge.office.asked == []
    assert ADDRESS not in log.getvalue()
