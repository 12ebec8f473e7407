"""The rows of the table: each loads one running system, and says what that cost it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from bench import client, usage
from bench.bridge_system import MailBridge
from bench.content import whole_lines
from bench.systems import ADDRESS, System

KIB, MIB = 1024, 1024 * 1024
GB = 1e9
MESSAGE = whole_lines(25_000_000)
SMALL = whole_lines(4 * KIB)
SETTLE_SECONDS = 0.1
"""For the work that a system still does after the last answer."""
LOGINS_AT_ONCE = 8
FETCHES_AT_ONCE = 16
NOOP_EVERY_SECONDS = 0.005
TOKEN_SECONDS = 0.5
"""How long a provider may take to answer on a busy morning."""


@dataclass(frozen=True)
class Scale:
    """How much of everything."""

    rounds: int
    bulk: int
    messages: int
    wan_sessions: int
    wan_octets: int
    round_trips: int
    small_messages: int
    logins: int
    idle: Sequence[int]
    idle_seconds: float
    slow_octets: int
    stalled_octets: int
    stop_seconds: float
    noops: int
    cold_accounts: int
    morning_accounts: int


FULL = Scale(
    rounds=9,
    bulk=256 * MIB,
    messages=8,
    wan_sessions=100,
    wan_octets=512 * KIB,
    round_trips=5000,
    small_messages=2000,
    logins=100,
    idle=(250, 1000, 5000, 9800),
    idle_seconds=10.0,
    slow_octets=256 * MIB,
    stalled_octets=64 * MIB,
    stop_seconds=2.0,
    noops=100,
    cold_accounts=100,
    morning_accounts=250,
)
QUICK = Scale(
    rounds=2,
    bulk=64 * MIB,
    messages=2,
    wan_sessions=20,
    wan_octets=512 * KIB,
    round_trips=500,
    small_messages=300,
    logins=30,
    idle=(100,),
    idle_seconds=1.0,
    slow_octets=64 * MIB,
    stalled_octets=16 * MIB,
    stop_seconds=0.5,
    noops=50,
    cold_accounts=5,
    morning_accounts=40,
)


@dataclass(frozen=True)
class Goal:
    """At most `most`, times the figure of the system `beside` if there is one."""

    most: float
    beside: str = ""

    def __str__(self) -> str:
        return f"≤ {self.most:g} x {self.beside}" if self.beside else f"≤ {self.most:g}"


@dataclass(frozen=True)
class Column:
    """One figure of a row."""

    title: str
    unit: str
    goals: tuple[Goal, ...]


@dataclass(frozen=True)
class Row:
    """What is measured together. `measure` gets a system that runs, and gives a figure for each column."""

    key: str
    columns: tuple[Column, ...]
    measure: Callable[[System, Scale], Sequence[float]]
    is_fresh: bool = False
    """Each measurement starts the system anew, and there is one only: memory does not vary with the load."""
    is_alone: bool = False
    """Only mail-bridge is asked."""
    starts_itself: bool = False
    """`measure` gets a system that does not run."""
    sessions: int = 0
    """Only systems that can hold as many are asked."""


def beside_haproxy(most: float) -> tuple[Goal, ...]:
    return (Goal(most, "HAProxy"),)


# --- CPU ------------------------------------------------------------------------------------------------------------


def cpu_of(system: System, load: Callable[[], object]) -> float:
    """Seconds that the system needs for it."""
    before = usage.Cpu.of(system.pid)
    load()
    time.sleep(SETTLE_SECONDS)
    return usage.Cpu.of(system.pid).since(before)


def bulk_fetch(system: System, scale: Scale) -> Sequence[float]:
    octets = whole_lines(scale.bulk)
    session = system.opened("imap")
    used = cpu_of(system, lambda: client.run_all([client.fetch(session, octets)]))
    session.log_out()
    return (used / octets * GB,)


def bulk_send(system: System, scale: Scale) -> Sequence[float]:
    session = system.opened("smtp")

    def send() -> None:
        for _ in range(scale.messages):
            session.send_message(MESSAGE)

    used = cpu_of(system, send)
    session.log_out()
    return (used / (MESSAGE * scale.messages) * GB,)


def wan_downloads(system: System, scale: Scale) -> Sequence[float]:
    octets = whole_lines(scale.wan_octets)
    sessions = several(system, scale.wan_sessions)
    for session in sessions:
        session.select("PACED")
    used = cpu_of(system, lambda: client.run_all([client.fetch(session, octets) for session in sessions]))
    for session in sessions:
        session.close()
    return (used / (octets * len(sessions)) * GB,)


def round_trips(sessions: int) -> Callable[[System, Scale], Sequence[float]]:
    def measure(system: System, scale: Scale) -> Sequence[float]:
        opened = several(system, sessions)
        each = max(1, scale.round_trips * (1 if sessions == 1 else 4) // sessions)
        used = cpu_of(system, lambda: client.run_all([client.noop(session, each) for session in opened]))
        for session in opened:
            session.close()
        return (used / (each * sessions) * 1e6,)

    return measure


def small_messages(protocol: str) -> Callable[[System, Scale], Sequence[float]]:
    def measure(system: System, scale: Scale) -> Sequence[float]:
        times = scale.small_messages // (10 if system.is_slow_to_log_in else 1)
        session = system.opened(protocol)
        used = cpu_of(system, lambda: client.run_all([client.fetch(session, SMALL, times)]))
        session.log_out()
        return (used / times * 1e6,)

    return measure


def logins(protocol: str) -> Callable[[System, Scale], Sequence[float]]:
    def measure(system: System, scale: Scale) -> Sequence[float]:
        count = scale.logins // (20 if system.is_slow_to_log_in else 1) + 1
        who = [system.identity()] * count

        def storm() -> None:
            for session in client.logged_in(protocol, system.ports[protocol], who, LOGINS_AT_ONCE):
                session.log_out()

        return (cpu_of(system, storm) / count * 1e3,)

    return measure


def several(system: System, count: int, protocol: str = "imap") -> list[client.Session]:
    """Sessions that have logged in; few at a time where the backlog is short."""
    at_once = 2 if system.is_slow_to_log_in else LOGINS_AT_ONCE
    return client.logged_in(protocol, system.ports[protocol], [system.identity()] * count, at_once)


# --- memory ---------------------------------------------------------------------------------------------------------


def idle(count: int) -> Callable[[System, Scale], Sequence[float]]:
    def measure(system: System, scale: Scale) -> Sequence[float]:
        octets = whole_lines(MIB)
        before = usage.own_memory(system.pid)
        sessions = several(system, count)
        time.sleep(1)
        fresh = usage.own_memory(system.pid) - before
        idle_cpu = cpu_of(system, lambda: time.sleep(scale.idle_seconds))
        client.run_all([client.fetch(session, octets) for session in sessions], at_once=FETCHES_AT_ONCE)
        time.sleep(1)
        used = usage.own_memory(system.pid) - before
        client.run_all([client.noop(session, 1) for session in sessions])  # all of them are still there
        for session in sessions:
            session.close()
        per_session = (figure / count / KIB for figure in (fresh, used))
        return (*per_session, idle_cpu / scale.idle_seconds * 100)

    return measure


def idle_by(protocol: str, count: int) -> Callable[[System, Scale], Sequence[float]]:
    def measure(system: System, scale: Scale) -> Sequence[float]:
        before = usage.own_memory(system.pid)
        sessions = several(system, count, protocol)
        time.sleep(1)
        fresh = usage.own_memory(system.pid) - before
        for session in sessions:
            session.say(b"NOOP")
            session.line()  # it is still there
            session.close()
        return (fresh / count / KIB,)

    return measure


def slow_reader(system: System, scale: Scale) -> Sequence[float]:
    """It stops for a while after the first MiB."""
    octets = whole_lines(scale.slow_octets)
    session = system.opened("imap")
    exchange = client.fetch(session, octets)
    with usage.Peak(system.pid).watched() as peak:
        exchange.ask()
        for _ in range(16):
            exchange.take(64 * KIB)
        time.sleep(scale.stop_seconds)
        while not exchange.take():
            pass
    session.log_out()
    return (peak.extra / MIB,)


def stalled_upstream(system: System, scale: Scale) -> Sequence[float]:
    session = system.opened("imap")
    with usage.Peak(system.pid).watched() as peak:
        session.append("STALL", whole_lines(scale.stalled_octets))
    session.log_out()
    return (peak.extra / MIB,)


# --- latency --------------------------------------------------------------------------------------------------------


def neighbours(system: System, scale: Scale) -> Sequence[float]:
    """NOOPs of one session while four others, in a process of their own, FETCH as fast as they can."""
    who = system.identity()
    words = json.dumps([system.ports["imap"], who.username, who.password, who.token])
    with subprocess.Popen(
        [sys.executable, "-m", "bench.neighbours", words], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as others:
        assert others.stdout is not None
        assert others.stdin is not None
        others.stdout.readline()
        session = system.opened("imap")
        waited = []
        for _ in range(scale.noops):
            started = time.perf_counter()
            client.run_all([client.noop(session, 1)])
            waited.append(time.perf_counter() - started)
            time.sleep(NOOP_EVERY_SECONDS)
        session.log_out()
        others.stdin.close()
        if others.wait():
            raise client.Closed("the neighbours failed")
    return (sorted(waited)[int(len(waited) * 0.99)] * 1e3,)


# --- tokens, start --------------------------------------------------------------------------------------------------


def cold_logins(system: System, scale: Scale) -> Sequence[float]:
    """Everybody's mail program comes at the same time, four times, to a bridge whose tokens have all ended."""
    assert isinstance(system, MailBridge)
    addresses = [f"person{number}@example.com" for number in range(scale.cold_accounts)]
    system.accounts = [ADDRESS, *addresses]
    with system.with_ended_tokens():
        requests = system.token_requests()
        who = [system.identity_of(address) for address in addresses for _ in range(4)]
        for session in client.logged_in("imap", system.ports["imap"], who, 100):
            session.log_out()
        asked = [requests().count(address) for address in addresses]
    system.accounts = [ADDRESS]
    return (max(asked), min(asked))


def morning(system: System, scale: Scale) -> Sequence[float]:
    """A whole office logs in at once after a restart at night: all tokens have expired, and the provider is slow."""
    assert isinstance(system, MailBridge)
    addresses = [f"person{number}@example.com" for number in range(scale.morning_accounts)]
    system.accounts = [ADDRESS, *addresses]

    def come(address: str) -> float:
        """When it was let in."""
        session = system.opened("imap", system.identity_of(address))
        let_in = time.monotonic()
        session.log_out()
        return let_in

    with system.with_ended_tokens(), system.slow_tokens(TOKEN_SECONDS), ThreadPoolExecutor(len(addresses)) as threads:
        used, began = usage.Cpu.of(system.pid), time.monotonic()
        last = max(threads.map(come, addresses)) - began
        cpu = usage.Cpu.of(system.pid).since(used)
    system.accounts = [ADDRESS]
    return cpu / len(addresses) * 1e3, last


def start(system: System, scale: Scale) -> Sequence[float]:
    """From nothing to the first login that is accepted; then, at rest."""
    assert isinstance(system, MailBridge)
    with system.running():
        pass
    system.launch()
    try:
        system.wait_until_listening()
        system.opened("imap").log_out()
        used = usage.Cpu.of(system.pid).seconds
        for protocol in ("imap", "pop3", "smtp"):
            for who in (system.identity(), system.other_identity()):
                system.opened(protocol, who).log_out()
        time.sleep(1)
        at_rest = usage.memory(system.pid)
    finally:
        system.stop()
    return used, at_rest / MIB


def usage_text(system: System, scale: Scale) -> Sequence[float]:
    """`mail-bridge --help`."""
    assert isinstance(system, MailBridge)
    before = os.times()
    subprocess.run([str(system.python), "-m", "bridge", "--help"], check=True, stdout=subprocess.DEVNULL)
    after = os.times()
    return (after.children_user + after.children_system - before.children_user - before.children_system,)


def rows(scale: Scale) -> list[Row]:
    """In the order of the table."""
    cpu_per_gb, per_login = "CPU-s per GB", (Goal(1.5, "HAProxy"), Goal(0.6, "Dovecot"))
    found = [
        Row("fetch", (Column("Bulk FETCH", cpu_per_gb, beside_haproxy(1.0)),), bulk_fetch),
        Row("send", (Column("Bulk send, 25 MB messages", cpu_per_gb, beside_haproxy(1.0)),), bulk_send),
        Row("wan", (Column("100 WAN-like downloads", cpu_per_gb, beside_haproxy(1.25)),), wan_downloads),
        Row("trip", (Column("Round trip, 1 connection", "CPU µs", beside_haproxy(1.25)),), round_trips(1)),
        Row("trips", (Column("Round trip, 100 connections", "CPU µs", beside_haproxy(1.25)),), round_trips(100)),
    ]
    for protocol in ("imap", "pop3"):
        column = Column(f"4 KiB message, {protocol.upper()}", "CPU µs", beside_haproxy(1.25))
        found.append(Row(f"small-{protocol}", (column,), small_messages(protocol)))
    for protocol in ("imap", "pop3", "smtp"):
        column = Column(f"Login, {protocol.upper()}", "CPU ms", per_login)
        found.append(Row(f"login-{protocol}", (column,), logins(protocol)))
    found.append(
        Row("mixed", (Column("NOOP beside 4 FETCHes, p99", "ms", beside_haproxy(1.0)),), neighbours),
    )
    for count in scale.idle:
        columns = (
            Column(f"{count:,} idle sessions, each, fresh", "KiB", (Goal(32),)),
            Column(f"{count:,} idle sessions, each, after 1 MiB", "KiB", (Goal(32),)),
            Column(f"{count:,} idle sessions, CPU", "%", (Goal(0.5),)),
        )
        found.append(Row(f"idle-{count}", columns, idle(count), is_fresh=True, sessions=count))
    few = scale.idle[0]
    for protocol in ("pop3", "smtp"):
        column = Column(f"{few:,} idle {protocol.upper()} sessions, each, fresh", "KiB", (Goal(32),))
        found.append(Row(f"idle-{protocol}", (column,), idle_by(protocol, few), is_fresh=True, sessions=few))
    return [
        *found,
        Row("slow", (Column("Reader stops in a FETCH, extra", "MiB", (Goal(1),)),), slow_reader, is_fresh=True),
        Row(
            "stalled", (Column("Server stops in an APPEND, extra", "MiB", (Goal(1),)),), stalled_upstream, is_fresh=True
        ),
        Row(
            "cold",
            (
                Column("Token requests for an account's 4 first logins, most", "", (Goal(1),)),
                Column("Token requests for an account's 4 first logins, fewest", "", ()),
            ),
            cold_logins,
            is_alone=True,
            starts_itself=True,
        ),
        Row(
            "morning",
            (
                Column(f"{scale.morning_accounts} first logins at once, {TOKEN_SECONDS} s for a token", "CPU ms", ()),
                Column("… and the last of them is in after", "s", (Goal(15),)),
            ),
            morning,
            is_alone=True,
            starts_itself=True,
        ),
        Row(
            "start",
            (
                Column("Start to the first accepted login", "CPU s", (Goal(0.5),)),
                Column("At rest, after the first logins", "MiB", (Goal(50),)),
            ),
            start,
            is_alone=True,
            starts_itself=True,
        ),
        Row(
            "help",
            (Column("mail-bridge --help", "CPU s", (Goal(0.2),)),),
            usage_text,
            is_alone=True,
            starts_itself=True,
        ),
    ]
