"""docs/guides: what can be copied works, what is quoted is what the program says, and both languages have the same
content."""

from __future__ import annotations

import ast
import contextvars
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from babel.messages.pofile import read_po

from bridge.advice.provider import REGISTRATION, explanations
from bridge.config.expiry import URGENT_DAYS, WARN_DAYS
from bridge.config.load import load_config
from bridge.host.systemd import Systemd
from bridge.ui.i18n import LOCALE, Language, say, speak
from bridge.ui.setup.answers import Choice
from bridge.ui.setup.roster import read_roster
from tests.servers.needed import absent

GUIDES = Path(__file__).parents[2] / "docs" / "guides"
PAGES = sorted(GUIDES.glob("*/*.md"))
NAMES = [page.relative_to(GUIDES).as_posix() for page in PAGES]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#]+)\)")
QUOTED = re.compile(r"`([^`]+)`|\*([^*]+)\*")
CODE = re.compile(r"```.*?```|`[^`\n]*`|^ {8}\S.*$", re.DOTALL | re.MULTILINE)
PLAIN, LOGGED = re.compile(r"(?:^\| |(?<=`), )`([^`]+)`", re.MULTILINE), re.compile(r"\((?:[^()`]+ )?`([^`]+)`\)")

FOREIGN = {
    *("Sent", "SSL/TLS", "is", "est", "Send as", "Envoyer en tant que"),
    *("Task Scheduler", "Create Task", "At log on", "At startup", "Run whether user is logged on or not", "Settings"),
    *("Conditions", "Windows installer (64-bit)", "Customize installation", "Python install manager"),
    *("Planificateur de tâches", "Créer une tâche", "À l’ouverture de session", "Au démarrage", "Paramètres"),
    *("Exécuter même si l’utilisateur n’est pas connecté", "Système", "Cancel", "Annuler"),
    *("Desktop apps", "applications de bureau", "loopback"),
    *("Recipients", "Mailboxes", "Delegation", "Manage email apps settings"),
    *("Destinataires", "Boîtes aux lettres", "Délégation", "Gérer les paramètres des applications de messagerie"),
    "Computer Configuration, Policies, Windows Settings, Security Settings, Public Key Policies, "
    "Trusted Root Certification Authorities",
    "Configuration ordinateur, Stratégies, Paramètres Windows, Paramètres de sécurité, Stratégies de clé publique, "
    "Autorités de certification racines de confiance",
    *("Import", "Trust this CA to identify websites"),
    *("Importer", "Confirmer cette AC pour identifier des sites web"),
}
"""Words in italics that are not mail-bridge's: of Windows, providers and mail programs, or stressed."""


def text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(language: str) -> list[tuple[str, str]]:
    """Page and content of each code block in this language (yaml, ini …)."""
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
    assert len(english) == 9
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


def chapters(page: str) -> list[str]:
    """The parts of a page, each with its second-level heading."""
    return re.split(r"^## ", page, flags=re.MULTILINE)[1:]


def quoted(chapter: str) -> list[str]:
    """The program's sentences that this chapter quotes: the first column of its tables or, without a table, what is in
    italics."""
    cells = [line.split("|")[1] for line in chapter.splitlines() if line.startswith("| ")]
    if not cells:
        return [italic for _, italic in QUOTED.findall(chapter.replace("\n", " ")) if italic]
    return [code or italic for cell in cells for code, italic in QUOTED.findall(cell)]


def told(language: Language) -> list[str]:
    """Every sentence of the program in this language."""

    def translated() -> list[str]:
        speak(language)
        with (LOCALE / "fr" / "LC_MESSAGES" / "mail-bridge.po").open("rb") as stream:
            return [say(entry.id) for entry in read_po(stream) if isinstance(entry.id, str)]

    before = runpy.run_path(str(GUIDES.parents[1] / "scripts" / "words.py"))["FRENCH"]  # before an installation
    return [*contextvars.copy_context().run(translated), *(before if language == "en" else before.values())]


def literals() -> list[str]:
    """All strings in the program's source: among them what mail programs and the log get, which is always English."""
    modules = sorted((GUIDES.parents[1] / "bridge").rglob("*.py"))
    constants = (
        node.value
        for module in modules
        for node in ast.walk(ast.parse(module.read_text("utf-8")))
        if isinstance(node, ast.Constant)
    )
    return [
        each if isinstance(each, str) else each.decode("latin-1") for each in constants if isinstance(each, str | bytes)
    ]


def is_said(words: str, sentences: list[str]) -> bool:
    """True if one of the sentences contains these words; an ellipsis stands for any words between them."""
    parts = [part.strip() for part in words.split("…") if part.strip()]
    wanted = re.compile(".*".join(map(re.escape, parts)), re.DOTALL)
    return bool(parts) and any(wanted.search(sentence) for sentence in sentences)


@pytest.mark.parametrize("language", ["en", "fr"])
def test_what_the_troubleshooting_page_quotes_is_said(language: Language) -> None:
    """Letter by letter, no-break spaces too: a person who searches the page for what is on the screen must find it."""
    to_programs, _, _, *to_people = chapters(text(GUIDES / language / "troubleshooting.md"))
    answers, sentences = {*PLAIN.findall(to_programs), *LOGGED.findall(to_programs)}, told(language)
    english = literals()
    assert len(answers) == 20
    assert [words for words in answers if not is_said(words, english)] == []
    found = [words for chapter in to_people for words in quoted(chapter) if not words.startswith("config.yaml")]
    for others in (
        "No module named 'bridge'",  # from Python, in a virtual environment of another Python
        "bad interpreter",  # from the shell, in an environment that was moved
        "failed to map segment from shared object",  # from the C library, where nothing may be executed
    ):
        found.remove(others)
    assert len(found) == 87
    assert [words for words in found if not is_said(words, sentences)] == []


@pytest.mark.parametrize("language", ["en", "fr"])
def test_what_a_scanner_leaves_in_the_log_is_said(language: Language) -> None:
    (chapter,) = (part for part in chapters(text(GUIDES / language / "office-server.md")) if "Scanners" in part[:10])
    quotes, english = PLAIN.findall(chapter), literals()
    assert len(quotes) == 4
    assert [words for words in quotes if not is_said(words, english)] == []


@pytest.mark.parametrize("language", ["en", "fr"])
@pytest.mark.parametrize(
    "name",
    [
        *("first-steps.md", "maintenance.md", "several-users.md", "shared-mailbox.md"),
        *("terminal-server.md", "office-server.md"),
    ],
)
def test_labels_and_sentences_on_the_way_are_the_programs(name: str, language: Language) -> None:
    """Every label in italics is one that mail-bridge, Windows or a provider shows."""
    page = re.sub(r"[ \n]+", " ", CODE.sub("", text(GUIDES / language / name)).replace("**", ""))
    ours = [italic for _, italic in QUOTED.findall(page) if italic not in FOREIGN]
    sentences = [sentence.replace("{address}", "alice@contoso.com") for sentence in told(language)]
    assert ours
    assert [words for words in ours if not is_said(words, sentences)] == []


@pytest.mark.parametrize(("name", "choice"), [("google.md", Choice.GOOGLE), ("microsoft.md", Choice.MICROSOFT)])
def test_the_number_to_answer_is_that_of_the_provider(name: str, choice: Choice) -> None:
    pages = [text(GUIDES / language / name) for language in ("en", "fr")]
    numbers = [re.findall(r"`mail-bridge init`, (?:answer|réponse) (\d+)", page) for page in pages]
    assert numbers == [[str(list(Choice).index(choice) + 1)]] * 2


@pytest.mark.parametrize(
    ("language", "words"),
    [
        ("en", f"mail-bridge warns {WARN_DAYS} days ahead, and daily from {URGENT_DAYS} days ahead on"),
        ("fr", f"mail-bridge prévient {WARN_DAYS} jours avant, puis chaque jour à partir de {URGENT_DAYS} jours avant"),
    ],
)
def test_the_days_on_which_a_secrets_end_is_warned_of_are_the_programs(language: Language, words: str) -> None:
    """On the page about the secret, and in the file that `init` writes."""
    assert words in " ".join(text(GUIDES / language / "microsoft.md").split())
    assert is_said(words, told(language))


@pytest.mark.parametrize("language", ["en", "fr"])
def test_what_a_providers_page_says_is_what_we_explain_it_as(language: Language) -> None:
    (chapter,) = chapters(text(GUIDES / language / "troubleshooting.md"))[2:3]
    for words in quoted(chapter):
        code = words.removeprefix("AADSTS")
        assert words in REGISTRATION or any(explanations("", "", [int(code)], "")), words
    assert len(quoted(chapter)) == 20


@pytest.mark.parametrize("page", [page for page in PAGES if page.parent.name == "fr"], ids=lambda page: page.name)
def test_french_has_a_no_break_space_where_it_belongs(page: Path) -> None:
    prose = CODE.sub("`", text(page))
    assert re.findall(r".{0,20}(?: [:;?!»](?!\S)|« |[^\s:/?!)*`][;?!»](?!\S)).{0,20}", prose) == []


@pytest.mark.parametrize("language", ["en", "fr"])
def test_the_list_of_mailboxes_in_the_first_steps_is_read(language: str) -> None:
    (listing,) = (
        body for _, body in FENCE.findall(text(GUIDES / language / "first-steps.md")) if ";" in body and "@" in body
    )
    roster = read_roster(listing.encode(), ["gmail", "office365"])
    assert roster.problems == ()
    assert [account.sign_in_as for account in roster.accounts] == ["", "bob@contoso.com"]


def units() -> list[tuple[str, str]]:
    """The systemd units of the guides, and those of `service install` for a privileged port and for another."""
    program = ["/opt/mail-bridge/.venv/bin/mail-bridge", "run"]
    made = [
        (str(port), Systemd(program, Path("/etc/mail-bridge/config.yaml"), [("localhost", port)]).definition())
        for port in (143, 1143)
    ]
    return [*blocks("ini"), *made]


@pytest.mark.parametrize(("name", "unit"), units())
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
    assert len(units()) == 4
