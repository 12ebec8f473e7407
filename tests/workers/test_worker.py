"""A worker that runs in the test's own process; the test holds the bridge's end of its link."""

from __future__ import annotations

import asyncio
import gc
import io
import socket
import ssl
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trustme

from bridge.clock import SystemClock
from bridge.control.wire import decode_error
from bridge.errors import UpstreamUnavailable
from bridge.host.workers import UnixPassage
from bridge.model import AccessToken, Account, Endpoint, Login, Protocol, TlsMode
from bridge.observe.metrics import LOGINS
from bridge.relay.tls import ListenerCertificate
from bridge.secret import Secret
from bridge.workers.link import Link
from bridge.workers.wire import Port, pack, unpack
from bridge.workers.worker import work
from tests.relay.scripted import Close, Expect, Say, Step, Trust, accepts, refuses, scripted
from tests.relay.sockets import close_with_reset
from tests.silent import fall_silent, release

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no workers")

ADDRESS = "alice@example.com"
NOW = SystemClock().now()
OLD, NEW = (AccessToken(Secret(f"CANARY-{which}-token"), NOW + 3600, NOW) for which in ("old", "new"))
IN_CLEAR = Port(1, Protocol.IMAP, None, "", "")
BYE: list[Step] = [Expect(b"a2 LOGOUT"), Say(b"a2 OK\r\n"), Close()]


class MailProgram:
    """A mail program whose connection a worker serves."""

    def __init__(self, where: tuple[str, int]) -> None:
        self.socket = socket.create_connection(where)
        self.socket.setblocking(False)

    async def hear(self) -> bytes:
        """The next data; b"" at the end."""
        return await asyncio.get_running_loop().sock_recv(self.socket, 1000)

    async def hear_all(self) -> bytes:
        """All data up to the end."""
        said = b""
        while data := await self.hear():
            said += data
        return said

    async def say(self, line: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.socket, line + b"\r\n")

    async def log_in(self) -> None:
        """Read the greeting and send a login; the test handles the answer."""
        assert b"mail-bridge ready" in await self.hear()
        await self.say(b"a1 LOGIN alice@example.com CANARY-password")


class Bridge:
    """The bridge's end of a worker's link."""

    def __init__(self, sock: socket.socket) -> None:
        self._said: asyncio.Queue[list[Any]] = asyncio.Queue()
        self.gone = asyncio.Event()
        self.link = Link(UnixPassage(sock), lambda message, _: self._said.put_nowait(message), self.gone.set)
        self._listening = socket.create_server(("127.0.0.1", 0))

    async def told(self, kind: str) -> list[Any]:
        """The next message of this kind; others before it are dropped."""
        while (message := await self._said.get())[0] != kind:
            pass
        return message[1:]

    async def told_any(self, *kinds: str) -> list[Any]:
        """The next message of one of these kinds, with the kind as its first word."""
        while (message := await self._said.get())[0] not in kinds:
            pass
        return message

    async def asked(self, what: str) -> tuple[int, list[Any]]:
        """The next question, which must be of this kind. Returns: its number, and its arguments."""
        number, kind, *arguments = await self.told("ask")
        assert kind == what
        return number, arguments

    async def over(self, conn: str) -> None:
        """Wait until this session is over."""
        while conn not in (await self.told("news"))[1]:
            pass

    def hand_over(
        self, conn: str, *, port: int = 1, peer: str = "", has_left: bool = False, no_place: str = "", whose: str = ""
    ) -> MailProgram:
        """Hand over a new mail client of this port. `peer` is what the bridge takes for its address, `no_place` the
        reason why there is no place for it, `whose` its user if the bridge knows that."""
        program = MailProgram(self._listening.getsockname())
        accepted, address = self._listening.accept()
        if has_left:
            close_with_reset(program.socket)
        self.link.hand_over(accepted, conn, str(port), peer or f"127.0.0.1:{address[1]}", "", no_place, whose)
        asyncio.get_running_loop().call_soon(accepted.close)  # after the turn of the loop in which it is sent
        return program

    async def allow(self, account: Account, token: AccessToken, *, whose: str | None = "") -> Login:
        """Answer the next question, which must be about a login."""
        number, (_, login) = await self.asked("login")
        self.link.send("account", pack(account))
        self.link.send("answer", number, [account.address, pack(token), whose])
        return unpack(Login, login)

    def close(self) -> None:
        """Close the link and the listening socket. Idempotent."""
        self.link.close()
        self._listening.close()


@asynccontextmanager
async def working(port: Port = IN_CLEAR) -> AsyncIterator[Bridge]:
    """A bridge's end with a worker, which must end by itself soon after the bridge's end."""
    ours, theirs = socket.socketpair()
    bridge = Bridge(ours)
    try:
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            group.create_task(work(UnixPassage(theirs), 1024))
            assert await bridge.told("ready") == [1024]
            bridge.link.send("port", pack(port))
            yield bridge
            bridge.close()
    finally:
        bridge.close()


async def test_another_clients_socket_is_not_served(log: io.StringIO) -> None:
    """Otherwise its data would go to somebody else."""
    async with working() as bridge:
        program = bridge.hand_over("imap-1", peer="127.0.0.1:1")
        assert await bridge.told("lost") == ["imap-1"]
        assert await program.hear() == b""
        program.socket.close()
        assert "worker.no_socket" in log.getvalue()


async def test_who_has_no_place_is_sent_away_without_a_question() -> None:
    async with working() as bridge:
        program = bridge.hand_over("imap-1", no_place="500 connections wait for their login")
        said = await program.hear_all()
        assert said == b"* BYE [UNAVAILABLE] Too many connections wait for their login. Try again later.\r\n"
        program.socket.close()
        kind, *_ = await bridge.told_any("ask", "news")
        assert kind == "news"


async def test_a_login_that_the_bridge_ends_is_told_so_and_its_question_is_over() -> None:
    async with working() as bridge:
        program = bridge.hand_over("imap-1")
        await program.log_in()
        number, arguments = await bridge.asked("login")
        assert arguments[0] == "imap-1"
        bridge.link.send("end", "imap-1")
        assert await bridge.told("cancel") == [number]
        assert (await program.hear()).startswith(b"* BYE [UNAVAILABLE] ")
        program.socket.close()
        await bridge.over("imap-1")
        bridge.link.send("answer", number, ["too late"])
        bridge.link.send("end", "imap-1")  # the two messages have crossed
        bridge.link.send("here?")
        await bridge.told("here")


async def test_a_client_that_has_left_already_costs_the_bridge_no_session() -> None:
    """It has reset its connection, so the system no longer tells its address."""
    async with working() as bridge:
        bridge.hand_over("imap-1", has_left=True)
        await bridge.over("imap-1")


async def test_who_has_not_logged_in_at_a_stop_is_told_so() -> None:
    async with working() as bridge:
        program = bridge.hand_over("imap-1")
        assert b"mail-bridge ready" in await program.hear()
        bridge.link.send("stopping")
        assert (await program.hear()).startswith(b"* BYE [UNAVAILABLE] mail-bridge ")
        program.socket.close()
        await bridge.over("imap-1")


async def test_a_bridge_that_ends_in_the_middle_of_a_login_leaves_no_worker() -> None:
    async with working() as bridge:
        program = bridge.hand_over("imap-1")
        await program.log_in()
        await bridge.asked("login")
        bridge.close()
        await program.hear_all()
        program.socket.close()


async def test_what_makes_no_sense_ends_the_worker() -> None:
    async with working() as bridge:
        bridge.link.send("sing")
        await bridge.gone.wait()


async def test_a_certificate_that_cannot_be_read_costs_one_client_and_not_the_worker(
    log: io.StringIO, tmp_path: Path
) -> None:
    missing = str(tmp_path / "missing.pem")
    async with working(Port(1, Protocol.IMAP, TlsMode.IMPLICIT, missing, missing)) as bridge:
        program = bridge.hand_over("imap-1")
        assert await program.hear() == b""
        await bridge.over("imap-1")
        program.socket.close()
        assert "session.no_tls" in log.getvalue()
        bridge.link.send("here?")
        await bridge.told("here")


@pytest.mark.parametrize("is_known", [False, True])
async def test_a_certificate_that_does_not_answer_holds_up_nobody_who_can_do_without(
    log: io.StringIO, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_known: bool
) -> None:
    """The file is on a network drive whose server is gone. A worker that is held up is killed, with its sessions."""
    monkeypatch.setattr("bridge.workers.certificates.READ_SECONDS", 0.5)
    monkeypatch.setattr("bridge.workers.certificates.WAIT_SECONDS", 0.5)
    file, authority = tmp_path / "pair.pem", trustme.CA()
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(file))
    trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(trust)
    async with working(Port(1, Protocol.IMAP, TlsMode.IMPLICIT, str(file), str(file))) as bridge:

        async def is_served(conn: str) -> bool:
            program = bridge.hand_over(conn)
            try:
                reader, writer = await asyncio.open_connection(
                    sock=program.socket, ssl=trust, server_hostname="localhost"
                )
                greeting = await reader.readline()
            except OSError:
                return False
            finally:
                program.socket.close()
            writer.transport.abort()
            return b"mail-bridge ready" in greeting

        if is_known:
            assert await is_served("imap-1")
        help_at_last = threading.Timer(20, release, [fall_silent(file)])
        help_at_last.start()
        bridge.link.send("renewed")  # the renewed certificate may also be another port's
        for conn in ("imap-2", "imap-3"):
            assert await is_served(conn) is is_known
        bridge.link.send("here?")
        await bridge.told("here")
        assert help_at_last.is_alive()
        help_at_last.cancel()
        release(file)
        authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(file))
        assert await is_served("imap-4")
    assert log.getvalue().count("session.no_tls") == (0 if is_known else 2)


async def test_nobody_stands_still_for_a_certificate_that_does_not_answer(tmp_path: Path) -> None:
    """It is on a network drive whose server is gone. Others are served, and the worker's end does not wait for it."""
    pair = str(fall_silent(tmp_path / "pair.pem"))
    async with working(Port(1, Protocol.IMAP, TlsMode.IMPLICIT, pair, pair)) as bridge:
        bridge.link.send("port", pack(replace(IN_CLEAR, number=2)))
        waiting, ended = bridge.hand_over("imap-1"), bridge.hand_over("imap-2")
        served = bridge.hand_over("imap-3", port=2)
        assert b"mail-bridge ready" in await served.hear()
        bridge.link.send("end", "imap-2")
        assert await ended.hear() == b""
        await bridge.over("imap-2")
        bridge.close()
        assert await waiting.hear() == b""
        for program in (waiting, ended, served):
            program.socket.close()
    release(Path(pair))


async def test_a_worker_does_not_wait_at_its_end_for_a_look_that_is_not_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.workers.certificates.READ_SECONDS", 3600)
    file = tmp_path / "pair.pem"
    trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(file))
    async with working(Port(1, Protocol.IMAP, TlsMode.IMPLICIT, str(file), str(file))) as bridge:
        bridge.hand_over("imap-1").socket.close()
        await bridge.over("imap-1")
        fall_silent(file)
        bridge.link.send("renewed")
        bridge.link.send("here?")
        await bridge.told("here")
    release(file)


async def test_the_certificate_of_a_port_that_is_closed_is_forgotten(tmp_path: Path) -> None:
    file = str(tmp_path / "pair.pem")
    trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(file)

    def held() -> list[str]:
        gc.collect()
        found = [each for each in gc.get_objects() if isinstance(each, ListenerCertificate)]
        return [each.files[0] for each in found if each.files[0] == file]

    async with working(Port(1, Protocol.IMAP, TlsMode.IMPLICIT, file, file)) as bridge:
        program = bridge.hand_over("imap-1")
        program.socket.close()
        await bridge.over("imap-1")
        assert held() == [file]
        bridge.link.send("closed", 1)
        bridge.link.send("here?")
        await bridge.told("here")
        assert held() == []


async def test_a_login_that_was_right_lately_is_asked_about_again_once_its_token_is_refused(tmp_path: Path) -> None:
    """The bridge issues a token only where it saw the right local password; here the worker remembered the login."""
    trust = Trust(tmp_path)
    implicit = (Protocol.IMAP, TlsMode.IMPLICIT, trust.good)
    no = b"[AUTHENTICATIONFAILED] Invalid credentials"
    with scripted([*accepts(*implicit), *BYE], refuses(*implicit, no), [*accepts(*implicit), *BYE]) as server:
        endpoint = replace(trust.endpoint(server.port, TlsMode.IMPLICIT), connections=3)
        account = Account(ADDRESS, "it", ADDRESS, {Protocol.IMAP: endpoint})
        async with working() as bridge:
            for conn in ("imap-1", "imap-2"):
                program = bridge.hand_over(conn)
                await program.log_in()
                if conn == "imap-1":
                    login = await bridge.allow(account, OLD)
                    assert (login.username, login.password.reveal()) == (ADDRESS, b"CANARY-password")
                turn, about = await bridge.asked("turn")
                assert about == ["imap", ADDRESS, 3]
                bridge.link.send("answer", turn, None)
                if conn == "imap-2":
                    assert await bridge.allow(account, OLD) == login
                    number, (where, refused) = await bridge.asked("token")
                    assert (where, unpack(AccessToken, refused)) == (conn, OLD)
                    bridge.link.send("answer", number, pack(NEW))
                *about, [answer] = await bridge.told("news")
                assert about == [[conn], [], {LOGINS.sample("imap", "yes"): 1}], "it is in"
                assert answer[:3] == [ADDRESS, "imap", None], "the bridge was asked, and so it hears how that went"
                await program.say(b"a2 LOGOUT")
                assert (await program.hear_all()).endswith(b"a1 OK Welcome\r\na2 OK\r\n")
                program.socket.close()
                assert await bridge.told("cancel") == [turn]
                await bridge.over(conn)
            gc.collect()
            loop = asyncio.get_running_loop()
            ours = [each for each in gc.get_objects() if isinstance(each, asyncio.Future) and each.get_loop() is loop]
            over = [each for each in ours if each.done() and not each.cancelled()]
            kept = [each for each in over if isinstance(each, asyncio.Task) or each.result()]
            assert kept == [], "neither sessions nor answers, which have tokens in them"


async def test_a_refused_token_is_not_replaced_by_one_of_another_provider(tmp_path: Path) -> None:
    """A reload has moved the account to another provider, whose token is not for this mail server."""
    trust = Trust(tmp_path)
    implicit = (Protocol.IMAP, TlsMode.IMPLICIT, trust.good)
    no = b"[AUTHENTICATIONFAILED] Invalid credentials"
    with scripted([*accepts(*implicit), *BYE], refuses(*implicit, no)) as server:
        account = Account(ADDRESS, "it", ADDRESS, {Protocol.IMAP: trust.endpoint(server.port, TlsMode.IMPLICIT)})
        async with working() as bridge:
            program = bridge.hand_over("imap-1")
            await program.log_in()
            await bridge.allow(account, OLD)
            assert (await program.hear()).endswith(b"a1 OK Welcome\r\n")
            await program.say(b"a2 LOGOUT")
            await program.hear_all()
            program.socket.close()
            await bridge.over("imap-1")
            program = bridge.hand_over("imap-2")
            await program.log_in()
            await bridge.allow(replace(account, provider="another"), NEW)
            await program.say(b"a2 LOGOUT")
            assert (await bridge.told_any("ask", "news"))[0] == "news", "no other token is asked for"
            assert (await program.hear_all()).startswith(b"a1 NO [UNAVAILABLE] ")
            program.socket.close()


async def test_each_login_goes_by_the_account_that_its_own_answer_was_about() -> None:
    """A reload comes between two answers that arrive together: each token may only go to its own server."""
    account = Account(ADDRESS, "it", ADDRESS, {})
    server = Endpoint("localhost", 1, TlsMode.IMPLICIT)
    async with working() as bridge:
        programs = [bridge.hand_over(conn) for conn in ("imap-1", "imap-2")]
        for program in programs:
            await program.log_in()
        questions = [(await bridge.asked("login"))[0] for _ in programs]
        for question, most in zip(questions, (3, 5), strict=True):  # the worker's question shows which one it uses
            told = replace(account, endpoints={Protocol.IMAP: replace(server, connections=most)})
            bridge.link.send("account", pack(told))
            bridge.link.send("answer", question, [ADDRESS, pack(OLD), ""])
        turns = [(await bridge.asked("turn"))[1] for _ in programs]
        assert sorted(turns) == [["imap", ADDRESS, 3], ["imap", ADDRESS, 5]]
        for program in programs:
            program.socket.close()


async def test_what_the_server_says_where_an_account_was_before_is_nothing_about_where_it_is(tmp_path: Path) -> None:
    """News name an account only by its address; the bridge takes them to be about the account that it sent last."""
    trust = Trust(tmp_path)
    implicit = (Protocol.IMAP, TlsMode.IMPLICIT, trust.good)
    before, after = refuses(*implicit, b"[UNAVAILABLE] Server busy"), [*accepts(*implicit), *BYE]
    with scripted(before) as left, scripted(after) as taken:
        accounts = [
            Account(ADDRESS, provider, ADDRESS, {Protocol.IMAP: trust.endpoint(server.port, TlsMode.IMPLICIT)})
            for provider, server in (("old", left), ("new", taken))
        ]
        async with working() as bridge:
            programs = [bridge.hand_over(conn) for conn in ("imap-1", "imap-2")]
            for program in programs:
                await program.log_in()
            questions = [(await bridge.asked("login"))[0] for _ in programs]
            for question, account in zip(questions, accounts, strict=True):  # a reload has moved it between the two
                bridge.link.send("account", pack(account))
                bridge.link.send("answer", question, [ADDRESS, pack(OLD), ""])
            for program in programs:
                await program.hear()
                await program.say(b"a2 LOGOUT")
                await program.hear_all()
                program.socket.close()
            heard, over = list[list[Any]](), set[str]()
            while over < {"imap-1", "imap-2"}:
                _, ended, _, tried = await bridge.told("news")
                over.update(ended)
                heard += tried
    assert [answer[:3] for answer in heard] == [[ADDRESS, "imap", None]]


async def test_a_login_that_was_right_for_one_caller_is_asked_about_when_another_comes_with_it(tmp_path: Path) -> None:
    """The bridge says who each client's caller is, and for whom its answer is right; the worker compares the two."""
    trust = Trust(tmp_path)
    script = [*accepts(Protocol.IMAP, TlsMode.IMPLICIT, trust.good), *BYE]
    with scripted(*[script] * 6) as server:
        account = Account(ADDRESS, "it", ADDRESS, {Protocol.IMAP: trust.endpoint(server.port, TlsMode.IMPLICIT)})
        async with working() as bridge:

            async def logs_in(conn: str, whose: str, *, is_asked: bool, right_for: str | None = None) -> None:
                program = bridge.hand_over(conn, whose=whose)
                await program.log_in()
                if is_asked:
                    await bridge.allow(account, OLD, whose=right_for)
                await program.say(b"a2 LOGOUT")
                assert (await program.hear_all()).endswith(b"a1 OK Welcome\r\na2 OK\r\n")
                program.socket.close()
                kind, *about = await bridge.told_any("ask", "news")
                while kind == "news" and conn not in about[1]:
                    kind, *about = await bridge.told_any("ask", "news")
                assert kind == "news", f"asked about {conn}"

            await logs_in("imap-1", "", is_asked=True, right_for="user 1001")
            await logs_in("imap-2", "user 1001", is_asked=False)
            await logs_in("imap-3", "user 1002", is_asked=True, right_for=None)
            await logs_in("imap-4", "user 1002", is_asked=True, right_for="")
            await logs_in("imap-5", "host 192.0.2.1", is_asked=False)
            await logs_in("imap-6", "", is_asked=False)


async def test_the_bridge_hears_of_each_login_that_its_mail_server_refuses_and_of_the_next_that_it_takes(
    tmp_path: Path,
) -> None:
    """So it is asked about each of these logins. About remembered logins that succeed it hears nothing."""
    trust = Trust(tmp_path)
    implicit = (Protocol.IMAP, TlsMode.IMPLICIT, trust.good)
    yes, no = [*accepts(*implicit), *BYE], refuses(*implicit, b"[UNAVAILABLE] Server busy")
    with scripted(no, no, yes, yes, no, yes) as server:
        account = Account(ADDRESS, "it", ADDRESS, {Protocol.IMAP: trust.endpoint(server.port, TlsMode.IMPLICIT)})
        async with working() as bridge:

            async def answers(conn: str, *, is_asked: bool = True) -> list[list[Any]]:
                """The answers of mail servers that the bridge hears of until the session is over."""
                program = bridge.hand_over(conn)
                await program.log_in()
                if is_asked:
                    await bridge.allow(account, OLD)
                await program.hear()
                await program.say(b"a2 LOGOUT")
                await program.hear_all()
                program.socket.close()
                heard, is_over = list[list[Any]](), False
                while not is_over:
                    kind, *about = await bridge.told_any("ask", "news")
                    assert kind == "news", "it is asked about what it should know"
                    is_over = conn in about[1]
                    heard += about[3]
                return heard

            for conn in ("imap-1", "imap-2"):
                (answer,) = await answers(conn)
                address, protocol, problem, seconds = answer
                assert (address, protocol) == (ADDRESS, "imap")
                assert 0 <= seconds < 60
                assert isinstance(decode_error(problem), UpstreamUnavailable)
                assert "Server busy" in problem["text"]
            ((address, _, problem, _),) = await answers("imap-3")
            assert (address, problem) == (ADDRESS, None)
            assert await answers("imap-4", is_asked=False) == []
            ((_, _, problem, _),) = await answers("imap-5", is_asked=False)
            assert isinstance(decode_error(problem), UpstreamUnavailable)
            bridge.link.send("forget", ADDRESS)  # the bridge says so then
            ((address, _, problem, _),) = await answers("imap-6")
            assert (address, problem) == (ADDRESS, None)
