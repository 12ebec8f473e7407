"""`mail-bridge check` and `mail-bridge schema`: whether a bridge could start and, with --online, whether mail flows."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import click

from bridge.advice.base import Turn
from bridge.advice.said import said
from bridge.config.load import LoadedConfig, json_schema
from bridge.control.contract import Finding, Outcome
from bridge.doctor.configuration import problem_findings, running_findings
from bridge.doctor.places import word_findings
from bridge.doctor.ports import RUNNING
from bridge.doctor.report import WHOSE_TURN, Case, is_report, report
from bridge.errors import BridgeError, ConfigError
from bridge.host.files import write_private
from bridge.ui.checks import check_name, outcome_word
from bridge.ui.cli.configured import Settings, find_config, load
from bridge.ui.cli.overwriting import refuse_another_kind
from bridge.ui.cli.reaching import known_by, opened, reach_running
from bridge.ui.cli.session import (
    DONE,
    FAILED,
    UNUSABLE,
    as_service,
    code_of,
    in_loop,
    why_not_written,
    with_settings,
)
from bridge.ui.cli.speaking import Command
from bridge.ui.i18n import say

ESSENTIAL = frozenset({"configuration", "client secret", "port", "workers", "store"})
"""Checks whose failure keeps a bridge from starting, or all mail from passing: exit code 2. Any other failure is 1."""


@click.command(cls=Command)
@click.option("--online", is_flag=True, help="Also try the providers, the mail servers and every account's sign-in.")
@click.option("--json", "as_json", is_flag=True, help="One JSON array, for programs.")
@click.option(
    "--report",
    "report_file",
    type=click.Path(path_type=Path, dir_okay=False, writable=True),
    metavar="FILE",
    help="Write one file that can be forwarded, without secrets.",
)
@click.option("--full", is_flag=True, help="With --report: leave mail addresses as they are.")
@with_settings
@as_service
def check(settings: Settings, online: bool, as_json: bool, report_file: Path | None, full: bool) -> int:
    """Check the configuration, the store and the ports; with --online, everything that mail has to pass through.

    Nobody is asked to sign in. While a bridge is running, --online shows what that bridge finds. Exit code 0 if
    nothing has failed, 2 if the configuration, a client secret, the store or a port must be put right first,
    otherwise 1.
    """
    if full and report_file is None:
        raise click.UsageError(say("--full needs --report FILE"))
    if report_file is not None and _is_no_file(report_file):
        told = say("{file} is a link, a pipe or a device, which a report does not replace: name an ordinary file")
        raise click.UsageError(told.format(file=report_file))
    if report_file is not None:
        refuse_another_kind(report_file, is_report)
    loaded, findings, code = in_loop(_look(settings, online))
    if as_json:
        click.echo(json.dumps([_row(finding) for finding in findings], indent=2))
    else:
        alike: dict[object, list[Finding]] = {}
        for finding in findings:
            alike.setdefault(_cause(finding), []).append(finding)
        for first, *others in alike.values():
            click.echo(_line(first, ", ".join(other.subject for other in others)))
    if report_file is not None:
        _write_report(report_file, settings, loaded, findings, is_full=full)
    return code


@click.command(cls=Command)
@with_settings
def schema(_: Settings) -> int:
    """Print the JSON Schema of the configuration file, for editors."""
    click.echo(json.dumps(json_schema(), indent=2))
    return DONE


async def _look(settings: Settings, online: bool) -> tuple[LoadedConfig | None, tuple[Finding, ...], int]:
    """Load the configuration and look at what it leads to. Returns: it, what was found, the exit code."""
    loaded: LoadedConfig | None = None
    try:
        loaded = load(settings)
        findings = await _found(settings, loaded, online)
    except ConfigError as problem:  # from loading, or later, if the file goes away meanwhile
        return loaded, problem_findings(problem.sentences), code_of(problem)
    return loaded, findings, _exit_code(findings)


async def _found(settings: Settings, loaded: LoadedConfig, online: bool) -> tuple[Finding, ...]:
    async with reach_running(settings) as control:
        if control is not None and online:
            return await control.diagnose()
        status = None if control is None else await control.status()
        async with opened(loaded) as app:
            if control is None or status is None:
                first, examination = word_findings(*known_by(find_config(settings))), app.examination()
            else:
                # The ports that it holds may differ from those in the file.
                ports = [(one.protocol, int(one.address.rpartition(":")[2])) for one in status.listeners]
                taken = frozenset([*ports, ("console", control.port)])
                first, examination = running_findings(status.warnings), app.examination(held_ports=RUNNING, taken=taken)
            return (*first, *await (examination.everything() if online else examination.basics()))


def _cause(finding: Finding) -> object:
    """What findings have in common that are one line: if there is no network, that is all connections."""
    if finding.check != "connection" or finding.outcome is not Outcome.FAILED:
        return object()
    return finding.sentence, tuple(pair for pair in finding.arguments if pair[0] not in {"host", "port"})


def _line(finding: Finding, others: str) -> str:
    """Outcome, what was looked at, the sentence, whose turn it is if not the reader's: in the person's language.

    Args: others, what else this is the same for.
    """
    subject = f" {finding.subject}" if finding.subject else ""
    is_told = finding.turn in WHOSE_TURN.keys() - {Turn.APP_ADMIN}  # the last is who reads this
    turn = f"  [{WHOSE_TURN[finding.turn].told(say)}]" if is_told else ""
    width = max(len(_word(outcome)) for outcome in Outcome)
    told = finding.told(say) + (say("; the same for {others}").format(others=others) if others else "")
    return f"{_word(finding.outcome):<{width}} {check_name(finding.check)}{subject}{say(': ')}{told}{turn}"


def _word(outcome: Outcome) -> str:
    return say("FAILED") if outcome is Outcome.FAILED else outcome_word(outcome)  # nothing is red here


def _row(finding: Finding) -> dict[str, object]:
    return {
        "check": finding.check,
        "subject": finding.subject,
        "outcome": finding.outcome.value,
        "turn": finding.turn.value,
        "detail": finding.detail,
    }


def _exit_code(findings: tuple[Finding, ...]) -> int:
    failed = {finding.check for finding in findings if finding.outcome is Outcome.FAILED}
    if failed & ESSENTIAL:
        return UNUSABLE
    return FAILED if failed else DONE


def _is_no_file(path: Path) -> bool:
    """True for a path that exists and is no regular file, such as /dev/stdout."""
    try:
        return not stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False  # whoever writes it reports that


def _write_report(
    file: Path, settings: Settings, loaded: LoadedConfig | None, findings: tuple[Finding, ...], *, is_full: bool
) -> None:
    """Write it readable for its owner alone: a person decides to whom it is forwarded. Raises: BridgeError."""
    name = loaded.name if loaded is not None else find_config(settings).name
    case = Case(findings, loaded.config if loaded is not None else None, name, _log_file(loaded))
    try:
        write_private(file, report(case, is_full=is_full))
    except OSError as problem:
        raise BridgeError(
            said("the report {file} cannot be written: {reason}", file=file, reason=why_not_written(settings, problem))
        ) from problem
    click.echo(say("The report is in {file}.").format(file=file), err=True)


def _log_file(loaded: LoadedConfig | None) -> Path | None:
    """The configured one, or the newest where logs go, if somebody has redirected them there."""
    from bridge.host.paths import log_dir

    if loaded is not None and loaded.config.log.file is not None:
        return Path(loaded.config.log.file)
    try:
        files = sorted(log_dir().glob("*.log"), key=lambda file: file.stat().st_mtime)
    except OSError:
        return None
    return files[-1] if files else None
