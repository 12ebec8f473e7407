"""Provider interface; AuthorizationRequest, DeviceRequest.

An adapter maps every library error to bridge.errors. Blocking libraries run in threads with time limits. The vault is
the only source of truth: an adapter is given the stored grant and returns the new one; no library cache outlives a
call. An adapter offers what its flow can do: a Provider is a BrowserProvider, a DeviceProvider, or unattended.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from bridge.model import TokenSet
from bridge.secret import Secret


@dataclass(frozen=True, slots=True)
class AuthorizationRequest:
    """One sign-in under way: where the browser goes, and what must be kept until it comes back."""

    url: str
    """The provider's authorization endpoint with all parameters (RFC 6749 section 4.1.1, RFC 7636)."""
    state: str
    """Unguessable; the callback is matched by it."""
    kept: Secret[str]
    """The adapter's own (code verifier, nonce…), JSON; handed back to redeem()."""


@dataclass(frozen=True, slots=True)
class DeviceRequest:
    """One sign-in under way, in any browser anywhere (RFC 8628 section 3.2)."""

    user_code: str
    """What the person types; short, and of no use to anybody without the device code."""
    verification_url: str
    """Where the person types it; https."""
    complete_url: str
    """The same URL with the code in it, for a link or a QR code; empty if the provider has none."""
    lifetime: float
    """Seconds until the code expires."""
    interval: float
    """Seconds to wait before each poll()."""
    kept: Secret[str]
    """The adapter's own (device code…), JSON; handed back to poll()."""


@dataclass(frozen=True, slots=True)
class DevicePending:
    """The person has not finished; ask again (RFC 8628 section 3.5)."""

    slow_down: bool = False
    """True: from now on wait 5 seconds longer before each poll."""


class Provider(Protocol):
    """One configured identity provider, whatever its flow."""

    name: str
    """The key in the configuration's `providers`."""
    fingerprint: str
    """Changes exactly when a stored grant can no longer be used: client id, endpoints or scopes differ."""
    client: str
    """A fingerprint of only the provider and our registration there: while this stays the same, a grant that a change
    of scopes has made useless can still be revoked."""
    is_unattended: bool
    """True if nobody signs in (client credentials, service account): then refresh() needs no grant."""

    @property
    def consent(self) -> str:
        """Identifies what a person's consent covers: revoking one grant may end all grants of the same consent. At
        Google that is the project, whichever of its clients has asked; elsewhere the client."""

    async def refresh(self, grant: Secret[str], *, subject: str) -> TokenSet:
        """Force a new access token; the returned grant replaces the old one (it may have rotated).

        Args: grant, as it was last returned; empty if unattended. subject, whose token is wanted: needed only if
        unattended, since a grant belongs to one person.
        Raises: GrantRevoked only for invalid_grant and its kin, never if unattended; ProviderUnavailable for every
        problem that may pass; ProviderRefused when our registration is at fault.
        """

    async def adopt(self, refresh_token: Secret[str]) -> TokenSet:
        """Try a refresh token that was obtained elsewhere for the same client; errors as in refresh().

        Also raises: AuthorizationFailed(no_grant) if unattended.
        """

    async def revoke(self, grant: Secret[str]) -> bool:
        """Ask the provider to end the grant; False if it has no such endpoint.

        Raises: ProviderUnavailable.
        """

    async def close(self) -> None:
        """Release sessions and threads."""


@runtime_checkable
class BrowserProvider(Provider, Protocol):
    """A person signs in, in a browser that comes back to us."""

    @property
    def sign_in_host(self) -> str:
        """The host name to which the browser is sent."""

    async def begin(self, *, login_hint: str, redirect_uri: str, asks_who: bool = False) -> AuthorizationRequest:
        """Start an authorization-code sign-in with PKCE and state.

        Args: asks_who, whether the provider is to ask who signs in even if somebody is signed in to the browser.
        Raises: ProviderUnavailable, ProviderRefused.
        """

    async def redeem(self, request: AuthorizationRequest, parameters: Mapping[str, str]) -> TokenSet:
        """Turn the callback's parameters (code, state… or error) into tokens.

        Returns: a TokenSet whose grant can be refreshed and whose subject is set if the provider gives evidence.
        Raises: AuthorizationFailed (denied, no_grant, missing_scope, provider), ProviderUnavailable, ProviderRefused;
        ProviderNotAsked if the code was not sent.
        """


@runtime_checkable
class DeviceProvider(Provider, Protocol):
    """A person signs in, in any browser anywhere, and types a code (RFC 8628)."""

    async def begin_device(self) -> DeviceRequest:
        """Ask for a user code. Raises: ProviderUnavailable, ProviderRefused."""

    async def poll(self, request: DeviceRequest) -> TokenSet | DevicePending:
        """Ask once whether the person has finished; never sleeps.

        Returns: as redeem(), or DevicePending. Raises: AuthorizationFailed (denied, expired, no_grant,
        missing_scope, provider), ProviderUnavailable (the caller may poll on), ProviderRefused.
        """
