"""A keyring that can be trusted, as far as its priority tells: PYTHON_KEYRING_BACKEND names it."""

from __future__ import annotations

from pathlib import Path

from tests.servers.plaintext_keyring import PlaintextKeyring


class GoodKeyring(PlaintextKeyring):
    """The same file as its base, under the priority of a real one."""

    priority = 5

    @property
    def _file(self) -> Path:
        return super()._file.with_name("keyring.json")
