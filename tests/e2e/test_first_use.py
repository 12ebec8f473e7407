"""`local_password: first-use` when a colleague comes first: the whole story with the running program."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pytest

from tests.e2e.bridge import Bridge, Visitor, running
from tests.e2e.clients import PROTOCOLS
from tests.e2e.conftest import ALICE, CAROL, World
from tests.e2e.logins import is_accepted, log_in
from tests.servers.os_user import OsUser

pytestmark = pytest.mark.servers

OWN, TRAP = "CANARY-of-the-crm", "CANARY-of-the-colleague"
LATER = {"imap": "a1 NO [UNAVAILABLE]", "pop3": "-ERR [SYS/TEMP]", "smtp": "454 4.7.0"}


@pytest.fixture
def bridge(world: World, tmp_path: Path) -> Iterator[Bridge]:
    bridge = world.bridge(tmp_path)
    bridge.config["local_password"] = "first-use"
    with running(bridge):
        yield bridge


def must_sign_in(bridge: Bridge, protocol: str, address: str) -> str:
    """The answer that a mail program gets."""
    page = f"http://localhost:{bridge.console_port}/sign-in/{address}"
    return f"{LATER[protocol]} Open {page} ({address} must sign in)"


def signed_in(bridge: Bridge, world: World, address: str) -> tuple[Visitor, str]:
    """The person signs in: the bridge's page, the provider, and back. Returns: the browser, and the page it shows."""
    visitor = bridge.browser()
    leaving = visitor.press(f"/sign-in/{address}")
    link = re.search(r'href="(https://[^"]+)"', leaving)
    assert link is not None, leaving
    back = world.provider.consent(link[1].replace("&amp;", "&"), address)
    return visitor, visitor.open(f"/?{urlencode(back)}")


def test_the_own_programs_password_is_kept_without_a_question(bridge: Bridge, world: World) -> None:
    for protocol in PROTOCOLS:
        assert log_in(None, bridge, protocol, ALICE, OWN).startswith(must_sign_in(bridge, protocol, ALICE))
    assert "once somebody has signed in" in bridge.run("accounts", "password", ALICE, code=1), "none is made by a look"
    page = bridge.browser().open(f"/sign-in/{ALICE}")
    assert re.search(r"\S+, run by the user root, (just now|\d+ minutes? ago)", page), page
    _, done = signed_in(bridge, world, ALICE)
    assert "Your mail program's password opens this mailbox from now on" in done, done
    for protocol in PROTOCOLS:
        assert is_accepted(log_in(None, bridge, protocol, ALICE, OWN))
        assert not is_accepted(log_in(None, bridge, protocol, ALICE, TRAP))
    assert "only a hash" in bridge.run("accounts", "password", ALICE, code=1)
    bridge.stop()
    bridge.start()
    assert is_accepted(log_in(None, bridge, "imap", ALICE, OWN)), "it is in the store"
    new = bridge.run("accounts", "password", ALICE, "--rotate").strip()
    for password in (new, OWN):
        assert is_accepted(log_in(None, bridge, "imap", ALICE, password)), "both, for a week"
    for file in bridge.directory.rglob("*"):
        if file.is_file() and file.name != "config.yaml":
            assert OWN.encode() not in file.read_bytes(), file
    assert OWN not in bridge.log


def test_a_colleague_who_comes_first_gets_nothing(bridge: Bridge, world: World, colleague: OsUser) -> None:
    assert log_in(colleague, bridge, "imap", CAROL, TRAP).startswith(must_sign_in(bridge, "imap", CAROL))
    # Carol signs in before her own program has tried: the page names the colleague's, and keeps no password by itself.
    visitor, done = signed_in(bridge, world, CAROL)
    assert "Which mail program is yours?" in done
    assert re.search(rf"run by the user {colleague.name}, [^<]*\s*<em>\(not run by you\)</em>", done), done
    assert "checked" not in done
    assert not is_accepted(log_in(colleague, bridge, "imap", CAROL, TRAP))
    (status,) = [one for one in bridge.json("accounts", "list") if one["address"] == CAROL]
    assert (status["state"], status["diagnosis"]["key"]) == ("sign-in", "sign_in.password")
    # Now her own program tries; the same page shows both, and she chooses hers.
    assert log_in(None, bridge, "pop3", CAROL, OWN).startswith(must_sign_in(bridge, "pop3", CAROL))
    page = visitor.reload()
    choices = dict(re.findall(r'name="program" value="([\w-]+)" required> ([^<]*)', page))
    (mine,) = [name for name, who in choices.items() if "user root" in who]
    assert len(choices) == 2
    kept = visitor.send({"program": mine})
    assert "password opens this mailbox from now on" in kept
    assert "Which mail program is yours?" not in kept
    for protocol in PROTOCOLS:
        assert is_accepted(log_in(None, bridge, protocol, CAROL, OWN))
        assert not is_accepted(log_in(colleague, bridge, protocol, CAROL, TRAP))
    (status,) = [one for one in bridge.json("accounts", "list") if one["address"] == CAROL]
    assert status["state"] == "ready"


def test_nobody_else_answers_the_question(bridge: Bridge, world: World, colleague: OsUser) -> None:
    """Only the browser that has brought the sign-in knows the page's name and its form."""
    log_in(colleague, bridge, "imap", ALICE, TRAP)
    visitor, page = signed_in(bridge, world, ALICE)
    name = re.search(r'name="program" value="([\w-]+)"', page)
    assert name is not None
    path = urlsplit(visitor.at).path
    port = bridge.console_port
    for where in (path, "/done/another", f"/sign-in/{ALICE}"):
        answer = colleague.run(
            "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}",
            "-d", f"program={name[1]}&form=0", "-H", "Origin: null", f"http://localhost:{port}{where}",
        )  # fmt: skip
        assert answer.stdout in {"403", "404"}, (where, answer.stdout)
    assert not is_accepted(log_in(colleague, bridge, "imap", ALICE, TRAP))


def test_a_password_that_the_administrator_sets_meanwhile_is_what_the_page_tells_of(
    bridge: Bridge, world: World, colleague: OsUser
) -> None:
    log_in(colleague, bridge, "imap", ALICE, TRAP)
    visitor, page = signed_in(bridge, world, ALICE)
    assert "Which mail program is yours?" in page, page
    bridge.run("accounts", "password", "--rotate", ALICE)
    after = visitor.reload()
    assert f"{ALICE} was given another local password in the meantime" in after, after
    assert "too long ago" not in after


def test_without_first_use_the_page_tells_only_whose_program_it_is(
    world: World, tmp_path: Path, colleague: OsUser
) -> None:
    with running(world.bridge(tmp_path)) as bridge:
        password = bridge.password(CAROL)
        log_in(colleague, bridge, "imap", CAROL, password)
        nothing = bridge.browser().open(f"/sign-in/{CAROL}")
        assert "Asked for by" not in nothing, "what a colleague's programs do is not everybody's to know"
        theirs = colleague.run("curl", "-s", f"http://localhost:{bridge.console_port}/sign-in/{CAROL}")
        assert re.search(rf"\S+, run by the user {colleague.name}, (just now|\d+ minutes? ago)", theirs.stdout)
        assert log_in(None, bridge, "imap", CAROL, password).startswith("a1 NO [UNAVAILABLE]")
        assert "run by the user root" in bridge.browser().open(f"/sign-in/{CAROL}")
