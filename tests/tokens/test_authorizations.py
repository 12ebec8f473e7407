"""Sign-ins: one for each account, a state works once and for ten minutes."""

from __future__ import annotations

import pytest

from bridge.errors import AuthorizationFailed, LimitReached, ProviderUnavailable
from bridge.model import Account, TokenSet
from bridge.notices import AuthorizationEnded, Notice, NoticeBus
from bridge.tokens import authorizations as module
from bridge.tokens.authorizations import LIFE, Authorizations
from tests.tokens.fakes import ALICE, SALES, HandClock, StrictProvider


class World:
    def __init__(self) -> None:
        self.clock = HandClock()
        self.provider = StrictProvider(self.clock)
        self.kept: list[tuple[Account, TokenSet]] = []
        self.notices: list[Notice] = []
        bus = NoticeBus()
        bus.on_notice(self.notices.append)
        uris = {"acme": "http://localhost:3017/"}
        self.authorizations = Authorizations({"acme": self.provider}, uris, self.clock, bus, self.keep)

    async def keep(self, account: Account, tokens: TokenSet) -> str:
        self.kept.append((account, tokens))
        return account.subject


async def test_a_sign_in_is_completed_by_its_state_and_kept() -> None:
    it = World()
    pending = await it.authorizations.begin(ALICE)
    assert await it.authorizations.complete({"state": pending.request.state, "code": "c"}) == ALICE.address
    assert [account for account, _ in it.kept] == [ALICE]
    assert it.authorizations.find(ALICE.address) is None


async def test_a_second_begin_gives_the_sign_in_under_way() -> None:
    it = World()
    assert await it.authorizations.begin(ALICE) is await it.authorizations.begin(ALICE)
    assert await it.authorizations.begin(SALES) is not await it.authorizations.begin(ALICE)


async def test_a_state_works_once() -> None:
    it = World()
    pending = await it.authorizations.begin(ALICE)
    await it.authorizations.complete({"state": pending.request.state, "code": "c"})
    with pytest.raises(AuthorizationFailed) as caught:
        await it.authorizations.complete({"state": pending.request.state, "code": "c"})
    assert caught.value.code == "unknown_state"
    assert len(it.kept) == 1


@pytest.mark.parametrize("parameters", [{}, {"state": ""}, {"state": "forged", "code": "c"}, {"state": "é\ud800"}])
async def test_peer_04_a_thousand_stray_answers_change_nothing(parameters: dict[str, str]) -> None:
    it = World()
    pending = await it.authorizations.begin(ALICE)
    for _ in range(1000):
        with pytest.raises(AuthorizationFailed, match="belongs to no sign-in"):
            await it.authorizations.complete(parameters)
    assert it.authorizations.find(ALICE.address) is pending
    assert it.notices == []


async def test_a_sign_in_ends_after_ten_minutes_by_the_monotonic_clock() -> None:
    it = World()
    pending = await it.authorizations.begin(ALICE)
    it.clock.set_wall(7200)
    assert it.authorizations.find(ALICE.address) is pending
    it.clock.advance(LIFE)
    with pytest.raises(AuthorizationFailed):
        await it.authorizations.complete({"state": pending.request.state, "code": "c"})
    (notice,) = it.notices
    assert isinstance(notice, AuthorizationEnded)
    assert notice.code == "expired"


async def test_a_denial_ends_the_sign_in_and_says_so() -> None:
    it = World()
    pending = await it.authorizations.begin(ALICE)
    with pytest.raises(AuthorizationFailed):
        await it.authorizations.complete({"state": pending.request.state, "error": "access_denied"})
    (notice,) = it.notices
    assert isinstance(notice, AuthorizationEnded)
    assert notice.code == "denied"
    assert it.kept == []


async def test_a_provider_that_is_away_ends_the_sign_in_and_a_new_one_can_begin() -> None:
    it = World()
    pending = await it.authorizations.begin(ALICE)
    it.provider.problem = ProviderUnavailable("away")
    with pytest.raises(ProviderUnavailable):
        await it.authorizations.complete({"state": pending.request.state, "code": "c"})
    assert await it.authorizations.begin(ALICE) is not pending


async def test_cancel_ends_it() -> None:
    it = World()
    pending = await it.authorizations.begin(ALICE)
    it.authorizations.cancel(ALICE.address)
    it.authorizations.cancel(ALICE.address)
    with pytest.raises(AuthorizationFailed):
        await it.authorizations.complete({"state": pending.request.state, "code": "c"})


async def test_the_number_of_sign_ins_under_way_is_bounded() -> None:
    it = World()
    for number in range(module.PENDING_LIMIT):
        await it.authorizations.begin(Account(f"u{number}@example.com", "acme", f"u{number}@example.com", {}))
    with pytest.raises(LimitReached):
        await it.authorizations.begin(ALICE)
