"""A keyring whose priority says that it can be trusted: tests select it with PYTHON_KEYRING_BACKEND."""

from __future__ import annotations

from pathlib import Path

from tests.servers.plaintext_keyring import PlaintextKeyring


class GoodKeyring(PlaintextKeyring):
    """Keeps a file as its base class does, but with the priority of a real keyring."""

    priority = 5

    @property
    def _file(self) -> Path:
        return super()._file.with_name("keyring.json")
