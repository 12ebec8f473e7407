"""How each account's mail servers answered the last login, a mail program's or a trial one, and if that is trouble."""

from __future__ import annotations

from dataclasses import dataclass, field

from bridge.clock import Clock
from bridge.control.contract import ProtocolCheck
from bridge.errors import BridgeError
from bridge.model import Account, Protocol
from bridge.notices import Forgotten, MailServerAnswered, Notice, NoticeBus
from bridge.relay.server_check import ServerCheck

LASTING_SECONDS = 60.0
"""A temporary failure becomes trouble once mail programs have met it for this long, with no successful login between: a
server that was too busy for one login has accepted the next one by then."""
PASSED_SECONDS = 3600.0
"""A temporary failure is no trouble any more once no mail program has met it for this long: the network may have failed
in the evening, and nobody sends mail until the morning."""
ABANDONED_SECONDS = 7 * 24 * 3600.0
"""The same for a failure that somebody must fix, which does not pass by itself: mail programs that rest over a weekend
are back by then. The limit is for a program that was once set up for POP3 by mistake, where POP3 is off on purpose: it
uses IMAP since, and no later login would ever end the trouble."""


@dataclass(frozen=True, slots=True)
class _Answer:
    """The last answer of one mail server."""

    began: float
    """When the login began, by the monotonic clock."""
    check: ProtocolCheck
    is_temporary: bool
    refused_first: float | None
    refused_last: float | None
    """When the first and the last of the mail programs' refused logins in a row began. None if none was refused, or a
    login has succeeded since."""


@dataclass(slots=True)
class _Heard:
    """What has been heard of one account's mail servers."""

    what: tuple[object, ...]
    since: float
    """Logins that began by then do not count: they used a grant that has been forgotten."""
    answers: dict[Protocol, _Answer] = field(default_factory=dict)


class ServerAnswers:
    """One for each process that has a console; in memory only."""

    def __init__(self, clock: Clock, bus: NoticeBus) -> None:
        self._clock = clock
        self._bus = bus
        self._heard: dict[str, _Heard] = {}
        bus.on_notice(self._hear)

    def of(self, account: Account) -> tuple[ProtocolCheck, ...]:
        """How the last login went at each mail server that had one; without servers that the account no longer uses."""
        answers = self._answers(account)
        return tuple(answers[protocol].check for protocol in Protocol if protocol in answers)

    def trouble(self, account: Account) -> ProtocolCheck | None:
        """Why mail programs cannot log in. A failed trial login is not enough: a server that nobody uses may be off on
        purpose."""
        refusing = [answer for answer in self._answers(account).values() if self._is_trouble(answer)]
        refusing.sort(key=lambda answer: answer.is_temporary)  # what somebody must see to comes first
        return refusing[0].check if refusing else None

    def note_login(self, account: Account, protocol: Protocol, problem: BridgeError | None, seconds: float) -> None:
        """Note a mail program's login; see session.Tried."""
        began = self._clock.monotonic() - seconds
        if problem is None and self._opens_since(account, protocol, began):
            return  # by far the most common case
        self._note(account, ServerCheck.of(protocol, problem), began, is_program=True)

    def note_trial(self, account: Account, check: ServerCheck, began: float) -> None:
        """Note a trial login that began at this time of the monotonic clock."""
        self._note(account, check, began, is_program=False)

    def _hear(self, notice: Notice) -> None:
        if isinstance(notice, Forgotten):
            self._heard[notice.address] = _Heard((), self._clock.monotonic())

    def _answers(self, account: Account) -> dict[Protocol, _Answer]:
        heard = self._heard.get(account.address)
        return heard.answers if heard is not None and heard.what == _what(account) else {}

    def _opens_since(self, account: Account, protocol: Protocol, began: float) -> bool:
        known = self._answers(account).get(protocol)
        return known is not None and known.check.is_ok and known.began <= began

    def _is_trouble(self, answer: _Answer) -> bool:
        first, last = answer.refused_first, answer.refused_last
        if first is None or last is None:
            return False
        passed = self._clock.monotonic() - last
        if not answer.is_temporary:
            return passed <= ABANDONED_SECONDS
        return last - first >= LASTING_SECONDS and passed <= PASSED_SECONDS

    def _note(self, account: Account, found: ServerCheck, began: float, *, is_program: bool) -> None:
        heard = self._heard.get(account.address)
        if heard is not None and began <= heard.since:
            return
        if heard is None or heard.what != _what(account):
            if heard is not None and any(began < answer.began for answer in heard.answers.values()):
                return  # a late answer from the servers that the account had before
            since = heard.since if heard is not None else float("-inf")
            heard = self._heard[account.address] = _Heard(_what(account), since)
        before = heard.answers.get(found.protocol)
        if before is not None and began < before.began:  # it has been tried anew in the meantime
            return
        first, last = (before.refused_first, before.refused_last) if before is not None else (None, None)
        if found.is_ok:
            first = last = None
        elif is_program:
            first, last = began if first is None else first, began
        now = heard.answers[found.protocol] = _Answer(began, self._told(found), found.is_temporary, first, last)
        is_trouble = self._is_trouble(now)
        had_trouble = before is not None and self._is_trouble(before)
        if is_trouble != had_trouble or (is_program and _reason(now) != _reason(before)):
            self._bus.publish(_notice(account, now))

    def _told(self, found: ServerCheck) -> ProtocolCheck:
        if found.diagnosis is None:
            return ProtocolCheck(found.protocol.value, is_ok=True)
        told = found.diagnosis
        return ProtocolCheck(found.protocol.value, False, told.advice.turn, told.told(), told, self._clock.now())


def _what(account: Account) -> tuple[object, ...]:
    """Everything that decides which servers are tried, and as whom."""
    return account.provider, account.subject, account.endpoints


def _reason(answer: _Answer | None) -> str:
    """The diagnosis alone, because the server's own words may differ each time; empty for a success, and also if there
    was no answer before."""
    diagnosis = answer.check.diagnosis if answer is not None else None
    return diagnosis.key if diagnosis is not None else ""


def _notice(account: Account, answer: _Answer) -> MailServerAnswered:
    check = answer.check
    return MailServerAnswered(
        account.address, check.protocol, check.sentence, temporary=answer.is_temporary, diagnosis=check.diagnosis
    )
