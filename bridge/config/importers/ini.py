"""Reads an INI file as email-oauth2-proxy does; errors name the line and never quote it."""

from __future__ import annotations

import configparser
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from bridge.advice.said import Said, said
from bridge.config.nodes import at
from bridge.errors import ConfigError

DEFAULT = "DEFAULT"
"""The section whose options hold for all others."""

_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_HEADER = re.compile(r"\[(?P<name>.+)\]")


@dataclass(frozen=True, slots=True)
class IniSection:
    """A section with its options, those of [DEFAULT] included; option names are in lower case."""

    name: str
    line: int
    options: Mapping[str, str] = field(repr=False)
    """They hold secrets."""
    inherited: frozenset[str] = frozenset()
    """Names of the options that come from [DEFAULT]."""

    def get(self, option: str) -> str:
        """The option without outer spaces; empty if it is not there."""
        return self.options.get(option, "").strip()


def is_on(text: str) -> bool:
    """As configparser understands it; any other word is off."""
    return configparser.ConfigParser.BOOLEAN_STATES.get(text.lower(), False)


def decoded(content: bytes, name: str) -> str:
    """The text of a file: UTF-8, UTF-16 with its mark, or what older Windows editors write. Raises: ConfigError."""
    encodings = ("utf-16",) if content.startswith(_UTF16) else ("utf-8-sig", "cp1252")
    if b"\0" in content[:2]:  # UTF-16 without a mark: a NUL is valid in both UTF-8 and cp1252
        raise ConfigError([at(f"{name}:1", said("the file is UTF-16; save it as UTF-8"))])
    for encoding in encodings:
        try:
            return content.decode(encoding)
        except UnicodeDecodeError as error:
            before = content[: error.start]
    line = before.count(b"\n") + 1
    # Raised outside the handler, whose exception holds the bytes.
    raise ConfigError([at(f"{name}:{line}", said("there is a byte here that is not text; save the file as UTF-8"))])


def read_ini(text: str, name: str) -> tuple[IniSection, ...]:
    """All sections, in the order of the file. Raises: ConfigError with the line.

    Like that program: no interpolation, no inline comments, each section and option only once.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    parser = configparser.ConfigParser(interpolation=None)
    problem = _problem(parser, text)
    if problem is not None:
        line, sentence = problem
        raise ConfigError([at(f"{name}:{line}", sentence)])
    lines, shared = _lines_of_headers(text), parser.defaults()
    sections = []
    for section in parser.sections():
        options = dict(parser.items(section))
        inherited = frozenset(option for option, value in options.items() if shared.get(option) == value)
        sections.append(IniSection(section, lines.get(section, 1), options, inherited))
    return tuple(sections)


def _problem(parser: configparser.ConfigParser, text: str) -> tuple[int, Said] | None:
    """Line and sentence. The parser's own texts quote the line, which may hold a secret."""
    try:
        parser.read_string(text)
    except configparser.MissingSectionHeaderError as error:
        return error.lineno, said(
            "this comes before any [section]; is this file the configuration of email-oauth2-proxy? A file of that "
            "program begins with a section such as [IMAP-1993]"
        )
    except configparser.DuplicateSectionError as error:
        name = f"[{_shown(str(error.section))}]"
        return error.lineno or 1, said("the section {name} is in the file twice; keep one of the two", name=name)
    except configparser.DuplicateOptionError as error:
        name, option = f"[{_shown(str(error.section))}]", _shown(str(error.option))
        sentence = said("{option} is in section {name} twice; keep one of the two", option=option, name=name)
        return error.lineno or 1, sentence
    except configparser.ParsingError as error:
        line = error.errors[0][0] if error.errors else 1
        return line, said("this line is neither `name = value` nor a [section]; correct it, or put # in front")
    return None


def _lines_of_headers(text: str) -> dict[str, int]:
    lines: dict[str, int] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        if (match := _HEADER.match(line.strip())) is not None:
            lines.setdefault(match["name"], number)
    return lines


def _shown(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text[:80])
