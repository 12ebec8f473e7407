"""What a record keeps of a sign-in that the provider has ended, and the errors for records that cannot be read."""

from __future__ import annotations

import json
import traceback

import pytest

from bridge.advice.diagnosis import Diagnosis
from bridge.errors import StoreCorrupt
from bridge.model import AccessToken, TokenSet
from bridge.secret import Secret
from bridge.stores.memory import MemoryStore
from bridge.stores.sealed import KEY_BYTES, SealedStore
from bridge.tokens.vault import Entry, Stored, Vault
from tests.tokens.fakes import ALICE

WHY = Diagnosis.of("sign_in.other_person", "AADSTS50173: é", person="bob@example.com")
ENTRY = Entry(
    "acme",
    "one",
    ALICE.subject,
    TokenSet(AccessToken(Secret("CANARY-access"), 2.0, 1.0), Secret("CANARY-grant"), ends_at=3.0),
    ended=WHY.told(),
    diagnosis=WHY,
)


@pytest.mark.parametrize("diagnosis", [WHY, None], ids=["explained", "unexplained"])
async def test_the_reason_can_be_told_in_any_language_after_a_restart(diagnosis: Diagnosis | None) -> None:
    store = MemoryStore()
    entry = Entry("acme", "one", ALICE.subject, ENTRY.tokens, WHY.told(), diagnosis)
    await Vault(store).save(ALICE.address, entry, expected=0)
    assert (await Vault(store).load(ALICE.address)).entry == entry


@pytest.mark.parametrize(
    "written",
    [None, [], ["of.tomorrow", [], ""], ["sign_in.other_person", [], ""], {"key": "x"}, 5, ["mail.busy", 5, ""]],
)
async def test_the_record_of_another_version_still_has_its_english_reason(written: object) -> None:
    store = MemoryStore()
    await Vault(store).save(ALICE.address, ENTRY, expected=0)
    (key,) = await store.keys("")
    record = await store.get(key)
    assert record is not None
    content = json.loads(record.value) | {"diagnosis": written}
    await store.put(key, json.dumps(content).encode(), expected=record.version)
    found = (await Vault(store).load(ALICE.address)).entry
    assert found is not None
    assert (found.ended, found.diagnosis) == (WHY.told(), None)


async def test_a_record_from_before_diagnoses_and_clients_is_read() -> None:
    store = MemoryStore()
    await Vault(store).save(ALICE.address, ENTRY, expected=0)
    (key,) = await store.keys("")
    record = await store.get(key)
    assert record is not None
    content = json.loads(record.value)
    del content["diagnosis"], content["client"], content["ends_at"]
    await store.put(key, json.dumps(content).encode(), expected=record.version)
    found = (await Vault(store).load(ALICE.address)).entry
    assert found is not None
    assert found.ended == WHY.told()


async def test_what_is_tried_out_is_taken_back() -> None:
    """Otherwise the next try would take the lease left behind for another process's write."""
    store = MemoryStore()
    await Vault(store).try_out(ALICE.address)
    assert store._leases == {}
    assert await store.keys("") == []


# --- what cannot be read ---


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def vault(store: MemoryStore) -> Vault:
    return Vault(SealedStore(store, Secret(bytes(KEY_BYTES))))


SPOILED = {
    "format": 1,
    "provider": "acme",
    "fingerprint": "one",
    "signed_in_as": "",
    "subject": None,
    "access": ["CANARY-access", "CANARY-is-no-number", 1.0],
}


async def spoiled(store: MemoryStore, vault: Vault, head: bytes) -> None:
    """Alice's record, which now begins with `head`."""
    await vault.save(ALICE.address, ENTRY, expected=0)
    (key,) = await store.keys("grant/")
    record = await store.get(key)
    assert record is not None
    await store.put(key, head + record.value[1:-1], expected=record.version)


async def test_a_damaged_record_is_told_with_both_ways_out_and_can_be_replaced(
    store: MemoryStore, vault: Vault
) -> None:
    await spoiled(store, vault, b"\x01")
    ways_out = r"is damaged.*; signing in again replaces it; to give it up, run: mail-bridge accounts forget alice@"
    with pytest.raises(StoreCorrupt, match=ways_out) as caught:
        await vault.load(ALICE.address)
    assert await vault.load_any(ALICE.address) == Stored(None, 2)
    assert caught.value.version == 2
    await vault.save(ALICE.address, ENTRY, expected=2)
    assert (await vault.load(ALICE.address)).entry == ENTRY


async def test_what_a_newer_mail_bridge_has_sealed_is_not_given_up(store: MemoryStore, vault: Vault) -> None:
    """It can be read again once the newer version is back."""
    await spoiled(store, vault, b"\x02")
    for reading in (vault.load(ALICE.address), vault.load_any(ALICE.address)):
        with pytest.raises(StoreCorrupt, match="newer mail-bridge") as caught:
            await reading
        assert caught.value.version is None
        assert "forget" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'{"format": 2, "grant": "CANARY"}', "was stored by another version of mail-bridge"),
        (b"CANARY", "JSONDecodeError"),
        (b'"CANARY"', "TypeError"),
        (b'{"format": 1, "grant": "CANARY"}', "KeyError"),
        (json.dumps(SPOILED).encode(), "ValueError"),
        (
            json.dumps(
                {
                    **SPOILED,
                    "grant": "CANARY",
                    "scopes": [],
                    "ended": "",
                    "access": ["CANARY", 2.0, 1.0],
                    "subject": ["CANARY"],
                }
            ).encode(),
            "IndexError",
        ),
    ],
)
async def test_a_record_that_makes_no_sense_is_named_and_not_quoted(
    store: MemoryStore, content: bytes, says: str
) -> None:
    await store.put("grant/alice@example.com", content, expected=0)
    with pytest.raises(StoreCorrupt, match=f"sign-in of alice@example.com .*{says}") as caught:
        await Vault(store).load(ALICE.address)
    assert caught.value.version is None
    assert "CANARY" not in "".join(traceback.format_exception(caught.value))
