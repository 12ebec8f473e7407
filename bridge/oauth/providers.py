"""The providers of the configuration: built, replaced when it changes, and closed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack

from bridge.clock import Clock
from bridge.config.providers import ProviderConfig
from bridge.oauth.base import Provider
from bridge.oauth.registry import create

LINGER = 1800.0
"""Seconds that one which was replaced is kept for who has begun with it: longer than a refresh may take, and than a
device code is good for."""


class Providers:
    """By name; whoever holds the two mappings sees each change."""

    def __init__(self, configured: Mapping[str, ProviderConfig], clock: Clock) -> None:
        self._clock = clock
        self._adapters: dict[str, Provider] = {}
        self._redirect_uris: dict[str, str] = {}
        self._retired: list[Provider] = []
        self.change((), configured)

    @property
    def adapters(self) -> Mapping[str, Provider]:
        """One for each provider."""
        return self._adapters

    @property
    def redirect_uris(self) -> Mapping[str, str]:
        """Where its browser comes back to, as registered there."""
        return self._redirect_uris

    def change(self, outdated: Iterable[str], configured: Mapping[str, ProviderConfig]) -> None:
        """Drop the outdated ones, and build what is configured and not there."""
        for name in outdated:
            self._retired.append(self._adapters.pop(name))  # closed later: a refresh may be under way
            self._redirect_uris.pop(name)
        for name, provider in configured.items():
            if name not in self._adapters:
                self._adapters[name] = create(name, provider, self._clock)
            self._redirect_uris[name] = provider.redirect_uri

    async def close_retired(self, pause: Callable[[float], Awaitable[None]]) -> None:
        """Close those that were replaced once nobody can be waiting for them, until cancelled."""
        while True:
            await self._close_in_time(list(self._retired), pause)

    async def _close_in_time(self, leaving: list[Provider], pause: Callable[[float], Awaitable[None]]) -> None:
        await pause(LINGER)
        for provider in leaving:
            self._retired.remove(provider)
            await provider.close()

    async def close(self) -> None:
        """All of them, whatever goes wrong with one."""
        async with AsyncExitStack() as stack:
            for provider in (*self._adapters.values(), *self._retired):
                stack.push_async_callback(provider.close)
