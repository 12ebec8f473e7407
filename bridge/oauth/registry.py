"""Makes the adapter for a `kind` and `flow`; its module is imported when the first provider of that kind is built."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import cast

from bridge.clock import Clock
from bridge.config.provider import Flow
from bridge.config.providers import ProviderConfig
from bridge.oauth.base import Provider
from bridge.oauth.limits import Limits

_ADAPTERS = {
    ("google", Flow.BROWSER): ("bridge.oauth.google", "Google"),
    ("google", Flow.SERVICE_ACCOUNT): ("bridge.oauth.google_service_account", "GoogleServiceAccount"),
    ("microsoft", Flow.BROWSER): ("bridge.oauth.microsoft.browser", "Browser"),
    ("microsoft", Flow.DEVICE): ("bridge.oauth.microsoft.device", "Device"),
    ("microsoft", Flow.CLIENT_CREDENTIALS): ("bridge.oauth.microsoft.app_only", "AppOnly"),
    ("oauth2", Flow.BROWSER): ("bridge.oauth.generic", "GenericBrowser"),
    ("oauth2", Flow.DEVICE): ("bridge.oauth.generic_device", "GenericDevice"),
    ("oauth2", Flow.CLIENT_CREDENTIALS): ("bridge.oauth.generic_app", "GenericApp"),
}
"""By `kind` and `flow` in the configuration: module and class."""


def create(name: str, config: ProviderConfig, clock: Clock, *, limits: Limits | None = None) -> Provider:
    """Build the adapter for one entry of `providers`; touches no network."""
    module, adapter = _ADAPTERS[config.kind, config.flow]
    factory = cast("Callable[..., Provider]", getattr(importlib.import_module(module), adapter))
    return factory(name, config, clock, limits=limits or Limits())
