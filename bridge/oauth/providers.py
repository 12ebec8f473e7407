"""The providers of the configuration: built, replaced when it changes, and closed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack

from bridge.clock import Clock
from bridge.config.providers import ProviderConfig
from bridge.oauth.base import Provider
from bridge.oauth.registry import create

LINGER = 1800.0
"""Seconds that a replaced adapter is kept for work that it has begun: longer than a refresh may take, and longer than a
device code lives."""


class Providers:
    """Adapters and redirect URIs by provider name; whoever holds the two mappings sees each change."""

    def __init__(self, configured: Mapping[str, ProviderConfig], clock: Clock) -> None:
        self._clock = clock
        self._adapters: dict[str, Provider] = {}
        self._redirect_uris: dict[str, str] = {}
        self._retired: list[Provider] = []
        self.change((), configured)

    @property
    def adapters(self) -> Mapping[str, Provider]:
        """One adapter for each provider."""
        return self._adapters

    @property
    def redirect_uris(self) -> Mapping[str, str]:
        """The redirect URI of each provider, as registered there."""
        return self._redirect_uris

    def change(self, outdated: Iterable[str], configured: Mapping[str, ProviderConfig]) -> None:
        """Drop the outdated adapters, and build those that are configured and missing."""
        self.prepared(outdated, configured)()

    def prepared(self, outdated: Iterable[str], configured: Mapping[str, ProviderConfig]) -> Callable[[], None]:
        """Build those adapters. Returns: what puts the change in force, and cannot fail as the loading of an adapter
        may."""
        leaving = set(outdated)
        kept = self._adapters.keys() - leaving
        built = {name: create(name, one, self._clock) for name, one in configured.items() if name not in kept}

        def change() -> None:
            for name in leaving:
                self._retired.append(self._adapters.pop(name))  # closed later: a refresh may be under way
                self._redirect_uris.pop(name)
            self._adapters.update(built)
            self._redirect_uris.update((name, one.redirect_uri) for name, one in configured.items())

        return change

    async def close_retired(self, pause: Callable[[float], Awaitable[None]]) -> None:
        """Close replaced adapters once no work can be waiting for them; until cancelled."""
        while True:
            await self._close_in_time(list(self._retired), pause)

    async def _close_in_time(self, leaving: list[Provider], pause: Callable[[float], Awaitable[None]]) -> None:
        await pause(LINGER)
        for provider in leaving:
            self._retired.remove(provider)
            await provider.close()

    async def close(self) -> None:
        """Close all of them, even if closing one fails."""
        async with AsyncExitStack() as stack:
            for provider in (*self._adapters.values(), *self._retired):
                stack.push_async_callback(provider.close)
