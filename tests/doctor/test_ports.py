"""Ports: free, held by our bridge, or held by another program, which is named."""

from __future__ import annotations

import socket
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from bridge.config.load import parse_config
from bridge.config.schema import Config
from bridge.control.contract import Finding, Outcome
from bridge.doctor import ports
from bridge.doctor.machine import Holder, Machine
from bridge.doctor.ports import port_findings
from bridge.host.machine import this_machine
from bridge.host.sockets import bind
from bridge.ui.i18n import translation
from tests.addresses import needs_ipv6
from tests.servers.daemons import free_ports
from tests.surroundings import NOT_TOLD

LISTEN = """
import socket
sock = socket.create_server(("127.0.0.1", 0))
print(sock.getsockname()[1], flush=True)
input()
"""


def listening(host: str, port: int, what: str) -> list[socket.socket]:
    return bind(host, port, what=what)


def config(port: int, console: int = 0) -> Config:
    text = f"""
providers:
  it: {{kind: google, client_id: c, client_secret: CANARY}}
accounts: [{{address: alice@example.com, provider: it}}]
listeners: {{imap: "127.0.0.1:{port}", pop3: off, smtp: off}}
console: 127.0.0.1:{console}
"""
    return parse_config(text, directory=Path("/nowhere"), environ={}).config


def found(port: int, machine: Machine = NOT_TOLD) -> Finding:
    imap, console = port_findings(config(port), listening, machine)
    assert (console.outcome, console.sentence) == (Outcome.OK, ports.FREE)
    return imap


def test_a_free_port_is_free_and_is_free_again_afterwards() -> None:
    (port,) = free_ports(1)
    assert found(port).sentence == ports.FREE
    with closing(socket.create_server(("127.0.0.1", port))):
        pass


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
def test_the_program_that_holds_a_port_is_named() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", LISTEN], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        finding = found(int(other.stdout.readline()), this_machine())
        other.communicate("\n")
    assert finding.outcome is Outcome.FAILED
    assert "in use by python" in finding.detail
    assert f"(process {other.pid})" in finding.detail


def test_another_users_program_is_told_by_its_user_and_an_unknown_one_by_the_systems_words() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as sock:
        port = sock.getsockname()[1]
        by_user = replace(NOT_TOLD, holder_of=lambda _: Holder(user="www-data"))
        assert "a program of the user www-data" in found(port, by_user).detail
        nameless = replace(NOT_TOLD, holder_of=lambda _: Holder(pid=12))
        assert found(port, nameless).detail.startswith("in use by ? (process 12):")
        excluded = replace(NOT_TOLD, excluded_ports=lambda: (range(1, 5), range(port - 3, port + 4)))
        assert f"Windows reserves the ports {port - 3} to {port + 3} for itself" in found(port, excluded).detail
        assert "choose another port" in found(port).detail
        assert "choisissez un autre port" in found(port).told(translation("fr"))


BESIDE = "If that is the mail-bridge of another user, such as a service's, let it run, and run mail-bridge's commands"


@pytest.mark.parametrize(
    ("holder", "program", "which", "hint"),
    [
        (Holder("python", 12), "in use by python (process 12)", "which", BESIDE),
        (
            Holder(user="www"),
            "in use by a program of the user www",
            "who",
            "If that is a mail-bridge, such as a service's",
        ),
    ],
)
def test_what_has_the_consoles_port_may_be_another_users_bridge_and_is_not_to_be_stopped(
    holder: Holder, program: str, which: str, hint: str
) -> None:
    with (
        closing(socket.create_server(("127.0.0.1", 0))) as imap,
        closing(socket.create_server(("127.0.0.1", 0))) as door,
    ):
        several = config(imap.getsockname()[1], door.getsockname()[1])
        same = replace(NOT_TOLD, holder_of=lambda port: holder)
        first, console = port_findings(several, listening, same)
        assert first.detail == f"{program}, {which} has the console's port as well: see there for what to do"
        assert console.detail.startswith(f"{program}. {hint}")
        other = replace(NOT_TOLD, holder_of=lambda port: holder if port == several.console.port else Holder("nginx", 7))
        first, console = port_findings(several, listening, other)
        assert first.detail.startswith("in use by nginx (process 7): stop it")
        assert hint in console.detail
    first, console = port_findings(several, listening, same)
    assert (first.outcome, console.outcome) == (Outcome.OK, Outcome.OK)


def test_where_the_consoles_port_is_free_nothing_is_said_there_of_who_holds_another() -> None:
    """A program that listens on the same port of another address of this machine is not in the console's way."""
    with closing(socket.create_server(("127.0.0.1", 0))) as sock:
        first, console = port_findings(
            config(sock.getsockname()[1]), listening, replace(NOT_TOLD, holder_of=lambda port: Holder("nginx", 7))
        )
    assert console.sentence == ports.FREE
    assert first.detail.startswith("in use by nginx (process 7): stop it")


@needs_ipv6
def test_the_console_needs_both_addresses_of_localhost_and_a_listener_its_own() -> None:
    with closing(bind("::1", free_ports(1)[0], what="another program")[0]) as sock:
        port = sock.getsockname()[1]
        assert found(port).sentence == ports.FREE
        imap, console = port_findings(config(0, port), listening, NOT_TOLD)
    assert (imap.outcome, console.outcome) == (Outcome.OK, Outcome.FAILED)
    assert [imap.subject, console.subject] == ["imap 127.0.0.1:0", f"console 127.0.0.1:{port}"]


@needs_ipv6
@pytest.mark.parametrize(
    ("ours", "other", "place"), [("127.0.0.1", "::1", "[::1]"), ("[::1]", "127.0.0.1", "127.0.0.1")]
)
@pytest.mark.parametrize("held", ["", ports.OURS])
def test_who_listens_at_the_other_address_of_localhost_is_warned_of(
    ours: str, other: str, place: str, held: str
) -> None:
    """A mail program that is told `localhost` may try either first, and tell a colleague's program the password."""
    family = socket.AF_INET6 if ":" in other else socket.AF_INET
    (port,) = free_ports(1)
    text = f"""
providers:
  it: {{kind: google, client_id: c, client_secret: CANARY}}
accounts: [{{address: alice@example.com, provider: it}}]
listeners: {{imap: ["OURS:{port}"], pop3: off, smtp: off}}
console: 127.0.0.1:0
"""
    one = parse_config(text.replace("OURS", ours), directory=Path("/nowhere"), environ={}).config
    both = text.replace("OURS", "127.0.0.1").replace(f'"127.0.0.1:{port}"', f'"127.0.0.1:{port}", "[::1]:{port}"')
    with closing(socket.create_server((other, port), family=family)):
        *_, beside = port_findings(one, listening, this_machine(), held=held)
        whole = parse_config(both, directory=Path("/nowhere"), environ={}).config
        all_ours = port_findings(whole, listening, this_machine(), held=ports.OURS)
    assert (beside.outcome, beside.subject) == (Outcome.WARNING, f"imap {ours}:{port}")
    assert f"another program listens at {place}:{port}" in beside.detail
    assert f"Write localhost:{port} in place of {ours}:{port}" in beside.detail
    assert len(all_ours) == 3
    assert len(port_findings(one, listening, this_machine())) == 2, "it has gone"


def test_a_listener_of_ours_at_every_address_is_nobody_else() -> None:
    """It answers at the other address of localhost."""
    text = """
providers:
  it: {kind: google, client_id: c, client_secret: CANARY}
accounts: [{address: alice@example.com, provider: it}]
listeners:
  imap: ["ONE:1143", {address: "ALL:1143", tls: implicit, exposed: true, names: [mail.example.com]}]
  pop3: off
  smtp: off
"""
    answering = replace(NOT_TOLD, answers=lambda host, port: True)
    for one, every in (("127.0.0.1", "[::]"), ("[::1]", "0.0.0.0")):
        both = text.replace("ONE", one).replace("ALL", every)
        config = parse_config(both, directory=Path("/nowhere"), environ={}).config
        told = port_findings(config, listening, answering, held=ports.OURS)
        assert [finding.outcome for finding in told] == [Outcome.OK] * 3


def test_beside_a_bridge_of_our_own_nobody_elses_is_looked_for() -> None:
    """Its console stays at its old port until a restart, and another program has taken the new one meanwhile."""
    with (
        closing(socket.create_server(("127.0.0.1", 0))) as imap,
        closing(socket.create_server(("127.0.0.1", 0))) as door,
    ):
        moved = config(imap.getsockname()[1], door.getsockname()[1])
        same = replace(NOT_TOLD, holder_of=lambda port: Holder("nginx", 7))
        both = port_findings(moved, listening, same, held=ports.RUNNING, taken=[("imap", 0), ("console", 0)])
    assert [one.outcome for one in both] == [Outcome.FAILED] * 2
    assert all(one.detail.startswith("in use by nginx (process 7): stop it") for one in both)


def test_a_running_bridges_ports_are_not_tried() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as sock:
        findings = port_findings(config(sock.getsockname()[1]), listening, NOT_TOLD, held=ports.RUNNING)
    assert {finding.sentence for finding in findings} == {ports.RUNNING}
    assert {finding.outcome for finding in findings} == {Outcome.OK}


def test_of_a_running_bridge_the_ports_that_it_holds_are_not_tried_and_the_others_are() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as sock:
        port = sock.getsockname()[1]
        findings = port_findings(config(port), listening, NOT_TOLD, held=ports.RUNNING, taken=[("imap", port)])
    assert [finding.sentence for finding in findings] == [ports.RUNNING, ports.FREE]


@pytest.mark.parametrize(
    ("platform", "count", "is_refused"), [("win32", 2, True), ("win32", 1, False), ("linux", 2, False)]
)
def test_workers_are_refused_where_a_connection_cannot_be_handed_over(
    platform: str, count: int, is_refused: bool
) -> None:
    several = config(0).model_copy(update={"workers": count})
    rows = port_findings(several, listening, replace(NOT_TOLD, platform=platform))
    refused = [row for row in rows if row.check == "workers"]
    assert [(row.outcome, row.sentence) for row in refused] == is_refused * [(Outcome.FAILED, ports.NO_WORKERS)]
