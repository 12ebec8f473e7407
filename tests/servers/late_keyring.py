"""A keyring that keeps an entry, and whose answer is lost: PYTHON_KEYRING_BACKEND names it."""

from __future__ import annotations

import os
from pathlib import Path

from keyring.errors import KeyringError

from tests.servers.good_keyring import GoodKeyring


class LateKeyring(GoodKeyring):
    """As one that somebody unlocks while nobody waits for it any more; where there is a file `late`, once."""

    def set_password(self, service: str, username: str, password: str) -> None:
        super().set_password(service, username, password)
        late = Path(os.environ["HOME"]) / "late"
        if late.exists():
            late.unlink()
            raise KeyringError
