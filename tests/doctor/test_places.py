"""Files that the start will create: the doctor tries whether it could create them, and leaves nothing behind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bridge.config.schema import LogConfig
from bridge.control.contract import Outcome
from bridge.doctor.places import WORD, log_findings, word_findings
from tests.files.test_existing import LOST


@pytest.mark.parametrize("file", ["directory", "file/log"])
def test_a_log_file_that_would_end_the_start_is_told_of_before_it(tmp_path: Path, file: str) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "file").touch()
    (finding,) = log_findings(LogConfig(file=str(tmp_path / file)))
    assert (finding.check, finding.outcome) == ("configuration", Outcome.FAILED)
    assert finding.detail.startswith(f"log.file: {tmp_path / file} cannot be written: ")


def test_a_log_file_is_neither_made_nor_changed(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("kept\n")
    for file in ("there", "not/yet.log"):
        assert log_findings(LogConfig(file=str(tmp_path / file))) == ()
    assert log_findings(LogConfig()) == ()
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
    assert (tmp_path / "there").read_text() == "kept\n"


def test_a_word_that_cannot_be_left_for_other_commands_is_told_of_before_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (finding,) = word_findings(tmp_path / "file" / "run" / "control.json")
    assert (finding.check, finding.outcome, finding.sentence) == ("configuration", Outcome.FAILED, WORD)
    assert word_findings(tmp_path / "run" / "control.json") == ()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_nothing_above_a_place_is_told_like_any_other_trouble() -> None:
    """Such as a Windows drive that does not exist: a service does not have the drives that a user has connected."""
    (finding,) = word_findings(LOST)
    assert (finding.outcome, finding.sentence) == (Outcome.FAILED, WORD)
    assert "No such file" in finding.detail


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes have no names in Windows' directories")
def test_a_pipe_that_nobody_reads_is_told_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (finding,) = log_findings(LogConfig(file=str(tmp_path / "pipe")))
    assert "cannot be written" in finding.detail
