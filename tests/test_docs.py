"""README, docs and the program's messages: every file that they name is there, every command and option exists."""

from __future__ import annotations

import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from babel.messages.pofile import read_po

from bridge.accounts import authenticator, failed_logins, passwords, pending_logins, sign_in_prompts
from bridge.hooks import dispatch
from bridge.host import local_tls
from bridge.oauth import limits as limits_of_providers
from bridge.oauth import retry_after
from bridge.protocols import proxy_header, server
from bridge.protocols.imap import server as imap
from bridge.relay import balancers, frontend, limits, listener, session, smtp_frontend, splice, welcome
from bridge.tokens import authorizations, refresh, renewal, service, sign_in_limits
from bridge.ui.cli.main import main
from bridge.ui.i18n import LOCALE
from bridge.ui.web import connection, console_sockets, guards, mine, site
from bridge.workers import link, logins, pool
from tests.servers.packages import needs

ROOT = Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), ROOT / "config.example.yaml", *ROOT.glob("docs/**/*.md")]
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]
LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")
ANCHOR, HEADING = re.compile(r"\]\(([^)#\s:]*)#([^)\s]+)\)"), re.compile(r"^#+ (.*)$", re.MULTILINE)
FILE = re.compile(r"(?<![\w/.\\-])(?:bridge|tests|docs|scripts)/[\w/.-]*\w")
INSTALLED = r"\.venv/bin/|\.venv\\Scripts\\"
COMMAND = re.compile(rf"(?:(?<![\w/.\\-])|{INSTALLED})(?:mail-bridge|scripts[/\\]run\.py) ([^`\n|.:;()«»“”]+)")
OPTION = re.compile(r"--[a-z][a-z-]+")
RATIO = re.compile(r"\((\d\.\d\d) x\)")
INVENTED = {"scripts/tell.sh"}
"""Example files that an administrator would write."""


def text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_link_and_every_file_that_is_named_is_there(page: Path) -> None:
    linked = [page.parent / target for target in LINK.findall(text(page)) if "://" not in target]
    assert [target for target in linked if not target.exists()] == []
    needs("git")
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    named = {name for name in FILE.findall(text(page)) if not (ROOT / name).exists()} - INVENTED
    assert [name for name in named if f"\n{name}" not in tracked] == []


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes from headings."""
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in HEADING.findall(text(page))}


def test_every_part_of_a_page_that_is_linked_to_is_there() -> None:
    linked = [(page, *found) for page in PAGES for found in ANCHOR.findall(text(page))]
    assert linked
    missing = [
        (page.name, file, part)
        for page, file, part in linked
        if part not in anchors(page.parent / file if file else page)
    ]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_no_paragraph_says_a_sentence_twice(page: Path) -> None:
    for paragraph in re.split(r"\n\s*\n", text(page)):
        said = [part for part in re.split(r"(?<=[.;])\s+", " ".join(paragraph.split())) if len(part) > 40]
        assert sorted(set(said)) == sorted(said)


def sentences() -> Iterator[str]:
    """The program's sentences, in both languages."""
    with (LOCALE / "fr" / "LC_MESSAGES" / "mail-bridge.po").open("rb") as stream:
        for entry in read_po(stream):
            for told in (entry.id, entry.string):
                yield from [told] if isinstance(told, str) else told or ()


def unknown(quoted: str) -> list[str]:
    """The words and options of this command line that mail-bridge does not have."""
    command: click.Command = main
    options = _options(command)
    for word in quoted.split():
        if isinstance(command, click.Group) and word in command.list_commands(click.Context(command)):
            found = command.get_command(click.Context(command), word)
            assert found is not None
            command = found
            options |= _options(command)
        elif isinstance(command, click.Group) and command is not main:
            return [word]
    return [option for option in OPTION.findall(quoted) if option not in options]


def _options(command: click.Command) -> set[str]:
    return {"--help", *(name for parameter in command.params for name in parameter.opts)}


def commands(said: str) -> list[str]:
    return [found.strip() for found in COMMAND.findall(said)]


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_option_of_a_command_on_a_page_exists(page: Path) -> None:
    assert [(quoted, wrong) for quoted in commands(text(page)) if (wrong := unknown(quoted))] == []


def test_every_option_of_a_command_that_the_program_names_exists() -> None:
    quoted = [command for sentence in sentences() for command in commands(sentence)]
    assert len(quoted) > 40
    assert [(command, wrong) for command in quoted if (wrong := unknown(command))] == []


def test_a_command_that_does_not_exist_is_found() -> None:
    assert unknown("accounts password ADDRESS --rotate") == []
    assert unknown("accounts password ADDRESS --online") == ["--online"]
    assert unknown("accounts passwd ADDRESS") == ["passwd"]


def every_command(group: click.Group, *before: str) -> Iterator[tuple[str, click.Command]]:
    """Each command as it is typed, and the command itself; `worker` is not among them: only the bridge starts it."""
    context = click.Context(group)
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        if isinstance(found, click.Group):
            yield from every_command(found, *before, name)
        elif found is not None:
            yield " ".join((*before, name)), found


def test_the_reference_has_each_command_with_its_options() -> None:
    lines, missing = text(ROOT / "docs" / "reference.md").splitlines(), []
    for name, command in every_command(main):
        rows = "".join(line for line in lines if re.match(rf"\| `mail-bridge {name}\b", line))
        own = {each for each in _options(command) - _options(main) - {"--json"} if each.startswith("--")}
        missing += [(name, option) for option in own if option not in rows] if rows else [(name, "")]
    assert missing == []


def test_each_bound_of_the_threat_model_is_where_it_says() -> None:
    rows = [line.split("|")[3] for line in text(ROOT / "docs" / "security.md").splitlines() if line.count("|") == 4]
    named = [re.findall(r"`([^`]+)`", place) for place in rows if ".py`" in place]
    assert len(named) >= 6
    missing = []
    for names in named:
        content = ""
        for name in names:
            if name.endswith(".py"):
                content = text(ROOT / "bridge" / name)
            elif not re.search(rf"^{name}\b", content, re.MULTILINE):
                missing.append(name)
    assert missing == []


def test_the_layers_are_those_that_are_checked() -> None:
    contracts = tomllib.loads(text(ROOT / "pyproject.toml"))["tool"]["importlinter"]["contracts"]
    layers = [layer.replace("bridge.", "") for layer in contracts[0]["layers"]]
    line = next(line for line in text(ROOT / "docs" / "architecture.md").splitlines() if " › " in line)
    shown = [" | ".join(sorted(layer.split(" | "))) for layer in line.strip().split(" › ")]
    assert shown == [" | ".join(sorted(layer.split(" | "))) for layer in layers]


def test_the_figures_in_sentences_of_the_threat_model_are_the_programs() -> None:
    page = " ".join(text(ROOT / "docs" / "security.md").split())
    in_words: dict[float, str] = {2: "two", 5: "five", 8: "eight"}
    for sentence in (
        f"second bridge on the same store follows within {in_words[passwords.RECHECK_AFTER]} seconds",
        f'Every "no" takes a multiple of {authenticator.BEAT * 1000:.0f} ms',
        f"- At least {authenticator.FIRST_USE_SHORTEST} characters",
        f"it lives for {pending_logins.LIFE / 60:.0f} minutes, {in_words[pending_logins.PASSWORDS]} passwords for each "
        "OS user and "
        f"{in_words[pending_logins.CALLERS]} users for each address",
        f"{sign_in_prompts.ADDRESSES} addresses for each of {sign_in_prompts.USERS:,} users, for a day",
        f"{mine.SHARE} questions of one user wait for news, {mine.WAITING} in all",
        f"| {console_sockets.VISITORS}, of {console_sockets.FIRST_WORDS // 1024} KiB |",
        f" {connection.HEAD_LIMIT // 1024} KiB for its line and headers together, "
        f"{site.BODY_LIMIT // 1024} KiB for its body",
        f"need the link opened within {guards.FRESH_SECONDS / 60:.0f} minutes",
        f"v1) or {proxy_header.LONGEST_BODY + 16:,} (v2), within {balancers.HEADER_SECONDS:.0f} seconds",
    ):
        assert sentence in page
    assert "works once, for a minute." in page
    assert guards.TICKET_SECONDS == 60
    assert sign_in_prompts.KEPT == 24 * 3600


def test_the_figures_of_the_threat_model_are_the_programs() -> None:
    """The limits before a login, and for how long a worker remembers a login."""
    assert server.COMMANDS_LIMIT == smtp_frontend.COMMANDS_BEFORE_LOGIN
    most, share = limits.UNAUTHENTICATED_CONNECTIONS, limits.SHARE
    page = " ".join(text(ROOT / "docs" / "security.md").split())
    for sentence in (
        f"| {most} in all; from {most // 2} on, {share} for each OS user or other machine",
        f"| {limits.CONSOLE_CONNECTIONS:,} in all, at most a quarter of the descriptors; from half on, "
        f"{share} for each OS user |",
        f"| {sign_in_limits.SHARE} for each OS user in {sign_in_limits.SHARE_SECONDS / 60:.0f} minutes |",
        f"| {frontend.LOGIN_SECONDS:.0f} s to a complete login, our own work not counted; before it "
        f"{welcome.HANDSHAKE_SECONDS:.0f} s for implicit TLS, {balancers.HEADER_SECONDS:.0f} s for a balancer's header",
        f"| refused logins on one connection | {session.LOGINS_PER_CONNECTION} |",
        f"| commands | {server.COMMANDS_LIMIT} (IMAP, POP3, SMTP) |",
        f"| {server.LINE_LIMIT:,} (IMAP, POP3); SMTP {smtp_frontend.COMMAND_LIMIT}, "
        f"{smtp_frontend.LINE_LIMIT:,} for AUTH |",
        f"| {imap.LITERALS_LIMIT} of {imap.LITERAL_LIMIT:,} octets in one command |",
        f"A worker remembers a right login for {logins.REMEMBERED_SECONDS / 60:.0f} minutes",
        f"it is remembered for {logins.CALLER_SECONDS / 60:.0f} minutes, for the programs of that OS user alone",
    ):
        assert sentence.replace(" 5 minutes", " five minutes").replace(" 10 minutes", " ten minutes") in page


NAMED_TEST = re.compile(r"tests/[\w/]+|\btest_\w+")
PYTHON = {path: path.read_text("utf-8") for path in (ROOT / "tests").rglob("*.py")}


def said_of_tests() -> Iterator[tuple[str, list[str]]]:
    """In the threat model: each text in quotes beside names of test files, and these names."""
    page = re.sub(r"`[^`]*`", lambda code: code[0].replace("*", ""), text(ROOT / "docs" / "security.md"))
    prose = re.findall(r"(?<!\*)\*([^*]*)\*(?!\*)", page)
    cells = [line.split("|")[-2] for line in page.splitlines() if line.startswith("|")]
    for part in (*prose, *cells):
        files = [found.rpartition("/")[2] for found in NAMED_TEST.findall(part)]
        for words in re.findall(r'"([^"]+)"', " ".join(part.split())):
            if files:
                yield words, files


def names_in(files: list[str]) -> list[str]:
    """The names of all tests in these files or below these directories."""
    sources = (source for path, source in PYTHON.items() if {path.stem, *path.parts} & set(files))
    return [name for source in sources for name in re.findall(r"def (test_\w+)", source)]


def test_what_the_threat_model_quotes_of_its_tests_is_in_their_names() -> None:
    claims = list(said_of_tests())
    assert len(claims) > 50
    missing = [
        words
        for words, files in claims
        if not any(re.sub(r"\W+", "_", words.lower().replace("'", "")) in name for name in names_in(files))
    ]
    assert missing == []


def test_the_test_of_each_quirk_and_of_each_fault_is_there() -> None:
    quirks, faults = (text(ROOT / "docs" / page) for page in ("quirks.md", "testing.md"))
    rows = [line.split(" | ") for line in quirks.split("\n## ")[0].splitlines() if line.startswith("| ")]
    cells = (cell.strip(" |") for row in rows[1:] for cell in re.split("[,:]", row[3]))
    named = [cell for cell in cells if cell and "docs/" not in cell]
    (table,) = (part for part in faults.split("\n## ") if part.startswith("Each fault"))
    named += re.findall(r"\b(?:\w+/)?test_\w+|(?<=`)\w+_\w+(?=`)", table)
    assert len(named) > 100
    files = (path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob("*"))
    there = "\n".join((*files, *names_in(["tests"])))
    assert [each for each in named if each not in there] == []


def test_the_ratios_of_the_benchmarks_last_run_are_those_of_its_table() -> None:
    page = text(ROOT / "docs" / "performance.md")
    figures, trust = page.split("<!-- end of figures -->")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in trust.splitlines() if line.startswith("| ")]
    ratios = {row[0]: row[2] for row in rows[1:] if len(row) == 4 and re.fullmatch(r"\d\.\d\d", row[2])}
    assert len(ratios) == 11
    measured = {
        name: next(RATIO.findall(line)[0] for line in figures.splitlines() if line.startswith(f"| {name}"))
        for name in ratios
    }
    assert ratios == measured


def test_what_is_said_of_the_benchmarks_figures_is_what_its_table_has() -> None:
    """`scripts/bench.py --write` replaces the table alone."""
    figures, prose = text(ROOT / "docs" / "performance.md").split("<!-- end of figures -->")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in figures.splitlines() if line.startswith("| ")]
    ours = {row[0]: float(row[5]) for row in rows if re.fullmatch(r"[\d.]+", row[5])}
    for sentence in (
        f"in this run ({ours['At rest, after the first logins']} MiB where 50 are wanted",
        f"250 simultaneous logins were all in after {ours['… and the last of them is in after']:.1f} s",
    ):
        assert sentence in " ".join(prose.split())


def test_what_the_threat_model_says_of_guesses_and_certificates_is_what_the_program_does() -> None:
    page = " ".join(text(ROOT / "docs" / "security.md").split())
    in_words: dict[float, str] = {0.5: "half a second", 3: "three", 5: "five", 8: "eight", 10: "ten"}
    first, last, overlap = (
        failed_logins.FIRST_DELAY,
        failed_logins.LONGEST_DELAY,
        (local_tls.LIFE - local_tls.TURN).days,
    )
    for sentence in (
        f"not for the first {in_words[failed_logins.AT_ONCE]}, then {in_words[first]}, doubled up to {last:.0f} s; "
        "one is "
        f"forgotten every {failed_logins.FORGET_EVERY:.0f} s. At most {in_words[failed_logins.WAITING]} answers wait",
        f'is no guess, and its "no" waits {failed_logins.LONGEST_AGAIN:.0f} s at most',
        f"only {failed_logins.GUESSES} *different* passwords for a name, then one more every "
        f"{in_words[failed_logins.GUESS_EVERY / 60]} minutes ({24 * 3600 / failed_logins.GUESS_EVERY:.0f} a day)",
        f"Memory is bounded: {failed_logins.CALLERS} callers, {failed_logins.NAMES} names each",
        f"signs {in_words[local_tls.TURNS]} certificates of {local_tls.LIFE.days} days that follow each other (one key"
        f", each begins {overlap} days before the one before it ends)",
        f"RSA of {local_tls.KEY_BITS} bits",
    ):
        assert sentence in page


def test_the_figures_of_the_architecture_are_the_programs() -> None:
    page = " ".join(text(ROOT / "docs" / "architecture.md").split())
    in_words: dict[float, str] = {5: "five", 8: "eight", 10: "ten"}
    soonest, latest = (100 * share for share in (renewal.EARLIEST, renewal.EARLIEST + renewal.SPREAD))
    for sentence in (
        f"may end within the {in_words[listener.DRAIN_SECONDS]} seconds that all sessions have",
        f"ends after {splice.IDLE_SECONDS / 60:.0f} to {2 * splice.IDLE_SECONDS / 60:.0f}.",
        f"is saved first the next time, every {renewal.LOOK_EVERY:.0f} s,",
        f"gave no answer is left alone for {refresh.RETRY_AFTER:.0f} s, one that refuses our registration for "
        f"{refresh.REFUSED_RETRY_AFTER:.0f} s,",
        f"by whatever account or library; at most {retry_after.LONGEST / 60:.0f} minutes",
        f"with {soonest:.0f} to {latest:.0f} % of its life left",
        f"told `later` after {service.PATIENCE:.0f} seconds, the refresh waits for its answer up to a minute",
        f"verifier are made and kept for {in_words[authorizations.LIFE / 60]} minutes",
        f"for {in_words[guards.SESSION_SECONDS / 3600]} hours the list",
        f"| the same, within {guards.FRESH_SECONDS / 60:.0f} minutes |",
        f"each within {in_words[dispatch.SECONDS]} seconds",
        f"in lots (`workers.link`: {link.SOON_SECONDS} s or {link.SOON_MESSAGES} of them)",
        f"another one starts (after {pool.FIRST_PAUSE} s; up to {pool.LONGEST_PAUSE:.0f} if it dies at once",
    ):
        assert sentence in page
    assert limits_of_providers.Limits().answer == 60


IMPORTED = {
    "google-auth": ("google", "google_auth_oauthlib", "oauthlib"),
    "pillow": ("PIL",),
    "pydantic": ("pydantic", "pydantic_core"),
    "PyYAML": ("yaml",),
    "requests": ("requests", "urllib3"),
    "SQLAlchemy": ("sqlalchemy",),
}
"""Maps the names in the first decision's table to import names; the other libraries are imported by their own name."""


FOR_TYPES = re.compile(r"^if TYPE_CHECKING:\n(?:(?: .*)?\n)+", re.MULTILINE)
IMPORT = re.compile(r"^ *(?:from|import) (\w+)", re.MULTILINE)


def test_libraries_are_imported_where_their_table_says() -> None:
    page = text(ROOT / "docs" / "decisions" / "0001-dependencies.md")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if line.startswith("| ")]
    said = {re.split(r"[ ,]", row[0])[0]: re.findall(r"[\w/]+(?:\.py)?", row[2]) for row in rows[1:]}
    bridge = ROOT / "bridge"
    by_file = {
        path.relative_to(bridge): set(IMPORT.findall(FOR_TYPES.sub("", text(path)))) for path in bridge.rglob("*.py")
    }
    assert len(said) > 15
    unsaid = [
        (library, file.as_posix())
        for library, places in said.items()
        for file, imported in by_file.items()
        if imported & set(IMPORTED.get(library, (library,)))
        and not {file.as_posix(), *(parent.as_posix() for parent in file.parents)} & set(places)
    ]
    assert unsaid == []
