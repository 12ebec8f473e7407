"""aiosmtpd behind our frontend: dialogues over a real socket, and the library's pitfalls."""

from __future__ import annotations

import asyncio
import base64
import socket

import pytest

from bridge import errors
from bridge.model import Login
from bridge.protocols.base import Ready
from bridge.relay import frontend as frontend_module
from bridge.relay.connected import open_channel
from bridge.relay.smtp_frontend import LINE_LIMIT, SmtpFrontend
from tests.captured import captured
from tests.relay.later import Later, after_a_minute
from tests.relay.scripted import mail_client
from tests.relay.smtp_talk import PLAIN, USER, WORD, talking
from tests.relay.sockets import fill


async def test_ehlo_offers_what_the_upstreams_have_and_auth() -> None:
    async with talking("8BITMIME", "SIZE 1000") as (talk, _):
        await talk.say("EHLO crm")
        assert await talk.hear() == [
            "250-localhost",
            "250-8BITMIME",
            "250-SIZE 1000",
            "250-AUTH PLAIN LOGIN",
            "250 AUTH=PLAIN LOGIN",
        ]


@pytest.mark.parametrize("command", ["AUTH PLAIN", "auth plain", "Auth Plain"])
async def test_auth_plain_with_an_initial_response_in_any_case(command: str) -> None:
    async with talking() as (talk, waiting):
        await talk.ask("EHLO crm.example")
        await talk.say(f"{command} {PLAIN}")
        login = await waiting
        assert (login.username, login.password.reveal()) == ("alice@example.com", b"s3cret")
        assert login.client_name == "crm.example"


async def test_auth_plain_in_two_steps() -> None:
    async with talking() as (talk, waiting):
        await talk.ask("EHLO crm")
        assert await talk.ask("AUTH PLAIN") == "334 "
        await talk.say(PLAIN)
        assert (await waiting).password.reveal() == b"s3cret"


async def test_trap_35_auth_login_in_lower_case_gets_the_challenges_of_outlook() -> None:
    async with talking() as (talk, waiting):
        await talk.ask("EHLO crm")
        assert await talk.ask("auth login") == "334 VXNlcm5hbWU6"
        assert await talk.ask(USER) == "334 UGFzc3dvcmQ6"
        await talk.say(WORD)
        assert (await waiting).username == "alice@example.com"


async def test_a_client_that_says_helo_may_log_in_too() -> None:
    """Postfix allows it: programs from the nineties say HELO, and send AUTH all the same."""
    async with talking("PIPELINING") as (talk, waiting):
        await talk.say("HELO crm.example")
        assert await talk.hear() == ["250 localhost"]
        assert await talk.ask("AUTH LOGIN") == "334 VXNlcm5hbWU6"
        assert await talk.ask(USER) == "334 UGFzc3dvcmQ6"
        await talk.say(WORD)
        login = await waiting
        assert (login.username, login.client_name) == ("alice@example.com", "crm.example")


@pytest.mark.parametrize("greeting", ["EHLO", "EHLO ", "ehlo", "HELO", "HELO "])
async def test_a_client_that_does_not_say_its_name_may_log_in_too(greeting: str) -> None:
    """Exchange allows it, and such programs were set up for Exchange."""
    async with talking() as (talk, waiting):
        assert (await talk.ask(greeting)).startswith("250")
        await talk.say(f"AUTH PLAIN {PLAIN}")
        assert (await waiting).client_name == "[127.0.0.1]"


async def test_auth_login_with_the_name_at_once() -> None:
    async with talking() as (talk, waiting):
        await talk.ask("EHLO crm")
        assert await talk.ask(f"AUTH LOGIN {USER}") == "334 UGFzc3dvcmQ6"
        await talk.say(WORD)
        assert (await waiting).password.reveal() == b"s3cret"


async def test_a_response_of_12288_octets_is_taken() -> None:
    """The most that RFC 4954 section 4 allows, in one line with the command."""
    word = b"x" * (12288 // 4 * 3 - len(b"\0alice\0"))
    async with talking() as (talk, waiting):
        await talk.ask("EHLO crm")
        await talk.say("AUTH PLAIN " + base64.b64encode(b"\0alice\0" + word).decode())
        assert (await waiting).password.reveal() == word


async def test_a_cancelled_exchange_gets_one_reply_and_another_may_follow() -> None:
    async with talking() as (talk, waiting):
        await talk.ask("EHLO crm")
        assert await talk.ask("AUTH PLAIN") == "334 "
        assert (await talk.ask("*")).startswith("501")
        await talk.say(f"AUTH PLAIN {PLAIN}")
        await waiting


@pytest.mark.parametrize("steps", [["AUTH LOGIN"], ["AUTH LOGIN", USER], [f"AUTH LOGIN {USER}"]])
async def test_a_login_that_is_cancelled_half_way_gets_one_reply_too(steps: list[str]) -> None:
    async with talking() as (talk, waiting):
        await talk.ask("EHLO crm")
        for step in steps:
            assert (await talk.ask(step)).startswith("334 ")
        assert (await talk.ask("*")).startswith("501")
        assert (await talk.ask("NOOP")).startswith("250")
        await talk.say(f"AUTH PLAIN {PLAIN}")
        await waiting


@pytest.mark.parametrize(
    ("command", "reply"),
    [
        ("NOOP", "250 2.0.0 OK"),
        ("RSET", "250 2.0.0 OK"),
        ("QUIT", "221 2.0.0 Bye"),
        ("RSET now", "501 5.5.4 Syntax: RSET"),
        ("QUIT now", "501 5.5.4 Syntax: QUIT"),
        ("AUTH", "501 5.5.4 Not enough value"),
        (f"AUTH PLAIN {PLAIN} more", "501 5.5.4 Too many values"),
        ("AUTH PLAIN ?", "501 5.5.2 The response is not base64."),
        ("HELP RSET", "250 2.0.0 Syntax: RSET"),
    ],
)
async def test_each_reply_of_the_librarys_has_the_status_of_rfc_2034(command: str, reply: str) -> None:
    """All but the greeting and the replies to EHLO and HELO (section 4)."""
    async with talking("ENHANCEDSTATUSCODES") as (talk, waiting):
        assert await talk.ask("EHLO crm") == "250 AUTH=PLAIN LOGIN"
        assert await talk.ask(command) == reply
        if command == "QUIT":
            with pytest.raises(errors.PeerGone):
                await waiting


async def test_auth_before_any_greeting_has_a_status_too() -> None:
    async with talking("ENHANCEDSTATUSCODES") as (talk, _):
        assert await talk.ask(f"AUTH PLAIN {PLAIN}") == "503 5.5.1 Error: send EHLO first"


async def test_auth_without_a_mechanism_is_501() -> None:
    async with talking() as (talk, _):
        await talk.ask("EHLO crm")
        assert (await talk.ask("AUTH")).startswith("501")


@pytest.mark.parametrize("space", ["\x1c", "\x1d\x1f", "\x85", "\u00a0", "\u2003"])
async def test_what_is_space_to_python_alone_is_neither_nothing_nor_a_gap(space: str) -> None:
    """aiosmtpd splits the line as text and takes the rest for a mechanism; without a rest it used to fail."""
    async with talking() as (talk, waiting):
        await talk.ask("EHLO crm")
        assert await talk.ask(f"AUTH {space}") == "504 5.5.4 Use AUTH with PLAIN or LOGIN"
        assert (await talk.ask(f"AUTH PLAIN {space}")).startswith("501 5.5.2")
        assert (await talk.ask(f"AUTH PLAIN {PLAIN}{space}{PLAIN}")).startswith("501 5.5.2")
        await talk.say(f"AUTH PLAIN {PLAIN}")
        assert (await waiting).username == "alice@example.com"


async def test_an_empty_name_is_said_by_its_sign() -> None:
    """RFC 4954 section 4: "=" is an empty response. No user has an empty name; the password is asked for as usual."""
    async with talking() as (talk, waiting):
        await talk.ask("EHLO crm")
        assert await talk.ask("AUTH LOGIN =") == "334 UGFzc3dvcmQ6"
        await talk.say(WORD)
        assert (await waiting).username == ""


@pytest.mark.parametrize("response", ["!!!", "é", base64.b64encode(b"no nul").decode()])
async def test_a_response_that_makes_no_sense_is_501(response: str) -> None:
    async with talking() as (talk, _):
        await talk.ask("EHLO crm")
        assert (await talk.ask(f"AUTH PLAIN {response}")).startswith("501 5.5.2")
        assert (await talk.ask("NOOP")).startswith("250")


async def test_what_is_for_after_the_login_is_530_before_it_however_often() -> None:
    async with talking() as (talk, _):
        await talk.ask("EHLO crm")
        for command in (
            "MAIL FROM:<alice@example.com>",
            "RCPT TO:<bob@example.com>",
            "DATA",
            "BDAT 3 LAST",
            "VRFY alice",
            "EXPN all",
            "ETRN example.com",
            "BURL imap://example.com LAST",
        ):
            assert await talk.ask(command) == "530 5.7.0 Authentication required"


async def test_what_changes_nothing_is_done_before_the_login() -> None:
    """Some programs ask for HELP, or begin with RSET."""
    async with talking() as (talk, _):
        for command in ("HELP", "RSET", "NOOP"):
            assert (await talk.ask(command)).startswith("250 ")


@pytest.mark.parametrize(
    ("problem", "reply"),
    [
        (errors.LoginRefused("x"), "535 5.7.8 User name or local password is wrong."),
        (
            errors.AuthorizationRequired("a@b.c", "http://localhost:3017/sign-in/a@b.c"),
            "454 4.7.0 Open http://localhost:3017/sign-in/a@b.c (a@b.c must sign in)",
        ),
        (errors.ProviderUnavailable("x"), "454 4.7.0 The sign-in service"),
        (errors.UpstreamUnavailable("x"), "454 4.7.0 The mail server"),
        (errors.StoreUnavailable("x"), "454 4.7.0 The bridge"),
        (errors.UpstreamRefused("x", text="no"), "535 5.7.8 The mail server refuses this account. It says: no"),
        (errors.StoreCorrupt("x"), "454 4.7.0 The stored sign-in"),
    ],
)
async def test_each_refusal_has_its_reply_and_the_client_may_try_again(problem: errors.BridgeError, reply: str) -> None:
    async with talking() as (talk, waiting):
        await talk.ask("EHLO crm")
        await talk.say(f"AUTH PLAIN {PLAIN}")
        await waiting
        await talk.frontend.refuse(problem)
        assert (await talk.hear())[-1].startswith(reply)
        await talk.login(f"AUTH PLAIN {PLAIN}")


@pytest.mark.parametrize(
    ("problem", "reply"),
    [
        (errors.LoginRefused("x"), "530 5.7.0 User name or local password is wrong."),
        (
            errors.AuthorizationRequired("a@b.c", "http://localhost:3017/sign-in/a@b.c"),
            "454 4.7.0 Open http://localhost:3017/sign-in/a@b.c (a@b.c must sign in)",
        ),
    ],
)
async def test_a_program_that_goes_on_after_a_refused_auth_is_told_why_there(
    problem: errors.BridgeError, reply: str
) -> None:
    """It has ignored the first answer; and a temporary failure must not become a permanent one that loses the mail."""
    async with talking() as (talk, waiting):
        await talk.ask("EHLO crm")
        await talk.say(f"AUTH PLAIN {PLAIN}")
        await waiting
        await talk.frontend.refuse(problem)
        await talk.hear()
        await talk.login("MAIL FROM:<a@b.c>", "RCPT TO:<a@b.c>", "DATA", f"AUTH PLAIN {PLAIN}")
        assert [(await talk.hear())[-1].startswith(reply) for _ in range(3)] == [True, True, True]


async def test_a_refused_login_is_not_taken_for_another_one_by_what_follows() -> None:
    """Otherwise any command would repeat the wrong password, and count as another attempt."""
    async with talking() as (talk, waiting):
        await talk.ask("EHLO crm")
        await talk.say(f"AUTH PLAIN {PLAIN}")
        await waiting
        await talk.frontend.refuse(errors.LoginRefused("x"))
        await talk.hear()
        other = base64.b64encode(b"\0bob@example.com\0s3cret").decode()
        assert (await talk.login("NOOP", f"AUTH PLAIN {other}")).username == "bob@example.com"
        assert (await talk.hear())[-1].startswith("250 ")


async def test_a_bug_of_ours_is_told_without_a_word_of_it_and_the_session_learns_what_it_was() -> None:
    def extensions() -> tuple[str, ...]:
        raise ZeroDivisionError("CANARY")

    with mail_client() as client:
        frontend = SmtpFrontend(client.bridge, extensions=extensions)
        await client.say(b"EHLO crm")
        async with asyncio.timeout(60):
            with pytest.raises(ZeroDivisionError):
                await frontend.login()
        await client.hear()
        assert await client.hear() == b"421 4.3.0 Internal trouble; see the log of mail-bridge"
        frontend.close()


async def test_a_limit_ends_the_connection_with_421() -> None:
    async with talking() as (talk, waiting):
        await talk.ask("EHLO crm")
        await talk.say(f"AUTH PLAIN {PLAIN}")
        await waiting
        with pytest.raises(errors.PeerGone):
            await talk.frontend.refuse(errors.LimitReached("x"))
        assert (await talk.hear())[-1].startswith("421 4.7.0")


async def test_trap_42_peer_13_what_is_pipelined_behind_auth_is_kept_for_the_upstream() -> None:
    async with talking() as (talk, waiting):
        await talk.say("EHLO crm", f"AUTH PLAIN {PLAIN}", "MAIL FROM:<a@b.c>", "RCPT TO:<d@e.f>")
        await talk.hear()
        await waiting
        leftover = await talk.frontend.accept(Ready(text=b"2.7.0 Accepted"))
        assert await talk.hear() == ["235 2.7.0 Accepted"]
        assert leftover == b"MAIL FROM:<a@b.c>\r\nRCPT TO:<d@e.f>\r\n"


@pytest.mark.parametrize(
    ("text", "reply"),
    [
        (b"2.7.0 Accepted", "235 2.7.0 Accepted"),
        (b"", "235 2.7.0 Authentication successful"),
        (b"welcome", "235 2.7.0 welcome"),
    ],
)
async def test_success_is_told_in_the_words_of_the_upstream(text: bytes, reply: str) -> None:
    async with talking() as (talk, waiting):
        await talk.say("EHLO crm", f"AUTH PLAIN {PLAIN}")
        await talk.hear()
        await waiting
        await talk.frontend.accept(Ready(text=text))
        assert await talk.hear() == [reply]


async def test_quit_ends_in_peace() -> None:
    async with talking() as (talk, waiting):
        assert (await talk.ask("QUIT")).startswith("221")
        with pytest.raises(errors.PeerGone):
            await waiting


async def test_an_endless_line_is_refused_and_the_connection_ends() -> None:
    async with talking() as (talk, waiting):
        await talk.client.send(b"x" * (LINE_LIMIT + 1))
        assert (await talk.hear())[-1].startswith("500 5.5.2")
        with pytest.raises(errors.ProtocolViolation):
            await waiting


@pytest.mark.parametrize("before", [[], ["AUTH PLAIN"], ["auth login"]])
async def test_a_line_that_is_too_long_for_a_login_is_told_apart(before: list[str]) -> None:
    # RFC 4954 section 4: 5.5.6, for a line of the exchange and for the initial response
    beginning = b"" if before else b"auth plain "
    async with talking() as (talk, waiting):
        await talk.ask("EHLO crm")
        for line in before:
            assert (await talk.ask(line)).startswith("334")
        await talk.client.send(beginning + b"A" * LINE_LIMIT)
        assert (await talk.hear())[-1].startswith("500 5.5.6")
        with pytest.raises(errors.ProtocolViolation):
            await waiting


@pytest.mark.parametrize("verb", ["EHLO", "MAIL", "NONSENSE"])
async def test_a_long_command_that_is_not_auth_is_500_and_the_connection_goes_on(verb: str) -> None:
    longest = f"{verb} ".ljust(512 - len("\r\n"), "x")  # RFC 5321 section 4.5.3.1.4
    async with talking() as (talk, _):
        for _ in range(10):  # more often than a client may say what is no command
            assert await talk.ask(f"{longest}x") == "500 5.5.2 Command line too long"
        assert not (await talk.ask(longest)).endswith("too long")


@pytest.mark.parametrize("refused", ["AUTH LOGIN", "AUTH CRAM-MD5", "AUTH LOGIN a b c"])
async def test_a_client_that_looks_at_no_answer_tells_the_log_no_password(refused: str) -> None:
    """It sends name and password after a refused AUTH; aiosmtpd takes both for commands, and would log them."""
    with captured("debug", "text") as log:
        async with talking() as (talk, _):
            if refused != "AUTH LOGIN":  # AUTH LOGIN is refused here because no EHLO came before
                await talk.ask("EHLO crm")
            assert (await talk.ask(refused))[0] == "5"
            for word in (USER, WORD, "s3cret", "s3cret word"):
                answer = await talk.ask(word)
                assert answer.startswith("500 ")
                assert word.upper() not in answer
            assert (await talk.ask("NOOP")).startswith("250")
    for word in (USER, WORD, "s3cret"):
        assert word.upper() not in log.getvalue().upper()


async def test_the_time_is_for_all_logins_of_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    with mail_client() as client:
        later, plain = Later(monkeypatch), f"AUTH PLAIN {PLAIN}".encode()
        frontend = SmtpFrontend(client.bridge, extensions=tuple, login_seconds=100)
        assert isinstance(await after_a_minute(frontend, client, later, b"EHLO crm", plain), Login)
        await frontend.refuse(errors.LoginRefused("wrong password"))
        assert isinstance(await after_a_minute(frontend, client, later, plain), errors.LimitReached)
        frontend.close()
        await later.by(0)  # otherwise aiosmtpd ends only when the loop is closed


async def test_without_another_word_it_is_two_minutes() -> None:
    async with talking() as (talk, _):
        assert talk.frontend._patience._seconds_left == 120


async def test_fifty_commands_without_a_login_are_enough() -> None:
    async with talking() as (talk, waiting):
        for _ in range(50):
            assert (await talk.ask("NOOP")).startswith("250")
        assert (await talk.ask("NOOP")).startswith("421")
        with pytest.raises(errors.LimitReached):
            await waiting


async def test_after_five_commands_that_are_none_the_next_one_is_the_last() -> None:
    """A client of another protocol is gone before it reaches what is hidden in its lines; HTTP ends even sooner."""
    async with talking() as (talk, waiting):
        for line in ("REGISTER sip:localhost SIP/2.0", "Host: localhost:1587", "Accept: */*", "Origin: null", ""):
            assert (await talk.ask(line)).startswith("500")
        assert (await talk.ask("EHLO crm")).startswith("421")
        with pytest.raises(errors.LimitReached):
            await waiting


async def test_a_computer_name_with_accents_is_taken() -> None:
    async with talking() as (talk, waiting):
        assert (await talk.ask("EHLO PC-de-René")).startswith("250")
        await talk.say(f"AUTH PLAIN {PLAIN}")
        await waiting


@pytest.mark.parametrize("says", [b"NOOP\r\n", b"x" * (LINE_LIMIT + 1)])
async def test_a_client_that_reads_nothing_does_not_hold_its_place_for_ever(
    says: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither after its time is up nor after an endless line: our last reply waits for it only so long."""
    monkeypatch.setattr(frontend_module, "FAREWELL_SECONDS", 0.05)
    loop = asyncio.get_running_loop()
    left, right = (open_channel(sock, loop) for sock in socket.socketpair())  # TCP would find more room after a while
    frontend = SmtpFrontend(right, extensions=tuple, login_seconds=0.2)
    try:
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(_outcome(frontend))
            await left.receive()
            fill(right)
            await left.send(says)
            async with asyncio.timeout(60):
                assert isinstance(await waiting, errors.PeerGone)
    finally:
        left.close()
        right.close()


async def _outcome(frontend: SmtpFrontend) -> errors.BridgeError:
    with pytest.raises(errors.BridgeError) as caught:
        await frontend.login()
    return caught.value


@pytest.mark.parametrize("is_refused", [True, False])
async def test_a_client_that_does_not_read_its_answer_is_gone(
    is_refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frontend_module, "FAREWELL_SECONDS", 0.05)
    async with talking() as (talk, waiting):
        await talk.ask("EHLO crm.example")
        await talk.say(f"AUTH PLAIN {PLAIN}")
        await waiting
        fill(talk.bridge)
        problem = errors.LoginRefused("wrong password")
        with pytest.raises(errors.PeerGone, match="does not read"):
            await (talk.frontend.refuse(problem) if is_refused else talk.frontend.accept(Ready(b"", b"ready")))
