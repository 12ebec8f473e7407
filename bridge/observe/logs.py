"""event(name, **fields): one line each, as text or JSON; libraries' lines, too.

Every line is a named event with fields; all lines of a connection have its id. Secrets never get this far: they are
Secret values, which print as "Secret(…)". The scrubber is for cases that nobody thought of.
"""

from __future__ import annotations

import codecs
import json
import logging
import os
import re
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from typing import Any, Literal, TextIO, cast

from bridge.advice.base import Level as AdviceLevel
from bridge.advice.diagnosis import Diagnosis
from bridge.errors import BridgeError
from bridge.observe.patient_stream import PatientStream
from bridge.observe.scrubber import scrub

Level = Literal["debug", "info", "warning", "error"]
Style = Literal["text", "json"]
Fields = dict[str, Any]
Render = Callable[[Fields], str]
"""Turns an event with `timestamp`, `level`, `event` and perhaps `exception` into a line; a traceback adds lines."""

LOUD_LIBRARIES = (
    "msal",
    "urllib3",
    "requests_oauthlib",
    "oauthlib",
    "google",
    "aiosmtpd",
    "mail.log",
    "aiohttp",
    "keyring",
    "asyncio",
)
"""Never below INFO, whatever the level: msal's DEBUG prints the authorization code and the verifier."""

_NAMES = {logging.DEBUG: "debug", logging.INFO: "info", logging.WARNING: "warning", logging.ERROR: "error"}
_LEVELS: Mapping[AdviceLevel, int] = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}

_PRIORITIES: Mapping[str, int] = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
"""As syslog numbers them (RFC 5424 section 6.2.1); `journalctl -p warning` filters by these."""

_current: tuple[Level, Style] = "info", "text"

_conn: ContextVar[str] = ContextVar("conn")


def event(name: str, **fields: object) -> None:
    """Something worth a line happened (INFO)."""
    _ours.write(logging.INFO, name, fields)


def detail(name: str, **fields: object) -> None:
    """Something that helps to find a fault (DEBUG): the dialogue before login, as the machine renders it."""
    _ours.write(logging.DEBUG, name, fields)


def is_detailed() -> bool:
    """True if detail() writes anything: ask before rendering a dialogue for it."""
    return _ours.lowest <= logging.DEBUG


@contextmanager
def connection(conn: str) -> Iterator[None]:
    """Within this context, every line of the task has the connection's id, whichever layer writes it."""
    bound = _conn.set(conn)
    try:
        yield
    finally:
        _conn.reset(bound)


def trouble(name: str, **fields: object) -> None:
    """Something failed that somebody may have to look at (WARNING)."""
    _ours.write(logging.WARNING, name, fields)


def report(name: str, problem: BridgeError, **fields: object) -> None:
    """Log one of our errors, at the level of its row in the table of advice, with the row and whose turn it is."""
    fields |= {"error": type(problem).__name__, "reason": str(problem)}
    if problem.diagnosis is None:
        trouble(name, **fields)
    else:
        told(name, problem.diagnosis, **fields)


def told(name: str, diagnosis: Diagnosis, **fields: object) -> None:
    """Log a diagnosis in English, at the level of its row in the table of advice."""
    advice = diagnosis.advice
    fields = {"advice": advice.key, "turn": advice.turn.value, "reason": diagnosis.told()} | fields
    _ours.write(_LEVELS[advice.level], name, fields)


def fault(name: str, *, error: BaseException, **fields: object) -> None:
    """A bug, or the end of the program (ERROR): with the traceback's places, without its values."""
    _ours.write(logging.ERROR, name, fields | {"exc_info": error})


def current() -> tuple[Level, Style]:
    """Level and style as last configured."""
    return _current


def current_stream() -> TextIO | None:
    """Where the lines go now; None where a program has no standard error."""
    return _ours.out.stream


def configure(level: Level = "info", style: Style = "text", stream: Any = None) -> None:
    """Send every log line of the process to `stream` (standard error), at `level` and in one format."""
    global _ours, _current
    _current = level, style
    stream = stream if stream is not None else sys.stderr
    out = _ours.out if _ours.out.stream is stream else PatientStream(stream)  # the old one counts lost lines
    has_colors = out.is_terminal and not os.environ.get("NO_COLOR")
    render = _in_letters_of(stream, style, _as_json if style == "json" else _AsText(has_colors))
    if out.is_journal:
        render = _with_priority(render)
    root = logging.getLogger()
    root.setLevel(level.upper())
    _ours = _Ours(root.level, out, render)
    handler = logging.StreamHandler(cast(TextIO, out))
    handler.setFormatter(_OfLibraries(render))
    root.handlers[:] = [handler]
    for name in LOUD_LIBRARIES:
        logging.getLogger(name).setLevel(
            max(logging.WARNING if name in {"mail.log", "aiosmtpd"} else logging.INFO, root.level)
        )


class _Zone:
    """This machine's offset from UTC. Each line has it, because one hour a year occurs twice, and log collectors take a
    time without an offset for UTC. It is looked up once in each quarter of an hour, since it changes only at the
    boundaries of these, unless an administrator sets another zone."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        """`clock`: seconds since the epoch."""
        self._clock = clock
        self._quarter = -1.0
        self._offset = UTC

    def now(self) -> str:
        """The time as RFC 3339 writes it."""
        now = self._clock()
        if (quarter := now // 900) != self._quarter:
            self._quarter = quarter
            if sys.platform != "win32":
                time.tzset()  # or the C library keeps the zone that the machine had when we were started
            self._offset = timezone(timedelta(seconds=time.localtime(now).tm_gmtoff))
        return datetime.fromtimestamp(now, self._offset).isoformat()


class _Ours:
    """Writes our own lines straight to the stream: by `logging` they cost three times as much; a login has three."""

    def __init__(self, lowest: int, out: PatientStream, render: Render) -> None:
        """`lowest`: the level below which nothing is written."""
        self.lowest = lowest
        self.out = out
        self._render = render

    def write(self, level: int, name: str, fields: Fields) -> None:
        """Write one line; `fields` is modified."""
        if level < self.lowest:
            return
        fields["event"] = name
        fields["level"] = _NAMES[level]
        line = self._render(_completed(fields)) + "\n"
        with self.out.lock:
            if (lost := self.out.lost) and self.out.takes_more():
                self.out.lost = 0
                self.out.write(self._render(_lines_lost(lost)) + "\n")
                if self.out.lost:  # this line was not written either
                    self.out.lost = lost
            self.out.write(line)


class _OfLibraries(logging.Formatter):
    """Formats libraries' log records as events, with the message as the event's name."""

    def __init__(self, render: Render) -> None:
        super().__init__()
        self._render = render

    def format(self, record: logging.LogRecord) -> str:
        """See logging."""
        fields: Fields = {"event": record.getMessage(), "level": record.levelname.lower()}
        if record.exc_info:
            fields["exc_info"] = record.exc_info[1]
        return self._render(_completed(fields))


def _completed(fields: Fields) -> Fields:
    """Add connection, time and traceback, and take out what looks like a secret."""
    if (conn := _conn.get(None)) is not None:
        fields.setdefault("conn", conn)
    fields["timestamp"] = _zone.now()
    if (error := fields.pop("exc_info", None)) is not None:
        fields["exception"] = "".join(traceback.format_exception(error)).rstrip("\n")
    return scrub(fields)


def _lines_lost(lines: int) -> Fields:
    """The event that tells of lost lines; of no connection, whichever one finds that lines can be written again."""
    return {"timestamp": _zone.now(), "level": "warning", "event": "log.lines_lost", "lines": lines}


def _as_json(fields: Fields, *, ensure_ascii: bool = False) -> str:
    """A line of JSON, with unreadable characters as `\\u…`, which a parser reads as the same."""
    line = json.dumps(fields, ensure_ascii=ensure_ascii, default=repr)
    return _UNREADABLE.sub(lambda m: f"\\u{ord(m[0]):04x}", line)


def _in_letters_of(stream: Any, style: Style, render: Render) -> Render:
    """`render`, with `\\u…` for characters that the stream's encoding lacks, such as a pipe's on Windows. The stream's
    own error handler is not relied on: it may write ' for ’, as our sentences want it, which would end a field where
    somebody else has typed it; and what it writes for é and 😀 is not valid JSON."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    if codecs.lookup(encoding).name == "utf-8":
        return render
    if style == "json":
        return partial(_as_json, ensure_ascii=True)
    return lambda fields: render(fields).encode(encoding, "backslashreplace").decode(encoding)


def _with_priority(render: Render) -> Render:
    """`render`, with a priority before each line, which the journal strips and stores (sd-daemon(3))."""

    def rendered(fields: Fields) -> str:
        mark = f"<{_PRIORITIES.get(fields['level'], _PRIORITIES['info'])}>"
        return mark + render(fields).replace("\n", f"\n{mark}")

    return rendered


class _AsText:
    """`time [level    ] event name=value …`, in colours on a terminal, unless somebody wants none (no-color.org)."""

    COLORS: Mapping[str, str] = {"debug": "32", "info": "32", "warning": "33", "error": "31", "critical": "31"}

    def __init__(self, is_colored: bool) -> None:
        self._is_colored = is_colored

    def __call__(self, fields: Fields) -> str:
        """See Render."""
        places = fields.pop("exception", None)
        time, level, text = fields.pop("timestamp"), fields.pop("level"), str(fields.pop("event"))
        name = _UNREADABLE.sub(lambda m: repr(m[0])[1:-1], text)  # a library's, which may repeat what a client says
        head = f"{level:<9}"
        if self._is_colored:
            head, name = f"\x1b[{self.COLORS[level]}m{head}\x1b[0m", f"\x1b[1m{name}\x1b[0m"
        words = [f"{time} [{head}] {name}"]
        for key in sorted(fields):
            value = fields[key]
            # A text as it is, unless it could be taken for several fields or lines.
            words.append(f"{key}={value}" if isinstance(value, str) and _is_plain(value) else f"{key}={value!r}")
        return " ".join(words) + (f"\n{places}" if places else "")


_UNREADABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]")
"""Characters that a terminal obeys, takes for the end of a line, or writes from right to left."""
_is_plain = re.compile(rf"[^\s\"'={_UNREADABLE.pattern[1:-1]}]+").fullmatch

_zone = _Zone()
_ours = _Ours(logging.INFO, PatientStream(sys.stderr), _AsText(is_colored=False))
"""As it is until configure() is called."""
