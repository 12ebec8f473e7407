"""The catalogues of ui/locale: `python3 scripts/translate.py [--check]`.

Gathers every sentence for people (`say()` in bridge/ui, `said()` everywhere, the templates, the table of advice, the
doctor, the help of the commands and what click says) into mail-bridge.pot, brings each .po up to date and compiles its
.mo; fails while a language lacks a translation. --check changes nothing, and fails also if one of these files is not
what it would write.
"""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from environment import DEVELOPMENT, ROOT, prepare, python
from options import chosen

LOCALE = ROOT / "bridge" / "ui" / "locale"
DOMAIN = "mail-bridge"
PLACEHOLDER = re.compile(r"%\(\w+\)s|\{\w*(?:!r)?\}")
KEYWORDS = {"say": None, "say_number": (1, 2), "said": None}
BELOW_UI = {"said": None}
TEMPLATES = {"trimmed": "true", "newstyle_gettext": "true", "silent": "false"}
COMMENT = "# Every sentence of mail-bridge for people, gathered by scripts/translate.py: not to be edited."
HEADER: dict[str, Any] = {
    "project": DOMAIN,
    "version": "1",
    "msgid_bugs_address": DOMAIN,
    "last_translator": DOMAIN,
    "language_team": DOMAIN,
    "charset": "utf-8",
    "creation_date": datetime(2026, 1, 1, tzinfo=UTC),  # gettext wants one; a date that changes makes needless changes
    "revision_date": datetime(2026, 1, 1, tzinfo=UTC),
    "fuzzy": False,
}


def main() -> int:
    is_check = bool(chosen("--check"))
    if Path(sys.prefix).resolve() != python().parent.parent.resolve():  # babel is only in the environment
        return subprocess.run([prepare(*DEVELOPMENT), __file__, *sys.argv[1:]]).returncode
    template = gathered()
    if not is_check:
        write(template)
    problems = list(check(template))
    for problem in problems:
        print(problem)
    if problems and is_check:
        print("after changes of sentences run: python3 scripts/translate.py")
    return int(bool(problems))


def gathered() -> Any:
    """A catalogue of all sentences, without translations."""
    from babel.messages.catalog import Catalog
    from babel.messages.extract import extract_from_file
    from jinja2.ext import babel_extract

    sys.path.insert(0, str(ROOT))
    from bridge import errors
    from bridge.accounts.passwords import ODD_CHARACTERS, TOO_SHORT
    from bridge.advice.table import ROWS
    from bridge.control.redirect import NO_ANSWER
    from bridge.ui.cli import main, speaking

    catalog = Catalog(header_comment=COMMENT, **HEADER)
    for path in sorted((ROOT / "bridge").rglob("*")):
        if path.suffix == ".py":
            is_ui = (ROOT / "bridge" / "ui") in path.parents
            found = extract_from_file("python", path, keywords=KEYWORDS if is_ui else BELOW_UI)
        elif path.suffix == ".html":
            found = extract_from_file(babel_extract, path, options=TEMPLATES)
        else:
            continue
        for _, message, _, _ in found:
            catalog.add(message, locations=[(path.relative_to(ROOT).as_posix(), 1)])
    catalog.add(NO_ANSWER, locations=[("bridge/control/redirect.py", 1)])
    for kind in vars(errors).values():
        if isinstance(kind, type) and issubclass(kind, errors.BridgeError):
            catalog.add(kind.public_text, locations=[("bridge/errors.py", 1)])
    for sentence in (TOO_SHORT, ODD_CHARACTERS):
        catalog.add(sentence, locations=[("bridge/accounts/passwords.py", 1)])
    for sentence in (*speaking.sentences(main.main), *(text for _, _, text in main.COMMANDS.values())):
        catalog.add(sentence, locations=[("bridge/ui/cli/main.py", 1)])
    for words in (*speaking.CLICK, *speaking.CLICK_NUMBERS):
        catalog.add(words, locations=[("bridge/ui/cli/speaking.py", 1)])
    for path in sorted((ROOT / "bridge" / "doctor").glob("*.py")):
        for sentence in findings(path):
            catalog.add(sentence, locations=[(path.relative_to(ROOT).as_posix(), 1)])
    for row in ROWS:
        comment = f"{row.key}: turn of {row.turn.value}"
        catalog.add(row.sentence, locations=[("bridge/advice/table.py", 1)], auto_comments=[comment])
    return catalog


def findings(path: Path) -> Iterator[str]:
    """The doctor's sentences are constants of its modules; the report is for forwarding, and English."""
    if path.stem == "report":
        return
    for statement in ast.parse(path.read_text("utf-8")).body:
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Constant):
            value = statement.value.value
            if isinstance(value, str) and PLACEHOLDER.sub("", value):  # a mere placeholder has nothing to translate
                yield value


def write(template: Any, locale: Path = LOCALE) -> None:
    from babel.messages.mofile import write_mo
    from babel.messages.pofile import write_po

    with (locale / f"{DOMAIN}.pot").open("wb") as stream:
        write_po(stream, template, width=110, include_lineno=False, sort_output=True)
    for path in languages(locale):
        catalog = read(path)
        catalog.update(template, no_fuzzy_matching=True, update_creation_date=False)
        with path.open("wb") as stream:
            write_po(stream, catalog, width=110, include_lineno=False, sort_output=True, ignore_obsolete=True)
        with path.with_suffix(".mo").open("wb") as stream:
            write_mo(stream, catalog)


def check(template: Any, locale: Path = LOCALE) -> Iterator[str]:
    """What is wrong with the files as they are; versions of babel may differ in layout, so contents are compared."""
    from babel.messages.mofile import read_mo

    if ids(read(locale / f"{DOMAIN}.pot")) != ids(template):
        yield f"{DOMAIN}.pot is not up to date"
    for path in languages(locale):
        name = path.relative_to(locale).as_posix()
        catalog = read(path)
        if ids(catalog) != ids(template):
            yield f"{name} is not up to date"
        for message in catalog:
            if message.id and (message.fuzzy or not all(texts(message.string))):
                yield f"{name}: {'doubtful' if message.fuzzy else 'not translated'}: {next(texts(message.id))}"
            elif message.id and not fits(message):
                yield f"{name}: other placeholders: {next(texts(message.id))}"
        compiled = path.with_suffix(".mo")
        if not compiled.exists() or strings(read_mo(io.BytesIO(compiled.read_bytes()))) != strings(catalog):
            yield f"{compiled.relative_to(locale).as_posix()} is not up to date"


def fits(message: Any) -> bool:
    """True if each translation has the placeholders of the sentence: {name} in those of the program, %(name)s in those
    of the templates."""
    wanted = [_placeholders(text) for text in texts(message.id)]
    return all(_placeholders(text) in wanted for text in texts(message.string))


def _placeholders(text: str) -> set[str]:
    return set(PLACEHOLDER.findall(text.replace("{{", "").replace("}}", "")))


def languages(locale: Path) -> list[Path]:
    """The catalogue of each language."""
    return sorted(locale.glob(f"*/LC_MESSAGES/{DOMAIN}.po"))


def read(path: Path) -> Any:
    from babel.messages.pofile import read_po

    with path.open("rb") as stream:
        return read_po(stream, locale=None if path.suffix == ".pot" else path.parent.parent.name, domain=DOMAIN)


def ids(catalog: Any) -> set[str | tuple[str, ...]]:
    """The catalogue's sentences; those with a number as a pair of their forms."""
    return {message.id for message in catalog if message.id}


def strings(catalog: Any) -> dict[str, tuple[str, ...]]:
    """Sentence to translations."""
    found = {next(texts(message.id)): tuple(texts(message.string)) for message in catalog if message.id}
    return {sentence: translated for sentence, translated in found.items() if all(translated)}


def texts(value: Any) -> Iterator[str]:
    yield from (value if isinstance(value, list | tuple) else [value])


if __name__ == "__main__":
    sys.exit(main())
