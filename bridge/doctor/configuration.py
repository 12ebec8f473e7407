"""The configuration itself: whether it is valid, and which client secrets are about to expire (pure)."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date

from bridge.advice.base import Turn
from bridge.advice.diagnosis import Diagnosis
from bridge.advice.said import Said
from bridge.config.expiry import expiring
from bridge.config.in_force import REFUSED, RESTART
from bridge.config.load import LoadedConfig
from bridge.control.contract import Finding, Outcome
from bridge.doctor.findings import VERBATIM, failed, ok, warning

RIGHT = "{name} is valid (accounts: {accounts}, providers: {providers})"


def configuration_findings(loaded: LoadedConfig, today: date) -> tuple[Finding, ...]:
    """One for the file, one for each of its warnings, one for each client secret in its last days."""
    config = loaded.config
    right = ok(
        "configuration", "", RIGHT, name=loaded.name, accounts=len(config.accounts), providers=len(config.providers)
    )
    warned = [warning("configuration", "", VERBATIM, problem=one) for one in loaded.warnings]
    secrets = [
        _told("client secret", one.provider, Outcome.FAILED if one.is_over else Outcome.WARNING, one.diagnosis)
        for one in expiring(config, today)
    ]
    return right, *warned, *secrets


def running_findings(warnings: Iterable[Diagnosis]) -> tuple[Finding, ...]:
    """From the running bridge's warnings: what the file says, but the bridge does not do."""
    of_file = {REFUSED: Outcome.FAILED, RESTART: Outcome.WARNING}
    return tuple(_told("configuration", "", of_file[one.key], one) for one in warnings if one.key in of_file)


def problem_findings(problems: Iterable[Said]) -> tuple[Finding, ...]:
    """A configuration that cannot be used: one finding for each thing to change."""
    return tuple(failed("configuration", "", VERBATIM, problem=problem) for problem in problems)


def _told(check: str, subject: str, outcome: Outcome, diagnosis: Diagnosis) -> Finding:
    return Finding(check, subject, outcome, diagnosis.advice.sentence, diagnosis.arguments, Turn.APP_ADMIN)
