"""Where a provider's mail server is: its preset, changed by what the configuration says (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from bridge.config.presets import DEFAULT_PORTS
from bridge.config.provider import EndpointOverride
from bridge.config.providers import ProviderConfig
from bridge.config.schema import Config
from bridge.model import Endpoint, Protocol, TlsMode


def effective_endpoint(provider: ProviderConfig, protocol: Protocol) -> Endpoint | None:
    """The upstream server of this protocol; None where neither preset nor configuration names a host.

    What the preset knows of its own server (its extensions, its limit on connections) is not assumed of another host.
    """
    preset = provider.servers.get(protocol)
    override = provider.override(protocol) or EndpointOverride()
    host = override.host or (preset.host if preset is not None else None)
    if host is None:
        return None
    tls = override.tls or _usual_mode(protocol, override.port) or (preset.tls if preset else TlsMode.IMPLICIT)
    default_port = preset.port if preset is not None and tls is preset.tls else DEFAULT_PORTS[protocol, tls]
    if preset is None or host.lower() != preset.host:
        preset, default_port = Endpoint(host, 0, tls), DEFAULT_PORTS[protocol, tls]
    return replace(
        preset,
        port=override.port or default_port,
        tls=tls,
        ca_file=provider.ca_file,
        mechanism=provider.mechanism,
    )


def used_endpoints(config: Config, provider: ProviderConfig) -> Mapping[Protocol, Endpoint]:
    """The mail servers to log in to: those of the protocols that have a listener, since a protocol that is `off` here
    may be switched off at the provider too. All of them where that leaves none, because a login may be needed to tell
    whose mailbox a token opens."""
    found = {protocol: effective_endpoint(provider, protocol) for protocol in Protocol}
    known = {protocol: endpoint for protocol, endpoint in found.items() if endpoint is not None}
    return {protocol: endpoint for protocol, endpoint in known.items() if config.listeners.of(protocol)} or known


def endpoints_of(config: Config, protocol: Protocol) -> tuple[Endpoint, ...]:
    """Every server of this protocol that some account uses."""
    used = dict.fromkeys(account.provider for account in config.accounts)
    endpoints = (effective_endpoint(config.providers[name], protocol) for name in used)
    return tuple(endpoint for endpoint in endpoints if endpoint is not None)


def _usual_mode(protocol: Protocol, port: int | None) -> TlsMode | None:
    """The TLS mode that a well-known port implies: with `port: 587` alone, implicit TLS would hang until a timeout."""
    return next((tls for (of, tls), usual in DEFAULT_PORTS.items() if (of, usual) == (protocol, port)), None)
