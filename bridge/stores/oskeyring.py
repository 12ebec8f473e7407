"""The OS keyring, if it can be trusted. The only module that imports keyring; every call may block for ever.

A plain `get_keyring()` proves nothing: without a desktop it gives a backend that always fails, one that forgets
everything, or one that keeps plain text. Those are refused here. Backends also raise errors other than KeyringError
(pywintypes.error, jeepney's DBusErrorResponse), so everything is caught here and mapped by its name.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import TypeVar

import keyring
from keyring import errors
from keyring.backend import KeyringBackend
from keyring.backends import chainer, fail, null

from bridge.advice.said import Said, said
from bridge.errors import KeyringMissing, StoreUnavailable

LEAST_PRIORITY = 1.0
"""keyring's own bound for "recommended"; keyrings.alt's plain-text file has 0.5, and would be chosen silently."""

PROBE_SERVICE = "mail-bridge probe"
"""A service of its own: when a service gets a second user name, Windows moves the first entry, and not atomically."""

R = TypeVar("R")

_WINDOWS_REASONS = {
    1312: said("this Windows logon has none (SSH, WinRM, some services)"),
    1783: said("the entry is too long for Windows (1280 characters)"),
    5: said("Windows denies access to it"),
}
"""By the `winerror` of a pywintypes.error."""

_MAC_REASONS = {
    -25308: said(
        "macOS would have to ask somebody, and cannot do so in this session (SSH, a service); in SSH, "
        "`security unlock-keychain` may help"
    ),
}
"""By the OSStatus in the cause of keyring's error (Security/SecBase.h): errSecInteractionNotAllowed."""


class OsKeyring:
    """A keyring backend that was found to be trustworthy."""

    def __init__(self, backend: KeyringBackend) -> None:
        self._backend = backend
        self.name = said("{backend} keyring", backend=type(backend).__module__.rpartition(".")[2])

    def read(self, service: str, username: str) -> str | None:
        """The entry, or None."""
        return _mapped(lambda: self._backend.get_password(service, username))

    def write(self, service: str, username: str, value: str) -> None:
        """Store the entry and read it back, because the null backend, for one, accepts everything and keeps nothing."""
        _mapped(lambda: self._backend.set_password(service, username, value))
        if self.read(service, username) != value:
            raise KeyringMissing(said("the {keyring} does not keep what is written to it", keyring=self.name))

    def probe(self) -> None:
        """Write, read back and delete an entry. Raises: StoreUnavailable if one of the three does not work."""
        # Longer than a key, so that a keyring that truncates entries is found out before it gets a key.
        self.write(PROBE_SERVICE, "probe", secrets.token_hex(32))
        _mapped(lambda: self._backend.delete_password(PROBE_SERVICE, "probe"))


def open_keyring() -> OsKeyring:
    """This user's keyring on this machine. Raises: StoreUnavailable saying why there is none to trust."""
    try:
        chosen = keyring.get_keyring()
    except Exception as error:  # PYTHON_KEYRING_BACKEND may name any module: it is imported here
        raise KeyringMissing(
            said(
                "the keyring that PYTHON_KEYRING_BACKEND or keyringrc.cfg names cannot be loaded ({error}); correct or "
                "remove that setting",
                error=type(error).__name__,
            )
        ) from error
    backend = _mapped(lambda: _recommended(chosen))
    if hasattr(backend, "persist"):  # Windows: otherwise the key roams with the profile, but the store does not
        backend.persist = "local machine"
    return OsKeyring(backend)


def _recommended(chosen: KeyringBackend) -> KeyringBackend:
    """The backend itself or, if several are chained, only the best one: a key has one home."""
    if isinstance(chosen, fail.Keyring):
        raise KeyringMissing(said("there is no OS keyring here (no desktop session: SSH, cron, a service)"))
    if isinstance(chosen, null.Keyring):
        raise KeyringMissing(said("the OS keyring is switched off (keyring's null backend), and would lose the key"))
    candidates = chosen.backends if isinstance(chosen, chainer.ChainerBackend) else [chosen]
    for backend in candidates:
        if backend.priority >= LEAST_PRIORITY:
            return backend
    raise KeyringMissing(
        said("the only keyring here, {keyring}, does not protect what it keeps", keyring=type(chosen).__name__)
    )


def _mapped(call: Callable[[], R]) -> R:
    """Carry out one call of the backend. Raises: StoreUnavailable for whatever the backend raises."""
    try:
        return call()
    except StoreUnavailable:
        raise
    except errors.KeyringLocked as error:
        raise StoreUnavailable(said("the OS keyring is locked; unlock it")) from error
    except errors.InitError as error:
        raise StoreUnavailable(said("the OS keyring is not set up or not unlocked; unlock it")) from error
    except errors.NoKeyringError as error:
        raise KeyringMissing(said("there is no OS keyring here (no desktop session: SSH, cron, a service)")) from error
    except Exception as error:  # backends raise what they like, see above
        reason = _WINDOWS_REASONS.get(getattr(error, "winerror", None) or 0) or _mac_reason(error)
        raise StoreUnavailable(said("the OS keyring fails: {reason}", reason=reason or type(error).__name__)) from error


def _mac_reason(error: Exception) -> Said | None:
    status = error.__cause__.args[:1] if error.__cause__ is not None else ()
    return next((reason for number, reason in _MAC_REASONS.items() if status == (number,)), None)
