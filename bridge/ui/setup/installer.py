"""What the first-run page needs done, by code that knows keyring, disk, doctor and bridge."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from bridge.control.contract import Finding
from bridge.errors import BridgeError
from bridge.secret import Secret
from bridge.ui.setup.draft import Draft


class AlreadyConfigured(BridgeError):
    """Somebody has written a configuration meanwhile; it was not changed."""


class Installer(Protocol):
    """One set-up of one machine."""

    output: Path
    """The file to write."""

    @property
    def draft(self) -> Draft:
        """The answers so far; empty ones, if nobody has touched them for hours."""

    async def place(self, scheme: str, name: str) -> str:
        """A reference `${keyring:…}` or `${file:…}` to a place that is still free. Raises: BridgeError."""

    async def rehearse(self, draft: Draft) -> tuple[Finding, ...]:
        """Run the checks that are possible before anything is written. Raises: ConfigError."""

    async def install(self, draft: Draft) -> None:
        """Write secrets and configuration: all, or nothing. Raises: BridgeError, AlreadyConfigured."""

    async def start(self) -> None:
        """Read the configuration, and go on as the bridge. Raises: BridgeError, ConfigError, with nothing open."""


def secret_text(value: Secret[str]) -> str:
    """The secret as it goes into a file."""
    return value.reveal() + "\n"
