"""The OS keyring, if it can be trusted: only importer of keyring; every call blocks, and may block for ever.

A plain `get_keyring()` proves nothing: without a desktop it gives a backend that always fails, one that forgets
everything, or one that keeps plain text. Those are refused here. Backends also raise what is no KeyringError
(pywintypes.error, jeepney's DBusErrorResponse), so that everything is caught at this border and mapped by its name.
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
"""keyring's own bound for "recommended"; keyrings.alt's plain-text file has 0.5 and is chosen without a word."""

PROBE_SERVICE = "mail-bridge probe"
"""Of its own: Windows moves the first entry of a service aside, not atomically, when it gets a second user name."""

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
"""By the OSStatus in what keyring's error was raised from (Security/SecBase.h): errSecInteractionNotAllowed."""


class OsKeyring:
    """A backend that keeps what it is given."""

    def __init__(self, backend: KeyringBackend) -> None:
        self._backend = backend
        self.name = f"{type(backend).__module__.rpartition('.')[2]} keyring"

    def read(self, service: str, username: str) -> str | None:
        """The entry, or None."""
        return _mapped(lambda: self._backend.get_password(service, username))

    def write(self, service: str, username: str, value: str) -> None:
        """Store the entry and read it back, since the null backend, for one, takes everything and keeps nothing."""
        _mapped(lambda: self._backend.set_password(service, username, value))
        if self.read(service, username) != value:
            raise KeyringMissing(said("the {keyring} does not keep what is written to it", keyring=self.name))

    def probe(self) -> None:
        """Write, read back and delete an entry. Raises: StoreUnavailable if one of the three does not work."""
        # Longer than a key: a keyring that cuts entries must be found out before half a key is in it.
        self.write(PROBE_SERVICE, "probe", secrets.token_hex(32))
        _mapped(lambda: self._backend.delete_password(PROBE_SERVICE, "probe"))


def open_keyring() -> OsKeyring:
    """The keyring of this user, on this machine. Raises: StoreUnavailable saying why there is none to trust."""
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
    if hasattr(backend, "persist"):  # Windows: else the key roams with the profile, without the store it belongs to
        backend.persist = "local machine"
    return OsKeyring(backend)


def _recommended(chosen: KeyringBackend) -> KeyringBackend:
    """The backend itself or, where several are chained, the best one alone: a key has one home."""
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
    """Carry out one call of the backend. Raises: StoreUnavailable, whatever the backend raised."""
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
