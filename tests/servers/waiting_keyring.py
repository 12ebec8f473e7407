"""A keyring that is opened by its owner before it takes anything: PYTHON_KEYRING_BACKEND names it."""

from __future__ import annotations

import os
from pathlib import Path

from tests.servers.good_keyring import GoodKeyring


class WaitingKeyring(GoodKeyring):
    """Where KEYRING_OPENED names a pipe, an entry waits for the end of what is written there."""

    def set_password(self, service: str, username: str, password: str) -> None:
        if service == "mail-bridge" and username == "gmail" and (pipe := os.environ.get("KEYRING_OPENED")):
            Path(pipe).read_bytes()
        super().set_password(service, username, password)
