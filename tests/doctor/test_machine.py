"""Open files, browser, firewall: "ok" only for what the system was asked about."""

from __future__ import annotations

import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from bridge.advice.base import Turn
from bridge.config.load import parse_config
from bridge.config.schema import Config
from bridge.control.contract import Finding, Outcome
from bridge.doctor import machine as texts
from bridge.doctor.examination import in_thread
from bridge.doctor.machine import Machine, Telling, machine_findings, store_findings, user_findings
from bridge.host.machine import is_on_network, this_machine
from tests.silent import no_thread
from tests.surroundings import NOT_TOLD


def config(*lines: str) -> Config:
    text = "\n".join(
        (
            "providers: {it: {kind: google, client_id: c, client_secret: CANARY}}",
            "accounts: [{address: alice@example.com, provider: it}]",
            *lines,
        )
    )
    return parse_config(text, directory=Path("/nowhere"), environ={}).config


def found(machine: Machine = NOT_TOLD, *lines: str) -> dict[str, Finding]:
    return {finding.check: finding for finding in machine_findings(config(*lines), machine)}


def test_nothing_that_is_not_told_is_ok() -> None:
    assert {finding.outcome for finding in found().values()} == {Outcome.SKIPPED}


async def test_want_of_a_thread_is_no_system_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading.Thread, "start", no_thread)
    (finding,) = await in_thread("machine", lambda: machine_findings(config(), NOT_TOLD))
    assert (finding.outcome, finding.turn) == (Outcome.FAILED, Turn.APP_ADMIN)
    assert "start new thread" in finding.detail


def test_few_descriptors_are_told_with_what_they_are_good_for() -> None:
    few, many = (
        found(replace(NOT_TOLD, descriptor_limit=lambda: limit))["open files"]  # noqa: B023
        for limit in (256, 65536)
    )
    assert (few.sentence, many.sentence) == (texts.TOO_FEW, texts.ENOUGH)
    assert "96 mail sessions" in few.detail
    two = found(replace(NOT_TOLD, descriptor_limit=lambda: 256), "workers: 2")["open files"]
    assert "192 mail sessions" in two.detail


def test_the_browser_matters_only_where_somebody_signs_in() -> None:
    here = replace(NOT_TOLD, browser=lambda: "firefox")
    assert found(here)["browser"].detail == "the default browser is firefox; it was found, not started"
    text = """
providers: {it: {kind: google, flow: service_account, service_account_file: FILE}}
accounts: [{address: alice@example.com, provider: it}]
"""
    directory = Path(__file__).parent
    key = directory / "service_account.json"
    unattended = parse_config(text.replace("FILE", str(key)), directory=directory, environ={}).config
    finding = next(one for one in machine_findings(unattended, here) if one.check == "browser")
    assert finding.sentence == texts.NOBODY_SIGNS_IN


def test_no_firewall_is_called_ok_without_being_asked() -> None:
    linux, windows = (replace(NOT_TOLD, platform=name) for name in ("linux", "win32"))
    assert found(linux)["firewall"].sentence == texts.LOOPBACK_ONLY
    assert found(windows)["firewall"].sentence == texts.LOOPBACK_ON_WINDOWS


# --- notify ---------------------------------------------------------------------------------------------------------


def notify(program: str) -> Finding | None:
    """The finding about this program on this machine."""
    return found(this_machine(), f"notify: {{command: ['{program}', arg]}}").get("notify")


def test_a_notify_program_that_is_not_there_is_told_before_it_is_missed(tmp_path: Path) -> None:
    plain = tmp_path / "tell"
    plain.write_text("#!/bin/sh\n")
    plain.chmod(0o644)
    is_marked = sys.platform != "win32"  # Windows has no permission bit for programs
    closed = [str(plain)] if is_marked else []
    for program in ("no-program-of-that-name", str(tmp_path / "gone"), *closed, str(tmp_path)):
        finding = notify(program)
        assert finding is not None
        assert (finding.outcome, finding.turn, finding.sentence) == (
            Outcome.FAILED,
            Turn.APP_ADMIN,
            texts.NOTIFY_MISSING,
        )
        assert f"{program} does not exist" in finding.detail
    plain.chmod(0o755)
    for program in ("true" if is_marked else "cmd", str(plain)):
        finding = notify(program)
        assert finding is not None
        assert (finding.outcome, finding.sentence) == (Outcome.OK, texts.NOTIFY_FOUND)


def test_without_a_notify_program_nothing_is_said() -> None:
    assert "notify" not in found(this_machine())


# --- OS users -------------------------------------------------------------------------------------------------------

BOUND = "accounts: [{address: alice@example.com, provider: it, os_user: [alice, same]}]"


def users(telling: Telling, accounts: str, *lines: str, known: bool | None = True) -> dict[str, Finding]:
    machine = replace(NOT_TOLD, tells_users=lambda: telling, has_user=lambda name: known)
    text = f"providers: {{it: {{kind: google, client_id: c, client_secret: CANARY}}}}\n{accounts}\n" + "\n".join(lines)
    bound = parse_config(text, directory=Path(__file__).parent, environ={}).config
    return {finding.sentence: finding for finding in user_findings(bound, machine)}


def test_os_users_are_looked_at_only_where_they_matter() -> None:
    assert users(Telling.NOTHING, "accounts: [{address: alice@example.com, provider: it}]") == {}


def test_os_user_on_a_system_that_does_not_tell_lets_nobody_in_and_check_says_so() -> None:
    (finding,) = users(Telling.NOTHING, BOUND).values()
    assert (finding.outcome, finding.turn) == (Outcome.FAILED, Turn.APP_ADMIN)
    assert "let nobody in (alice@example.com)" in finding.detail
    assert list(users(Telling.ALL, BOUND)) == [texts.USERS_TOLD]
    assert users(Telling.OWN, BOUND)[texts.USERS_OWN].outcome is Outcome.FAILED
    first_use = "accounts: [{address: alice@example.com, provider: it, local_password: first-use}]"
    assert list(users(Telling.NOTHING, first_use)) == [texts.FIRST_USE_BLIND]
    assert users(Telling.OWN, first_use)[texts.FIRST_USE_OWN].outcome is Outcome.OK  # a PC of one person: all is well
    for accounts in (BOUND, first_use):
        assert users(Telling.INSIDE, accounts)[texts.USERS_INSIDE].outcome is Outcome.FAILED


def test_who_comes_from_another_machine_is_nobodys_program_and_check_says_so() -> None:
    exposed = 'listeners: {imap: {address: "0.0.0.0:1993", tls: implicit, exposed: true, names: [mail.example.com]}}'
    finding = users(Telling.ALL, BOUND, exposed)[texts.FROM_ELSEWHERE]
    assert finding.outcome is Outcome.SKIPPED
    assert "0.0.0.0:1993" in finding.detail
    assert texts.FROM_ELSEWHERE not in users(Telling.ALL, BOUND, "listeners: {imap: 127.0.0.1:1143}")


def test_an_os_user_that_is_not_there_is_named() -> None:
    findings = users(Telling.ALL, BOUND, known=False)
    assert findings[texts.NO_SUCH_USER].detail.startswith("this machine has no user called alice,")
    assert texts.NO_SUCH_USER not in users(Telling.ALL, BOUND, known=None)


def test_this_machine_tells() -> None:
    here = this_machine()
    assert here.tells_users() is Telling.ALL
    names = ("root", "0", "nobody-of-that-name", "4294967294")
    known = [True, True, False, False] if sys.platform != "win32" else [None] * 4
    assert [here.has_user(name) for name in names] == known


def test_a_store_on_a_network_drive_is_told_with_what_to_do() -> None:
    place = Path("/somewhere", "store.sqlite")
    assert store_findings(place, NOT_TOLD) == ()
    assert store_findings(None, replace(NOT_TOLD, is_on_network=lambda _: True)) == ()
    (finding,) = store_findings(place, replace(NOT_TOLD, is_on_network=lambda asked: asked == place))
    assert (finding.check, finding.outcome, finding.turn) == ("store", Outcome.WARNING, Turn.APP_ADMIN)
    assert str(place) in finding.detail
    assert "`store.path`" in finding.detail


@pytest.mark.skipif(sys.platform != "win32", reason="Windows tells it by the drive")
def test_a_share_is_on_the_network_and_the_systems_own_drive_is_not(tmp_path: Path) -> None:
    assert is_on_network(Path(r"\\files.contoso.lan\bridge\store.sqlite"))
    assert is_on_network(Path(r"\\?\UNC\files.contoso.lan\bridge\store.sqlite"))
    assert not is_on_network(tmp_path / "store.sqlite")
    assert not is_on_network(Path("store.sqlite"))
