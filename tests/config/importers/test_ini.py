"""An error in a file is reported with its line number, and never with the line's text, which may hold a secret."""

from __future__ import annotations

import pytest

from bridge.config.importers.ini import decoded, read_ini
from bridge.errors import ConfigError
from tests.config.importers.examples import CANARY


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (f"\nclient_secret = {CANARY}\n[a@b.c]\n", 2, "before any [section]"),
        ("[a@b.c]\nx = 1\n\n[a@b.c]\n", 4, "section [a@b.c] is in the file twice"),
        ("[a@b.c]\nx = 1\nX = 2\n", 3, "x is in section [a@b.c] twice"),
        (f"[a@b.c]\nx = 1\n{CANARY}\n", 3, "neither `name = value` nor a [section]"),
        (f"[a@b.c]\r\nx = 1\r\n{CANARY}\r\n", 3, "neither"),
    ],
)
def test_a_malformed_file(text: str, line: int, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_ini(text, "emailproxy.config")
    assert str(caught.value).startswith(f"emailproxy.config:{line}: ")
    assert words in str(caught.value)
    assert CANARY not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None  # the parser's error quotes the line


def test_values_are_as_the_other_program_reads_them() -> None:
    text = "[a@b.c]\nX: 100%% ; no comment\n# comment\ny = one\n  two\n[B]\n"
    (first, second) = read_ini(text, "x")
    assert first.options == {"x": "100%% ; no comment", "y": "one\ntwo"}
    assert (first.line, second.line) == (1, 6)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_what_windows_editors_write_is_read(encoding: str) -> None:
    assert decoded("[é@b.c]\n".encode(encoding), "x") == "[é@b.c]\n"


def test_bytes_that_are_no_text_are_named_by_their_line() -> None:
    with pytest.raises(ConfigError, match=r"^x:2: ") as caught:
        decoded(b"[a@b.c]\n\x81\x8d\n", "x")
    assert caught.value.__context__ is None  # the decoding error would hold the bytes


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_without_its_mark_is_called_by_its_name(encoding: str) -> None:
    with pytest.raises(ConfigError, match=r"^x:1: the file is UTF-16; save it as UTF-8$"):
        read_ini(decoded("[a@b.c]\nx = 1\n".encode(encoding), "x"), "x")
