"""What the pages do with the programs that want a mailbox; the whole story is in tests/e2e/test_first_use.py."""

from __future__ import annotations

import pytest

from bridge.errors import LoginRefused
from bridge.model import Ends, Wish
from bridge.ui import i18n
from bridge.ui.web.wishing import only_own, sentence
from tests.fakes_control import FakeControl
from tests.ui.web.conftest import Browser, serving
from tests.ui.web.test_callback import ALICE, begun

OWN = Wish("n1", "alice", "OUTLOOK.EXE", 12.0, is_own=True, has_password=True)
COLLEAGUES = Wish("n2", "bob", "", 185.0, is_own=False, has_password=True)
KNOWN = Wish("n3", "alice", "OUTLOOK.EXE", 60.0, is_own=True, has_password=False)


class People:
    """Visitors whose wishes a test sets."""

    def __init__(self, *wishes: Wish) -> None:
        self.found = wishes
        self.kept: list[str] = []
        self.problem: LoginRefused | None = None

    async def wishes(self, address: str, browser: Ends | None) -> tuple[Wish, ...]:
        assert browser is not None
        assert browser.client[0] == browser.ours[0] == "127.0.0.1"
        return self.found

    async def keep(self, address: str, name: str) -> None:
        if self.problem is not None:
            raise self.problem
        self.kept.append(name)
        self.found = ()


def test_who_has_asked_in_both_languages() -> None:
    assert sentence(OWN) == "OUTLOOK.EXE, run by the user alice, just now"
    assert sentence(COLLEAGUES) == "a program of the user bob, 3 minutes ago"
    assert sentence(Wish("n", "", "", 60.0, False, True)) == "a program on this computer, 1 minute ago"
    i18n.speak("fr")
    try:
        assert sentence(COLLEAGUES) == "un programme de l’utilisateur bob, il y a 3 minutes"
    finally:
        i18n.speak("en")


def test_only_one_that_is_the_persons_own_needs_no_question() -> None:
    assert only_own([OWN, KNOWN]) is OWN
    assert only_own([COLLEAGUES]) is None
    assert only_own([OWN, COLLEAGUES]) is None
    assert only_own([KNOWN]) is None
    assert only_own([]) is None


async def returned(browser: Browser, control: FakeControl) -> str:
    """The page after a sign-in."""
    return await browser.text(f"/?code=CANARY-c&state={await begun(control)}")


@pytest.mark.parametrize("wishes", [(COLLEAGUES,), (OWN, COLLEAGUES)])
async def test_a_page_with_a_question_has_nothing_chosen(wishes: tuple[Wish, ...]) -> None:
    people = People(*wishes)
    control = FakeControl(ALICE)
    async with serving(control, visitors=people) as browser:
        page = await returned(browser, control)
    assert "Which mail program is yours?" in page
    assert page.count('type="radio"') == len(wishes)
    assert "checked" not in page
    assert people.kept == []


async def test_a_password_that_cannot_be_kept_does_not_undo_the_sign_in() -> None:
    people = People(OWN)
    people.problem = LoginRefused("another one")
    control = FakeControl(ALICE)
    async with serving(control, visitors=people) as browser:
        page = await returned(browser, control)
    assert "You are signed in" in page
    assert "Which mail program is yours?" in page
