"""Provider interface; AuthorizationRequest, Grant.

An adapter maps every library error at its border to bridge.errors. Blocking libraries run in threads with time limits.
The vault is the truth: an adapter is given the stored grant and returns the new one, no library cache outlives a call.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from bridge.model import TokenSet
from bridge.secret import Secret


@dataclass(frozen=True, slots=True)
class AuthorizationRequest:
    """One sign-in on its way: where the browser goes, and what must be kept until it comes back."""

    url: str
    """The provider's authorization endpoint with all parameters (RFC 6749 section 4.1.1, RFC 7636)."""
    state: str
    """Unguessable; the callback is matched by it."""
    kept: Secret[str]
    """The adapter's own (code verifier, nonce…), JSON; handed back to redeem()."""


class Provider(Protocol):
    """One configured identity provider."""

    @property
    def name(self) -> str:
        """The key in the configuration's `providers`."""
        ...

    @property
    def fingerprint(self) -> str:
        """Changes exactly when a stored grant can no longer be used: client id, endpoints or scopes differ."""
        ...

    async def begin(self, *, login_hint: str, redirect_uri: str) -> AuthorizationRequest:
        """Start an authorization-code sign-in with PKCE and state.

        Raises: ProviderUnavailable, ProviderRefused.
        """
        ...

    async def redeem(self, request: AuthorizationRequest, parameters: Mapping[str, str]) -> TokenSet:
        """Turn the callback's parameters (code, state… or error) into tokens.

        Returns: a TokenSet whose grant can be refreshed and whose subject is set where the provider gives evidence.
        Raises: AuthorizationFailed (denied, no_grant, missing_scope, provider), ProviderUnavailable, ProviderRefused.
        """
        ...

    async def refresh(self, grant: Secret[str]) -> TokenSet:
        """Get a new access token by force; the returned grant replaces the old one (it may have rotated).

        Raises: GrantRevoked only for invalid_grant and its kin; ProviderUnavailable for everything that may pass;
        ProviderRefused when our registration is at fault.
        """
        ...

    async def adopt(self, refresh_token: Secret[str]) -> TokenSet:
        """Try a refresh token that was obtained elsewhere for the same client; errors as in refresh()."""
        ...

    async def revoke(self, grant: Secret[str]) -> bool:
        """Ask the provider to end the grant; False where it has no such endpoint.

        Raises: ProviderUnavailable.
        """
        ...

    async def close(self) -> None:
        """Release sessions and threads."""
        ...
