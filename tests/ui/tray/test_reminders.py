"""When people are reminded of accounts that need a sign-in."""

from __future__ import annotations

from bridge.ui.tray.reminders import GAP, HOUR, Memory, decide
from tests.clocks import ManualClock

A, B, C = "a@example.com", "b@example.com", "c@example.com"


class Reminded:
    """Calls decide() again whenever it has asked for that, and records when how many accounts were reported."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.began = self.clock.now()
        self.memory = Memory()
        self.next: float | None = None

    def look(self, needing: list[str], pending: tuple[str, ...] = ()) -> tuple[str, ...]:
        decision = decide(needing, pending, self.memory, self.clock.now())
        self.memory, self.next = decision.memory, decision.look_again_at
        return decision.addresses

    def during(self, seconds: float, needing: list[str], pending: tuple[str, ...] = ()) -> list[tuple[float, int]]:
        """The reminders within that time: hours since the beginning, and the number of accounts."""
        end = self.clock.now() + seconds
        told = []
        while True:
            if addresses := self.look(needing, pending):
                told.append((round((self.clock.now() - self.began) / HOUR, 3), len(addresses)))
            if self.next is None or self.next > end:
                self.clock.advance(end - self.clock.now())
                return told
            assert self.next > self.clock.now(), "it would look for ever"
            self.clock.advance(self.next - self.clock.now())


def test_at_once_then_after_one_hour_then_four_then_daily() -> None:
    assert Reminded().during(80 * HOUR, [A]) == [(0, 1), (1, 1), (5, 1), (29, 1), (53, 1), (77, 1)]


def test_nobody_needed_nobody_told_and_no_reason_to_look_again() -> None:
    reminded = Reminded()
    assert reminded.look([]) == ()
    assert reminded.next is None


def test_many_at_once_are_one_notification() -> None:
    people = [f"p{number}@example.com" for number in range(300)]
    assert Reminded().during(30 * HOUR, people) == [(0, 300), (1, 300), (5, 300), (29, 300)]


def test_looking_often_tells_no_more_often() -> None:
    reminded = Reminded()
    told = 0
    for _ in range(600):
        told += bool(reminded.look([A]))
        reminded.clock.advance(5)
    assert told == 1


def test_one_after_another_for_an_hour_is_no_storm() -> None:
    reminded = Reminded()
    needing: list[str] = []
    notifications = 0
    mentioned: set[str] = set()
    for number in range(300):
        needing.append(f"p{number}@example.com")
        addresses = reminded.look(needing)
        notifications += bool(addresses)
        mentioned |= set(addresses)
        reminded.clock.advance(12)
    assert notifications <= 11
    reminded.clock.advance(HOUR)
    assert mentioned | set(reminded.look(needing)) == set(needing), "nobody is left out"


def test_a_second_account_waits_for_a_minute_only() -> None:
    reminded = Reminded()
    assert reminded.look([A]) == (A,)
    reminded.clock.advance(5)
    assert reminded.look([A, B]) == ()
    assert reminded.next == reminded.began + GAP
    reminded.clock.advance(55)
    assert reminded.look([A, B]) == (B,)


def test_an_account_that_is_due_soon_is_told_of_with_the_others() -> None:
    reminded = Reminded()
    assert reminded.look([A]) == (A,)
    reminded.clock.advance(0.8 * HOUR)
    assert reminded.look([A, B]) == (A, B)
    assert reminded.next == reminded.clock.now() + HOUR, "B's second time"


def test_nobody_is_told_of_a_sign_in_under_way_and_its_end_without_success_goes_on_as_before() -> None:
    reminded = Reminded()
    assert reminded.look([], (A,)) == ()
    assert reminded.next is None
    assert reminded.look([A]) == (A,)
    assert reminded.during(2 * HOUR, [], (A,)) == []
    assert reminded.look([A]) == (A,), "an hour has passed since the first time"
    reminded.clock.advance(600)
    assert reminded.look([], (A,)) == ()
    assert reminded.look([A]) == (), "given up after ten minutes: the next time is in four hours"


def test_who_has_signed_in_and_is_needed_again_is_told_at_once() -> None:
    reminded = Reminded()
    assert reminded.look([A]) == (A,)
    reminded.clock.advance(HOUR / 2)
    assert reminded.look([]) == ()
    reminded.clock.advance(HOUR / 4)
    assert reminded.look([A]) == (A,)
    assert reminded.next == reminded.clock.now() + HOUR


def test_a_wall_clock_that_is_set_back_makes_nobody_wait_for_longer() -> None:
    reminded = Reminded()
    assert reminded.look([A]) == (A,)
    reminded.clock.step(-30 * 24 * HOUR)
    assert reminded.look([A]) == ()
    assert reminded.next == reminded.clock.now() + HOUR
    reminded.clock.advance(HOUR)
    assert reminded.look([A]) == (A,)


def test_after_a_suspend_of_a_week_there_is_one_notification() -> None:
    reminded = Reminded()
    assert reminded.look([A, B, C]) == (A, B, C)
    reminded.clock.advance(7 * 24 * HOUR)
    assert reminded.look([A, B, C]) == (A, B, C)
    assert reminded.look([A, B, C]) == ()
