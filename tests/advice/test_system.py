"""Why the operating system refuses something: by errno, and by Windows' own error numbers."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from bridge.advice import system
from bridge.advice.system import system_reason, told_reasons

REFUSED = errno.ECONNREFUSED


class WindowsError(OSError):
    """As an overlapped call raises it: errno is EINVAL, and only `winerror` says why."""

    def __init__(self, winerror: int, words: str) -> None:
        super().__init__(errno.EINVAL, words)
        self.winerror = winerror


@pytest.mark.parametrize(
    ("winerror", "words"),
    [
        (64, "Connection reset by peer"),
        (121, "Connection timed out"),
        (1225, "Connection refused"),
        (1231, "Network is unreachable"),
        (1232, "No route to host"),
        (1236, "Software caused connection abort"),
        (1460, '"Rare"'),
    ],
)
def test_overlapped_calls_of_windows_have_numbers_of_their_own(winerror: int, words: str) -> None:
    assert str(system_reason(WindowsError(winerror, "Rare"))) == words


@pytest.mark.parametrize("problem", [MemoryError(), OSError(errno.ENOMEM, "Not enough space")])
def test_want_of_memory_is_not_told_as_windows_does_which_sounds_like_a_full_disk(problem: Exception) -> None:
    assert str(system_reason(problem)) == "Cannot allocate memory"


@pytest.mark.parametrize(
    ("text", "reasons"),
    [
        (
            f"Multiple exceptions: [Errno {REFUSED}] Connect call failed ('::1', 1), [Errno 22] Invalid argument",
            ["Connection refused", '"Invalid argument"'],
        ),
        (
            "Multiple exceptions: [WinError 1225] Connexion refusée, même ici, [WinError 10022] Argument non valide",
            ["Connection refused", '"Argument non valide"'],
        ),
        (
            f"[Errno {errno.ECONNREFUSED}] Connect call failed ('::1', 1, 0, 0), [WinError 1225] Non",
            ["Connection refused"],
        ),
        ("nothing of the kind", []),
    ],
)
def test_of_several_errors_in_one_text_each_reason_is_told_once(text: str, reasons: list[str]) -> None:
    assert [str(reason) for reason in told_reasons(text)] == reasons


@pytest.mark.parametrize("is_told_by", ["the error", "the caller"])
def test_a_directory_that_windows_forbids_is_called_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_told_by: str
) -> None:
    def reason(path: Path) -> str:
        if is_told_by == "the caller":
            return str(system_reason(PermissionError(errno.EACCES, "Access is denied"), str(path)))
        return str(system_reason(PermissionError(errno.EACCES, "Access is denied", str(path))))

    monkeypatch.setattr(system, "_CALLS_DIRECTORIES_FORBIDDEN", False)
    assert reason(tmp_path) == "Permission denied"
    monkeypatch.setattr(system, "_CALLS_DIRECTORIES_FORBIDDEN", True)
    assert reason(tmp_path) == "Is a directory"
    assert reason(tmp_path / "file") == "Permission denied"
    assert str(system_reason(PermissionError(errno.EACCES, "Access is denied"))) == "Permission denied"
