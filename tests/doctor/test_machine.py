"""Open files, browser, firewall: ok only for what was asked."""

from __future__ import annotations

from pathlib import Path

from bridge.config.load import parse_config
from bridge.config.schema import Config
from bridge.control.contract import Finding, Outcome
from bridge.doctor import machine as texts
from bridge.doctor.machine import NOT_TOLD, Machine, machine_findings


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


def test_few_descriptors_are_told_with_what_they_are_good_for() -> None:
    few, many = (
        found(Machine(lambda _: None, lambda: (), lambda: limit, lambda: "firefox"))["open files"]  # noqa: B023
        for limit in (256, 65536)
    )
    assert (few.sentence, many.sentence) == (texts.TOO_FEW, texts.ENOUGH)
    assert "96 mail sessions" in few.detail


def test_the_browser_matters_only_where_somebody_signs_in() -> None:
    here = Machine(lambda _: None, lambda: (), lambda: None, lambda: "firefox")
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
    windows = Machine(lambda _: None, lambda: (), lambda: None, lambda: None, platform="win32")
    assert found()["firewall"].sentence == texts.LOOPBACK_ONLY
    assert found(windows)["firewall"].sentence == texts.LOOPBACK_ON_WINDOWS
