"""A keyring that stores an entry but then reports a failure: tests select it with PYTHON_KEYRING_BACKEND."""

from __future__ import annotations

import os
from pathlib import Path

from keyring.errors import KeyringError

from tests.servers.good_keyring import GoodKeyring


class LateKeyring(GoodKeyring):
    """Like a keyring that is unlocked when its caller has given up. Happens once for each file `late` in the home."""

    def set_password(self, service: str, username: str, password: str) -> None:
        super().set_password(service, username, password)
        late = Path(os.environ["HOME"]) / "late"
        if late.exists():
            late.unlink()
            raise KeyringError
