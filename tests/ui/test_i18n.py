"""Which language is chosen; the French catalogue is complete and follows French typography."""

from __future__ import annotations

import io
import locale
import os
import plistlib
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from babel.messages.extract import extract
from babel.messages.pofile import read_po

from bridge.advice.base import Advice, Turn, placeholders
from bridge.advice.diagnosis import Diagnosis
from bridge.advice.said import said
from bridge.advice.table import ROWS
from bridge.config.language import configured_console_port, configured_language
from bridge.errors import AuthorizationRequired, BridgeError, GrantRevoked, UpstreamUnavailable
from bridge.host.language import languages_of_mac, system_language
from bridge.ui import i18n

ROOT = Path(__file__).parent.parent.parent
LOCALE = ROOT / "bridge" / "ui" / "locale"
NO_BREAK = "\u00a0"


@pytest.fixture
def french() -> Iterator[None]:
    i18n.speak("fr")
    yield
    i18n.speak("en")


def translations() -> list[str]:
    with (LOCALE / "fr" / "LC_MESSAGES" / "mail-bridge.po").open("rb") as stream:
        strings = [message.string or "" for message in read_po(stream) if message.id]
    return [text for string in strings for text in ([string] if isinstance(string, str) else string)]


@pytest.mark.parametrize(
    ("configured", "wanted", "spoken"),
    [
        ("auto", "", "en"),
        ("auto", "fr", "fr"),
        ("auto", "fr-CA,fr;q=0.9,en;q=0.8", "fr"),
        ("auto", "en-US,en;q=0.9,fr;q=0.8", "en"),
        ("auto", "de,fr;q=0.5,en;q=0.4", "fr"),
        ("auto", "en;q=0.3, fr;q=0.7", "fr"),
        ("auto", "FR;Q=0.7", "fr"),
        ("auto", "fr;q=0, en;q=0.1", "en"),
        ("auto", "fr;q=0", "en"),
        ("auto", "*", "en"),
        ("auto", "fry, frr;q=1", "en"),
        ("auto", "french", "en"),
        ("auto", "fr;q=nonsense", "en"),
        ("auto", "fr;q=", "en"),
        ("auto", ",;,;;q=1,\x00", "en"),
        ("auto", "de," * 20 + "fr", "en"),
        ("auto", "fr_FR.UTF-8", "fr"),
        ("auto", "fr_BE@euro", "fr"),
        ("auto", "French_France.1252", "en"),
        ("fr", "en", "fr"),
        ("en", "fr", "en"),
    ],
)
def test_the_configuration_decides_then_the_reader(configured: str, wanted: str, spoken: str) -> None:
    assert i18n.choose(configured, wanted) == spoken


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        ({}, ""),
        ({"LANG": "fr_FR.UTF-8"}, "fr_FR.UTF-8"),
        ({"LANG": "en_US.UTF-8", "LC_MESSAGES": "fr_FR"}, "fr_FR"),
        ({"LANG": "fr_FR", "LC_ALL": "C.UTF-8"}, ""),
        ({"LANG": "fr_FR", "LC_ALL": ""}, "fr_FR"),
        ({"LC_ALL": "POSIX"}, ""),
        ({"LANGUAGE": "fr_CA:en", "LANG": "en_US.UTF-8"}, "fr_CA,en"),
        ({"LANGUAGE": "fr", "LC_ALL": "C.UTF-8"}, ""),
        ({"LANGUAGE": "fr"}, "fr"),
    ],
)
def test_the_systems_language_is_the_first_variable_that_says_something(environment: dict[str, str], name: str) -> None:
    if sys.platform == "win32" and not environment:
        assert system_language(environment) in locale.windows_locale.values(), "of the user's menus"
        return
    assert system_language(environment) == name


@pytest.mark.parametrize("form", [plistlib.FMT_BINARY, plistlib.FMT_XML])
def test_a_mac_speaks_the_language_of_its_settings(form: plistlib.PlistFormat) -> None:
    def written(content: dict[str, object] | list[object]) -> bytes:
        return plistlib.dumps(content, fmt=form)

    found = languages_of_mac(written({"AppleLanguages": ["de-FR", "fr-FR", "en-FR"], "AppleLocale": "en_FR"}))
    assert i18n.choose("auto", found) == "fr", "the first of them that we speak"
    nothing = [b"", b"<?xml", written([]), written({}), written({"AppleLanguages": "fr"})]
    assert [languages_of_mac(preferences) for preferences in nothing] == [""] * 5


@pytest.mark.skipif(os.name != "posix", reason="the home of a POSIX system")
def test_on_a_mac_what_launchd_starts_speaks_it_too(tmp_path: Path) -> None:
    preferences = tmp_path / "Library" / "Preferences" / ".GlobalPreferences.plist"
    preferences.parent.mkdir(parents=True)
    preferences.write_bytes(plistlib.dumps({"AppleLanguages": ["fr-FR"]}, fmt=plistlib.FMT_BINARY))
    code = "import sys; sys.platform = 'darwin'; from bridge.host.language import system_language as language; "
    environment = {"HOME": str(tmp_path), "PATH": os.defpath}
    for wanted, given in (("fr-FR", {}), ("en_US.UTF-8", {"LANG": "en_US.UTF-8"})):
        said = subprocess.run(
            [sys.executable, "-c", code + "print(language())"],
            env=environment | given,
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=True,
        )
        assert said.stdout.strip() == wanted


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("language: fr\n", "fr"),
        ("\ufeffproviders:\r\n  a: 1\r\nlanguage: 'en'  # for us\r\nlog: {}\r\n", "en"),
        ('language:   "fr"', "fr"),
        ("language: auto\n", "auto"),
        ("# language: fr\nlanguage: de\n", "auto"),
        ("accounts:\n  language: fr\n", "auto"),
        ("", "auto"),
    ],
)
def test_the_configured_language_is_read_without_the_rest(tmp_path: Path, text: str, language: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(text.encode())
    assert configured_language(path) == language


def test_a_configuration_that_cannot_be_read_has_no_language(tmp_path: Path) -> None:
    assert configured_language(tmp_path / "missing.yaml") == "auto"
    assert configured_console_port(tmp_path / "missing.yaml") == 3017


@pytest.mark.parametrize(
    ("text", "port"),
    [
        ("language: fr\nconsole: 127.0.0.1:4017  # ours\n", 4017),
        ("console: '[::1]:4018'\r\n", 4018),
        ('console: "localhost:4019"', 4019),
        ("#: console: 127.0.0.1:4020\naccounts:\n  console: 1:2\n", 3017),
        ("", 3017),
    ],
)
def test_the_consoles_port_is_read_without_the_rest(tmp_path: Path, text: str, port: int) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(text.encode())
    assert configured_console_port(path) == port


@pytest.mark.usefixtures("french")
@pytest.mark.parametrize("advice", ROWS, ids=lambda advice: advice.key)
def test_each_sentence_of_the_table_has_its_french_with_the_same_placeholders(advice: Advice) -> None:
    translated = i18n.say(advice.sentence)
    assert translated != advice.sentence
    assert placeholders(translated) == advice.placeholders
    assert ("administrateur" in translated) is ("administrator" in advice.sentence)
    assert ("administrateur de mail-bridge" in translated) is ("administrator of mail-bridge" in advice.sentence)


@pytest.mark.parametrize("text", translations())
def test_the_french_is_set_as_french_is(text: str) -> None:
    typed = r'"mail-bridge\[\w+\]"'  # a package with its extra, as one types it: these quotes are for the shell
    typed += r"|`[^`]*`|\[ARGUMENTS\]\.\.\."
    prose = re.sub(rf"https?://\S*|localhost:\d+|<[^>]*>|%\(\w+\)s|{typed}", "x", text)
    assert "'" not in prose
    assert '"' not in prose
    assert "..." not in prose
    assert not re.search(rf"[^{NO_BREAK}:][:;?!](?:\s|$)", prose)
    assert not re.search(rf"«(?!{NO_BREAK})|(?<!{NO_BREAK})»", prose)


@pytest.mark.parametrize("text", translations())
def test_the_french_drops_a_vowel_before_a_vowel(text: str) -> None:
    prose = re.sub(r"`[^`]*`|\S+@\S+", "x", text)
    dropping = r"(?<![-\w’])(?:de|la|le|me|ne|se|te|que|jusque|lorsque|puisque)"
    assert not re.search(rf"{dropping} [aàâeéèêiîoôuœ]", prose, re.IGNORECASE)


def test_a_thing_has_one_name_in_french() -> None:
    """A bridge is mail-bridge, a directory dossier, what is damaged endommagé and what is wrong incorrect."""
    others = re.compile(r"\b(?:ponts?|répertoires?|abîmée?s?|faux|fausses?|une espace)\b", re.IGNORECASE)
    guides = [page.read_text("utf-8") for page in (ROOT / "docs" / "guides" / "fr").glob("*.md")]
    assert guides
    assert [word for text in (*translations(), *guides) for word in others.findall(text)] == []


@pytest.mark.usefixtures("french")
@pytest.mark.parametrize("module", ["base.py", "sql.py", "worker.py"])
def test_what_is_said_of_a_store_fits_a_database_too(module: str) -> None:
    """In French a file is masculine and a database feminine, and {store} may be either."""
    source = (ROOT / "bridge" / "stores" / module).read_bytes()
    found = [sentence for _, sentence, _, _ in extract("python", io.BytesIO(source), keywords={"said": None})]
    sentences = [sentence for sentence in found if isinstance(sentence, str) and "{store}" in sentence]
    masculine = re.compile(r"\{store\} (?:a été|est|n’est pas|ne peut pas être) \w*(?:[éu]|is|it|rt)\b")
    assert sentences
    assert [said for said in map(i18n.say, sentences) if masculine.match(said)] == []


@pytest.mark.usefixtures("french")
def test_a_problem_is_told_in_french_with_the_others_own_words() -> None:
    found = Diagnosis.of("mail.no_right", "NO x", mailbox="sales@example.com", person="alice@example.com")
    problem = GrantRevoked("in the log", diagnosis=found)
    assert i18n.tell_problem(problem).startswith("alice@example.com s’est connecté, mais n’a pas le droit d’ouvrir")
    assert i18n.tell_problem(problem).endswith("(NO x)")
    assert str(problem) == "in the log"


@pytest.mark.usefixtures("french")
def test_a_text_of_ours_stands_behind_the_tables_sentence_and_does_not_replace_it() -> None:
    told = i18n.tell_problem(
        UpstreamUnavailable(said("the name {host} cannot be looked up: {reason}", host="h", reason="x"))
    )
    assert "Personne n’a rien à faire" in told
    assert told.endswith(f"(le nom h est introuvable{NO_BREAK}: x)")


@pytest.mark.usefixtures("french")
@pytest.mark.parametrize(
    ("problem", "told"),
    [
        (BridgeError("the disk is full"), "the disk is full"),
        (
            AuthorizationRequired("a@b.c", "http://localhost/", "x", diagnosis=Diagnosis("sign_in.settings_changed")),
            f"a@b.c doit se connecter{NO_BREAK}: ouvrez http://localhost/ (Les paramètres du fournisseur ont changé "
            "depuis la dernière connexion. Veuillez vous reconnecter.)",
        ),
        (AuthorizationRequired("a@b.c", "http://localhost/", "x"), "a@b.c must sign in: http://localhost/ (x)"),
    ],
)
def test_what_the_table_does_not_know_is_told_as_it_is(problem: BridgeError, told: str) -> None:
    assert i18n.tell_problem(problem) == told


@pytest.mark.usefixtures("french")
def test_what_nobody_has_translated_is_said_in_english() -> None:
    assert i18n.say("no such sentence") == "no such sentence"
    assert i18n.say("") == ""


def test_only_what_the_reader_cannot_mend_is_forwarded() -> None:
    assert {turn for turn in Turn if i18n.forwarding(turn)} == {Turn.APP_ADMIN, Turn.TENANT_ADMIN}


def test_the_compiled_catalogues_are_in_the_wheel() -> None:
    package = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    patterns = package["tool"]["setuptools"]["package-data"]["bridge"]
    packed = {path for pattern in patterns for path in (ROOT / "bridge").glob(pattern)}
    compiled = set(LOCALE.rglob("*.mo"))
    assert compiled
    assert compiled <= packed
