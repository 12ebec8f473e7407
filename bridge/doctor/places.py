"""Whether the files that a bridge makes when it starts can be made: the store, the log, and control.json."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from bridge.advice.system import system_reason
from bridge.config.schema import LogConfig
from bridge.control.contract import Finding
from bridge.doctor.findings import failed
from bridge.files.drafts import check_directory
from bridge.files.existing import above, exists, is_directory
from bridge.observe.log_file import is_strangers_link, opened, reason_of

LOG = "log.file: {file} cannot be written: {reason}"
WORD = "{file} cannot be written ({reason}); without it, the other commands do not find the running mail-bridge"


def check_place(place: Path) -> None:
    """Check that this file and its directories could be made, without making them. Raises: OSError."""
    there = above(place)
    if not is_directory(there):
        raise NotADirectoryError(errno.ENOTDIR, "")
    check_directory(there, is_above=there != place.parent)


def log_findings(config: LogConfig) -> tuple[Finding, ...]:
    """A log file that would end the start; nothing is said of one that can be written, or of standard error."""
    if config.file is None:
        return ()
    file = Path(config.file)
    try:
        if exists(file) or is_strangers_link(file):
            os.close(opened(file))
        else:
            check_place(file)
    except OSError as problem:
        return (failed("configuration", "", LOG, file=file, reason=reason_of(problem, file)),)
    return ()


def word_findings(*files: Path) -> tuple[Finding, ...]:
    """The same for the files by which other commands find a running bridge (control.rendezvous): the first that cannot
    be made."""
    for file in files:
        try:
            check_place(file)
        except OSError as problem:
            return (failed("configuration", "", WORD, file=file, reason=system_reason(problem)),)
    return ()
