"""The check of the catalogues finds the mistakes that it is meant to find."""

from __future__ import annotations

import copy
import importlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from babel.messages.catalog import Catalog
from babel.messages.pofile import read_po, write_po

SCRIPTS = Path(__file__).parent.parent.parent / "scripts"
SENTENCE = "{host} did not answer within {seconds} seconds."


@pytest.fixture(scope="module")
def script() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SCRIPTS))
        yield importlib.import_module("translate")


@pytest.fixture(scope="module")
def gathered(script: Any) -> Catalog:
    """Gathered once: that takes more time than all that is tried with it."""
    catalog: Catalog = script.gathered()
    return catalog


@pytest.fixture
def template(gathered: Catalog) -> Catalog:
    """All sentences of today, which a test may change."""
    return copy.deepcopy(gathered)


@pytest.fixture
def locale(script: Any, tmp_path: Path) -> Path:
    """A copy of the catalogues."""
    return Path(shutil.copytree(script.LOCALE, tmp_path / "locale"))


def change(path: Path, **of_message: object) -> None:
    with path.open("rb") as stream:
        catalog = read_po(stream)
    message = catalog[SENTENCE]
    for name, value in of_message.items():
        getattr(message, name).add(value) if name == "flags" else setattr(message, name, value)
    with path.open("wb") as stream:
        write_po(stream, catalog)


def test_the_catalogues_are_whole(script: Any, template: Catalog) -> None:
    assert list(script.check(template)) == []


@pytest.mark.parametrize(
    ("of_message", "problem"),
    [
        ({"string": ""}, "not translated: {host} did not"),
        ({"flags": "fuzzy"}, "doubtful: {host} did not"),
        ({"string": "Le serveur n’a pas répondu."}, "other placeholders: {host} did not"),
        ({"string": "Le serveur n’a pas répondu en {secondes} s."}, "other placeholders: {host} did not"),
        ({"string": "Toujours rien en {seconds} s."}, "mail-bridge.mo is not up to date"),
    ],
)
def test_a_translation_that_is_missing_doubtful_wrong_or_not_compiled_is_found(
    script: Any, template: Catalog, locale: Path, of_message: dict[str, object], problem: str
) -> None:
    change(locale / "fr" / "LC_MESSAGES" / "mail-bridge.po", **of_message)
    assert any(problem in line for line in script.check(template, locale))


def test_a_new_sentence_is_found_missing_until_it_is_translated(script: Any, template: Catalog, locale: Path) -> None:
    template.add("A sentence of tomorrow.")
    assert list(script.check(template, locale)) == [
        "mail-bridge.pot is not up to date",
        "fr/LC_MESSAGES/mail-bridge.po is not up to date",
    ]
    script.write(template, locale)
    assert list(script.check(template, locale)) == [
        "fr/LC_MESSAGES/mail-bridge.po: not translated: A sentence of tomorrow."
    ]


def test_a_sentence_that_is_gone_is_dropped(script: Any, template: Catalog, locale: Path) -> None:
    template.delete(SENTENCE)
    script.write(template, locale)
    assert list(script.check(template, locale)) == []
    assert SENTENCE not in (locale / "fr" / "LC_MESSAGES" / "mail-bridge.po").read_text("utf-8")


def test_writing_twice_changes_nothing(script: Any, template: Catalog, locale: Path) -> None:
    script.write(template, locale)
    before = {path: path.read_bytes() for path in locale.rglob("*.*o*")}
    script.write(script.gathered(), locale)
    assert len(before) == 3
    assert {path: path.read_bytes() for path in locale.rglob("*.*o*")} == before


def test_a_catalogue_that_is_not_compiled_is_found(script: Any, template: Catalog, locale: Path) -> None:
    (locale / "fr" / "LC_MESSAGES" / "mail-bridge.mo").unlink()
    assert list(script.check(template, locale)) == ["fr/LC_MESSAGES/mail-bridge.mo is not up to date"]
