"""docs/guides: what can be copied works, what is quoted is what is said, and both languages have the same."""

from __future__ import annotations

import contextvars
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from babel.messages.pofile import read_po

from bridge.advice.table import ROWS
from bridge.config.load import load_config
from bridge.ui.i18n import LOCALE, Language, say, speak
from bridge.ui.setup.roster import read_roster
from tests.servers.needed import absent

GUIDES = Path(__file__).parents[2] / "docs" / "guides"
PAGES = sorted(GUIDES.glob("*/*.md"))
NAMES = [page.relative_to(GUIDES).as_posix() for page in PAGES]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#]+)\)")


def text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(language: str) -> list[tuple[str, str]]:
    """Page and content of each code block in this language."""
    return [
        (name, body)
        for name, page in zip(NAMES, PAGES, strict=True)
        for kind, body in FENCE.findall(text(page))
        if kind == language
    ]


@pytest.mark.parametrize(("name", "block"), blocks("yaml"))
def test_every_yaml_block_is_a_configuration_without_a_complaint(tmp_path: Path, name: str, block: str) -> None:
    (tmp_path / "secrets").mkdir()
    for secret in re.findall(r"\$\{file:([^}]+)\}", block):
        (tmp_path / secret).write_text("CANARY")
        (tmp_path / secret).chmod(0o600)
    path = tmp_path / "config.yaml"
    path.write_text(block, encoding="utf-8")
    path.chmod(0o600)
    assert not load_config(path, environ={}).warnings, name


def test_both_languages_have_the_same_pages() -> None:
    english, french = ({page.name for page in (GUIDES / language).iterdir()} for language in ("en", "fr"))
    assert english == french
    assert len(english) == 8
    assert all(f"({name})" in text(GUIDES / "README.md") for name in NAMES)


@pytest.mark.parametrize("name", sorted({page.name for page in PAGES}))
def test_both_languages_have_the_same_parts(name: str) -> None:
    english, french = (text(GUIDES / language / name) for language in ("en", "fr"))
    for part in (r"^#+ ", r"^```\w+$", r"^```$", r"^\|", r"^ *\d+\. ", r"^ *- ", r"^        \S"):
        counts = [len(re.findall(part, page, re.MULTILINE)) for page in (english, french)]
        assert counts[0] == counts[1], part


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_link_within_the_documentation_leads_somewhere(page: Path) -> None:
    for target in LINK.findall(text(page)):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("language", ["en", "fr"])
def test_the_sentences_of_the_troubleshooting_page_are_those_that_people_read(language: Language) -> None:
    page = text(GUIDES / language / "troubleshooting.md")
    quoted = [line.split("|")[1].strip().strip("*") for line in page.splitlines() if line.startswith("| *")]

    def told() -> list[str]:
        speak(language)
        return [say(row.sentence).replace("\u00a0", " ") for row in ROWS]

    sentences = contextvars.copy_context().run(told)
    assert len(quoted) == 21
    for words in quoted:
        assert any(words.replace("\u00a0", " ") in sentence for sentence in sentences), words


@pytest.mark.parametrize("language", ["en", "fr"])
def test_what_is_said_before_it_starts_is_quoted_in_its_language(language: Language) -> None:
    page = text(GUIDES / language / "troubleshooting.md")
    quoted = [found[1].split("…")[0].strip() for found in re.finditer(r"^\| `([^`:]+)` \|", page, re.MULTILINE)]

    def told() -> list[str]:
        speak(language)
        with (LOCALE / "fr" / "LC_MESSAGES" / "mail-bridge.po").open("rb") as stream:
            return [say(entry.id).replace("\u00a0", " ") for entry in read_po(stream) if isinstance(entry.id, str)]

    sentences = contextvars.copy_context().run(told)
    assert len(quoted) == 5
    for words in quoted:
        assert any(words in sentence for sentence in sentences), words


@pytest.mark.parametrize("language", ["en", "fr"])
def test_the_list_of_mailboxes_in_the_first_steps_is_read(language: str) -> None:
    (listing,) = (
        body for _, body in FENCE.findall(text(GUIDES / language / "first-steps.md")) if ";" in body and "@" in body
    )
    roster = read_roster(listing.encode(), ["gmail", "office365"])
    assert roster.problems == ()
    assert [account.sign_in_as for account in roster.accounts] == ["", "bob@contoso.com"]


@pytest.mark.parametrize(("name", "unit"), blocks("ini"))
def test_systemd_takes_every_unit(tmp_path: Path, name: str, unit: str) -> None:
    if shutil.which("systemd-analyze") is None:
        absent("systemd-analyze")
    program = re.search(r"^ExecStart=(\S+)", unit, re.MULTILINE)
    assert program is not None
    path = tmp_path / "mail-bridge.service"
    path.write_text(unit.replace(program[1], sys.executable).replace("User=mail-bridge", "User=root"), encoding="utf-8")
    scope = ["--user"] if "default.target" in unit else []
    done = subprocess.run(
        ["systemd-analyze", *scope, "verify", str(path)],
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"], "XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(tmp_path)},
        timeout=60,
        check=False,
    )
    complaints = [line for line in done.stderr.splitlines() if "mail-bridge.service" in line]
    assert (done.returncode, complaints) == (0, []), f"{name}: {done.stderr}"


def test_systemd_has_units_to_take() -> None:
    assert len(blocks("ini")) == 4
