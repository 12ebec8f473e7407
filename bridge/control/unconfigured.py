"""The control contract while there is no configuration: no account, no port, and a sentence for whoever asks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping

from bridge import __version__
from bridge.advice.diagnosis import Diagnosis
from bridge.control.contract import AccountStatus, Finding, SignInStarted, SignOut, Status
from bridge.errors import BridgeError, LoginRefused
from bridge.notices import Notice
from bridge.secret import Secret


class Unconfigured:
    """A Control, so that a tray beside the first-run page shows that something waits, and leads there.

    Args: place, where the configuration will be.
    """

    def __init__(self, place: str) -> None:
        self._place = place

    async def status(self) -> Status:
        """Nothing but the warning."""
        return Status(
            version=__version__,
            config_file=self._place,
            is_demo=False,
            accounts=(),
            listeners=(),
            patterns=(),
            warnings=(Diagnosis.of("setup.first"),),
        )

    async def begin_authorization(self, address: str, asker: str = "") -> SignInStarted:
        """Raises: LoginRefused."""
        raise _none()

    async def complete_authorization(self, parameters: Mapping[str, str]) -> str:
        """Raises: LoginRefused."""
        raise _none()

    async def cancel_authorization(self, address: str) -> None:
        """Nothing to cancel."""

    async def forget(self, address: str) -> SignOut:
        """Raises: LoginRefused."""
        raise _none()

    async def adopt(self, address: str, refresh_token: Secret[str]) -> AccountStatus:
        """Raises: LoginRefused."""
        raise _none()

    async def check_account(self, address: str) -> AccountStatus:
        """Raises: LoginRefused."""
        raise _none()

    async def diagnose(self) -> tuple[Finding, ...]:
        """Nothing to look at."""
        return ()

    async def local_password(self, address: str) -> Secret[str]:
        """Raises: LoginRefused."""
        raise _none()

    async def rotate_local_password(self, address: str, *, at_once: bool = False) -> Secret[str]:
        """Raises: LoginRefused."""
        raise _none()

    async def set_local_password(self, address: str, password: Secret[str], *, at_once: bool = False) -> None:
        """Raises: LoginRefused."""
        raise _none()

    async def notices(self) -> AsyncGenerator[Notice, None]:
        """Gives none, and waits until whoever listens goes away."""
        await asyncio.Event().wait()
        raise AssertionError("unreachable")
        yield  # makes this a generator


def _none() -> BridgeError:
    return LoginRefused("there is no configuration yet")
