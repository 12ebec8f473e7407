"""The way to an upstream: names, addresses, and servers that stop answering; over real sockets."""

from __future__ import annotations

import asyncio
import errno
import re
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from bridge.dialing import AddressInfo, look_up
from bridge.errors import BridgeError, UpstreamUnavailable
from bridge.model import Protocol, TlsMode
from bridge.relay.dialer import Dialer
from bridge.threads import NotDone
from bridge.ui.i18n import translation
from tests.addresses import addresses, black_hole, needs_black_hole, needs_ipv6
from tests.relay.dialling import BLOB, IMPLICIT, MODES, PROTOCOLS, TOKEN, account_at, failure, opened, upstream_of
from tests.relay.later import Later
from tests.relay.scripted import (
    GREETING,
    Close,
    Expect,
    Hold,
    Reset,
    Say,
    Script,
    StartTls,
    Step,
    Trust,
    accepts,
    scripted,
)

# --- the network ----------------------------------------------------------------------------------------------------


@contextmanager
def unused_port(host: str = "127.0.0.1") -> Iterator[int]:
    """The port is bound but not listening: connections are refused, and no other program can take it meanwhile."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.bind((host, 0))
        yield sock.getsockname()[1]


async def test_a_refused_connection_names_the_server(trust: Trust) -> None:
    with (
        unused_port() as port,
        upstream_of(Protocol.IMAP) as upstream,
        pytest.raises(UpstreamUnavailable, match=f"localhost:{port} cannot be reached"),
    ):
        async with opened(upstream, Protocol.IMAP, trust.endpoint(port, IMPLICIT)):
            pass


async def test_addresses_that_fail_in_different_ways_are_told_of_in_any_language(trust: Trust) -> None:
    """As in an office without IPv6."""
    with unused_port() as port:
        places = addresses(("127.0.0.1", port), ("fe80::1", port))  # the second lacks its interface
        dialer = Dialer(lookup=lambda host, port: places)
        with (
            upstream_of(Protocol.IMAP, dialer=dialer) as upstream,
            pytest.raises(UpstreamUnavailable, match="Connection refused, ") as caught,
        ):
            async with opened(upstream, Protocol.IMAP, trust.endpoint(port, IMPLICIT)):
                pass
    assert caught.value.said is not None
    french = caught.value.said.told(translation("fr"))
    assert french.startswith(f"localhost:{port} est injoignable\u00a0: connexion refusée, «\u00a0")
    assert "Errno" not in french


async def test_so_they_are_where_windows_has_one_number_for_all_of_them(
    trust: Trust, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Overlapped calls report EINVAL for any failure, and aiohappyeyeballs then gives that number to the whole."""

    async def nowhere(*_: object, **__: object) -> socket.socket:
        reasons = "[WinError 1225] Connection refused, [WinError 1231] Network unreachable, even here"
        raise OSError(errno.EINVAL, f"Multiple exceptions: {reasons}")

    monkeypatch.setattr("bridge.dialing.aiohappyeyeballs.start_connection", nowhere)
    with unused_port() as port, upstream_of(Protocol.IMAP) as upstream:
        with pytest.raises(UpstreamUnavailable) as caught:
            async with opened(upstream, Protocol.IMAP, trust.endpoint(port, IMPLICIT)):
                pass
        assert (
            str(caught.value.said) == f"localhost:{port} cannot be reached: Connection refused, Network is unreachable"
        )


@pytest.mark.parametrize("name", ["mail.nowhere.invalid", "mail..example.com", "x" * 64 + ".example.com"])
async def test_a_name_that_cannot_be_looked_up_is_named(trust: Trust, name: str) -> None:
    words = re.escape(f"the name {name} cannot be looked up")
    with upstream_of(Protocol.IMAP) as upstream, pytest.raises(UpstreamUnavailable, match=words):
        async with opened(upstream, Protocol.IMAP, trust.endpoint(993, IMPLICIT, name)):
            pass


@needs_black_hole
async def test_an_address_that_does_not_answer_costs_the_connect_time_and_no_more(trust: Trust) -> None:
    with (
        black_hole() as port,
        upstream_of(Protocol.IMAP, dialer=Dialer(connect_seconds=0.05)) as upstream,
        pytest.raises(UpstreamUnavailable, match=r"does not answer within 0\.05 s"),
    ):
        async with opened(upstream, Protocol.IMAP, trust.endpoint(port, IMPLICIT)):
            pass
    assert asyncio.all_tasks() == {asyncio.current_task()}


@needs_black_hole
async def test_a_dead_address_first_delays_by_its_head_start_only(trust: Trust) -> None:
    with black_hole() as dead, scripted(accepts(Protocol.IMAP, IMPLICIT, trust.good)) as server:
        places = addresses(("127.0.0.1", dead), ("127.0.0.1", server.port))
        dialer = Dialer(lookup=lambda host, port: places, connect_seconds=5.0)
        with upstream_of(Protocol.IMAP, dialer=dialer) as upstream:
            async with opened(upstream, Protocol.IMAP, trust.endpoint(993, IMPLICIT)):
                pass
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_localhost_is_found_where_only_ipv4_listens(trust: Trust) -> None:
    with (
        scripted(accepts(Protocol.IMAP, IMPLICIT, trust.good)) as server,
        upstream_of(Protocol.IMAP) as upstream,
    ):
        async with opened(upstream, Protocol.IMAP, trust.endpoint(server.port, IMPLICIT)):
            pass


@needs_ipv6
@pytest.mark.parametrize("listening", ["127.0.0.1", "::1"])
async def test_of_two_families_the_one_that_listens_is_used(trust: Trust, listening: str) -> None:
    silent = "::1" if listening == "127.0.0.1" else "127.0.0.1"
    script = accepts(Protocol.IMAP, IMPLICIT, trust.good)
    with unused_port(silent) as unused, scripted(script, host=listening) as server:
        places = addresses((silent, unused), (listening, server.port))
        with upstream_of(Protocol.IMAP, dialer=Dialer(lookup=lambda host, port: places)) as upstream:
            async with opened(upstream, Protocol.IMAP, trust.endpoint(server.port, IMPLICIT)):
                pass


@contextmanager
def one_of_two_listens() -> Iterator[tuple[Dialer, socket.socket, socket.socket]]:
    """A dialer for a name with two addresses, and their sockets. The first does not listen yet."""
    with socket.socket() as first, socket.create_server(("127.0.0.1", 0)) as second:
        first.bind(("127.0.0.1", 0))
        places = addresses(first.getsockname(), second.getsockname())
        yield Dialer(lookup=lambda host, port: places), first, second


async def test_the_address_that_has_answered_last_is_tried_first_as_long_as_it_answers(trust: Trust) -> None:
    """Where a network drops one family, each login would wait for the head start of an address that never answers."""
    endpoint = trust.endpoint(993, IMPLICIT)
    with one_of_two_listens() as (dialer, first, second):
        (await dialer.dial(endpoint)).close()
        first.listen()
        first.setblocking(False)
        (await dialer.dial(endpoint)).close()
        with pytest.raises(BlockingIOError):
            first.accept()
        second.close()
        (await dialer.dial(endpoint)).close()
        first.accept()[0].close()


async def test_once_no_address_has_answered_the_name_server_says_again_which_is_the_first(trust: Trust) -> None:
    """A connection that is reset at once may look like one that was never made."""
    endpoint = trust.endpoint(993, IMPLICIT)
    with one_of_two_listens() as (dialer, first, second):
        (await dialer.dial(endpoint)).close()
        place = second.getsockname()
        second.close()
        with pytest.raises(UpstreamUnavailable):
            await dialer.dial(endpoint)
        with socket.create_server(place):
            first.listen()
            first.setblocking(False)
            (await dialer.dial(endpoint)).close()
            first.accept()[0].close()


@pytest.mark.parametrize("fault", ["no TLS", "hangs up", "silent", "busy"])
async def test_an_address_at_which_a_login_fails_is_not_tried_first_any_more(trust: Trust, fault: str) -> None:
    """One of a provider's machines may be ill, and the others well."""
    begun, full = StartTls(trust.good), Say(b"* BYE Too many connections\r\n")
    scripts: dict[str, Script] = {
        "no TLS": [Close()],
        "hangs up": [begun, Close()],
        "silent": [begun, Hold()],
        "busy": [begun, full],
    }
    endpoint = trust.endpoint(993, IMPLICIT)
    with socket.socket() as first, scripted(scripts[fault]) as server:
        first.bind(("127.0.0.1", 0))  # but does not listen
        places = addresses(first.getsockname(), ("127.0.0.1", server.port))
        dialer = Dialer(lookup=lambda host, port: places)
        seconds = 0.05 if fault == "silent" else 60.0
        with (
            upstream_of(Protocol.IMAP, dialer=dialer, seconds=seconds) as upstream,
            pytest.raises(UpstreamUnavailable),
        ):
            async with opened(upstream, Protocol.IMAP, endpoint):
                pass
        first.listen()
        first.setblocking(False)
        (await dialer.dial(endpoint)).close()
        first.accept()[0].close()


async def test_a_name_server_that_hangs_costs_the_connect_time_and_no_more(trust: Trust) -> None:
    answer = threading.Event()

    def hang(host: str, port: int) -> Sequence[AddressInfo]:
        answer.wait(60)
        return look_up("127.0.0.1", port)

    try:
        with (
            upstream_of(Protocol.IMAP, dialer=Dialer(lookup=hang, connect_seconds=0.05)) as upstream,
            pytest.raises(UpstreamUnavailable, match="does not answer within"),
        ):
            async with opened(upstream, Protocol.IMAP, trust.endpoint(993, IMPLICIT)):
                pass
    finally:
        answer.set()


async def lookups_of_two_logins(trust: Trust, port: int, words: str, seconds: float) -> int:
    """Two logins that both fail with `words`; returns how often the server's name was looked up."""
    lookups = 0

    def count(host: str, _: int) -> Sequence[AddressInfo]:
        nonlocal lookups
        lookups += 1
        return addresses(("127.0.0.1", port))

    with upstream_of(Protocol.IMAP, dialer=Dialer(lookup=count, connect_seconds=seconds)) as upstream:
        for _ in range(2):
            with pytest.raises(UpstreamUnavailable, match=words):
                async with opened(upstream, Protocol.IMAP, trust.endpoint(993, IMPLICIT)):
                    pass
    return lookups


async def test_a_server_that_could_not_be_reached_is_looked_up_anew(trust: Trust) -> None:
    """It may have moved to another address."""
    with unused_port() as port:
        assert await lookups_of_two_logins(trust, port, "cannot be reached", 20.0) == 2


@needs_black_hole
async def test_a_server_that_does_not_answer_is_looked_up_anew(trust: Trust) -> None:
    with black_hole() as port:
        assert await lookups_of_two_logins(trust, port, "does not answer within", 1.0) == 2


async def test_a_machine_without_a_thread_for_a_lookup_is_temporary_trouble(trust: Trust) -> None:
    def none_left(host: str, port: int) -> Sequence[AddressInfo]:
        raise NotDone("no thread is left")

    with (
        upstream_of(Protocol.IMAP, dialer=Dialer(lookup=none_left)) as upstream,
        pytest.raises(UpstreamUnavailable, match="no thread is left"),
    ):
        async with opened(upstream, Protocol.IMAP, trust.endpoint(993, IMPLICIT)):
            pass


def test_a_name_server_that_hangs_does_not_hold_up_the_end_of_the_program() -> None:
    script = (
        "import asyncio, threading\n"
        "from bridge.model import Endpoint, TlsMode\n"
        "from bridge.relay.dialer import Dialer\n"
        "dialer = lambda: Dialer(lookup=lambda host, port: threading.Event().wait(), connect_seconds=0.1)\n"
        "async def main():\n"
        "    await dialer().dial(Endpoint('mail.example', 993, TlsMode.IMPLICIT, None))\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert "UpstreamUnavailable: mail.example:993 does not answer within 0.1 s" in done.stderr


# --- servers that stop ----------------------------------------------------------------------------------------------


def in_french(problem: BridgeError) -> str:
    assert problem.said is not None
    return problem.said.told(translation("fr"))


def stages(protocol: Protocol, mode: TlsMode, context: ssl.SSLContext) -> list[list[Step]]:
    """The login up to each point where it is the server's turn to send."""
    whole = accepts(protocol, mode, context)
    return [whole[:n] for n in turns_of(whole)]


def turns_of(script: Script) -> list[int]:
    return [n for n, step in enumerate(script) if isinstance(step, Say) or (n == 0 and isinstance(step, StartTls))]


@pytest.mark.parametrize("end", [Close(), Reset()])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_server_that_goes_away_at_any_stage_is_unavailable(
    trust: Trust, protocol: Protocol, mode: TlsMode, end: Step
) -> None:
    for script in stages(protocol, mode, trust.good):
        problem, _ = await failure(protocol, [*script, end], trust, mode)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert isinstance(problem, UpstreamUnavailable), script
        assert problem.temporary
        assert str(problem).startswith("localhost")
        assert re.search("est injoignable|a fermé la connexion|coupé|perdue", in_french(problem)), in_french(problem)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_server_that_falls_silent_at_any_stage_costs_the_login_time_and_no_more(
    trust: Trust, protocol: Protocol, mode: TlsMode, monkeypatch: pytest.MonkeyPatch
) -> None:
    later, scripts = Later(monkeypatch), [(script, Hold()) for script in stages(protocol, mode, trust.good)]
    async with asyncio.TaskGroup() as group:
        failures = [
            group.create_task(failure(protocol, [*script, hold], trust, mode, seconds=100)) for script, hold in scripts
        ]
        for _, hold in scripts:
            assert await asyncio.to_thread(hold.reached.wait, 60)
        for _ in ("for the login", "for the answer to the token"):
            await later.by(100)
    for task in failures:
        problem, heard = task.result()
        assert isinstance(problem, UpstreamUnavailable)
        seconds = "200" if BLOB in heard else "100"
        assert str(problem) == f"localhost did not complete the login in {seconds} s"
        assert in_french(problem) == f"localhost n’a pas terminé l’authentification en {seconds} s"
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_server_may_think_about_the_token_for_longer_than_the_login_takes(
    trust: Trust, protocol: Protocol, monkeypatch: pytest.MonkeyPatch
) -> None:
    later, thinking = Later(monkeypatch), Hold()
    *dialogue, verdict = accepts(protocol, IMPLICIT, trust.good)
    with scripted([*dialogue, thinking, verdict]) as server, upstream_of(protocol, seconds=100) as upstream:
        account = account_at(protocol, trust.endpoint(server.port, IMPLICIT))
        async with asyncio.TaskGroup() as group:
            login = group.create_task(upstream.open(account, TOKEN))
            assert await asyncio.to_thread(thinking.reached.wait, 60)
            await later.by(150)
            thinking.until.set()
        login.result().channel.close()


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_server_that_makes_no_sense_is_unavailable(trust: Trust, protocol: Protocol) -> None:
    problem, _ = await failure(protocol, [StartTls(trust.good), Say(b"HTTP/1.1 200 OK\r\n")], trust, IMPLICIT)
    assert isinstance(problem, UpstreamUnavailable)


async def test_a_login_that_is_cancelled_closes_the_connection(trust: Trust) -> None:
    hold = Hold()
    script: list[Step] = [StartTls(trust.good), Say(GREETING[Protocol.IMAP]), Expect(rb".*"), hold]
    with scripted(script) as server, upstream_of(Protocol.IMAP) as upstream:

        async def log_in() -> None:
            async with opened(upstream, Protocol.IMAP, trust.endpoint(server.port, IMPLICIT)):
                raise AssertionError("it is never accepted")

        async with asyncio.TaskGroup() as group:
            login = group.create_task(log_in())
            assert await asyncio.to_thread(hold.reached.wait, 60)
            login.cancel()
