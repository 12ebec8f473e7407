"""A keyring that its owner has to unlock before it stores anything: tests select it with PYTHON_KEYRING_BACKEND."""

from __future__ import annotations

import os
from pathlib import Path

from tests.servers.good_keyring import GoodKeyring


class WaitingKeyring(GoodKeyring):
    """If KEYRING_OPENED names a pipe, storing the `gmail` entry waits until the writer closes the pipe."""

    def set_password(self, service: str, username: str, password: str) -> None:
        if service == "mail-bridge" and username == "gmail" and (pipe := os.environ.get("KEYRING_OPENED")):
            Path(pipe).read_bytes()
        super().set_password(service, username, password)
