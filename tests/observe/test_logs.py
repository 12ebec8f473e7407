"""Named events with fields; libraries never log below INFO; the scrubber is the last resort."""

from __future__ import annotations

import codecs
import contextlib
import io
import json
import logging
import os
import re
import select
import sys
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from bridge.advice.diagnosis import Diagnosis
from bridge.errors import BridgeError, GrantRevoked, LoginRefused, ProviderRefused, UpstreamUnavailable
from bridge.observe import logs, scrubber
from bridge.observe.patient_stream import PatientStream
from bridge.secret import Secret
from bridge.ui.cli.main import _in_plain_letters


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    before = logging.getLogger().handlers[:], logging.getLogger().level
    monkeypatch.setattr(logs, "_ours", logs._ours)  # otherwise other tests would write to a closed pipe's descriptor
    yield io.StringIO()
    logging.getLogger().handlers[:] = before[0]
    logging.getLogger().setLevel(before[1])


def test_an_event_is_one_json_line_with_its_fields(stream: io.StringIO) -> None:
    logs.configure("info", "json", stream)
    logs.event("session.done", conn="imap-1", to_client=12)
    line = json.loads(stream.getvalue())
    assert (line["event"], line["conn"], line["to_client"], line["level"]) == ("session.done", "imap-1", 12, "info")


def test_each_line_tells_how_far_its_time_is_from_utc(stream: io.StringIO) -> None:
    """Log collectors take a time without an offset for UTC."""
    logs.configure("info", "json", stream)
    logs.event("session.done")
    assert datetime.fromisoformat(json.loads(stream.getvalue())["timestamp"]).utcoffset() is not None
    logs.configure("info", "text", stream)
    logs.event("session.done")
    assert datetime.fromisoformat(stream.getvalue().splitlines()[1].split(" ")[0]).utcoffset() is not None


@pytest.mark.skipif(os.name != "posix", reason="a process of Windows has the zone of its machine")
def test_the_hour_that_comes_twice_is_told_apart_and_the_one_that_is_left_out_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    times = ["2026-10-25T02:30:00+02:00", "2026-10-25T02:30:00+01:00", "2027-03-28T01:59:59+01:00"]
    times += ["2027-03-28T03:00:00+02:00", "2026-10-25T02:59:59+02:00"]
    seconds = iter([datetime.fromisoformat(one).timestamp() for one in times])
    with monkeypatch.context() as patched:
        patched.setenv("TZ", "Europe/Paris")
        time.tzset()
        zone = logs._Zone(lambda: next(seconds))
        assert [zone.now() for _ in times] == times
    time.tzset()


@pytest.mark.skipif(os.name != "posix", reason="a process of Windows has the zone of its machine")
def test_a_zone_that_is_set_later_is_that_of_the_lines_from_the_next_quarter_of_an_hour_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Most new servers begin with UTC, and `timedatectl set-timezone` comes when the service runs already. The C
    library looks at TZ and at /etc/localtime only if it is told to."""
    seconds = iter([0.0, 900.0])
    with monkeypatch.context() as patched:
        patched.setenv("TZ", "UTC")
        time.tzset()
        zone = logs._Zone(lambda: next(seconds))
        assert zone.now() == "1970-01-01T00:00:00+00:00"
        patched.setenv("TZ", "Asia/Tokyo")
        assert zone.now() == "1970-01-01T09:15:00+09:00"
    time.tzset()


def test_detail_is_shown_at_debug_only(stream: io.StringIO) -> None:
    logs.configure("info", "text", stream)
    logs.detail("dialogue", line="C: a1 LOGIN alice …")
    assert stream.getvalue() == ""
    logs.configure("debug", "text", stream)
    logs.detail("dialogue", line="C: a1 LOGIN alice …")
    assert "a1 LOGIN alice" in stream.getvalue()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.usefixtures("stream")
@pytest.mark.parametrize(("wish", "is_colored"), [(None, True), ("", True), ("1", False)])
def test_a_terminal_is_shown_colours_unless_somebody_wants_none(
    wish: str | None, is_colored: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NO_COLOR as no-color.org defines it; a Windows console that cannot show colours is treated as if it were set."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    if wish is not None:
        monkeypatch.setenv("NO_COLOR", wish)
    terminal = Terminal()
    logs.configure("info", "text", terminal)
    logs.event("bridge.up")
    assert ("\x1b[" in terminal.getvalue()) == is_colored


OLD_LETTERS = ["ascii", "cp437", "cp850", "cp932", "latin-1"]
"""Encodings of pipes between programs in a Windows console, and of locales without UTF-8."""


@pytest.mark.usefixtures("stream")
@pytest.mark.parametrize("encoding", OLD_LETTERS)
def test_a_json_line_is_json_whatever_letters_the_stream_has(encoding: str) -> None:
    written = io.BytesIO()
    logs.configure("info", "json", io.TextIOWrapper(written, encoding, "backslashreplace"))
    logs.event("login.refused", username="Àé’ł😀")
    assert json.loads(written.getvalue().decode(encoding))["username"] == "Àé’ł😀"


@pytest.mark.usefixtures("stream")
@pytest.mark.parametrize("encoding", OLD_LETTERS)
def test_no_letter_that_the_stream_lacks_ends_a_field_before_its_end(encoding: str) -> None:
    """In our sentences for people, ’ becomes ' on such a stream. In a log, the ’ may be in a stranger's user name."""
    codecs.register_error("plain", _in_plain_letters)
    written = io.BytesIO()
    logs.configure("info", "text", io.TextIOWrapper(written, encoding, "plain"))
    logs.event("login.refused", username="a’ account=admin@example.com b")
    assert "'a' account" not in written.getvalue().decode(encoding)


@pytest.mark.parametrize("library", ["msal", "urllib3", "mail.log", "oauthlib"])
def test_libraries_never_speak_at_debug(stream: io.StringIO, library: str) -> None:
    logs.configure("debug", "text", stream)
    logging.getLogger(library).debug("whatever it says, also what the scrubber would not know for a secret")
    assert stream.getvalue() == ""


@pytest.mark.parametrize("kind", ["nobody reads", "closed", "full", "none"])
def test_a_stream_that_is_gone_costs_nothing_but_the_line(
    stream: io.StringIO, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    with contextlib.ExitStack() as open_files:
        if kind == "nobody reads":
            reading, writing = os.pipe()
            os.close(reading)
            gone = open_files.enter_context(open(writing, "w", buffering=1))
        else:
            gone = open_files.enter_context(open(tmp_path / "log" if kind != "full" else "/dev/full", "w", buffering=1))
        if kind == "closed":
            gone.close()
        if kind == "none":
            monkeypatch.setattr(sys, "stderr", None)
        logs.configure("info", "text", None if kind == "none" else gone)
        logs.event("session.open", conn="imap-1")
        logs.fault("session.bug", error=ValueError("x"))
        open_files.pop_all()  # close() writes again what could not be written, and fails again: see below
    with contextlib.suppress(OSError):
        gone.close()


SUSPICIOUS = [
    "auth=Bearer ya29.a0AfH6SMBcanary",
    "POST code=4/0AX4XfWjcanarycanary&state=1",
    '{"refresh_token": "1//0gcanarycanary"}',
    "client_secret=GOCSPX-canarycanary",
    "code_verifier: 'canarycanarycanary'",
    "token eyJ0eXAiOiJKV1QiLCJhbGci.canarycanarycanary.canary",
    "dXNlcj1hbGljZUBleGFtcGxlLmNvbQFhdXRoPUJlYXJlciBjYW5hcnk=canary",
    "bixhPWFsaWNlQGV4YW1wbGUuY29tLAFhdXRoPUJlYXJlciBjYW5hcnk=canary",
]


@pytest.mark.skipif(sys.platform == "win32", reason="cannot be asked there whether a pipe is read")
@pytest.mark.parametrize("style", ["text", "json"])
@pytest.mark.usefixtures("stream")
def test_a_stream_that_nobody_reads_costs_lines_and_says_so_when_it_is_read_again(style: logs.Style) -> None:
    reading, writing = os.pipe()
    with open(reading, encoding="utf-8") as reader, open(writing, "w", encoding="utf-8") as full:
        logs.configure("info", style, full)
        for number in range(200):  # 400 KB, more than any pipe holds
            logs.event("long", number=number, text="é " * 1000)
        logging.getLogger("library").warning("lost as well")
        begun = _read_all(reading)
        logs.event("read again")
        full.close()
        first, again = reader.read().lstrip("\n").splitlines()
    whole = begun[: begun.rfind("\n")].splitlines()
    assert 1 < len(whole) < 200
    assert all(line.count("é") == 1000 for line in whole)
    assert "log.lines_lost" in first
    assert re.search(rf"lines\W+{201 - len(whole)}\b", first)
    assert "read again" in again
    if style == "json":
        assert [json.loads(line)["event"] for line in (*whole, first, again)][-2:] == ["log.lines_lost", "read again"]


@pytest.mark.skipif(sys.platform != "linux", reason="how much a terminal takes is each system's own affair")
@pytest.mark.usefixtures("stream")
@pytest.mark.parametrize("letter", ["x", "é", "😀"])
@pytest.mark.parametrize("step", [37, 89, 131, 173, 211, 257, 307, 359])
def test_a_terminal_that_nobody_reads_costs_lines_too(letter: str, step: int) -> None:
    """Such as that of an SSH session whose network has gone. (A terminal that Ctrl-S has stopped says at once that it
    takes nothing.)

    How much room is left in a terminal when it is nearly full depends on the lengths of all lines before.
    """
    ours, theirs = os.openpty()

    def write() -> None:
        for number in range(500):
            logs.event("line", text=letter * (step * number % 400))

    terminal = open(theirs, "w", encoding="utf-8")  # noqa: SIM115  only its close() may fail
    logs.configure("info", "text", terminal)
    writing = threading.Thread(target=write, daemon=True)
    writing.start()
    writing.join(30)
    is_held_up = writing.is_alive()
    os.close(ours)  # frees the thread if it is held up
    writing.join()
    with contextlib.suppress(OSError):  # the rest of an unfinished line cannot be written any more
        terminal.close()
    assert not is_held_up


@pytest.mark.usefixtures("stream")
@pytest.mark.parametrize(("style", "first"), [("text", "2"), ("json", "{")])
def test_a_journal_is_told_how_loud_each_line_is(
    stream: io.StringIO, style: logs.Style, first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a journal is told: all programs of a desktop inherit JOURNAL_STREAM, which may name another stream."""
    read, write = os.pipe()
    with open(read) as reader, open(write, "w", buffering=1) as writer:
        found = os.fstat(write)
        for named in (f"{found.st_dev}:{found.st_ino}", "1:1", ""):
            monkeypatch.setenv("JOURNAL_STREAM", named)
            logs.configure("debug", style, writer)
            logs.detail("a detail")
            logs.event("an event")
            logs.trouble("trouble")
            logging.getLogger("some library").critical("the end")
            try:
                raise ValueError
            except ValueError as error:
                logs.fault("a fault", error=error)
        writer.close()
        lines = reader.read().splitlines()
    each = len(lines) // 3
    assert [line[:4] for line in lines[:4]] == [f"<{number}>{first}" for number in (7, 6, 4, 2)]
    assert {line[:3] for line in lines[4:each]} == {"<3>"}, "a traceback's lines too"
    assert not any(line.startswith("<") for line in lines[each:])


def test_a_long_text_of_a_library_is_not_mixed_with_lines_of_ours() -> None:
    ours: list[threading.Thread] = []

    class Slow(io.StringIO):
        """Lets another thread log a line while the first one is being written."""

        def write(self, text: str) -> int:
            written = super().write(text)
            if not ours:
                ours.append(threading.Thread(target=logs.event, args=("ours",)))
                ours[0].start()
                ours[0].join(0.05)
            return written

    slow = Slow()
    logs.configure("info", "json", slow)
    logging.getLogger("library").warning("x" * 5000)
    ours[0].join()
    assert [len(json.loads(line)["event"]) for line in slow.getvalue().splitlines()] == [5000, 4]


def _read_all(descriptor: int) -> str:
    """Returns: what is in the pipe now."""
    found = b""
    while select.select([descriptor], [], [], 0)[0]:
        found += os.read(descriptor, 65536)
    return found.decode()


@pytest.mark.skipif(sys.platform == "win32", reason="there the number of a file is another thing than a socket's")
def test_a_stream_of_a_high_number_is_written_to() -> None:
    """The parent process may have had a thousand files open; select(2) does not accept such a descriptor."""
    import fcntl
    import resource

    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(before[0], 1200), before[1]))
    reading, writing = os.pipe()
    high = fcntl.fcntl(writing, fcntl.F_DUPFD, 1100)
    try:
        with open(high, "w", encoding="utf-8") as stream, open(writing, "wb"):
            ours = PatientStream(stream)
            ours.write("one\n")
            ours.write("two\n")
        assert os.read(reading, 100) == b"one\ntwo\n"
    finally:
        os.close(reading)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize("text", SUSPICIOUS)
@pytest.mark.parametrize("style", ["text", "json"])
def test_what_looks_like_a_secret_is_replaced_whoever_logs_it(stream: io.StringIO, text: str, style: str) -> None:
    logs.configure("debug", style, stream)  # type: ignore[arg-type]  # parametrized
    logging.getLogger("some.library").warning("sent %s", text)
    logs.event("x", text=text, secret=Secret("canary"))
    assert "canary" not in stream.getvalue()
    assert stream.getvalue().count("\n") == 2


def test_a_traceback_is_scrubbed_too(stream: io.StringIO) -> None:
    logs.configure("info", "text", stream)
    try:
        raise ValueError("refresh_token=canarycanary")
    except ValueError as error:
        logs.fault("session.bug", error=error)
    assert "test_a_traceback_is_scrubbed_too" in stream.getvalue()
    assert "canary" not in stream.getvalue()


def test_a_traceback_has_places_and_no_values(stream: io.StringIO) -> None:
    def handed_over(typed: str) -> None:
        raise ValueError("a bug")

    logs.configure("info", "text", stream)
    try:
        handed_over("".join(("open", "-", "sesame")))
    except ValueError as error:
        logs.fault("session.bug", error=error)
    assert "in handed_over" in stream.getvalue()
    assert "ValueError: a bug" in stream.getvalue()
    assert "open-sesame" not in stream.getvalue()


def test_ordinary_words_are_left_alone(stream: io.StringIO) -> None:
    logs.configure("info", "json", stream)
    logs.event("login.refused", username="alice@example.com", reason="User name or local password is wrong.")
    assert json.loads(stream.getvalue())["reason"] == "User name or local password is wrong."


@pytest.mark.parametrize(
    ("problem", "level", "told"),
    [
        (UpstreamUnavailable("x", diagnosis=Diagnosis("mail.too_many")), "info", ("mail.too_many", "nobody")),
        (GrantRevoked("x", diagnosis=Diagnosis("oauth.ended")), "warning", ("oauth.ended", "user")),
        (
            ProviderRefused("x", diagnosis=Diagnosis("microsoft.secret_expired")),
            "error",
            ("microsoft.secret_expired", "app-admin"),
        ),
        (LoginRefused("x"), "warning", (None, None)),
    ],
)
def test_a_problem_is_as_loud_as_its_row_of_the_table(
    stream: io.StringIO, problem: BridgeError, level: str, told: tuple[str | None, str | None]
) -> None:
    logs.configure("info", "json", stream)
    logs.report("login.refused", problem, conn="c1")
    line = json.loads(stream.getvalue())
    assert (line["event"], line["conn"], line["reason"]) == ("login.refused", "c1", "x")
    assert (line["level"], line["error"]) == (level, type(problem).__name__)
    assert (line.get("advice"), line.get("turn")) == told


def test_what_the_table_has_a_row_for_is_told_in_its_words(stream: io.StringIO) -> None:
    logs.configure("info", "json", stream)
    diagnosis = Diagnosis("oauth.ended")
    logs.told("authorization.ended", diagnosis)
    assert json.loads(stream.getvalue())["reason"] == diagnosis.told()


def test_a_line_has_the_id_of_the_connection_until_that_ends(stream: io.StringIO) -> None:
    logs.configure("info", "json", stream)
    with logs.connection("imap-1"):
        logs.event("session.open")
    logs.event("listener.down")
    assert [json.loads(line).get("conn") for line in stream.getvalue().splitlines()] == ["imap-1", None]


def test_a_line_about_another_connection_has_the_id_of_that_one(stream: io.StringIO) -> None:
    logs.configure("info", "json", stream)
    with logs.connection("imap-1"):
        logs.event("session.refused", conn="imap-2")
    assert json.loads(stream.getvalue())["conn"] == "imap-2"


def test_a_text_with_spaces_or_lines_stays_one_field_of_one_line(stream: io.StringIO) -> None:
    logs.configure("info", "text", stream)
    logs.event("login.refused", username="OFFICE\\alice", reason="no such user\nbridge.up console=x", n=None)
    line = stream.getvalue()
    assert line.count("\n") == 1
    assert (
        " [info     ] login.refused n=None reason='no such user\\nbridge.up console=x' username=OFFICE\\alice" in line
    )


@pytest.mark.parametrize("letter", ["e", "é"])
@pytest.mark.parametrize(
    "sign", ["\x1b", "\x7f", "\x85", "\x9b", "\u061c", "\u200b", "\u2028", "\u202e", "\u2066", "\ufeff"]
)
def test_a_text_does_nothing_to_the_terminal_that_shows_it(stream: io.StringIO, sign: str, letter: str) -> None:
    """Anybody may try to log in with any user name. U+009B means the same as ESC and a bracket."""
    name = f"{letter}{sign}31mx"
    logs.configure("info", "text", stream)
    logs.event("login.refused", username=name)
    assert stream.getvalue().endswith(f" username={name!r}\n")
    logs.configure("info", "json", stream)
    logs.event("login.refused", username=name)
    text, line = stream.getvalue().split("\n")[:-1]
    assert sign not in text + line
    assert json.loads(line)["username"] == name


@pytest.mark.parametrize("sign", ["\r", "\n", "\x0b", "\x1b"])
def test_what_a_library_repeats_stays_in_its_line(stream: io.StringIO, sign: str) -> None:
    """aiosmtpd repeats a command, such as NOOP between carriage returns, before any login."""
    logs.configure("info", "text", stream)
    logging.getLogger("library").warning("unrecognised: %s", f"{sign}NOOP")
    assert stream.getvalue().endswith(f" [warning  ] unrecognised: {sign!r}NOOP\n".replace("'", ""))


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("POST access_token=CANARY-1234&x=1", "POST access_token=…&x=1"),
        ("Authorization: Bearer CANARY-1234", "Authorization: Bearer …"),
        ("got ya29.CANARY-1234 from it", "got … from it"),
    ],
)
def test_what_was_replaced_can_be_told_by_its_name(text: str, left: str) -> None:
    """A reader of the log must be able to see which value was replaced."""
    assert scrubber.scrubbed(text) == left


@pytest.mark.parametrize("between", [" ", "\t ", "  \n"])
def test_a_text_of_spaces_is_looked_through_once(between: str) -> None:
    """Anybody may try to log in with such a name. A search that began again at each space would take minutes, and hold
    up the loop all the while."""
    text = f"code{between * 40_000}x"
    assert scrubber.scrubbed(text) == text


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("code: CANARY-1234", "code: …"),
        ("code \t CANARY-1234", "code \t …"),
        ("code =abcde", "code …"),
        ("code = 'CANARY-1234'", "code = '…'"),
    ],
)
def test_what_stands_between_a_name_and_its_value(text: str, left: str) -> None:
    assert scrubber.scrubbed(text) == left


@pytest.mark.parametrize("field", ["reason", "_reason"])
def test_every_text_that_is_not_of_our_making_is_looked_at(field: str) -> None:
    assert scrubber.scrub({field: "access_token=CANARY-1234"}) == {field: "access_token=…"}


@pytest.mark.parametrize("shortest", ["code=123456", "1//01234567"])
def test_the_shortest_text_that_may_be_a_secret_is_looked_at(shortest: str) -> None:
    """Shorter texts are not searched, because nothing would be found: that saves half the time of a log line."""
    assert scrubber.scrub({"field": shortest})["field"].endswith("…")
    assert scrubber.scrubbed(shortest[:-1]) == shortest[:-1]
