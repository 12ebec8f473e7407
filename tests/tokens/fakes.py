"""A provider in memory that rotates its grants strictly or is unattended, a store that can fail, and a manual clock."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace

from bridge.errors import AuthorizationFailed, GrantRevoked, StoreUnavailable
from bridge.model import AccessToken, Account, Subject, TokenSet
from bridge.oauth.base import AuthorizationRequest, DevicePending, DeviceRequest
from bridge.secret import Secret
from bridge.stores.base import Record
from bridge.stores.memory import MemoryStore

LIFE = 3600.0
ALICE = Account("alice@example.com", "acme", "alice@example.com", {})
SALES = Account("sales@example.com", "acme", "alice@example.com", {})


class HandClock:
    """Time moves only when a test moves it, or by a pause."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self._now = now
        self._monotonic = 1000.0

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    def advance(self, seconds: float) -> None:
        self._now += seconds
        self._monotonic += seconds

    def set_wall(self, seconds: float) -> None:
        """Move the wall clock alone."""
        self._now += seconds

    async def pause(self, seconds: float) -> None:
        await asyncio.sleep(0)
        self.advance(seconds)


class StrictProvider:
    """Each grant works once; each access token comes with the grant's successor."""

    name = "acme"
    is_unattended = False

    def __init__(self, clock: HandClock, subject: Subject | None = None) -> None:
        self.fingerprint = "one"
        self.client = "mine"
        self.consent = "mine"
        self.sign_in_host = "acme.example"
        self.is_unattended = False
        self.clock = clock
        self.subject: Subject | None = subject or Subject("alice@example.com", "id-1")
        self.refreshes = 0
        self.subjects: list[str] = []
        """The subject of each call of refresh()."""
        self.asked_who: list[bool] = []
        """For each call of begin()."""
        self.redeemed: list[str] = []
        """The state of each request that it was asked to redeem."""
        self.revoked: list[str] = []
        self.has_revocation = True
        self.problem: Exception | None = None
        self.gate = asyncio.Event()
        """refresh() waits while this is clear."""
        self.gate.set()
        self.entered = asyncio.Event()
        self.revoking = asyncio.Event()
        """revoke() waits while this is clear."""
        self.revoking.set()
        self._count = 0
        self._good = ""

    def issue(self) -> TokenSet:
        self._count += 1
        now = self.clock.now()
        self._good = f"CANARY-grant-{self._count}"
        access = AccessToken(Secret(f"CANARY-access-{self._count}"), now + LIFE, now)
        return TokenSet(access, Secret(self._good), frozenset({"mail"}), self.subject)

    def end(self) -> None:
        self._good = ""

    async def begin(self, *, login_hint: str, redirect_uri: str, asks_who: bool = False) -> AuthorizationRequest:
        self._count += 1
        self.asked_who.append(asks_who)
        state = f"state-{self._count}"
        return AuthorizationRequest(f"https://acme.example/authorize?state={state}", state, Secret("CANARY-verifier"))

    async def redeem(self, request: AuthorizationRequest, parameters: Mapping[str, str]) -> TokenSet:
        self.redeemed.append(request.state)
        if self.problem is not None:
            raise self.problem
        if parameters.get("error"):
            raise AuthorizationFailed("declined", code="denied")
        return self.issue()

    async def refresh(self, grant: Secret[str], *, subject: str) -> TokenSet:
        self.refreshes += 1
        self.subjects.append(subject)
        self.entered.set()
        await self.gate.wait()
        if self.problem is not None:
            raise self.problem
        if self.is_unattended:
            return replace(self.issue(), grant=Secret(""), subject=None)
        if grant.reveal() != self._good:
            raise GrantRevoked("this grant was used before, or has ended")
        tokens = self.issue()
        return TokenSet(tokens.access, tokens.grant, tokens.scopes, None)

    async def adopt(self, refresh_token: Secret[str]) -> TokenSet:
        tokens = await self.refresh(refresh_token, subject="")
        return TokenSet(tokens.access, tokens.grant, tokens.scopes, self.subject)

    async def revoke(self, grant: Secret[str]) -> bool:
        await self.revoking.wait()
        if self.problem is not None:
            raise self.problem
        if not self.has_revocation:
            return False
        self.revoked.append(grant.reveal())
        return True

    async def close(self) -> None:
        pass


class FailingStore(MemoryStore):
    """A store whose disk is full or cannot be reached, as the test says."""

    def __init__(self) -> None:
        super().__init__()
        self.is_full = False
        self.is_away = False
        self.asked_in_vain = 0
        """How many reads failed because it could not be reached."""

    def peek(self, key: str) -> tuple[bytes | None, int]:
        """A record and its version, to be put back as from a backup."""
        return self._records[key]

    def poke(self, key: str, value: bytes | None, version: int) -> None:
        """Put a record back with its old version."""
        self._records[key] = value, version

    async def get(self, key: str) -> Record | None:
        self._there()
        return await super().get(key)

    async def keys(self, prefix: str) -> list[str]:
        self._there()
        return await super().keys(prefix)

    def _there(self) -> None:
        if self.is_away:
            self.asked_in_vain += 1
            raise StoreUnavailable("the disk is away")

    async def put(self, key: str, value: bytes, *, expected: int) -> int:
        if self.is_full:
            raise StoreUnavailable("the disk is full")
        return await super().put(key, value, expected=expected)


class ScriptedDevice:
    """Sign-in by device code: each poll takes the next of `answers`, to return or to raise; the last one stays."""

    name = "acme"
    is_unattended = False
    fingerprint = "one"
    client = "mine"
    consent = "mine"

    def __init__(self, behind: StrictProvider, *answers: DevicePending | Exception | None) -> None:
        """The answer None means that the person has finished, and `behind` issues the tokens."""
        self._behind = behind
        self._answers = list(answers)
        self.polls: list[float] = []
        """The time of each poll, by the monotonic clock."""
        self.begun = 0
        self.interval = 5.0
        self.problem: Exception | None = None
        """begin_device() raises this."""
        self.finished: set[str] = set()
        """User codes that the person has entered; they succeed whatever `answers` says."""

    async def begin_device(self) -> DeviceRequest:
        if self.problem is not None:
            raise self.problem
        self.begun += 1
        url = "https://acme.example/device"
        return DeviceRequest(f"CODE-{self.begun}", url, f"{url}?c=1", 900.0, self.interval, Secret("CANARY-device"))

    async def poll(self, request: DeviceRequest) -> TokenSet | DevicePending:
        self.polls.append(self._behind.clock.monotonic())
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        if request.user_code in self.finished:
            return self._behind.issue()
        return self._behind.issue() if answer is None else answer

    async def refresh(self, grant: Secret[str], *, subject: str) -> TokenSet:
        return await self._behind.refresh(grant, subject=subject)

    async def adopt(self, refresh_token: Secret[str]) -> TokenSet:
        return await self._behind.adopt(refresh_token)

    async def revoke(self, grant: Secret[str]) -> bool:
        return await self._behind.revoke(grant)

    async def close(self) -> None:
        pass
