"""Imports the text of an old configuration, puts its secrets in their places, and loads the result with our loader."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from bridge.config.importers.emailproxy import Imported, import_emailproxy
from bridge.config.importers.providers import SecretHome
from bridge.config.load import parse_config
from bridge.config.providers import ProviderConfig
from bridge.config.schema import Config
from tests.config.importers.examples import SERVICE_ACCOUNT

FROM_THE_ADMIN = "from the admin"
"""Stands in for a secret that the old file does not contain."""


@dataclass(frozen=True)
class Carried:
    imported: Imported
    config: Config

    @property
    def yaml(self) -> str:
        return self.imported.yaml

    @property
    def said(self) -> str:
        """All comments in the new file, as one line."""
        lines = (line.strip() for line in self.yaml.splitlines())
        return " ".join(line.lstrip("#- ") for line in lines if line.startswith("#"))

    @property
    def provider(self) -> ProviderConfig:
        """The only provider."""
        (provider,) = self.config.providers.values()
        return provider

    def secret(self, address: str) -> str | None:
        """The client secret with which this account's tokens are requested."""
        (name,) = {account.provider for account in self.config.accounts if account.address == address}
        secret = self.config.providers[name].client_secret
        return secret.reveal() if secret is not None else None


def carry(text: str, *, directory: Path = Path("/old"), home: SecretHome = SecretHome.FILES) -> Carried:
    """Import and load. Raises: ConfigError as the importer does; AssertionError if our loader rejects the result."""
    imported = import_emailproxy(text, source="emailproxy.config", directory=directory, home=home)
    with TemporaryDirectory(prefix="mb-") as name:
        environ = _place(imported, Path(name), home)
        return Carried(imported, parse_config(imported.yaml, directory=Path(name), environ=environ).config)


def _place(imported: Imported, directory: Path, home: SecretHome) -> dict[str, str]:
    """Store the secrets as first the command and then the admin would. Returns: the environment variables."""
    environ: dict[str, str] = {}
    for kept in imported.kept:
        value = kept.value.reveal() if kept.value is not None else FROM_THE_ADMIN
        if home is SecretHome.FILES or kept.is_path:
            path = directory / (kept.place if home is SecretHome.FILES else f"{kept.place}.json")
            path.parent.mkdir(exist_ok=True)
            path.write_text(value, encoding="utf-8")
            environ[kept.place] = str(path)
        else:
            environ[kept.place] = value
    return environ


def write_service_account(directory: Path) -> Path:
    path = directory / "robot.json"
    path.write_text(json.dumps(json.loads(SERVICE_ACCOUNT)), encoding="utf-8")
    return path
