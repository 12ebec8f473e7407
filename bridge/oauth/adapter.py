"""What every adapter tells about itself: its name, what its grants depend on, and whether a person signs in."""

from __future__ import annotations

from bridge.clock import Clock
from bridge.config.providers import ProviderConfig
from bridge.oauth import answers


class Adapter:
    """The part of a Provider that is the same for all."""

    is_unattended: bool = False
    """A person signs in, unless a subclass says otherwise."""

    def __init__(self, name: str, config: ProviderConfig, clock: Clock) -> None:
        self.name = name
        """The key in the configuration."""
        self.fingerprint = answers.fingerprint(config.grant_identity)
        """Fingerprint of everything that a stored sign-in depends on; made once, since each login asks for it."""
        self.client = answers.fingerprint(config.client_identity)
        """Fingerprint of the client that a grant was given to, whatever the scopes."""
        self._clock = clock

    @property
    def consent(self) -> str:
        """The consent of this client alone: others do not share it."""
        return self.client
