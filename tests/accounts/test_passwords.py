"""The local password: right, wrong, old and new ones, and logins while the store cannot be reached."""

from __future__ import annotations

import asyncio
import hmac
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest

from bridge.accounts.password_record import PREVIOUS_KEPT, Kept
from bridge.accounts.passwords import CACHED, RECHECK_AFTER, SHORTEST, LocalPasswords
from bridge.errors import StoreCorrupt, StoreUnavailable
from bridge.model import PASSWORD_OVERLAP
from bridge.secret import Secret
from bridge.stores.base import NEW, Record
from bridge.stores.memory import MemoryStore
from bridge.stores.sealed import KEY_BYTES, SealedStore
from tests.clocks import ManualClock

T = TypeVar("T")

ALICE, BOB = "alice@example.com", "bob@example.com"
CHOSEN = "CANARY correct horse"


class Outage(MemoryStore):
    """A MemoryStore that can fail, and counts its reads."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.is_down = False
        self.is_silent = self.is_damaged = False
        self.reads = 0

    async def get(self, key: str) -> Record | None:
        self.reads += 1
        if self.is_down:
            raise StoreUnavailable("the store is away")
        if self.is_silent:
            await asyncio.Event().wait()
        return await super().get(key)

    async def versions(self, prefix: str) -> dict[str, int]:
        if self.is_damaged:
            raise StoreCorrupt("the store is damaged")
        if self.is_down:
            raise StoreUnavailable("the store is away")
        return await super().versions(prefix)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def store(clock: ManualClock) -> Outage:
    return Outage(clock)


@pytest.fixture
def passwords(store: Outage, clock: ManualClock) -> LocalPasswords:
    return LocalPasswords(store, clock)


def typed(password: Secret[str] | str, encoding: str = "utf-8") -> Secret[bytes]:
    text = password if isinstance(password, str) else password.reveal()
    return Secret(text.encode(encoding))


async def fits(passwords: LocalPasswords, address: str | None, password: Secret[bytes]) -> bool:
    return (await passwords.judge(address, password)).is_right


# --- yes and no -----------------------------------------------------------------------------------------------------


async def test_the_right_password_is_right_and_any_other_is_wrong(passwords: LocalPasswords) -> None:
    right = await passwords.current(ALICE)
    assert await fits(passwords, ALICE, typed(right))
    assert await fits(passwords, ALICE.upper(), typed(right))
    for wrong in ("", "x", right.reveal().upper(), right.reveal() + " ", right.reveal()[:-1], "a" * 10_000):
        assert not await fits(passwords, ALICE, typed(wrong))


async def test_one_accounts_password_is_of_no_use_for_another(passwords: LocalPasswords) -> None:
    alices, bobs = await passwords.current(ALICE), await passwords.current(BOB)
    assert alices != bobs
    assert not await fits(passwords, BOB, typed(alices))
    assert await fits(passwords, BOB, typed(bobs))


async def test_an_unknown_username_gets_a_no_for_any_password(passwords: LocalPasswords) -> None:
    right = await passwords.current(ALICE)
    assert not await fits(passwords, None, typed(right))
    assert not await fits(passwords, None, typed(""))


async def test_an_account_without_a_password_yet_gets_a_no_and_none_is_made(
    passwords: LocalPasswords, store: Outage
) -> None:
    assert not await fits(passwords, ALICE, typed(""))
    assert await store.keys("") == []


async def test_a_password_is_made_once_with_128_bits_and_typed_without_shift(passwords: LocalPasswords) -> None:
    first = await passwords.current(ALICE)
    assert await passwords.current(ALICE) == first
    text = first.reveal()
    assert len(text) == 26
    assert set(text) <= set("abcdefghijklmnopqrstuvwxyz234567")


async def test_a_new_password_counts_at_once_although_a_no_was_cached(passwords: LocalPasswords) -> None:
    assert not await fits(passwords, ALICE, typed(CHOSEN))
    await passwords.set(ALICE, Secret(CHOSEN))
    assert await fits(passwords, ALICE, typed(CHOSEN))


class Work:
    """Counts the real hashes and comparisons."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done: list[str] = []
        for name in ("digest", "compare_digest"):
            monkeypatch.setattr(hmac, name, self._counted(name, getattr(hmac, name)))

    def _counted(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any) -> Any:
            self.done.append(name)
            return real(*arguments)

        return counted

    async def of(self, asked: Awaitable[T]) -> tuple[T, Counter[str]]:
        """The answer, and how many of each it took."""
        self.done.clear()
        return await asked, Counter(self.done)


async def test_yes_and_no_and_a_name_that_means_no_account_take_the_same_work(
    passwords: LocalPasswords, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same holds for an account without a password, one with old passwords, and one with a mail program's own."""
    old = await passwords.current(ALICE)
    new = await passwords.rotate(ALICE)
    await passwords.keep("carol@example.com", Kept.of(typed(CHOSEN)))
    asked = [
        (ALICE, typed(new), True),
        (ALICE, typed(old), True),
        (ALICE, typed("CANARY wrong one"), False),
        (ALICE, typed("x" * 1000), False),
        (BOB, typed(new), False),
        (None, typed(new), False),
        ("carol@example.com", typed(CHOSEN), True),
        ("carol@example.com", typed("CANARY wrong one"), False),
    ]
    for address, password, _ in asked:
        await fits(passwords, address, password)  # reads the record, which stays in memory from now on
    work = Work(monkeypatch)
    took = [await work.of(fits(passwords, address, password)) for address, password, _ in asked]
    assert [is_right for is_right, _ in took] == [is_right for _, _, is_right in asked]
    assert {tuple(sorted(done.items())) for _, done in took} == {
        (("compare_digest", 2 * (1 + PREVIOUS_KEPT)), ("digest", 4))
    }


# --- replacing it ---------------------------------------------------------------------------------------------------


async def test_the_old_password_works_for_seven_days_beside_the_new_one(
    passwords: LocalPasswords, clock: ManualClock
) -> None:
    old = await passwords.current(ALICE)
    new = await passwords.rotate(ALICE)
    assert old != new
    assert await passwords.current(ALICE) == new
    clock.advance(7 * 24 * 3600 - 1)
    assert await fits(passwords, ALICE, typed(old))
    clock.advance(1)
    assert not await fits(passwords, ALICE, typed(old))
    assert await fits(passwords, ALICE, typed(new))


async def test_each_old_password_has_a_week_of_its_own(passwords: LocalPasswords, clock: ManualClock) -> None:
    first = await passwords.current(ALICE)
    second = await passwords.rotate(ALICE)
    clock.advance(PASSWORD_OVERLAP / 2)
    third = await passwords.rotate(ALICE)
    clock.advance(PASSWORD_OVERLAP / 2)
    assert not await fits(passwords, ALICE, typed(first))
    assert await fits(passwords, ALICE, typed(second))
    assert await fits(passwords, ALICE, typed(third))


async def test_old_passwords_stop_at_once_where_somebody_else_knows_them(passwords: LocalPasswords) -> None:
    made = [await passwords.current(ALICE)] + [await passwords.rotate(ALICE) for _ in range(PREVIOUS_KEPT)]
    new = await passwords.rotate(ALICE, at_once=True)
    assert [await fits(passwords, ALICE, typed(password)) for password in made] == [False] * len(made)
    assert await fits(passwords, ALICE, typed(new))
    await passwords.set(ALICE, Secret(CHOSEN), at_once=True)
    assert not await fits(passwords, ALICE, typed(new))
    assert await fits(passwords, ALICE, typed(CHOSEN))


async def test_a_password_of_who_has_left_is_known_and_can_be_removed(passwords: LocalPasswords, store: Outage) -> None:
    assert await passwords.addresses() == []
    await passwords.remove("é+x@example.com")
    first = await passwords.current("É+x@example.com")
    assert await passwords.addresses() == ["é+x@example.com"]
    assert await fits(passwords, "é+x@example.com", typed(first))
    await passwords.remove("É+x@example.com")
    assert await passwords.addresses() == []
    assert not await fits(passwords, "é+x@example.com", typed(first))
    assert await passwords.current("é+x@example.com") != first


async def test_of_many_rotations_the_last_ones_overlap(passwords: LocalPasswords) -> None:
    made = [await passwords.current(ALICE)] + [await passwords.rotate(ALICE) for _ in range(PREVIOUS_KEPT + 2)]
    works = [await fits(passwords, ALICE, typed(password)) for password in made]
    assert works == [False, False] + [True] * (PREVIOUS_KEPT + 1)


async def test_setting_the_same_password_again_changes_nothing(passwords: LocalPasswords, clock: ManualClock) -> None:
    await passwords.set(ALICE, Secret(CHOSEN))
    await passwords.set(ALICE, Secret(CHOSEN))
    clock.advance(PASSWORD_OVERLAP)
    assert await fits(passwords, ALICE, typed(CHOSEN))


async def test_going_back_and_forth_between_two_passwords_ends_none_that_still_works(passwords: LocalPasswords) -> None:
    first = await passwords.current(ALICE)
    for _ in range(PREVIOUS_KEPT):
        await passwords.set(ALICE, Secret(CHOSEN))
        await passwords.set(ALICE, Secret(CHOSEN))
        await passwords.set(ALICE, Secret(CHOSEN + "!"))
    assert await fits(passwords, ALICE, typed(first))
    assert await fits(passwords, ALICE, typed(CHOSEN))


async def test_an_address_is_the_same_account_however_it_is_written(passwords: LocalPasswords) -> None:
    mixed = "Alice@Example.COM"
    await passwords.keep(mixed, Kept.of(typed(CHOSEN)))
    assert await passwords.is_known(ALICE)
    assert await passwords.is_known(mixed)
    assert not await passwords.keep(ALICE, Kept.of(typed("CANARY of somebody else")))
    new = await passwords.rotate(mixed)
    assert await passwords.current(ALICE) == await passwords.current(mixed) == new
    await passwords.set(mixed, Secret(CHOSEN + "!"))
    assert await fits(passwords, ALICE, typed(CHOSEN + "!"))
    assert await passwords.addresses() == [ALICE]
    await passwords.remove(mixed)
    assert not await passwords.is_known(ALICE)


async def test_an_old_password_can_become_the_current_one_again(passwords: LocalPasswords, clock: ManualClock) -> None:
    await passwords.set(ALICE, Secret(CHOSEN))
    other = await passwords.rotate(ALICE)
    await passwords.set(ALICE, Secret(CHOSEN))
    clock.advance(PASSWORD_OVERLAP)
    assert await fits(passwords, ALICE, typed(CHOSEN))
    assert not await fits(passwords, ALICE, typed(other))


@pytest.mark.parametrize(
    ("password", "sentence"),
    [
        ("CANARY", f"the local password must have at least {SHORTEST} characters"),
        ("", f"the local password must have at least {SHORTEST} characters"),
        ("CANARY-été-long", "the local password may only contain letters without accents, digits, spaces and symbols"),
        (
            "CANARY\tlong long",
            "the local password may only contain letters without accents, digits, spaces and symbols",
        ),
        (
            "CANARY\x00long long",
            "the local password may only contain letters without accents, digits, spaces and symbols",
        ),
    ],
)
async def test_a_password_that_mail_clients_would_garble_is_refused_without_being_quoted(
    password: str, sentence: str, passwords: LocalPasswords, store: Outage
) -> None:
    with pytest.raises(ValueError, match="local password") as caught:
        await passwords.set(ALICE, Secret(password))
    assert str(caught.value) == sentence
    assert await store.keys("") == []


async def test_any_printable_ascii_of_twelve_characters_will_do(passwords: LocalPasswords) -> None:
    for password in ("CANARY ~!\"'\\", "            ", "CANARY" * 50):
        await passwords.set(ALICE, Secret(password))
        assert await fits(passwords, ALICE, typed(password))


# --- bytes ----------------------------------------------------------------------------------------------------------


async def stored(store: MemoryStore, password: str) -> None:
    """A record in the format for passwords that are no hashes; set() would refuse one with accents."""
    content = json.dumps({"format": 1, "current": password, "previous": []})
    await store.put("password/" + ALICE, content.encode(), expected=NEW)


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252"])
@pytest.mark.parametrize("password", ["CANARY-été-€-œuvre", "CANARY plain ASCII"])
async def test_utf_8_and_windows_clients_type_the_same_password(
    encoding: str, password: str, passwords: LocalPasswords, store: Outage
) -> None:
    await stored(store, password)
    assert await fits(passwords, ALICE, typed(password, encoding))
    assert not await fits(passwords, ALICE, typed(password + "é", encoding))


async def test_composed_and_decomposed_accents_are_the_same_password(passwords: LocalPasswords, store: Outage) -> None:
    await stored(store, "CANARY-\u00e9t\u00e9")
    assert await fits(passwords, ALICE, typed("CANARY-e\u0301te\u0301"))


@pytest.mark.parametrize(
    "received", [b"\xff\xfe", b"\x81\x8d\x8f\x90\x9d", b"\x00", b"\xed\xa0\x80", bytes(range(256))]
)
async def test_bytes_in_no_encoding_are_just_a_wrong_password(received: bytes, passwords: LocalPasswords) -> None:
    await passwords.current(ALICE)
    assert not await fits(passwords, ALICE, Secret(received))


# --- the store ------------------------------------------------------------------------------------------------------


async def test_logins_within_a_few_seconds_read_the_store_once(
    passwords: LocalPasswords, store: Outage, clock: ManualClock
) -> None:
    right = await passwords.current(ALICE)
    reads = store.reads
    for _ in range(10):
        assert await fits(passwords, ALICE, typed(right))
    assert store.reads == reads
    clock.advance(RECHECK_AFTER)
    assert await fits(passwords, ALICE, typed(right))
    assert store.reads == reads + 1


async def test_while_the_store_is_away_what_was_last_read_goes_on_being_valid(
    passwords: LocalPasswords, store: Outage, clock: ManualClock
) -> None:
    right = await passwords.current(ALICE)
    store.is_down = True
    clock.advance(3600)
    assert await fits(passwords, ALICE, typed(right))
    assert not await fits(passwords, ALICE, typed("CANARY wrong one"))


async def test_a_store_that_says_nothing_holds_up_no_login_for_long(
    passwords: LocalPasswords, store: Outage, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.accounts.passwords.RECHECK_PATIENCE", 0.01)
    right = await passwords.current(ALICE)
    store.is_silent = True
    clock.advance(RECHECK_AFTER)
    async with asyncio.timeout(20):
        assert await fits(passwords, ALICE, typed(right))
        assert not await fits(passwords, ALICE, typed("CANARY wrong one"))


async def test_while_the_store_is_away_an_old_password_still_ends_in_time(
    passwords: LocalPasswords, store: Outage, clock: ManualClock
) -> None:
    old = await passwords.current(ALICE)
    await passwords.rotate(ALICE)
    store.is_down = True
    clock.advance(PASSWORD_OVERLAP)
    assert not await fits(passwords, ALICE, typed(old))


async def test_of_an_account_never_read_nothing_is_known_while_the_store_is_away(
    passwords: LocalPasswords, store: Outage
) -> None:
    store.is_down = True
    with pytest.raises(StoreUnavailable):
        await fits(passwords, ALICE, typed(CHOSEN))
    with pytest.raises(StoreUnavailable):
        await fits(passwords, None, typed(CHOSEN))
    with pytest.raises(StoreUnavailable):
        await passwords.rotate(ALICE)
    store.is_down = False
    assert not await fits(passwords, ALICE, typed(CHOSEN))


async def test_what_one_process_rotates_another_knows_within_seconds(store: Outage, clock: ManualClock) -> None:
    here, there = LocalPasswords(store, clock), LocalPasswords(store, clock)
    old = await here.current(ALICE)
    assert await fits(there, ALICE, typed(old))
    new = await there.rotate(ALICE)
    assert not await fits(here, ALICE, typed(new))
    clock.advance(RECHECK_AFTER)
    assert await fits(here, ALICE, typed(new))
    assert await fits(here, ALICE, typed(old))
    assert await here.current(ALICE) == new


async def test_who_remembers_what_was_right_is_told_when_another_process_has_changed_it(
    store: Outage, clock: ManualClock
) -> None:
    told: list[str] = []
    here, there = LocalPasswords(store, clock, told.append), LocalPasswords(store, clock)
    for address in (ALICE, BOB):
        assert await fits(here, address, typed(await there.current(address)))
    await here.look()
    assert told == []
    await there.rotate(ALICE, at_once=True)
    await here.look()
    assert told == [ALICE]
    await here.look()
    assert told == [ALICE], "once"
    assert await fits(here, ALICE, typed(await there.current(ALICE)))
    assert told == [ALICE], "read again"
    await there.remove(BOB)
    await here.look()
    assert told == [ALICE, BOB]


async def test_it_is_told_too_when_a_login_comes_before_the_look(store: Outage, clock: ManualClock) -> None:
    told: list[str] = []
    here, there = LocalPasswords(store, clock, told.append), LocalPasswords(store, clock)
    old = await there.current(ALICE)
    assert await fits(here, ALICE, typed(old))
    new = await there.rotate(ALICE, at_once=True)
    clock.advance(RECHECK_AFTER)
    assert await fits(here, ALICE, typed(new))
    assert told == [ALICE]
    await here.rotate(ALICE)
    assert told == [ALICE, ALICE], "and when it is this one that changes it"


async def test_it_is_told_when_an_old_password_has_ended(store: Outage, clock: ManualClock) -> None:
    told: list[str] = []
    passwords = LocalPasswords(store, clock, told.append)
    await passwords.current(ALICE)
    await passwords.rotate(ALICE)
    told.clear()
    for seconds, expected in ((PASSWORD_OVERLAP - 1, []), (1, [ALICE]), (1, [ALICE])):
        clock.advance(seconds)
        await passwords.look()
        assert told == expected


async def test_what_was_read_is_valid_though_it_is_known_to_have_changed_as_long_as_it_cannot_be_read(
    store: Outage, clock: ManualClock
) -> None:
    here, there = LocalPasswords(store, clock), LocalPasswords(store, clock)
    old = await there.current(ALICE)
    assert await fits(here, ALICE, typed(old))
    new = await there.rotate(ALICE, at_once=True)
    await here.look()
    store.is_down = True
    assert await fits(here, ALICE, typed(old))
    store.is_down = False
    assert await fits(here, ALICE, typed(new))
    assert not await fits(here, ALICE, typed(old))


async def test_what_is_in_memory_no_more_is_told_of_and_made_up_names_are_not(
    store: Outage, clock: ManualClock
) -> None:
    """What has left the memory is no longer watched for changes. A stranger can make up any number of names."""
    told: list[str] = []
    passwords = LocalPasswords(store, clock, told.append)
    await passwords.current(ALICE)
    for number in range(CACHED + 10):
        await fits(passwords, f"{number}@example.com", typed(""))
    assert told == [ALICE]


async def test_a_store_that_cannot_be_read_ends_no_look_for_changes(store: Outage, clock: ManualClock) -> None:
    told: list[str] = []
    here, there = LocalPasswords(store, clock, told.append), LocalPasswords(store, clock)
    assert await fits(here, ALICE, typed(await there.current(ALICE)))
    await there.rotate(ALICE)
    async with asyncio.TaskGroup() as group:
        following = group.create_task(here.follow())
        for store.is_down, store.is_damaged in ((True, False), (True, True), (False, False)):
            await clock.until_asleep()
            clock.advance(RECHECK_AFTER)
            await clock.until_asleep()
            assert told == ([] if store.is_down else [ALICE])
        following.cancel()


async def test_two_processes_that_make_the_first_password_agree_on_one(clock: ManualClock) -> None:
    class Race(MemoryStore):
        """Lets another process write once between our read and our write."""

        other: LocalPasswords | None = None

        async def get(self, key: str) -> Record | None:
            found = await super().get(key)
            if (other := self.other) is not None:
                self.other = None
                await other.current(ALICE)
            return found

    store = Race(clock)
    here, there = LocalPasswords(store, clock), LocalPasswords(store, clock)
    store.other = there
    assert await here.current(ALICE) == await there.current(ALICE)


async def test_a_password_survives_that_its_account_is_away_for_a_while(store: Outage, clock: ManualClock) -> None:
    first = await LocalPasswords(store, clock).current(ALICE)
    assert await LocalPasswords(store, clock).current(ALICE) == first


@pytest.mark.parametrize(
    "content",
    [
        b'{"format": 3, "current": "CANARY", "previous": []}',
        b'{"format": 1, "current": "CANARY"',
        b'{"format": 1}',
        b'["CANARY"]',
        b"\xff",
        b"null",
    ],
)
async def test_a_record_that_cannot_be_read_is_reported_without_its_content_and_left_alone(
    content: bytes, passwords: LocalPasswords, store: Outage
) -> None:
    await store.put("password/" + ALICE, content, expected=NEW)
    for use in (fits(passwords, ALICE, typed("CANARY")), passwords.rotate(ALICE), passwords.current(ALICE)):
        with pytest.raises(StoreCorrupt) as caught:
            await use
        assert "CANARY" not in str(caught.value)
        assert caught.value.__cause__ is None
    record = await store.get("password/" + ALICE)
    assert record is not None
    assert record.value == content


async def test_a_damaged_record_is_replaced_by_a_new_password_and_its_error_says_how(
    store: Outage, clock: ManualClock
) -> None:
    sealed = SealedStore(store, Secret(bytes(KEY_BYTES)))
    key = "password/" + ALICE
    for content, is_replaced in ((b"\x01damaged", True), (b"\x02 of a newer one", False)):
        passwords = LocalPasswords(sealed, clock)
        await passwords.current(ALICE)
        record = await store.get(key)
        assert record is not None
        await store.put(key, content, expected=record.version)
        clock.advance(RECHECK_AFTER)
        with pytest.raises(StoreCorrupt) as caught:
            await fits(passwords, ALICE, typed(CHOSEN))
        assert (f"accounts password --rotate {ALICE}" in str(caught.value)) is is_replaced
        with pytest.raises(StoreCorrupt):
            await passwords.current(ALICE)
        if is_replaced:
            assert await fits(passwords, ALICE, typed(await passwords.rotate(ALICE)))
        else:
            with pytest.raises(StoreCorrupt):
                await passwords.rotate(ALICE)


async def test_a_damaged_record_can_be_removed_and_one_of_a_newer_mail_bridge_is_left(
    store: Outage, clock: ManualClock
) -> None:
    passwords, key = LocalPasswords(SealedStore(store, Secret(bytes(KEY_BYTES))), clock), "password/" + ALICE
    await passwords.current("bob@example.com")  # its record proves that the store has this key
    await store.put(key, b"\x01damaged", expected=NEW)
    await passwords.remove(ALICE)
    assert await store.get(key) is None
    await store.put(key, b"\x02 of a newer one", expected=NEW)
    with pytest.raises(StoreCorrupt):
        await passwords.remove(ALICE)
    assert await store.get(key) is not None


async def test_an_older_mail_bridge_can_read_what_holds_no_hash(passwords: LocalPasswords, store: Outage) -> None:
    formats = []

    async def noted(address: str) -> None:
        record = await store.get("password/" + address)
        assert record is not None
        formats.append(json.loads(record.value)["format"])

    await passwords.rotate(ALICE)
    await noted(ALICE)
    await passwords.keep("bob@example.com", Kept.of(typed(CHOSEN)))
    await noted("bob@example.com")
    await passwords.rotate("bob@example.com")
    await noted("bob@example.com")
    assert formats == [1, 2, 2], "the hash works on for a while"


async def test_guesses_at_names_without_number_do_not_fill_the_memory(passwords: LocalPasswords) -> None:
    right = await passwords.current(ALICE)
    for number in range(CACHED + 10):
        assert not await fits(passwords, f"user{number}@example.com", typed("CANARY wrong one"))
    assert len(passwords._cache) == CACHED
    assert await fits(passwords, ALICE, typed(right))


def test_what_a_login_needs_is_loaded_before_the_first_one() -> None:
    """A codec is a file: without a free descriptor, the first login of a process ended with a traceback."""
    wanted = "import sys, bridge.accounts.passwords; raise SystemExit('encodings.cp1252' not in sys.modules)"
    assert subprocess.run([sys.executable, "-c", wanted], check=False).returncode == 0
