"""What the pages do with the mail programs that ask for a mailbox; the whole sequence: tests/e2e/test_first_use.py."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from bridge.advice.said import Said, as_said, said
from bridge.errors import AuthorizationFailed, BridgeError, LoginRefused, StoreUnavailable
from bridge.model import Ends, WaitingProgram
from bridge.ui import i18n
from bridge.ui.web.waiting_programs import only_own, sentence, with_password
from tests.fakes_control import FakeControl
from tests.forms import form_of
from tests.ui.web.conftest import Browser, browsing, serving
from tests.ui.web.test_callback import ALICE, begun
from tests.ui.web.test_elsewhere import begin_with_code, until_done

OWN = WaitingProgram("n1", "alice", "OUTLOOK.EXE", 12.0, is_own=True, has_password=True)
COLLEAGUES = WaitingProgram("n2", "bob", "", 185.0, is_own=False, has_password=True)
KNOWN = WaitingProgram("n3", "alice", "OUTLOOK.EXE", 60.0, is_own=True, has_password=False)


class People:
    """Visitors for whom a test sets which mail programs ask for a mailbox."""

    def __init__(self, *programs: WaitingProgram) -> None:
        self.found = programs
        self.kept: list[str] = []
        self.problem: LoginRefused | None = None
        self.unknown: BridgeError | None = None
        self.reason = as_said("")

    async def waiting_programs(self, address: str, browser: Ends | None) -> tuple[WaitingProgram, ...]:
        assert browser is not None
        assert browser.client[0] == browser.ours[0] == "127.0.0.1"
        if self.unknown is not None:
            raise self.unknown
        return self.found

    async def keep(self, address: str, key: str) -> None:
        if self.problem is not None:
            raise self.problem
        self.kept.append(key)
        self.found = ()

    async def why_none(self, address: str) -> Said:
        return self.reason


class Busy(People):
    """Answers the second request only once the choice of the first one is stored."""

    is_busy = False

    def __init__(self, *programs: WaitingProgram) -> None:
        super().__init__(*programs)
        self.asked = 0
        self.both_have_asked, self.first_is_kept = asyncio.Event(), asyncio.Event()

    async def waiting_programs(self, address: str, browser: Ends | None) -> tuple[WaitingProgram, ...]:
        self.asked += self.is_busy
        if self.asked == 2:
            self.both_have_asked.set()
            await self.first_is_kept.wait()
        return await super().waiting_programs(address, browser)

    async def keep(self, address: str, key: str) -> None:
        await self.both_have_asked.wait()
        await super().keep(address, key)
        self.first_is_kept.set()


def test_who_has_asked_in_both_languages() -> None:
    assert sentence(OWN) == "OUTLOOK.EXE, run by the user alice, just now"
    assert sentence(COLLEAGUES) == "a program of the user bob, 3 minutes ago"
    assert sentence(WaitingProgram("n", "", "", 60.0, False, True)) == "a program on this computer, 1 minute ago"
    i18n.speak("fr")
    try:
        assert sentence(COLLEAGUES) == "un programme de l’utilisateur bob, il y a 3 minutes"
    finally:
        i18n.speak("en")


def test_only_one_that_is_the_persons_own_needs_no_question() -> None:
    assert only_own(with_password([OWN, KNOWN])) is OWN
    assert only_own(with_password([COLLEAGUES])) is None
    assert only_own(with_password([OWN, COLLEAGUES])) is None
    assert only_own(with_password([KNOWN])) is None
    assert only_own(with_password([])) is None


async def returned(browser: Browser, control: FakeControl) -> str:
    """Complete a sign-in. Returns: the page after it."""
    return await browser.text(f"/?code=CANARY-c&state={await begun(control)}")


def test_names_are_cut_and_only_so_many_programs_are_told() -> None:
    assert (
        sentence(WaitingProgram("n", "u" * 61, "p" * 61, 0.0, True, True))
        == f"{'p' * 60}, run by the user {'u' * 60}, just now"
    )
    assert sentence(WaitingProgram("n", "", "crm", 0.0, True, True)) == "a program on this computer, just now"


async def test_a_page_asks_about_so_many_and_about_none_while_the_store_does_not_say() -> None:
    people, control = People(*(replace(COLLEAGUES, name=f"n{n}") for n in range(9))), FakeControl(ALICE)
    async with serving(control, visitors=people) as browser:
        assert (await returned(browser, control)).count('type="radio"') == 8
        people.unknown = StoreUnavailable("locked keyring")
        assert "is signed in" in await returned(browser, control)


async def test_the_sign_in_page_names_the_programs_that_its_browser_may_know_of() -> None:
    people = People(KNOWN, COLLEAGUES)
    async with serving(FakeControl(ALICE), visitors=people) as browser:
        page = await browser.text(f"/sign-in/{ALICE}")
        assert [sentence(program) in page for program in (KNOWN, COLLEAGUES)] == [True, True]
        people.found = ()
        assert "Asked for by" not in await browser.text(f"/sign-in/{ALICE}")


@pytest.mark.parametrize("programs", [(COLLEAGUES,), (OWN, COLLEAGUES)])
async def test_a_page_with_a_question_has_nothing_chosen(programs: tuple[WaitingProgram, ...]) -> None:
    people = People(*programs, KNOWN)
    control = FakeControl(ALICE)
    async with serving(control, visitors=people) as browser:
        page = await returned(browser, control)
    assert "Which mail program is yours?" in page
    assert "close this page" not in page
    assert page.count('type="radio"') == len(programs)
    assert "checked" not in page
    assert people.kept == []


async def test_a_password_that_cannot_be_kept_does_not_undo_the_sign_in() -> None:
    people = People(OWN)
    people.problem = LoginRefused("another one")
    control = FakeControl(ALICE)
    async with serving(control, visitors=people) as browser:
        page = await returned(browser, control)
        path, field = await question(browser, control)
        status, text = await answered(browser, path, {"form": field, "program": OWN.key})
    assert "You are signed in" in page
    assert "Which mail program is yours?" in page
    assert status == 503
    assert "another one" in text


# --- who may answer the question ------------------------------------------------------------------------------------


async def question(browser: Browser, control: FakeControl) -> tuple[str, str]:
    """Complete a sign-in. Returns: path of the page with the question, and its form's field."""
    async with browser.get(f"/?code=CANARY-c&state={await begun(control)}") as response:
        path, text = response.url.path, await response.text()
    return path, form_of(text)


async def answered(browser: Browser, path: str, form: dict[str, str], **headers: str) -> tuple[int, str]:
    async with browser.post(path, data=form, headers={"Origin": "null", **headers}) as response:
        return response.status, await response.text()


async def test_the_one_that_is_chosen_is_kept_and_nothing_else() -> None:
    people, control = People(COLLEAGUES, OWN, KNOWN), FakeControl(ALICE)
    async with serving(control, visitors=people) as browser:
        path, field = await question(browser, control)
        for program in ({}, {"program": ""}, {"program": "another"}, {"program": KNOWN.key}):
            status, text = await answered(browser, path, {"form": field} | program)
            assert status == 400
            assert "Please choose one of the programs." in text
        assert people.kept == []
        status, text = await answered(browser, path, {"form": field, "program": OWN.key})
    assert status == 200
    assert "password opens this mailbox from now on" in text
    assert people.kept == [OWN.key]


FORGOTTEN = said("the login to {address} was too long ago; let the mail program try again", address=ALICE)
REPLACED = said("{address} was given another local password in the meantime", address=ALICE)


@pytest.mark.parametrize(
    ("reason", "problem", "words"),
    [
        (FORGOTTEN, None, "was too long ago; let the mail program try again"),
        (REPLACED, None, "another local password"),
        (FORGOTTEN, StoreUnavailable("locked keyring"), "locked keyring"),
    ],
)
async def test_an_answer_that_cannot_be_kept_any_more_is_not_taken_for_one(
    reason: Said, problem: BridgeError | None, words: str
) -> None:
    people, control = People(COLLEAGUES), FakeControl(ALICE)
    async with serving(control, visitors=people) as browser:
        path, field = await question(browser, control)
        people.found, people.unknown, people.reason = (), problem, reason
        status, text = await answered(browser, path, {"form": field, "program": COLLEAGUES.key})
        reloaded = await browser.text(path)
    assert status == 503
    for page in (text, reloaded):
        assert words in page
        assert "will work at its next attempt" not in page
    assert people.kept == []


async def test_an_answer_that_is_sent_twice_is_kept_once() -> None:
    people, control = People(COLLEAGUES), FakeControl(ALICE)
    async with serving(control, visitors=people) as browser:
        path, field = await question(browser, control)
        for _ in range(2):
            status, text = await answered(browser, path, {"form": field, "program": COLLEAGUES.key})
            assert status == 200
            assert "password opens this mailbox from now on" in text
    assert people.kept == [COLLEAGUES.key]


async def test_an_answer_that_overtakes_the_first_is_told_what_was_kept() -> None:
    """A double click: the first request is being stored while the second looks up what there is to choose from."""
    people, control = Busy(COLLEAGUES), FakeControl(ALICE)
    async with serving(control, visitors=people) as browser:
        path, field = await question(browser, control)
        people.is_busy = True
        async with asyncio.TaskGroup() as group:
            form = {"form": field, "program": COLLEAGUES.key}
            answers = [group.create_task(answered(browser, path, form)) for _ in range(2)]
            async with asyncio.timeout(20):
                await people.both_have_asked.wait()
    for answer in answers:
        status, text = answer.result()
        assert status == 200
        assert "password opens this mailbox from now on" in text
    assert people.kept == [COLLEAGUES.key]


async def test_only_the_browser_with_the_page_and_its_form_is_listened_to() -> None:
    people, control = People(COLLEAGUES), FakeControl(ALICE)
    program = {"program": COLLEAGUES.key}
    async with serving(control, visitors=people) as browser, browsing(browser.port) as other:
        path, field = await question(browser, control)
        assert len(path.removeprefix("/done/")) == 22, "128 bits"
        for form in ({}, {"form": ""}, {"form": "0" * 64}):
            assert (await answered(browser, path, form | program))[0] == 403
        for origin in ("http://evil.example", "http://localhost:9999"):
            assert (await answered(browser, path, {"form": field} | program, Origin=origin))[0] == 403
        assert (await answered(other, path, {"form": field} | program))[0] == 403, "without this browser's cookie"
        theirs = await other.form(f"/sign-in/{ALICE}")
        for guess in ("/done/another", "/done/x" + path.removeprefix("/done/"), f"/sign-in/{ALICE}"):
            status, text = await answered(other, guess, {"form": theirs} | program)
            assert status == 404 or "opens this mailbox" not in text
        assert people.kept == []


async def test_a_sign_in_that_has_failed_keeps_nothing_and_asks_nothing() -> None:
    people, control = People(OWN, COLLEAGUES), FakeControl(ALICE)
    async with serving(control, visitors=people) as browser:
        form = await browser.form(f"/sign-in/{ALICE}")
        state = await begun(control)
        control.problem = AuthorizationFailed("bob has signed in, not alice.", code="wrong_person")
        async with browser.get(f"/?code=CANARY-c&state={state}") as response:
            path, text = response.url.path, await response.text()
        assert "Somebody else has signed in" in text
        assert "Which mail program is yours?" not in text
        assert (await answered(browser, path, {"form": form, "program": OWN.key}))[0] == 404
    assert people.kept == []


async def test_a_code_that_was_entered_somewhere_keeps_nothing_and_asks_nothing() -> None:
    """Nobody knows whether the person who asked for the code is the one who entered it."""
    people, control = People(OWN), FakeControl(ALICE)
    async with serving(control, visitors=people) as browser:
        path, _ = await begin_with_code(browser, control)
        await control.following.wait()
        control.completed_elsewhere(ALICE)
        text = await until_done(browser, path)
        assert "is signed in" in text
        assert "Which mail program is yours?" not in text
        async with browser.get(path) as response:
            done = response.url.path
        form = {"form": await browser.form(f"/sign-in/{ALICE}"), "program": OWN.key}
        assert (await answered(browser, done, form))[0] == 404
    assert people.kept == []
