"""Sign-ins: one at a time for each account; a state works once and for ten minutes."""

from __future__ import annotations

import asyncio
import hmac
import io
from collections.abc import Awaitable, Mapping
from dataclasses import replace

import pytest

from bridge.advice.diagnosis import Diagnosis
from bridge.advice.said import said
from bridge.errors import (
    AuthorizationFailed,
    BridgeError,
    LimitReached,
    ProviderNotAsked,
    ProviderRefused,
    ProviderUnavailable,
    SignInUnsaved,
    StoreUnavailable,
    UpstreamRefused,
)
from bridge.model import Account, TokenSet
from bridge.notices import AuthorizationEnded, Notice, NoticeBus
from bridge.oauth.base import AuthorizationRequest, DevicePending, DeviceRequest, Provider
from bridge.tokens import authorizations as module
from bridge.tokens.authorizations import Authorizations, Pending
from bridge.tokens.sign_in_limits import PENDING_LIMIT, SHARE
from tests.tokens.fakes import ALICE, SALES, HandClock, ScriptedDevice, StrictProvider


class World:
    def __init__(self, *answers: DevicePending | Exception | None) -> None:
        """With `answers`, sign-ins are by device code."""
        self.clock = HandClock()
        self.strict = StrictProvider(self.clock)
        self.device = ScriptedDevice(self.strict, *answers)
        self.kept: list[tuple[Account, TokenSet]] = []
        self.notices: list[Notice] = []
        self.tried: list[str] = []
        self.is_full = False
        self.accounts = {account.address: account for account in (ALICE, SALES)}
        bus = NoticeBus()
        bus.on_notice(self.notices.append)
        uris = {"acme": "http://localhost:3017/"}
        self.providers: dict[str, Provider] = {"acme": self.device if answers else self.strict}
        self.authorizations = Authorizations(
            self.providers,
            uris,
            self.clock,
            bus,
            self.keep,
            self.accounts.get,
            self.try_store,
        )

    async def try_store(self, address: str) -> None:
        self.tried.append(address)
        if self.is_full:
            raise StoreUnavailable("the disk is full")

    async def keep(self, account: Account, tokens: TokenSet) -> str:
        self.kept.append((account, tokens))
        return account.subject


@pytest.fixture
def it() -> World:
    return World()


async def test_a_sign_in_is_completed_by_its_state_and_kept(it: World) -> None:
    pending = await it.authorizations.begin(ALICE)
    assert pending.expires_at == it.clock.now() + 600
    assert await it.authorizations.complete({"state": pending.state, "code": "c"}) == ALICE.address
    assert [account for account, _ in it.kept] == [ALICE]
    assert it.authorizations.find(ALICE.address) is None


async def test_a_second_begin_gives_the_sign_in_under_way(it: World) -> None:
    assert await it.authorizations.begin(ALICE) is await it.authorizations.begin(ALICE)
    assert await it.authorizations.begin(SALES) is not await it.authorizations.begin(ALICE)


@pytest.mark.parametrize(
    "mistake", [AuthorizationFailed("somebody else", code="wrong_person"), UpstreamRefused("no such mailbox")]
)
async def test_after_somebody_elses_sign_in_the_provider_is_to_ask_who_it_is(
    it: World, mistake: BridgeError, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By itself it takes whoever is signed in to the browser, so trying again would change nothing. This is about one
    person's browser: nobody else is asked."""

    async def try_once(address: Account, asker: str) -> None:
        pending = await it.authorizations.begin(address, asker)
        await it.authorizations.complete({"state": pending.state, "code": "c"})

    async def refuse(account: Account, tokens: TokenSet) -> str:
        raise mistake

    with monkeypatch.context() as patch:
        patch.setattr(it.authorizations, "_keep", refuse)
        for _ in range(2):
            with pytest.raises(type(mistake)):
                await try_once(ALICE, "alice")
    await try_once(ALICE, "a colleague")
    await try_once(SALES, "alice")
    await try_once(ALICE, "alice")
    await try_once(ALICE, "alice")
    assert it.strict.asked_who == [False, True, False, False, True, False]


async def test_a_sign_in_of_another_tab_that_began_before_the_mistake_is_not_given_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its provider would take the same wrong person once more. It goes on beside the new one."""
    it = World()
    first = await it.authorizations.begin(ALICE)
    it.clock.advance(400)
    second = await it.authorizations.begin(ALICE)

    async def refuse(account: Account, tokens: TokenSet) -> str:
        raise AuthorizationFailed("somebody else", code="wrong_person")

    with monkeypatch.context() as patch:
        patch.setattr(it.authorizations, "_keep", refuse)
        with pytest.raises(AuthorizationFailed):
            await it.authorizations.complete({"state": first.state, "code": "c"})
    third = await it.authorizations.begin(ALICE)
    assert it.strict.asked_who == [False, False, True]
    assert await it.authorizations.begin(ALICE) is third
    assert await it.authorizations.complete({"state": second.state, "code": "c"}) == ALICE.address


async def test_after_somebody_elses_sign_in_by_code_the_next_code_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever types a code is asked who they are in any case, so looking at the page again must bring no other code."""

    async def refuse(account: Account, tokens: TokenSet) -> str:
        raise AuthorizationFailed("somebody else", code="wrong_person")

    it = World(None, WAIT)
    with monkeypatch.context() as patch:
        patch.setattr(it.authorizations, "_keep", refuse)
        await device_ends(it)
    async with it.authorizations.running():
        assert await it.authorizations.begin(ALICE) is await it.authorizations.begin(ALICE)


@pytest.mark.parametrize(
    ("issuer", "is_taken"),
    [
        ("https://other.example/realms/office", False),
        ("https://OTHER.example:8443", False),
        ("https://acme.example", True),
        ("https://issuer.acme.example", True),  # as at Amazon Cognito, whose issuer has a host of its own
        ("https://[", True),
        ("other.example", True),  # no URL, so no issuer (RFC 9207 section 2)
        ("", True),
    ],
)
async def test_no_provider_is_given_the_code_of_another_one(it: World, issuer: str, is_taken: bool) -> None:
    """RFC 9700 section 4.4: the one that was asked may have sent the browser on to the other."""
    other = StrictProvider(it.clock)
    other.sign_in_host = "other.example"
    it.providers["other"] = other
    it.providers["device"] = ScriptedDevice(other)
    pending = await it.authorizations.begin(ALICE)
    parameters = {"state": pending.state, "code": "CANARY-code", "iss": issuer}
    if is_taken:
        assert await it.authorizations.complete(parameters) == ALICE.address
        return
    with pytest.raises(AuthorizationFailed) as failed:
        await it.authorizations.complete(parameters)
    assert failed.value.diagnosis is not None
    assert failed.value.diagnosis.key == "oauth.other_sign_in"
    assert it.strict.redeemed == []
    assert it.kept == []
    assert it.authorizations.find(ALICE.address) is None


async def test_a_sign_in_that_could_not_be_saved_is_not_begun() -> None:
    for it in (World(), World(DevicePending())):
        it.is_full = True
        async with it.authorizations.running():
            with pytest.raises(StoreUnavailable):
                await it.authorizations.begin(ALICE)
            assert it.authorizations.find(ALICE.address) is None
            assert it.device.begun == 0
            it.is_full = False
            await it.authorizations.begin(ALICE)
            assert it.authorizations.find(ALICE.address) is not None


async def test_the_disk_is_tried_once_for_each_sign_in_and_for_none_too_many(it: World) -> None:
    for _ in range(3):
        await it.authorizations.begin(ALICE)
    assert it.tried == [ALICE.address]
    for _ in range(SHARE):
        await it.authorizations.begin(ALICE, "a colleague")
        it.authorizations.cancel(ALICE.address)
    for _ in range(3):
        with pytest.raises(LimitReached):
            await it.authorizations.begin(ALICE, "a colleague")
    assert len(it.tried) == 1 + SHARE


async def test_whoever_begins_again_when_time_is_short_has_ten_minutes(it: World) -> None:
    first = await it.authorizations.begin(ALICE)
    it.clock.advance(300)
    assert await it.authorizations.begin(ALICE) is first
    it.clock.advance(1)
    second = await it.authorizations.begin(ALICE)
    assert second is not first
    assert await it.authorizations.begin(ALICE) is second
    it.clock.advance(599)
    with pytest.raises(AuthorizationFailed):
        await it.authorizations.complete({"state": first.state, "code": "c"})
    assert await it.authorizations.complete({"state": second.state, "code": "c"}) == ALICE.address
    (notice,) = it.notices
    assert isinstance(notice, AuthorizationEnded)
    assert (notice.code, notice.attempt) == ("cancelled", first.attempt), "no script is told: there is another one"


async def test_whoever_begins_again_may_still_finish_in_the_first_tab(it: World) -> None:
    first = await it.authorizations.begin(ALICE)
    it.clock.advance(400)
    second = await it.authorizations.begin(ALICE)
    it.clock.advance(100)
    assert await it.authorizations.complete({"state": first.state, "code": "c"}) == ALICE.address
    assert [account for account, _ in it.kept] == [ALICE]
    with pytest.raises(AuthorizationFailed, match="does not belong to any sign-in"):
        await it.authorizations.complete({"state": second.state, "code": "c"})
    assert it.notices == []


async def test_a_state_works_once(it: World) -> None:
    pending = await it.authorizations.begin(ALICE)
    await it.authorizations.complete({"state": pending.state, "code": "c"})
    with pytest.raises(AuthorizationFailed) as caught:
        await it.authorizations.complete({"state": pending.state, "code": "c"})
    assert caught.value.code == "unknown_state"
    assert len(it.kept) == 1


async def test_a_state_is_compared_with_all_in_constant_time(it: World, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = [await it.authorizations.begin(account) for account in (ALICE, SALES)]
    compared, real = [], hmac.compare_digest

    def compare(one: bytes, other: bytes) -> bool:
        compared.append(one)
        return real(one, other)

    monkeypatch.setattr(hmac, "compare_digest", compare)
    await it.authorizations.complete({"state": begun[0].state, "code": "c"})
    assert compared == [pending.state.encode() for pending in begun]


@pytest.mark.parametrize("parameters", [{}, {"state": ""}, {"state": "forged", "code": "c"}, {"state": "é\ud800"}])
async def test_peer_04_a_thousand_stray_answers_change_nothing(it: World, parameters: dict[str, str]) -> None:
    pending = await it.authorizations.begin(ALICE)
    for _ in range(1000):
        with pytest.raises(AuthorizationFailed, match="does not belong to any sign-in"):
            await it.authorizations.complete(parameters)
    assert it.authorizations.find(ALICE.address) is pending
    assert it.notices == []


async def test_a_sign_in_ends_after_ten_minutes_by_the_monotonic_clock(it: World) -> None:
    pending = await it.authorizations.begin(ALICE)
    it.clock.set_wall(7200)
    assert it.authorizations.find(ALICE.address) is pending
    it.clock.advance(599)
    assert it.authorizations.find(ALICE.address) is pending
    it.clock.advance(1)
    with pytest.raises(AuthorizationFailed):
        await it.authorizations.complete({"state": pending.state, "code": "c"})
    (notice,) = it.notices
    assert isinstance(notice, AuthorizationEnded)
    assert notice.code == "expired"
    # A provider's own error page does not redirect back, so this notice is all that the user ever hears.
    assert "error" in notice.reason
    assert "`mail-bridge check --online`" in notice.reason


async def test_a_sign_in_that_has_ended_by_time_is_no_longer_found(it: World) -> None:
    await it.authorizations.begin(ALICE)
    it.clock.advance(module.LIFE)
    assert it.authorizations.find(ALICE.address) is None
    assert len(it.notices) == 1


async def test_a_denial_ends_the_sign_in_and_says_so(it: World) -> None:
    pending = await it.authorizations.begin(ALICE)
    with pytest.raises(AuthorizationFailed):
        await it.authorizations.complete({"state": pending.state, "error": "access_denied"})
    (notice,) = it.notices
    assert isinstance(notice, AuthorizationEnded)
    assert notice.code == "denied"
    assert it.kept == []


async def test_a_provider_that_is_away_ends_the_sign_in_and_a_new_one_can_begin(it: World) -> None:
    pending = await it.authorizations.begin(ALICE)
    it.strict.problem = ProviderUnavailable("away")
    with pytest.raises(ProviderUnavailable):
        await it.authorizations.complete({"state": pending.state, "code": "c"})
    assert await it.authorizations.begin(ALICE) is not pending


def not_asked(wait: float = 120.0) -> ProviderNotAsked:
    return ProviderNotAsked(said("{host} refuses the connection.", host="acme.example"), wait=wait)


async def test_a_code_that_has_not_gone_out_can_be_brought_again(it: World) -> None:
    pending = await it.authorizations.begin(ALICE)
    it.strict.problem = not_asked()
    for _ in range(3):
        with pytest.raises(ProviderNotAsked, match=r"reload the page in 120 seconds") as caught:
            await it.authorizations.complete({"state": pending.state, "code": "c"})
        assert "acme.example refuses the connection." in str(caught.value)
        assert caught.value.wait == 120
        assert "No action is needed" not in str(caught.value)
        assert it.authorizations.find(ALICE.address) is pending
        it.clock.advance(120)
    assert it.notices == []
    it.strict.problem = None
    assert await it.authorizations.complete({"state": pending.state, "code": "c"}) == ALICE.address
    with pytest.raises(AuthorizationFailed, match="does not belong to any sign-in"):
        await it.authorizations.complete({"state": pending.state, "code": "c"})


async def test_a_code_that_has_not_gone_out_has_no_more_than_its_ten_minutes(it: World) -> None:
    pending = await it.authorizations.begin(ALICE)
    it.strict.problem = not_asked(10)
    it.clock.advance(580)
    with pytest.raises(ProviderNotAsked):
        await it.authorizations.complete({"state": pending.state, "code": "c"})
    it.strict.problem = not_asked(20)
    with pytest.raises(ProviderUnavailable, match="Start the sign-in again") as caught:
        await it.authorizations.complete({"state": pending.state, "code": "c"})
    assert not isinstance(caught.value, ProviderNotAsked)
    assert it.authorizations.find(ALICE.address) is None
    assert [type(notice) for notice in it.notices] == [AuthorizationEnded]


@pytest.mark.parametrize("change", ["cancel", "reload", "sign-in", "elsewhere"])
async def test_a_code_that_has_not_gone_out_does_not_outlive_its_account_s_sign_ins(it: World, change: str) -> None:
    first = await it.authorizations.begin(ALICE)
    redeeming, go_on = asyncio.Event(), asyncio.Event()

    async def redeem(request: AuthorizationRequest, parameters: Mapping[str, str]) -> TokenSet:
        if parameters["code"] == "other":
            return it.strict.issue()
        redeeming.set()
        await go_on.wait()
        raise not_asked()

    it.strict.redeem = redeem  # type: ignore[method-assign]  # one that a test can stop half-way
    async with asyncio.TaskGroup() as group:
        outcome = group.create_task(_raised(it.authorizations.complete({"state": first.state, "code": "c"})))
        await redeeming.wait()
        with pytest.raises(AuthorizationFailed, match="does not belong to any sign-in"):
            await it.authorizations.complete({"state": first.state, "code": "c"})
        second = await it.authorizations.begin(ALICE)
        if change == "sign-in":
            await it.authorizations.complete({"state": second.state, "code": "other"})
        elif change == "cancel":
            it.authorizations.cancel(ALICE.address)
        elif change == "reload":
            it.accounts[ALICE.address] = replace(ALICE, subject="bob@example.com")
            it.authorizations.drop_changed()
        else:
            it.authorizations.cancel(SALES.address)
        go_on.set()
    assert isinstance(outcome.result(), ProviderNotAsked) == (change == "elsewhere")
    if change == "elsewhere":
        assert await it.authorizations.begin(ALICE) is second, "the one that came back is not the newest"
        assert it.authorizations.find(ALICE.address) is first
    else:
        assert it.authorizations.find(ALICE.address) is None


async def _raised(completion: Awaitable[str]) -> BridgeError:
    with pytest.raises(BridgeError) as caught:
        await completion
    return caught.value


async def test_a_person_in_a_sign_in_is_never_told_that_nobody_has_to_act(it: World) -> None:
    pending = await it.authorizations.begin(ALICE)
    it.strict.problem = ProviderUnavailable(said("{host}: the answer takes too long", host="acme.example"))
    with pytest.raises(ProviderUnavailable, match="Start the sign-in again") as caught:
        await it.authorizations.complete({"state": pending.state, "code": "c"})
    assert "No action is needed" not in str(caught.value)
    (notice,) = it.notices
    assert isinstance(notice, AuthorizationEnded)
    assert notice.reason == str(caught.value)


async def test_cancel_ends_it(it: World) -> None:
    pending = await it.authorizations.begin(ALICE)
    it.authorizations.cancel(ALICE.address)
    it.authorizations.cancel(ALICE.address)
    with pytest.raises(AuthorizationFailed):
        await it.authorizations.complete({"state": pending.state, "code": "c"})


async def test_the_number_of_sign_ins_under_way_is_bounded(it: World) -> None:
    for number in range(PENDING_LIMIT):
        account = Account(f"u{number}@example.com", "acme", f"u{number}@example.com", {})
        it.accounts[account.address] = account
        await it.authorizations.begin(account)
    with pytest.raises(LimitReached):
        await it.authorizations.begin(ALICE)
    it.clock.advance(module.LIFE)
    await it.authorizations.begin(ALICE)


async def test_one_os_user_has_a_share_of_them(it: World) -> None:
    for number in range(SHARE):
        account = Account(f"u{number}@example.com", "acme", f"u{number}@example.com", {})
        await it.authorizations.begin(it.accounts.setdefault(account.address, account), "1001")
    with pytest.raises(LimitReached):
        await it.authorizations.begin(ALICE, "1001")
    await it.authorizations.begin(ALICE, "1002")
    await it.authorizations.begin(ALICE)
    it.clock.advance(600)
    await it.authorizations.begin(ALICE, "1001")


@pytest.mark.parametrize(("asker", "most"), [("1001", SHARE), ("", PENDING_LIMIT)])
async def test_those_that_begin_at_the_same_time_are_counted_before_the_store_and_the_provider_answer(
    asker: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    it, answered = World(), asyncio.Event()

    async def slow_store(address: str) -> None:
        await it.try_store(address)
        await answered.wait()

    monkeypatch.setattr(it.authorizations, "_try_store", slow_store)
    addresses = [f"u{number}@example.com" for number in range(most + 2)]
    it.accounts |= {address: Account(address, "acme", address, {}) for address in addresses}

    async def begin_all() -> list[Pending | BaseException]:
        all_of_them = (it.authorizations.begin(it.accounts[address], asker) for address in addresses)
        return await asyncio.gather(*all_of_them, return_exceptions=True)

    async with asyncio.TaskGroup() as group:
        beginning = group.create_task(begin_all())
        for _ in range(3):
            await asyncio.sleep(0)
        assert len(it.tried) == most, "nobody beyond the limit keeps the disk busy"
        answered.set()
    outcomes = beginning.result()
    assert [type(outcome) for outcome in outcomes] == [Pending] * most + [LimitReached] * 2
    it.clock.advance(600)
    await it.authorizations.begin(ALICE, asker)


async def test_who_could_not_begin_has_not_begun(it: World) -> None:
    it.is_full = True
    for _ in range(SHARE + 1):
        with pytest.raises(StoreUnavailable):
            await it.authorizations.begin(ALICE, "1001")
    it.is_full = False
    await it.authorizations.begin(ALICE, "1001")


async def test_only_sign_ins_that_come_to_nothing_count(it: World) -> None:
    for _ in range(SHARE + 1):
        pending = await it.authorizations.begin(ALICE, "1001")
        await it.authorizations.complete({"state": pending.state, "code": "c"})
    it.strict.problem = AuthorizationFailed("declined", code="denied")
    for _ in range(SHARE):
        pending = await it.authorizations.begin(ALICE, "1001")
        with pytest.raises(AuthorizationFailed):
            await it.authorizations.complete({"state": pending.state, "error": "access_denied"})
    with pytest.raises(LimitReached):
        await it.authorizations.begin(ALICE, "1001")


async def test_each_asker_has_a_sign_in_of_their_own_and_the_first_good_end_is_that_of_all(it: World) -> None:
    mine, theirs, another = [await it.authorizations.begin(ALICE, asker) for asker in ("1000", "1001", "")]
    sales = await it.authorizations.begin(SALES, "1001")
    assert len({pending.state for pending in (mine, theirs, another)}) == 3
    assert it.authorizations.find(ALICE.address, {"1001", ""}) is theirs
    assert it.authorizations.find(ALICE.address, {"1002"}) is None
    it.strict.problem = AuthorizationFailed("declined", code="denied")
    with pytest.raises(AuthorizationFailed):
        await it.authorizations.complete({"state": theirs.state, "error": "access_denied"})
    assert it.notices == [AuthorizationEnded(ALICE.address, "denied", "declined", None, theirs.attempt)]
    it.strict.problem = None
    await it.authorizations.complete({"state": mine.state, "code": "c"})
    with pytest.raises(AuthorizationFailed, match="does not belong to any sign-in"):
        await it.authorizations.complete({"state": another.state, "code": "c"})
    assert it.authorizations.find(ALICE.address) is None
    assert it.authorizations.find(SALES.address) is sales
    assert len(it.notices) == 1, "the others end without a word"


# --- by device code (RFC 8628) --------------------------------------------------------------------------------------

WAIT, SLOW = DevicePending(), DevicePending(slow_down=True)


@pytest.mark.parametrize("kind", [ProviderUnavailable, ProviderNotAsked])
async def test_who_cannot_begin_is_told_when_to_come_back(kind: type[ProviderUnavailable]) -> None:
    """The person is told to start again, whether or not anything has reached the provider: nothing is under way."""
    it = World(WAIT)
    it.device.problem = kind(said("{host} refuses the connection.", host="acme.example"))
    async with it.authorizations.running():
        with pytest.raises(ProviderUnavailable, match="Start the sign-in again in a few minutes") as caught:
            await it.authorizations.begin(ALICE)
    assert "No action is needed" not in str(caught.value)
    assert "acme.example refuses the connection." in str(caught.value)


async def test_a_second_begin_gives_the_code_under_way() -> None:
    it = World(WAIT, WAIT, None)
    async with it.authorizations.running():
        pending = await it.authorizations.begin(ALICE)
        assert isinstance(pending.request, DeviceRequest)
        assert pending.expires_at == it.clock.now() + 900
        assert await it.authorizations.begin(ALICE) is pending
    assert it.device.begun == 1


async def test_whoever_begins_again_when_the_code_is_nearly_over_gets_a_new_one() -> None:
    it = World(WAIT)
    async with it.authorizations.running():
        first = await it.authorizations.begin(ALICE)
        it.clock.advance(500)
        second = await it.authorizations.begin(ALICE)
        assert isinstance(first.request, DeviceRequest)
        assert isinstance(second.request, DeviceRequest)
        assert first.request.user_code != second.request.user_code
        assert await it.authorizations.begin(ALICE) is second
        it.authorizations.cancel(ALICE.address)


async def test_the_first_code_works_too_where_a_second_one_was_asked_for() -> None:
    it = World(WAIT)
    async with it.authorizations.running():
        await it.authorizations.begin(ALICE)
        it.clock.advance(500)
        await it.authorizations.begin(ALICE)
        it.device.finished.add("CODE-1")
        while it.authorizations.find(ALICE.address) is not None:
            await asyncio.sleep(0)
    assert [account for account, _ in it.kept] == [ALICE]


async def device_ends(it: World) -> Pending:
    """Begin a sign-in, and return once it is over."""
    async with it.authorizations.running():
        pending = await it.authorizations.begin(ALICE)
        while it.authorizations.find(ALICE.address) is not None:
            await asyncio.sleep(0)
    return pending


async def test_polls_keep_the_interval_and_slow_down_makes_it_longer_for_good() -> None:
    it = World(WAIT, SLOW, WAIT, None)
    start = it.clock.monotonic()
    await device_ends(it)
    assert [at - start for at in it.device.polls] == [5, 10, 20, 30]
    assert [account for account, _ in it.kept] == [ALICE]
    assert it.notices == []  # it is keep() that reports Authorized


@pytest.mark.parametrize(("interval", "polls"), [(5000.0, [60, 120]), (90.0, [90, 180])])
async def test_an_interval_that_the_code_does_not_outlive_is_cut(interval: float, polls: list[float]) -> None:
    """Milliseconds, for instance: the person enters the code, and nobody would ask for the tokens."""
    it = World(WAIT, None)
    it.device.interval = interval
    start = it.clock.monotonic()
    await device_ends(it)
    assert [at - start for at in it.device.polls] == polls
    assert len(it.kept) == 1


async def test_an_outage_between_two_polls_ends_nothing_and_is_asked_less_and_less() -> None:
    away = ProviderUnavailable("away")
    it = World(away, away, away, away, away, WAIT, None)
    start = it.clock.monotonic()
    await device_ends(it)
    assert [at - start for at in it.device.polls] == [5, 15, 35, 75, 135, 195, 200]
    assert len(it.kept) == 1


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (AuthorizationFailed("declined", code="denied"), "denied"),
        (AuthorizationFailed("too late", code="expired"), "expired"),
        (ProviderRefused("no such app"), "provider"),
    ],
)
async def test_an_answer_that_ends_a_device_sign_in_is_told_once(
    answer: BridgeError, code: str, log: io.StringIO
) -> None:
    it = World(WAIT, answer)
    pending = await device_ends(it)
    assert it.kept == []
    assert it.notices == [AuthorizationEnded(ALICE.address, code, str(answer), answer.diagnosis, pending.attempt)]
    assert len(it.device.polls) == 2
    assert "sign_in.bug" not in log.getvalue()
    assert ("sign_in.failed" in log.getvalue()) is (code != "expired"), "that time is up is nobody's trouble"


BUG = Diagnosis.of("sign_in.bug")


async def test_a_bug_in_one_device_sign_in_ends_that_one_only(log: io.StringIO) -> None:
    it = World(WAIT, RuntimeError("of ours"))
    pending = await device_ends(it)  # would raise the error if it had reached the task group of all sign-ins
    assert it.notices == [AuthorizationEnded(ALICE.address, "bug", BUG.told(), BUG, pending.attempt)]
    assert '"event": "sign_in.bug"' in log.getvalue()
    assert "RuntimeError" in log.getvalue()


async def test_a_bug_behind_the_browsers_return_is_told_too(it: World) -> None:
    """Otherwise whoever waits for the end of this sign-in, such as `authorize`, would wait for ever."""
    it.strict.problem = RuntimeError("of ours")
    pending = await it.authorizations.begin(ALICE)
    with pytest.raises(RuntimeError):
        await it.authorizations.complete({"state": pending.state, "code": "c"})
    assert it.notices == [AuthorizationEnded(ALICE.address, "bug", BUG.told(), BUG, pending.attempt)]


async def test_a_code_that_nobody_types_expires_and_is_polled_no_more() -> None:
    it = World(WAIT)
    await device_ends(it)
    (notice,) = it.notices
    assert isinstance(notice, AuthorizationEnded)
    assert notice.code == "expired"
    assert len(it.device.polls) == 179  # every 5 s within 900 s


class SlowToKeep(World):
    """The store takes a moment to save."""

    async def keep(self, account: Account, tokens: TokenSet) -> str:
        await asyncio.sleep(0)
        return await super().keep(account, tokens)


async def test_what_a_code_has_brought_is_kept_though_nobody_polls_any_more() -> None:
    it = SlowToKeep(None)
    await device_ends(it)
    assert [account for account, _ in it.kept] == [ALICE]


class FullWhenKept(World):
    """The disk has become full since the sign-in began."""

    async def keep(self, account: Account, tokens: TokenSet) -> str:
        raise SignInUnsaved("the disk is full")


async def test_a_sign_in_that_waits_to_be_saved_is_told_as_that() -> None:
    """By code or by browser: nobody has to sign in again."""
    by_code, by_browser = FullWhenKept(None), FullWhenKept()
    await device_ends(by_code)
    pending = await by_browser.authorizations.begin(ALICE)
    with pytest.raises(SignInUnsaved):
        await by_browser.authorizations.complete({"state": pending.state, "code": "c"})
    for it in (by_code, by_browser):
        (notice,) = it.notices
        assert isinstance(notice, AuthorizationEnded)
        assert (notice.code, notice.diagnosis and notice.diagnosis.key) == ("unsaved", "sign_in.unsaved")


@pytest.mark.parametrize("parameters", [{}, {"state": ""}, {"state": "", "code": "c"}])
async def test_a_browser_that_comes_back_without_a_state_belongs_to_no_sign_in_by_code(
    parameters: dict[str, str],
) -> None:
    it = World(WAIT)
    async with it.authorizations.running():
        pending = await it.authorizations.begin(ALICE)
        with pytest.raises(AuthorizationFailed, match="does not belong to any sign-in"):
            await it.authorizations.complete(parameters)
        assert it.authorizations.find(ALICE.address) is pending


async def test_a_cancelled_code_is_polled_no_more_and_a_new_one_may_follow() -> None:
    it = World(WAIT)
    async with it.authorizations.running():
        first = await it.authorizations.begin(ALICE)
        it.authorizations.cancel(ALICE.address)
        second = await it.authorizations.begin(ALICE)
        assert first.request != second.request
        it.authorizations.drop_provider("acme")
        polls = len(it.device.polls)
        for _ in range(10):
            await asyncio.sleep(0)
        assert len(it.device.polls) == polls
    assert [notice.code for notice in it.notices if isinstance(notice, AuthorizationEnded)] == ["cancelled"] * 2


class SlowToAnswer(ScriptedDevice):
    """The person has finished, but the provider's answer takes a while."""

    def __init__(self, behind: StrictProvider) -> None:
        super().__init__(behind, None)
        self.polled, self.gate = asyncio.Event(), asyncio.Event()

    async def poll(self, request: DeviceRequest) -> TokenSet | DevicePending:
        self.polled.set()
        await self.gate.wait()
        return await super().poll(request)


@pytest.mark.parametrize("is_begun_again", [False, True])
async def test_what_was_cancelled_while_the_provider_answers_brings_nothing_and_ends_no_other(
    it: World, is_begun_again: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = SlowToAnswer(it.strict)
    monkeypatch.setattr(it.authorizations, "_providers", {"acme": device})
    async with it.authorizations.running():
        await it.authorizations.begin(ALICE)
        await device.polled.wait()
        it.authorizations.cancel(ALICE.address)
        second = await it.authorizations.begin(ALICE) if is_begun_again else None
        for _ in range(5):
            await asyncio.sleep(0)
        assert it.authorizations.find(ALICE.address) is second
        it.authorizations.cancel(ALICE.address)
        device.gate.set()
        for _ in range(5):
            await asyncio.sleep(0)
    assert it.kept == []


@pytest.mark.parametrize("now", [replace(ALICE, subject="bob@example.com"), None])
async def test_a_reload_ends_the_sign_ins_of_accounts_that_it_has_changed(it: World, now: Account | None) -> None:
    changed, other = await it.authorizations.begin(ALICE), await it.authorizations.begin(SALES)
    del it.accounts[ALICE.address]
    if now is not None:
        it.accounts[ALICE.address] = now
    it.authorizations.drop_changed()
    assert it.authorizations.find(ALICE.address) is None
    assert it.authorizations.find(SALES.address) is other
    (notice,) = it.notices
    assert isinstance(notice, AuthorizationEnded)
    assert (notice.code, notice.attempt) == ("cancelled", changed.attempt)


async def test_a_provider_that_has_become_another_one_ends_its_own_sign_ins(it: World) -> None:
    mine, other = await it.authorizations.begin(ALICE), await it.authorizations.begin(SALES)
    it.authorizations.drop_provider("another")
    assert [it.authorizations.find(account.address) for account in (ALICE, SALES)] == [mine, other]
    it.authorizations.drop_provider(ALICE.provider)
    assert it.authorizations.find(ALICE.address) is None


async def test_leaving_ends_the_polls_under_way() -> None:
    it = World(WAIT)
    async with asyncio.timeout(60), it.authorizations.running():
        await it.authorizations.begin(ALICE)
    assert it.kept == []
    assert it.notices == [], "by its own time nothing has ended"
    with pytest.raises(StoreUnavailable, match="mail-bridge is stopping"):
        await it.authorizations.begin(SALES)


class Unattended:
    """A provider where nobody signs in, with no more methods than such a one has."""

    name = "acme"
    fingerprint = "one"
    client = "mine"
    consent = "mine"
    is_unattended = True

    def __init__(self, behind: StrictProvider) -> None:
        self.refresh, self.adopt, self.revoke, self.close = behind.refresh, behind.adopt, behind.revoke, behind.close


async def test_where_nobody_signs_in_nobody_is_asked_to(it: World) -> None:
    unattended = Authorizations(
        {"acme": Unattended(it.strict)}, {}, it.clock, NoticeBus(), it.keep, it.accounts.get, it.try_store
    )
    async with unattended.running():
        with pytest.raises(AuthorizationFailed, match=r"Nobody has to sign in for alice@example\.com") as caught:
            await unattended.begin(ALICE)
    assert caught.value.code == "unattended"
