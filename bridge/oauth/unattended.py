"""What providers share where nobody signs in: no grant, no sign-in, and every "no" is an administrator's turn."""

from __future__ import annotations

from collections.abc import Iterable

from bridge.config.providers import GrantIdentity
from bridge.errors import AuthorizationFailed, BridgeError, GrantRevoked, ProviderRefused
from bridge.model import TokenSet
from bridge.oauth import answers
from bridge.oauth.failures import Failure, refresh_problem, without_secrets
from bridge.secret import Secret

NO_GRANT: Secret[str] = Secret("")
"""What stands for the grant where there is none."""


class Unattended:
    """The part of a Provider that is the same for all of them."""

    def __init__(self, name: str, identity: GrantIdentity) -> None:
        self._name = name
        self._identity = identity

    @property
    def name(self) -> str:
        """The key in the configuration."""
        return self._name

    @property
    def fingerprint(self) -> str:
        """Of what a kept token depends on."""
        return answers.fingerprint(self._identity)

    @property
    def is_unattended(self) -> bool:
        """Nobody signs in."""
        return True

    async def adopt(self, refresh_token: Secret[str]) -> TokenSet:
        """Raises: AuthorizationFailed(no_grant)."""
        raise AuthorizationFailed("With this provider nobody signs in: there is no sign-in to adopt.", code="no_grant")

    async def revoke(self, grant: Secret[str]) -> bool:
        """Always False: there is no grant that could be ended."""
        return False


def unattended_problem(failure: Failure, *, hide: Iterable[Secret[str]] = ()) -> BridgeError:
    """The error to raise when the app's own request was refused. Never GrantRevoked: nobody could sign in again."""
    problem = refresh_problem(failure, hide=hide)
    if not isinstance(problem, GrantRevoked):
        return problem
    return refused(failure, "The provider refuses the app: its administrator must act.", hide=hide)


def refused(failure: Failure, sentence: str, *, hide: Iterable[Secret[str]] = ()) -> ProviderRefused:
    """Our sentence, then the provider's own words in brackets."""
    theirs = ": ".join(part for part in (failure.error, failure.suberror, failure.description) if part)
    return ProviderRefused(f"{sentence} ({without_secrets(theirs, hide)})")
