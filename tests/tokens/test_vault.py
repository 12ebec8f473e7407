"""What a record keeps of a sign-in that the provider has ended."""

from __future__ import annotations

import json

import pytest

from bridge.advice.diagnosis import Diagnosis
from bridge.model import AccessToken, TokenSet
from bridge.secret import Secret
from bridge.stores.memory import MemoryStore
from bridge.tokens.vault import Entry, Vault
from tests.tokens.fakes import ALICE

WHY = Diagnosis.of("sign_in.other_person", "AADSTS50173: é", person="bob@example.com")
ENTRY = Entry(
    "acme",
    "one",
    ALICE.subject,
    TokenSet(AccessToken(Secret("CANARY-access"), 2.0, 1.0), Secret("CANARY-grant")),
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


async def test_a_record_from_before_diagnoses_is_read() -> None:
    store = MemoryStore()
    await Vault(store).save(ALICE.address, ENTRY, expected=0)
    (key,) = await store.keys("")
    record = await store.get(key)
    assert record is not None
    content = json.loads(record.value)
    del content["diagnosis"]
    await store.put(key, json.dumps(content).encode(), expected=record.version)
    found = (await Vault(store).load(ALICE.address)).entry
    assert found is not None
    assert found.ended == WHY.told()
