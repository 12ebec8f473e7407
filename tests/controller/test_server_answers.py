"""What mail servers answer to mail programs and to trials: which answers are trouble, for how long, and who is told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bridge.advice.diagnosis import Diagnosis
from bridge.controller.server_answers import ABANDONED_SECONDS, LASTING_SECONDS, PASSED_SECONDS, ServerAnswers
from bridge.errors import BridgeError, MailboxNotOpened, UpstreamRefused, UpstreamUnavailable
from bridge.model import Endpoint, Protocol, TlsMode
from bridge.notices import Forgotten, MailServerAnswered, Notice, NoticeBus
from bridge.relay.server_check import ServerCheck
from tests.clocks import ManualClock
from tests.tokens.fakes import ALICE

IMAP, POP3, SMTP = Protocol.IMAP, Protocol.POP3, Protocol.SMTP
ACCOUNT = replace(ALICE, endpoints={name: Endpoint("mail.example.com", 1, TlsMode.IMPLICIT) for name in Protocol})
OFF = Diagnosis.of("mail.smtp_off_mailbox", "535 5.7.139", mailbox=ACCOUNT.address)
FULL = Diagnosis.of("mail.full", "NO [OVERQUOTA]", mailbox=ACCOUNT.address)


def refused(diagnosis: Diagnosis = OFF) -> BridgeError:
    return UpstreamRefused("no", diagnosis=diagnosis)


def busy(words: str = "NO busy") -> BridgeError:
    return UpstreamUnavailable("busy", diagnosis=Diagnosis.of("mail.busy", words))


class World:
    """One account's mail programs and trials, on a clock that the test sets."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.bus = NoticeBus()
        self.answers = ServerAnswers(self.clock, self.bus)
        self.notices: list[Notice] = []
        self.bus.on_notice(self.notices.append)

    def login(self, protocol: Protocol = IMAP, problem: BridgeError | None = None, *, seconds: float = 1.0) -> None:
        """A mail program's login that began so many seconds ago."""
        self.answers.note_login(ACCOUNT, protocol, problem, seconds)

    def trial(self, protocol: Protocol = IMAP, problem: BridgeError | None = None, *, seconds: float = 1.0) -> None:
        self.answers.note_trial(ACCOUNT, ServerCheck.of(protocol, problem), self.clock.monotonic() - seconds)

    @property
    def trouble(self) -> str:
        """The protocol in trouble; empty if there is none."""
        found = self.answers.trouble(ACCOUNT)
        return found.protocol if found is not None else ""

    def told(self) -> list[tuple[str, bool]]:
        """The notices since the last call: the reason's row (empty where programs get in), and whether it may pass."""
        found = [notice for notice in self.notices if isinstance(notice, MailServerAnswered)]
        self.notices.clear()
        return [(one.diagnosis.key if one.diagnosis else "", one.temporary) for one in found]


@pytest.fixture
def world() -> World:
    return World()


def test_a_login_that_is_refused_for_good_is_trouble_until_one_is_not(world: World) -> None:
    world.login(SMTP, refused())
    found = world.answers.trouble(ACCOUNT)
    assert found is not None
    assert (found.protocol, found.is_ok, found.sentence) == ("smtp", False, OFF.told())
    assert (found.turn, found.diagnosis, found.failed_at) == (OFF.advice.turn, OFF, world.clock.now())
    assert world.told() == [("mail.smtp_off_mailbox", False)]
    world.login(IMAP)
    world.clock.advance(10 * PASSED_SECONDS)
    assert world.trouble == "smtp", "nobody need look again: it does not pass by itself"
    world.login(SMTP)
    assert world.trouble == ""
    assert world.told() == [("", False)]
    assert [(check.protocol, check.is_ok) for check in world.answers.of(ACCOUNT)] == [("imap", True), ("smtp", True)]


def test_a_protocol_that_no_program_uses_any_more_is_no_trouble_for_ever(world: World) -> None:
    """POP3 is off on purpose; a mail program was set up for it by mistake, and now uses IMAP. A program that still uses
    POP3 after a weekend is refused again, and its owner is told again."""
    world.login(POP3, refused())
    assert world.told() == [("mail.smtp_off_mailbox", False)]
    world.clock.advance(ABANDONED_SECONDS - 1)  # the login itself took the one second that is missing
    world.login(IMAP)
    world.trial(POP3, refused())  # an administrator's trial: it does not count as a mail program that was refused
    assert (world.trouble, world.told()) == ("pop3", [])
    world.clock.advance(1)
    assert world.trouble == ""
    world.login(POP3, refused())
    assert (world.trouble, world.told()) == ("pop3", [("mail.smtp_off_mailbox", False)]), "one does again"


def test_what_is_known_already_is_not_told_again(world: World) -> None:
    world.login()
    world.login()
    assert world.told() == []
    for number in range(3):  # a server's own words may contain a number that changes
        world.login(IMAP, refused(Diagnosis.of("mail.full", f"NO {number}", mailbox=ACCOUNT.address)))
    assert world.told() == [("mail.full", False)]
    assert "NO 2" in world.answers.of(ACCOUNT)[0].sentence
    world.login(IMAP, refused(OFF))
    assert world.told() == [("mail.smtp_off_mailbox", False)]


def test_what_may_pass_is_trouble_once_it_lasts(world: World) -> None:
    world.login(IMAP, busy())
    assert world.told() == [("mail.busy", True)], "the page shows it"
    world.clock.advance(LASTING_SECONDS - 1)
    world.login(IMAP, busy())
    assert (world.trouble, world.told()) == ("", [])
    world.clock.advance(1)
    world.login(IMAP, busy())
    assert (world.trouble, world.told()) == ("imap", [("mail.busy", True)])
    world.clock.advance(PASSED_SECONDS - 1)  # the login itself took the one second that is missing
    assert world.trouble == "imap"
    world.clock.advance(1)
    assert world.trouble == "", "nobody has met it for so long"
    world.login(IMAP, busy())
    assert world.trouble == "imap"


def test_who_got_in_meanwhile_says_that_it_has_passed(world: World) -> None:
    for _ in range(5):
        world.login(IMAP, busy())
        world.clock.advance(LASTING_SECONDS)
        world.login(IMAP)
    world.login(IMAP, busy())
    assert world.trouble == ""


def test_a_mailbox_that_is_not_opened_may_pass_whoever_has_to_act(world: World) -> None:
    """Exchange gives the same answer for a missing right and for one of its own servers that does not respond."""
    known = {"protocol": "IMAP", "mailbox": ACCOUNT.address, "person": ACCOUNT.subject}
    problem = MailboxNotOpened("no", diagnosis=Diagnosis.of("mail.not_connected", "BAD", **known))
    world.login(IMAP, problem)
    assert (world.trouble, world.told()) == ("", [("mail.not_connected", True)])
    world.clock.advance(LASTING_SECONDS)
    world.login(IMAP, problem)
    assert world.trouble == "imap"


def test_a_trial_alone_is_no_trouble_and_whoever_asked_for_it_tells_of_it(world: World) -> None:
    """A protocol may be switched off on purpose while no program uses it."""
    world.trial(POP3, refused())
    assert (world.trouble, world.told()) == ("", [])
    assert not world.answers.of(ACCOUNT)[0].is_ok
    world.login(POP3, refused())
    assert world.trouble == "pop3", "one does"
    assert world.told() == [("mail.smtp_off_mailbox", False)]
    world.trial(POP3, refused(FULL))
    assert (world.trouble, world.told()) == ("pop3", [])
    world.trial(POP3)
    assert (world.trouble, world.told()) == ("", [("", False)])
    world.trial(POP3, refused())
    assert world.trouble == "", "no program has met it since"


def test_what_somebody_must_see_to_comes_before_what_may_pass(world: World) -> None:
    for _ in range(2):
        world.login(IMAP, busy())
        world.clock.advance(LASTING_SECONDS)
    assert world.trouble == "imap"
    world.login(SMTP, refused())
    assert world.trouble == "smtp"


def test_an_answer_to_a_login_that_began_before_the_last_one_is_old(world: World) -> None:
    world.clock.advance(100)
    world.trial(IMAP, seconds=10)
    world.login(IMAP, refused(), seconds=30)
    assert (world.trouble, world.told()) == ("", [])
    world.login(IMAP, refused(), seconds=5)
    world.login(IMAP, seconds=6)
    assert world.trouble == "imap"
    world.login(IMAP, seconds=4)
    assert world.trouble == ""


def test_a_grant_that_was_forgotten_takes_its_answers_with_it(world: World) -> None:
    world.login(SMTP, refused())
    world.bus.publish(Forgotten(ACCOUNT.address))
    assert (world.trouble, world.answers.of(ACCOUNT)) == ("", ())
    world.clock.advance(1)
    world.login(IMAP, refused(), seconds=2)
    world.login(POP3, seconds=0.5)
    world.login(SMTP, refused(), seconds=2)
    assert world.trouble == "", "they were under way, with that grant"
    assert [check.protocol for check in world.answers.of(ACCOUNT)] == ["pop3"]
    world.login(SMTP, refused(), seconds=0.5)
    assert world.trouble == "smtp"


def test_what_went_elsewhere_says_nothing_of_where_it_would_go_now(world: World) -> None:
    world.login(SMTP, refused())
    moved = replace(ACCOUNT, endpoints={SMTP: Endpoint("other.example.com", 1, TlsMode.IMPLICIT)})
    for other in (moved, replace(ACCOUNT, provider="another"), replace(ACCOUNT, subject="bob@example.com")):
        assert (world.answers.trouble(other), world.answers.of(other)) == (None, ())
    world.answers.note_login(moved, SMTP, None, 1.0)
    assert [check.is_ok for check in world.answers.of(moved)] == [True]
    assert world.trouble == ""
    world.login(IMAP, refused(), seconds=30)  # a login that was under way at the old server during the move
    assert ([check.is_ok for check in world.answers.of(moved)], world.trouble) == ([True], "")
    world.login(IMAP, refused(), seconds=0)
    assert world.trouble == "imap", "it was moved back"
