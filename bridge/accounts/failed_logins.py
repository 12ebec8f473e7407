"""Failed logins: how long a "no" waits, and how many passwords one caller may try; bounded, and forgotten in time.

Counted for each caller (an OS user, or another machine) and user name, never for 127.0.0.1. The consequences:

- The right password is compared at once, however many wrong ones there were: only the answer "no" waits.
- That alone bounds nothing: an attacker need not wait for a "no", because a missing "yes" tells as much. So a caller
  may try only so many *different* passwords for a name. The same wrong one again is no guess: a CRM sends it all night.
- A mail program that is told "no" tries the same password with every mechanism that it knows, on the same connection.
  For the person that is one wrong login, so the repetitions neither wait nor count. Programs that are told "no" for
  the third time after half a minute say that the server does not answer, and not that the password is wrong.
- The same wrong password on a new connection waits, since programs repeat it in a loop, but not as long as a new one.
- Beyond that number, a password that is right but could be guessed is not accepted any more. One of our random ones
  could not be guessed, and one that this caller has shown before is no guess. So the limit affects only a caller who
  has tried twenty wrong passwords for an account with a weak one, and has never had the right one.
- All this holds for a name without an account, too, so that nothing tells the two apart.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections import OrderedDict, deque
from dataclasses import dataclass, field

from bridge.clock import Clock
from bridge.errors import LimitReached
from bridge.secret import Secret

AT_ONCE = 3
"""Wrong logins that are answered without delay: typing errors."""
FIRST_DELAY = 0.5
LONGEST_DELAY = 10.0
"""The delay doubles from the first to the longest, which is far below the 30 s after which a CRM reports a broken
connection."""
LONGEST_AGAIN = 4.0
"""The longest delay for a password that this caller has been refused before: shorter than the 5 s after which node-imap
says that the server does not answer. Whoever repeats it learns nothing from a "no" that comes sooner."""
FORGET_EVERY = 30.0
"""Seconds after which one wrong login is forgotten."""

GUESSES = 20
"""Different wrong passwords allowed: more than a person knows, and hopeless against eight characters."""
GUESS_EVERY = 300.0
"""Seconds until one more is allowed: 288 a day."""
SAME_ONES = 8
"""How many wrong passwords are recognised when they come again."""

WAITING = 8
"""The most answers "no" that wait at the same time, for one caller and name; the next login is told "later"."""

CALLERS = 1024
NAMES = 32
"""User names remembered for each caller. All other names share one record: otherwise a caller could try a thousand
made-up names to have the record of the real one forgotten."""
SHARED = b""
"""The key of the shared record, in place of a name's hash."""
SHOWN = 8192
"""Right passwords remembered. Only callers who know a right password get in here, so others cannot fill it."""


@dataclass(slots=True)
class _Record:
    failures: float = 0.0
    guesses: float = 0.0
    seen_at: float = 0.0
    waiting: int = 0
    wrong: deque[bytes] = field(default_factory=lambda: deque(maxlen=SAME_ONES))

    def age(self, now: float) -> None:
        """Reduce the counts by the time that has passed."""
        passed, self.seen_at = now - self.seen_at, now
        self.failures = max(0.0, self.failures - passed / FORGET_EVERY)
        self.guesses = max(0.0, self.guesses - passed / GUESS_EVERY)

    @property
    def is_forgotten(self) -> bool:
        return not (self.failures or self.guesses or self.waiting)


class FailedLogins:
    """The wrong logins of one process's callers, as far as they are not forgotten."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._key = secrets.token_bytes(32)
        self._callers: OrderedDict[str, dict[bytes, _Record]] = OrderedDict()
        self._shown: OrderedDict[tuple[str, bytes], None] = OrderedDict()
        """By caller and hash of name and password, because for a week after a change two passwords are right."""

    def may_try(self, caller: str, name: str, password: Secret[bytes]) -> bool:
        """False if this caller has used up its guesses. To be asked for a right password that could be guessed.

        Args: caller, a Caller.key.
        """
        if (caller, self._hash(name, password)) in self._shown:
            return True
        record = self._find(caller, name)
        return record is None or record.guesses <= GUESSES - 1

    def right(self, caller: str, name: str, password: Secret[bytes]) -> None:
        """Note that this caller has shown the right password, which is no guess from now on."""
        key = (caller, self._hash(name, password))
        self._shown[key] = None
        self._shown.move_to_end(key)
        while len(self._shown) > SHOWN:
            self._shown.popitem(last=False)

    async def wrong(self, caller: str, name: str, password: Secret[bytes], *, is_repeated: bool = False) -> None:
        """Count a wrong login, and return when the client may be told "no".

        Args: is_repeated, see Login; a worker may say so of any login, so it holds only for a password known as wrong.
        Raises: LimitReached if the client must be told "later": its guesses are used up, or too many answers wait.
        """
        record = self._record(caller, name)
        guess = self._hash(name, password)
        is_known = guess in record.wrong
        if is_known and is_repeated:
            return
        if not is_known:
            if record.guesses > GUESSES - 1:
                raise LimitReached(f"{GUESSES} different wrong passwords were tried; one more is allowed in a while")
            record.guesses += 1
            record.wrong.append(guess)
        record.failures += 1
        if record.waiting >= WAITING:
            raise LimitReached(f"{WAITING} wrong logins wait for their answer already")
        record.waiting += 1
        try:
            if seconds := min(delay(record.failures), LONGEST_AGAIN if is_known else LONGEST_DELAY):
                await self._clock.pause(seconds)
        finally:
            record.waiting -= 1

    def _find(self, caller: str, name: str) -> _Record | None:
        names = self._callers.get(caller, {})
        record = names.get(self._hash(name)) or names.get(SHARED)
        if record is not None:
            record.age(self._clock.monotonic())
        return record

    def _record(self, caller: str, name: str) -> _Record:
        names = self._callers.setdefault(caller, {})
        self._callers.move_to_end(caller)
        while len(self._callers) > CALLERS:
            self._callers.popitem(last=False)
        now, key = self._clock.monotonic(), self._hash(name)
        for record in names.values():
            record.age(now)
        if key not in names and _is_full(names):
            for old in [old for old, record in names.items() if record.is_forgotten]:
                del names[old]
        if key not in names and _is_full(names):
            key = SHARED
        return names.setdefault(key, _Record(seen_at=now))

    def _hash(self, name: str, password: Secret[bytes] | None = None) -> bytes:
        """Of fixed length, since the attacker chooses the names; and no password is kept in the clear."""
        text = name.encode("utf-8", "surrogatepass") + (b"" if password is None else b"\0" + password.reveal())
        return hmac.digest(self._key, text, hashlib.sha256)[:16]


def _is_full(names: dict[bytes, _Record]) -> bool:
    """True also while a shared record exists: a name that then got a record of its own would have twice the guesses."""
    return len(names) >= NAMES or SHARED in names


def delay(failures: float) -> float:
    """Seconds that the answer to the last of this many wrong logins waits."""
    over = failures - AT_ONCE
    return 0.0 if over <= 0 else min(FIRST_DELAY * 2.0 ** min(over - 1, 10), LONGEST_DELAY)
