"""The providers when the configuration changes while the bridge runs."""

from __future__ import annotations

import asyncio
import gc
import sys
import weakref

import pytest

from bridge.config.generic import GenericProvider
from bridge.config.provider import Flow
from bridge.oauth.providers import LINGER, Providers
from tests.clocks import ManualClock


def configured(client_id: str) -> GenericProvider:
    return GenericProvider.model_validate(
        {
            "kind": "oauth2",
            "client_id": client_id,
            "authorization_url": "https://provider.example/authorize",
            "token_url": "https://provider.example/token",
            "redirect_uri": "http://localhost:3017/",
            "scopes": ["mail"],
            "imap": {"host": "imap.example", "port": 993, "tls": "implicit"},
        }
    )


async def test_a_provider_that_was_replaced_is_closed_and_forgotten_once_nobody_can_be_waiting_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each adapter holds a megabyte of CAs, and the connections that it keeps open."""
    clock, closed = ManualClock(), list[str]()
    providers = Providers({"acme": configured("one")}, clock)

    def watched(name: str) -> weakref.ref[object]:
        adapter = providers.adapters["acme"]

        async def close() -> None:
            closed.append(name)

        monkeypatch.setattr(adapter, "close", close)
        return weakref.ref(adapter)

    old = watched("one")
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        closing = group.create_task(providers.close_retired(clock.pause))
        await clock.until_asleep()
        providers.change(["acme"], {"acme": configured("two")})
        clock.advance(LINGER)  # it may have been in use until a moment ago, however old it is
        await clock.until_asleep()
        assert closed == []
        clock.advance(LINGER)
        await clock.until_asleep()
        assert closed == ["one"]
        monkeypatch.undo()
        gc.collect()
        assert old() is None
        watched("two")
        providers.change(["acme"], {})
        closing.cancel()
    await providers.close()
    assert closed == ["one", "two"]


async def test_a_provider_that_is_configured_as_before_keeps_its_adapter() -> None:
    """Its troubles and pauses are the adapter's; the sign-ins of a new one would begin anew, too."""
    providers = Providers({"acme": configured("one"), "other": configured("one")}, ManualClock())
    before = dict(providers.adapters)
    providers.change(["acme"], {"acme": configured("two"), "other": configured("one")})
    assert [name for name, adapter in providers.adapters.items() if adapter is before[name]] == ["other"]
    await providers.close()


async def test_a_provider_that_cannot_be_loaded_leaves_all_others_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise those that have changed too would be gone, while the configuration counts as refused."""
    providers = Providers({"acme": configured("one")}, ManualClock())
    before = providers.adapters["acme"]
    by_code = configured("two").model_copy(update={"flow": Flow.DEVICE})
    monkeypatch.setitem(sys.modules, "bridge.oauth.generic_device", None)  # as if its file were gone
    with pytest.raises(ImportError):
        providers.change(["acme"], {"acme": configured("two"), "other": by_code})
    assert dict(providers.adapters) == {"acme": before}
    await providers.close()
