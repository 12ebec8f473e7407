"""Turns two Configs into a plan: rebind, ask for sign-in again, or just apply (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bridge.config.addresses import ConsoleAddress, ListenAddress
from bridge.config.console import console_url, console_urls
from bridge.config.providers import ProviderConfig
from bridge.config.schema import Config
from bridge.model import Protocol

AT_ONCE = ("notify", "local_password", "log", "language")
"""Keys of the file whose changes take effect with a reload, and of which a Plan says only that they have changed."""
AFTER_RESTART = ("console", "store", "workers")
"""Keys whose changes wait for a restart: refreshes under way belong to the old store, and sessions to their workers."""


@dataclass(frozen=True, slots=True)
class ConfiguredListener:
    """One local port. Two are the same if protocol, address, TLS mode and files are."""

    protocol: Protocol
    address: ListenAddress

    @property
    def name(self) -> str:
        """For sentences: `imap 127.0.0.1:1143`."""
        return f"{self.protocol.value} {self.address.address}"


@dataclass(frozen=True, slots=True)
class Plan:
    """What has to happen so that the new configuration is in force; names are in the order of the file."""

    listeners_to_close: tuple[ConfiguredListener, ...] = ()
    """Closed once the others are open; a new one at the same address, with other TLS files, takes over its sockets."""
    listeners_to_open: tuple[ConfiguredListener, ...] = ()
    accounts_added: tuple[str, ...] = ()
    """Addresses, and `*@domain` patterns."""
    accounts_removed: tuple[str, ...] = ()
    accounts_changed: tuple[str, ...] = ()
    """Another provider, signer, set of aliases, OS user or kind of local password."""
    providers_added: tuple[str, ...] = ()
    providers_removed: tuple[str, ...] = ()
    providers_changed: tuple[str, ...] = ()
    """Providers whose adapters are built anew; stored sign-ins stay valid (a new secret, proxy, mail server)."""
    grants_invalidated: tuple[str, ...] = ()
    """Providers whose stored sign-ins are no longer usable: each of their people is asked to sign in again."""
    changed: tuple[str, ...] = ()
    """The changed keys among AT_ONCE."""
    waiting: tuple[str, ...] = ()
    """The changed keys among AFTER_RESTART."""


def plan(old: Config, new: Config) -> Plan:
    """What changes from one configuration to the next."""
    before, after = configured_listeners(old), configured_listeners(new)
    accounts = _Difference.of(
        {account.address: account for account in old.accounts}, {account.address: account for account in new.accounts}
    )
    providers = _Difference.of(old.providers, new.providers)
    invalidated = tuple(
        name for name in providers.changed if old.providers[name].grant_identity != new.providers[name].grant_identity
    )
    return Plan(
        listeners_to_close=tuple(listener for listener in before if listener not in after),
        listeners_to_open=tuple(listener for listener in after if listener not in before),
        accounts_added=accounts.added,
        accounts_removed=accounts.removed,
        accounts_changed=accounts.changed,
        providers_added=providers.added,
        providers_removed=providers.removed,
        providers_changed=tuple(name for name in providers.changed if name not in invalidated),
        grants_invalidated=invalidated,
        changed=tuple(key for key in AT_ONCE if getattr(old, key) != getattr(new, key)),
        waiting=tuple(key for key in AFTER_RESTART if getattr(old, key) != getattr(new, key)),
    )


def summary_of(change: Plan) -> str:
    """What a change means for people, in one line; empty if it means nothing."""
    parts = [
        *(f"{listener.name} closed" for listener in change.listeners_to_close),
        *(f"{listener.name} opened" for listener in change.listeners_to_open),
        *(f"account {address} added" for address in change.accounts_added),
        *(f"account {address} removed" for address in change.accounts_removed),
        *(f"account {address} changed" for address in change.accounts_changed),
        *(f"provider {name} added" for name in change.providers_added),
        *(f"provider {name} removed" for name in change.providers_removed),
        *(f"provider {name} changed" for name in change.providers_changed),
        *(f"provider {name} changed: everybody signs in again" for name in change.grants_invalidated),
        *(f"{key} changed" for key in change.changed),
        *(f"{key}: takes effect after a restart" for key in change.waiting),
    ]
    return "; ".join(parts)


def until_restart(config: Config, console: ConsoleAddress) -> Mapping[str, ProviderConfig]:
    """The providers as they are until a restart: the console still listens at `console`, so the browser must come back
    there, and not to where the console will be."""
    there = console_url(console.port)
    back = {url: there if url.endswith("/") else there.removesuffix("/") for url in console_urls(config.console.port)}
    return {
        name: provider.model_copy(update={"redirect_uri": back.get(provider.redirect_uri, provider.redirect_uri)})
        for name, provider in config.providers.items()
    }


def configured_listeners(config: Config) -> tuple[ConfiguredListener, ...]:
    """All of a configuration's mail ports."""
    return tuple(
        ConfiguredListener(protocol, address) for protocol in Protocol for address in config.listeners.of(protocol)
    )


@dataclass(frozen=True, slots=True)
class _Difference:
    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]

    @classmethod
    def of(cls, old: Mapping[str, object], new: Mapping[str, object]) -> _Difference:
        return cls(
            tuple(key for key in new if key not in old),
            tuple(key for key in old if key not in new),
            tuple(key for key in new if key in old and old[key] != new[key]),
        )
