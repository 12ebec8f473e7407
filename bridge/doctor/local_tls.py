"""The certificates that mail programs meet at our ports: how long they are valid, and whether the chain is complete."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path

from bridge.advice.base import Turn
from bridge.advice.diagnosis import Diagnosis
from bridge.advice.said import Said
from bridge.advice.system import system_reason
from bridge.config.diff import configured_listeners
from bridge.config.schema import Config
from bridge.control.contract import Finding
from bridge.doctor.certificates import read_certificate_file
from bridge.doctor.findings import failed, ok, skipped, warning
from bridge.threads import NotDone, NoThread, Threads

WARN_DAYS = 30
"""Some authorities issue for 90 days and renew 30 days before the end: a certificate not renewed by then may need
somebody."""

VALID = "valid until {day}, for {names}; SHA-256 {fingerprint}"
SOON = (
    "expires on {day}; after that, mail programs refuse it. Renew it in the same file; mail-bridge loads the new "
    "one by itself"
)
OVER = "expired on {day}: mail programs refuse it. Renew it in the same file; mail-bridge loads the new one by itself"
EARLY = "is valid only from {day}, and mail programs refuse it until then: is the clock of this machine right?"
MADE = (
    "made by mail-bridge, valid until {day}; machines whose mail programs connect must trust it (`mail-bridge "
    "certificate` says how); SHA-256 {fingerprint}"
)
MADE_SOON = (
    "made by mail-bridge, and expires on {day}: run `mail-bridge certificate --new` and import the new one on the "
    "machines whose mail programs connect"
)
MADE_EARLY = (
    "made by mail-bridge, and valid only from {day}: mail programs refuse it until then. If the clock of this machine "
    "is right by now, run `mail-bridge certificate --new` and import the new one on the machines whose mail programs "
    "connect"
)
NOT_YET = "mail-bridge makes one when it starts, or with `mail-bridge certificate`"
ALONE = (
    "the file contains only the certificate itself: unless mail programs already know {issuer}, add the certificate of "
    "{issuer} after it in the same file"
)
DISORDER = "the certificates in the file are not a chain: {issuer} must come second, after the one that it has signed"
UNANSWERED = "its file does not answer: is the drive that it is on disconnected?"
UNREADABLE = "the file cannot be read as a certificate"
CLOSED = "{directory}, where mail-bridge keeps the certificate of its ports, cannot be used: {reason}"


@dataclass(frozen=True, slots=True)
class _Served:
    """One certificate file, and the ports where mail programs meet it."""

    file: Path
    ports: str
    findings: Callable[[], Iterator[Finding]]
    """Blocks while the file is read."""


def certificate_findings(config: Config, authority_file: Path, today: date) -> tuple[Finding, ...]:
    """For each certificate of our ports: what it is, and what somebody should see to."""
    return tuple(finding for one in _served(config, authority_file, today) for finding in one.findings())


async def certificate_warnings(
    config: Config, authority_file: Path, today: date, looks: Callable[[Path], Threads]
) -> tuple[Diagnosis, ...]:
    """What an administrator must act on.

    `looks`: the threads in which a file is read, because on a network drive whose server is gone that takes minutes; it
    must give the same threads for the same file.
    """
    async with asyncio.TaskGroup() as group:
        served = _served(config, authority_file, today)
        tasks = [group.create_task(_warnings(one, looks(one.file))) for one in served]
    return tuple(itertools.chain.from_iterable(task.result() for task in tasks))


async def _warnings(served: _Served, looks: Threads) -> Sequence[Diagnosis]:
    try:
        found = await looks.run(lambda: tuple(served.findings()))
    except NotDone as problem:
        reason = problem.said if isinstance(problem, NoThread) else Said(UNANSWERED)
        return [Diagnosis.of("certificate.warning", ports=served.ports, problem=reason)]
    return [
        Diagnosis.of("certificate.warning", ports=one.subject, problem=Said(one.sentence, one.arguments))
        for one in found
        if one.turn is not Turn.NOBODY
    ]


def _served(config: Config, authority_file: Path, today: date) -> Sequence[_Served]:
    listeners = [one for one in configured_listeners(config) if one.address.tls is not None]
    served = []
    for named in dict.fromkeys(one.address.certificate for one in listeners):
        ports = ", ".join(one.name for one in listeners if one.address.certificate == named)
        told, file = (_of_ours, authority_file) if named is None else (_of_file, Path(named))
        served.append(_Served(file, ports, partial(told, ports, file, today)))
    return served


def _of_file(subject: str, file: Path, today: date) -> Iterator[Finding]:
    found = read_certificate_file(file)
    if found is None:
        yield failed("certificate", subject, UNREADABLE)
        return
    first_day, last_day = found.certificate.first_day, found.certificate.last_day
    if last_day < today:
        yield failed("certificate", subject, OVER, day=last_day)
    elif first_day > today:
        yield failed("certificate", subject, EARLY, day=first_day)
    elif (last_day - today).days <= WARN_DAYS:
        yield warning("certificate", subject, SOON, day=last_day)
    else:
        names = ", ".join(found.certificate.names)
        yield ok("certificate", subject, VALID, day=last_day, names=names, fingerprint=found.sha256)
    if not found.is_in_order:
        yield failed("certificate", subject, DISORDER, issuer=found.certificate.issuer)
    elif found.lacks_chain:
        yield warning("certificate", subject, ALONE, issuer=found.certificate.issuer)


def _of_ours(subject: str, authority_file: Path, today: date) -> Iterator[Finding]:
    yield _of_made(subject, authority_file, today)


def _of_made(subject: str, authority_file: Path, today: date) -> Finding:
    try:
        authority_file.open("rb").close()
    except FileNotFoundError:
        return skipped("certificate", subject, NOT_YET)
    except OSError as problem:
        return failed("certificate", subject, CLOSED, directory=authority_file.parent, reason=system_reason(problem))
    found = read_certificate_file(authority_file)
    if found is None:
        return failed("certificate", subject, UNREADABLE)
    day = found.certificate.last_day
    if found.certificate.first_day > today:
        return failed("certificate", subject, MADE_EARLY, day=found.certificate.first_day)
    if (day - today).days <= WARN_DAYS:
        return warning("certificate", subject, MADE_SOON, day=day)
    return ok("certificate", subject, MADE, day=day, fingerprint=found.sha256)
