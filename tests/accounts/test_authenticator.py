"""Who is let in, by user name, local password, OS user and first use; all refusals look alike."""

from __future__ import annotations

import asyncio
import io
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

import pytest

from bridge.accounts.authenticator import BEAT, Authenticator
from bridge.accounts.failed_logins import AT_ONCE, GUESSES, FailedLogins
from bridge.accounts.first_use import FirstUse
from bridge.accounts.os_users import is_bound_to
from bridge.accounts.password_record import Kept
from bridge.accounts.passwords import LocalPasswords, Verdict
from bridge.accounts.pending_logins import ADDRESSES, CALLERS, LIFE, PASSWORDS, TELL_EVERY, PendingLogins
from bridge.accounts.waiting_programs import WaitingPrograms
from bridge.errors import AuthorizationRequired, BridgeError, LimitReached, LoginRefused, PasswordUnknown
from bridge.model import Account, Caller, Ends, Login, Protocol
from bridge.notices import AuthorizationNeeded, Notice, NoticeBus
from bridge.secret import Secret
from bridge.stores.memory import MemoryStore
from bridge.stores.sealed import KEY_BYTES, SealedStore
from tests.accounts.test_passwords import Work
from tests.clocks import ManualClock

ADDRESS, ALIAS, NOBODY = "alice@example.com", "al@example.com", "nobody@example.com"
ALICE = Caller("alice", "1000")
BOB = Caller("bob", "1001")
UNKNOWN = Caller(unknown="the system does not tell whose it is")
NOT_NOW = Caller(user_id="1000", unknown="the directory does not answer", is_for_now=True)
CHOSEN = "CANARY-chosen-one"
CONSOLE = "http://localhost:3017"


@dataclass
class House:
    """An authenticator and everything behind it."""

    clock: ManualClock = field(default_factory=ManualClock)
    account: Account = field(default_factory=lambda: Account(ADDRESS, "own", ADDRESS, {}))
    caller: Caller = ALICE
    asked: int = 0
    """How often the operating system was asked for the user."""
    looked_at: int = 0
    """How often it was asked for the program."""

    def __post_init__(self) -> None:
        self.store = SealedStore(MemoryStore(), Secret(secrets.token_bytes(KEY_BYTES)))
        self.passwords = LocalPasswords(self.store, self.clock)
        self.logins = PendingLogins(self.clock)
        bus = NoticeBus()
        self.told: list[Notice] = []
        bus.on_notice(self.told.append)
        first_use = FirstUse(self.logins, bus, lambda address: f"{CONSOLE}/sign-in/{address}")
        self.authenticator = Authenticator(
            self.find, self.passwords, FailedLogins(self.clock), self.logins, first_use, self.clock
        )
        self.noted: list[tuple[str, str, str]] = []
        self.pages = WaitingPrograms(
            self.find, self.passwords, self.logins, self.clock, self.caller_of, self.program_of, self.note
        )

    def find(self, username: str) -> Account | None:
        return self.account if username.lower() in {ADDRESS, ALIAS} else None

    def note(self, user_id: str, address: str, program: str) -> None:
        self.noted.append((user_id, address, program))

    async def caller_of(self, ends: Ends | None = None) -> Caller:
        self.asked += 1
        return self.caller

    async def program_of(self, ends: Ends | None) -> str:
        self.looked_at += 1
        return f"crm-of-{self.caller.user}"

    async def log_in(
        self, password: str, username: str = ADDRESS, caller: Caller | None = None, *, is_repeated: bool = False
    ) -> Account:
        """Log in, moving the clock until there is an answer."""
        self.caller = caller or self.caller
        login = Login(Protocol.IMAP, username, Secret(password.encode()), is_repeated=is_repeated)
        work = asyncio.ensure_future(self.authenticator.admit(login, self.caller_of))  # noqa: TID251  a test drives the clock
        while not work.done():
            await asyncio.sleep(0)
            self.clock.advance(0.5)
            await asyncio.sleep(0)  # the task that this wakes may finish
        return work.result()

    async def refused(self, password: str, username: str = ADDRESS, caller: Caller | None = None) -> BridgeError:
        with pytest.raises(BridgeError) as caught:
            await self.log_in(password, username, caller)
        return caught.value


def first_use(account: Account) -> Account:
    return replace(account, is_first_use=True)


@pytest.fixture
def house() -> House:
    return House()


# --- local passwords ------------------------------------------------------------------------------------------------


async def test_a_random_password_opens_and_nobody_asks_who_it_is(house: House) -> None:
    password = (await house.passwords.current(ADDRESS)).reveal()
    assert await house.log_in(password) is house.account
    assert house.asked == 0, "that costs something, for nothing"


async def test_a_random_password_opens_however_many_wrong_ones_there_were(house: House) -> None:
    password = (await house.passwords.current(ADDRESS)).reveal()
    for number in range(2 * GUESSES):
        await house.refused(f"CANARY-{number}")
    assert isinstance(await house.refused("CANARY-more"), LimitReached)
    assert await house.log_in(password) is house.account


async def test_a_wrong_password_that_comes_again_with_the_next_mechanism_waits_no_more(house: House) -> None:
    for number in range(AT_ONCE + 3):
        await house.refused(f"CANARY-wrong-{number}")
    before = house.clock.monotonic()
    with pytest.raises(LoginRefused):
        await house.log_in(f"CANARY-wrong-{number}", is_repeated=True)
    assert house.clock.monotonic() - before == 0.5, "a single step of the test's clock"


async def test_a_chosen_password_is_not_compared_with_the_guesses_of_somebody_who_never_had_it(house: House) -> None:
    await house.passwords.set(ADDRESS, Secret(CHOSEN))
    assert await house.log_in(CHOSEN, caller=ALICE) is house.account
    for number in range(2 * GUESSES):
        await house.refused(f"CANARY-{number}", caller=BOB)
        await house.refused(f"CANARY-{number}", caller=ALICE)
    wrong, right = await house.refused("CANARY-more", caller=BOB), await house.refused(CHOSEN, caller=BOB)
    assert (type(wrong), wrong.public) == (type(right), right.public)
    assert str(wrong).endswith("(programs of bob)"), "in the log"
    assert "programs of" not in str(await house.refused("CANARY-more", caller=UNKNOWN))
    assert await house.log_in(CHOSEN, caller=ALICE) is house.account, "who has shown it before knows it"


async def test_a_replaced_password_opens_for_its_week_to_who_has_shown_it_before(house: House) -> None:
    await house.passwords.set(ADDRESS, Secret(CHOSEN))
    assert await house.log_in(CHOSEN, caller=ALICE) is house.account
    await house.passwords.set(ADDRESS, Secret("CANARY-another"))
    assert await house.log_in("CANARY-another", caller=ALICE) is house.account
    for number in range(2 * GUESSES):
        await house.refused(f"CANARY-{number}", caller=ALICE)
    assert await house.log_in(CHOSEN, caller=ALICE) is house.account
    assert await house.log_in("CANARY-another", caller=ALICE) is house.account


@pytest.mark.parametrize(("caller", "answer"), [(ALICE, LoginRefused), (NOT_NOW, LimitReached)])
async def test_the_time_of_a_no_does_not_tell_that_a_record_was_read(
    caller: Caller, answer: type[BridgeError], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record is read only for a real account; the record for all unknown names is in memory."""
    house, judge = House(caller=caller), LocalPasswords.judge
    house.clock.advance(BEAT / 3)  # the beat counts from the login on, not from a tick of the clock

    async def slow(passwords: LocalPasswords, address: str | None, password: Secret[bytes]) -> Verdict:
        house.clock.advance(0.0002 if address is None else 0.0015)
        return await judge(passwords, address, password)

    monkeypatch.setattr(LocalPasswords, "judge", slow)
    for number in range(AT_ONCE + 1):
        took = {}
        for name in (ADDRESS, NOBODY):
            before = house.clock.monotonic()
            login = Login(Protocol.IMAP, name, Secret(f"CANARY-{number}".encode()))
            work = asyncio.ensure_future(house.authenticator.admit(login, house.caller_of))  # noqa: TID251  as in log_in()
            while not work.done():
                await asyncio.sleep(0)
                house.clock.advance(0.0001)
            with pytest.raises(answer):
                work.result()
            took[name] = house.clock.monotonic() - before
        assert took[ADDRESS] == pytest.approx(took[NOBODY], abs=0.0005)
        assert took[ADDRESS] == pytest.approx(round(took[ADDRESS] / BEAT) * BEAT, abs=0.0005)


@pytest.mark.parametrize("name", [ADDRESS, NOBODY])
async def test_a_no_that_took_no_time_by_the_clock_waits_for_its_beat_too(house: House, name: str) -> None:
    """Before Python 3.13, Windows moves that clock only every 16 ms; somebody who measures has a better one."""
    login = Login(Protocol.IMAP, name, Secret(b"CANARY-wrong"))
    work = asyncio.ensure_future(house.authenticator.admit(login, house.caller_of))  # noqa: TID251  as in log_in()
    for passed in (0.0, 0.9 * BEAT):
        house.clock.advance(passed)
        for _ in range(100):
            await asyncio.sleep(0)
        assert not work.done()
    house.clock.advance(0.1 * BEAT)
    with pytest.raises(LoginRefused):
        await work


async def test_a_name_that_means_no_account_is_answered_like_one_that_does(monkeypatch: pytest.MonkeyPatch) -> None:
    house, other, work = House(), House(), Work(monkeypatch)
    await house.passwords.set(ADDRESS, Secret(CHOSEN))
    for number in range(2 * GUESSES):
        before, before_other = house.clock.monotonic(), other.clock.monotonic()
        known, took = await work.of(house.refused(f"CANARY-{number}"))
        unknown, took_other = await work.of(other.refused(f"CANARY-{number}", NOBODY))
        assert (type(known), known.public) == (type(unknown), unknown.public)
        assert took["compare_digest"] == took_other["compare_digest"] > 0
        assert house.clock.monotonic() - before == other.clock.monotonic() - before_other
        assert house.asked == other.asked


@pytest.mark.parametrize(("name", "word"), [("\u0301\u0316" * 60_000, "x"), (ADDRESS, "\u0301\u0316" * 60_000)])
async def test_what_takes_long_to_spell_holds_up_nobody(house: House, name: str, word: str) -> None:
    """Each of these accents has to pass all others to be put in order: minutes in all, 0.3 s within a port's limits."""
    assert isinstance(await house.refused(word, name), LoginRefused)


async def test_two_names_of_one_account_are_counted_apart() -> None:
    """If they shared delays or guesses, that would reveal that both names mean one account."""
    for tried, other in ((ADDRESS, ALIAS), (ALIAS, ADDRESS)):
        house = House(caller=BOB)
        await house.passwords.set(ADDRESS, Secret(CHOSEN))
        for number in range(GUESSES + 1):
            last = await house.refused(f"CANARY-{number}", tried)
        assert isinstance(last, LimitReached)
        before = house.clock.monotonic()
        await house.refused("CANARY-another", other)
        assert house.clock.monotonic() - before <= 0.5, "one step of the test's clock"
        assert await house.log_in(CHOSEN, other) is house.account
        assert isinstance(await house.refused(CHOSEN, tried), LimitReached)


@pytest.mark.parametrize("username", [ADDRESS, NOBODY])
async def test_other_spellings_of_a_name_give_no_more_guesses(house: House, username: str) -> None:
    await house.passwords.set(ADDRESS, Secret(CHOSEN))
    spellings = (username, username.upper(), username.title())
    for number in range(GUESSES + 1):
        await house.refused(f"CANARY-{number}", spellings[number % 3], BOB)
    for spelling in spellings:
        for password in (CHOSEN, "CANARY-more"):
            assert isinstance(await house.refused(password, spelling, BOB), LimitReached)


@pytest.mark.parametrize("username", [ADDRESS, NOBODY])
async def test_who_cannot_be_looked_up_just_now_is_told_later_and_is_counted_all_the_same(
    house: House, username: str
) -> None:
    """Otherwise whoever uses up our descriptors could go on guessing."""
    await house.passwords.set(ADDRESS, Secret(CHOSEN))
    said = [await house.refused(f"CANARY-{number}", username, NOT_NOW) for number in range(GUESSES + 1)]
    assert {type(answer) for answer in said} == {LimitReached}
    assert "the directory does not answer" in str(said[0])
    assert "different wrong passwords were tried" in str(said[-1])
    reason = "the local password is wrong" if username == ADDRESS else "this user name is not in the configuration"
    assert all(reason in str(answer) for answer in said), "which the log keeps"
    if username == ADDRESS:
        assert "could be a guess" in str(await house.refused(CHOSEN, caller=NOT_NOW))


# --- os_user --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "caller", "is_meant"),
    [
        ("alice", Caller("alice", "1000"), True),
        ("alice", Caller("Alice", "1000"), False),
        ("1000", Caller("alice", "1000"), True),
        ("1000", Caller("1000", "2000"), False),
        ("same", Caller("alice", "1000"), True),
        ("same", Caller("bob", "1001"), False),
        ("same", Caller("same", "1002"), False),
        ("alice", Caller("OFFICE\\Alice", "S-1-5-21-1"), True),
        ("office\\alice", Caller("OFFICE\\Alice", "S-1-5-21-1"), True),
        ("OTHER\\alice", Caller("OFFICE\\Alice", "S-1-5-21-1"), False),
        ("OFFICE\\ALICE", Caller("office\\alice", "S-1-5-21-1"), True),
        ("S-1-5-21-1", Caller("OFFICE\\Alice", "S-1-5-21-1"), True),
        ("s-1-5-21-1", Caller("OFFICE\\Alice", "S-1-5-21-1"), True),
        ("same", Caller("OFFICE\\Alice", "S-1-5-21-1"), True),
        ("alice", Caller("", "1000"), False),
        ("alice", UNKNOWN, False),
        ("alice", Caller("alice", "1000", host="192.0.2.1"), False),
        ("192.0.2.1", Caller(host="192.0.2.1"), False),
    ],
)
def test_who_is_meant_by_os_user(wanted: str, caller: Caller, is_meant: bool) -> None:
    account = Account(ADDRESS, "own", ADDRESS, {}, os_users=("carol", wanted))
    assert is_bound_to(account, caller) is is_meant


async def test_another_os_user_gets_what_a_wrong_password_gets_and_the_log_says_why(house: House) -> None:
    password = (await house.passwords.current(ADDRESS)).reveal()
    house.account = replace(house.account, os_users=("alice",))
    assert await house.log_in(password, caller=ALICE) is house.account
    for number in range(2 * GUESSES):
        right, wrong = await house.refused(password, caller=BOB), await house.refused(f"CANARY-{number}", caller=BOB)
        if isinstance(wrong, LoginRefused):
            assert (type(right), right.public) == (type(wrong), wrong.public)
    assert "not for programs of bob (the local password was right)" in str(right)
    assert "not for programs of bob (the local password was wrong, too)" in str(wrong)
    unknown = await house.refused(password, caller=UNKNOWN)
    assert isinstance(unknown, LoginRefused)
    assert "the system does not tell whose it is" in str(unknown)
    for answer in (await house.refused(password, caller=NOT_NOW), await house.refused("CANARY", NOBODY, NOT_NOW)):
        assert isinstance(answer, LimitReached), "it may be the right one: no mail program should forget its password"
        assert "the directory does not answer" in str(answer)


# --- first-use ------------------------------------------------------------------------------------------------------

OWN, COLLEAGUES = "CANARY-alices-crm", "CANARY-bobs-trap"


@pytest.fixture
def open_house(house: House) -> House:
    house.account = first_use(house.account)
    return house


async def test_the_first_password_opens_nothing_before_somebody_has_said_whose_it_is(open_house: House) -> None:
    told, url = [await open_house.refused(OWN) for _ in range(3)], f"{CONSOLE}/sign-in/{ADDRESS}"
    assert {type(answer) for answer in told} == {AuthorizationRequired}
    assert told[0].public == f"Open {url} ({ADDRESS} must sign in)"
    assert told[0].diagnosis is not None
    assert told[0].diagnosis.key == "sign_in.password"
    (notice,) = open_house.told
    assert isinstance(notice, AuthorizationNeeded)
    assert (notice.address, notice.url, notice.diagnosis) == (ADDRESS, url, told[0].diagnosis)
    assert notice.reason == told[0].diagnosis.told()
    (program,) = await open_house.pages.waiting_programs(ADDRESS, None)
    assert (program.user, program.is_own, program.has_password) == ("alice", True, True)
    await open_house.pages.keep(ADDRESS, program.key)
    assert await open_house.log_in(OWN) is open_house.account
    assert isinstance(await open_house.refused("CANARY-other"), LoginRefused)
    assert await open_house.pages.waiting_programs(ADDRESS, None) == ()


async def test_a_program_that_says_another_name_of_the_account_is_asked_about_and_kept_too(open_house: House) -> None:
    await open_house.refused(OWN, ALIAS.upper())
    (program,) = await open_house.pages.waiting_programs(ADDRESS, None)
    await open_house.pages.keep(ADDRESS, program.key)
    assert await open_house.log_in(OWN, ALIAS.upper()) is open_house.account


async def test_a_colleague_who_came_first_is_named_and_is_not_let_in(open_house: House) -> None:
    await open_house.refused(COLLEAGUES, caller=BOB)
    await open_house.pages.asked(ADDRESS, None, open_house.caller_of)
    open_house.clock.advance(120)
    await open_house.refused(OWN, caller=ALICE)
    programs = await open_house.pages.waiting_programs(ADDRESS, None)
    assert [(program.user, program.name, program.is_own) for program in programs] == [
        ("alice", "", True),
        ("bob", "crm-of-bob", False),
    ]
    assert programs[1].seconds == open_house.clock.monotonic() - open_house.logins.of(ADDRESS)[1].at > 120
    await open_house.pages.keep(ADDRESS, programs[0].key)
    assert await open_house.log_in(OWN, caller=ALICE) is open_house.account
    assert isinstance(await open_house.refused(COLLEAGUES, caller=BOB), LoginRefused)
    for address in (ADDRESS, NOBODY):
        with pytest.raises(LoginRefused):
            await open_house.pages.keep(address, programs[1].key)


async def test_the_one_that_is_kept_is_the_one_that_was_named_and_not_the_latest(open_house: House) -> None:
    await open_house.refused(OWN, caller=ALICE)
    await open_house.refused(COLLEAGUES, caller=BOB)
    (own,) = [program for program in await open_house.pages.waiting_programs(ADDRESS, None) if program.user == "alice"]
    with pytest.raises(LoginRefused, match="too long ago"):
        await open_house.pages.keep(ADDRESS, own.key + "x")
    await open_house.pages.keep(ADDRESS, own.key)
    assert await open_house.log_in(OWN, caller=ALICE) is open_house.account
    assert isinstance(await open_house.refused(COLLEAGUES, caller=BOB), LoginRefused)


async def test_a_kept_password_can_be_guessed_and_is_bounded_like_a_chosen_one(open_house: House) -> None:
    await open_house.refused(OWN, caller=ALICE)
    (program,) = await open_house.pages.waiting_programs(ADDRESS, None)
    await open_house.pages.keep(ADDRESS, program.key)
    for number in range(GUESSES + 1):
        await open_house.refused(f"CANARY-{number}", caller=BOB)
    assert isinstance(await open_house.refused(OWN, caller=BOB), LimitReached)
    assert await open_house.log_in(OWN, caller=ALICE) is open_house.account


async def test_a_colleague_who_comes_often_pushes_out_only_himself(open_house: House) -> None:
    await open_house.refused(OWN, caller=ALICE)
    for number in range(50):
        await open_house.refused(f"{COLLEAGUES}-{number}", caller=BOB)
    users = [program.user for program in await open_house.pages.waiting_programs(ADDRESS, None)]
    assert sorted(users) == ["alice", *["bob"] * PASSWORDS] == ["alice", "bob", "bob"]


async def test_another_machine_that_comes_from_many_addresses_pushes_out_only_itself(open_house: House) -> None:
    await open_house.refused(OWN, caller=ALICE)
    for number in range(3 * CALLERS):
        await open_house.refused(f"{COLLEAGUES}-{number}", caller=Caller(host=f"2001:db8::{number:x}"))
    open_house.caller = ALICE
    assert [program.is_own for program in await open_house.pages.waiting_programs(ADDRESS, None)] == [
        False
    ] * PASSWORDS + [True]


async def test_only_so_many_users_are_remembered_and_only_for_a_while(open_house: House) -> None:
    for number in range(3 * CALLERS):
        await open_house.refused(OWN, caller=Caller(f"user{number}", str(number)))
    assert len(open_house.logins.of(ADDRESS)) == CALLERS == 8
    assert LIFE == 15 * 60
    assert len(await open_house.pages.waiting_programs(ADDRESS, None)) == CALLERS, "all are on the page"
    open_house.clock.advance(LIFE)
    assert open_house.logins.of(ADDRESS) == []
    assert await open_house.pages.waiting_programs(ADDRESS, None) == ()


def test_below_a_pattern_the_addresses_that_are_remembered_are_bounded() -> None:
    logins = PendingLogins(ManualClock())
    for number in range(ADDRESSES + 1):
        logins.note(f"{number}@example.com", BOB)
    assert logins.of("0@example.com") == []
    assert [login.caller for login in logins.of("1@example.com")] == [BOB]


@pytest.mark.parametrize("password", ["seven77", "été-été"])
async def test_a_short_password_is_not_kept(open_house: House, password: str) -> None:
    """Characters are counted, not octets."""
    problem = await open_house.refused(password)
    assert isinstance(problem, LoginRefused)
    assert "below 8 characters" in str(problem)
    assert open_house.logins.of(ADDRESS) == []


async def test_what_is_kept_is_a_hash_and_survives_a_restart(open_house: House, log: io.StringIO) -> None:
    await open_house.refused(OWN)
    assert "CANARY" not in repr(open_house.logins.of(ADDRESS))
    (program,) = await open_house.pages.waiting_programs(ADDRESS, None)
    await open_house.pages.keep(ADDRESS, program.key)
    stored = await open_house.store.get("password/alice@example.com")
    assert stored is not None
    assert b"CANARY" not in stored.value
    with pytest.raises(PasswordUnknown):
        await open_house.passwords.current(ADDRESS)
    again = LocalPasswords(open_house.store, open_house.clock)
    assert (await again.judge(ADDRESS, Secret(OWN.encode()))).is_right
    assert not (await again.judge(ADDRESS, Secret(COLLEAGUES.encode()))).is_right
    assert "CANARY" not in log.getvalue()


async def test_a_new_password_replaces_the_kept_one_with_an_overlap(open_house: House) -> None:
    await open_house.refused(OWN)
    (program,) = await open_house.pages.waiting_programs(ADDRESS, None)
    await open_house.pages.keep(ADDRESS, program.key)
    new = await open_house.passwords.rotate(ADDRESS)
    assert await open_house.log_in(new.reveal()) is open_house.account
    assert await open_house.log_in(OWN) is open_house.account
    open_house.clock.advance(8 * 24 * 3600)
    assert isinstance(await open_house.refused(OWN), LoginRefused)
    assert await open_house.log_in(new.reveal()) is open_house.account


async def test_a_password_that_was_given_in_the_meantime_is_not_replaced(open_house: House) -> None:
    await open_house.refused(OWN)
    (program,) = await open_house.pages.waiting_programs(ADDRESS, None)
    await open_house.passwords.rotate(ADDRESS)
    with pytest.raises(LoginRefused, match="another local password"):
        await open_house.pages.keep(ADDRESS, program.key)
    assert [program.has_password for program in await open_house.pages.waiting_programs(ADDRESS, None)] == [False]
    open_house.caller = BOB
    assert await open_house.pages.waiting_programs(ADDRESS, None) == (), "nobody has to say any more whose it is"
    assert "another local password" in str(await open_house.pages.why_none(ADDRESS))


async def test_an_account_that_keeps_its_first_password_no_more_keeps_none(open_house: House) -> None:
    """The configuration was changed while the sign-in page was open."""
    await open_house.refused(OWN)
    (program,) = await open_house.pages.waiting_programs(ADDRESS, None)
    open_house.account = replace(open_house.account, is_first_use=False)
    with pytest.raises(LoginRefused, match="no password of a mail program is kept"):
        await open_house.pages.keep(ADDRESS, program.key)
    assert isinstance(await open_house.refused(OWN), LoginRefused)
    assert [program.has_password for program in await open_house.pages.waiting_programs(ADDRESS, None)] == [False]


async def test_with_os_user_only_theirs_is_kept_in_mind(open_house: House) -> None:
    open_house.account = replace(open_house.account, os_users=("alice",))
    assert isinstance(await open_house.refused(COLLEAGUES, caller=BOB), LoginRefused)
    assert isinstance(await open_house.refused(OWN, caller=ALICE), AuthorizationRequired)
    assert [program.user for program in await open_house.pages.waiting_programs(ADDRESS, None)] == ["alice"]


@pytest.mark.parametrize("sent", [b"CANARY-8", "été-été-".encode(), "été-é©é-".encode("cp1252")])
async def test_eight_characters_are_enough(open_house: House, sent: bytes) -> None:
    login = Login(Protocol.IMAP, ADDRESS, Secret(sent))
    with pytest.raises(AuthorizationRequired):
        await open_house.authenticator.admit(login, open_house.caller_of)


@pytest.mark.parametrize("sent", ["héhé-CANARY".encode(), "héhé-CANARY".encode("cp1252")])
async def test_it_is_the_same_password_in_either_spelling(sent: bytes) -> None:
    kept = Kept.of(Secret(sent))
    assert kept.matches(Secret("héhé-CANARY".encode()))
    assert kept.matches(Secret("héhé-CANARY".encode("cp1252")))
    assert not kept.matches(Secret(b"hehe-CANARY"))
    again = Kept.of(Secret(sent))
    assert kept.salt != again.salt
    assert kept.digest != again.digest, "two accounts with one password do not look alike"


# --- the sign-in page -----------------------------------------------------------------------------------------------


async def test_a_page_tells_a_wish_to_whose_it_is_and_to_nobody_else(house: House) -> None:
    asked: Callable[[str, Ends | None, Callable[[], Awaitable[Caller]]], Awaitable[None]] = house.pages.asked
    await asked(ADDRESS, None, house.caller_of)
    (program,) = await house.pages.waiting_programs(ADDRESS, None)
    assert (program.user, program.name, program.is_own, program.has_password) == (
        "alice",
        "crm-of-alice",
        True,
        False,
    )
    house.account = first_use(house.account)
    assert await house.pages.waiting_programs(ADDRESS, None) == (program,), "there is none that it could keep"
    with pytest.raises(LoginRefused, match="too long ago"):
        await house.pages.keep(ADDRESS, program.key)
    for other in (BOB, UNKNOWN, Caller(host="192.0.2.1")):
        house.caller = other
        assert await house.pages.waiting_programs(ADDRESS, None) == ()
    assert await house.pages.waiting_programs(NOBODY, None) == ()


async def test_a_program_and_a_browser_of_whom_nothing_is_known_are_not_one_persons(house: House) -> None:
    house.caller = UNKNOWN
    await house.pages.asked(ADDRESS, None, house.caller_of)
    assert await house.pages.waiting_programs(ADDRESS, None) == ()
    house.account = first_use(house.account)
    await house.refused(OWN)
    (program,) = await house.pages.waiting_programs(ADDRESS, None)
    assert (program.user, program.is_own, program.has_password) == ("", False, True)


async def test_each_login_that_must_wait_for_a_sign_in_is_noted_for_its_users_icon(house: House) -> None:
    for caller in (ALICE, ALICE, BOB, UNKNOWN):
        house.caller = caller
        await house.pages.asked(ADDRESS, None, house.caller_of)
    alice, bob = ("1000", ADDRESS, "crm-of-alice"), ("1001", ADDRESS, "crm-of-bob")
    assert house.noted[:3] == [alice, alice, bob]
    assert house.looked_at == 3, "once for each program, since that takes a while"
    assert house.noted[3][:2] == ("", ADDRESS)


def test_a_notice_is_not_repeated_all_the_time() -> None:
    clock = ManualClock()
    logins = PendingLogins(clock)
    logins.note(ADDRESS, ALICE, Secret(b"CANARY"))
    assert [logins.is_news(ADDRESS), logins.is_news(ADDRESS)] == [True, False]
    clock.advance(TELL_EVERY)
    assert logins.is_news(ADDRESS)
