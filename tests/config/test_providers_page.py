"""docs/providers.md: each block that can be copied is a configuration that loads."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import trustme

from bridge.config.generic import GenericProvider
from bridge.config.google import GoogleProvider
from bridge.config.load import LoadedConfig, load_config
from bridge.config.microsoft import MicrosoftProvider
from bridge.config.presets import Cloud, OAuth2Preset
from bridge.config.provider import Flow

PAGE = (Path(__file__).parents[2] / "docs" / "providers.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
ENVIRON = {name: f"CANARY-{name}" for name in re.findall(r"\$\{(\w+)\}", PAGE)}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that the page names."""
    made = tmp_path_factory.mktemp("page")
    secrets = made / "secrets"
    secrets.mkdir()
    certificate = trustme.CA().issue_cert("app.example")
    certificate.cert_chain_pems[0].write_to_path(secrets / "exchange.pem")
    certificate.private_key_pem.write_to_path(secrets / "exchange.key")
    key = {"type": "service_account", "client_email": "bridge@project.example", "private_key": "CANARY"}
    (secrets / "workspace.json").write_text(json.dumps(key))
    for file in secrets.iterdir():
        file.chmod(0o600)
    return made


def loaded(directory: Path, block: str) -> LoadedConfig:
    path = directory / "config.yaml"
    path.write_text(block, encoding="utf-8")
    path.chmod(0o600)
    return load_config(path, environ=ENVIRON)


@pytest.mark.parametrize("block", BLOCKS)
def test_every_block_is_a_configuration_without_a_complaint(directory: Path, block: str) -> None:
    found = loaded(directory, block)
    assert len(found.config.providers) == len(found.config.accounts) == 1
    assert not found.warnings


def test_every_kind_flow_and_preset_has_a_block(directory: Path) -> None:
    providers = [next(iter(loaded(directory, block).config.providers.values())) for block in BLOCKS]
    kinds = {(type(provider), provider.flow) for provider in providers}
    three = (Flow.BROWSER, Flow.DEVICE, Flow.CLIENT_CREDENTIALS)
    assert kinds == {
        *((GoogleProvider, flow) for flow in (Flow.BROWSER, Flow.SERVICE_ACCOUNT)),
        *((MicrosoftProvider, flow) for flow in three),
        *((GenericProvider, flow) for flow in three),
    }
    text = "".join(BLOCKS)
    assert all(preset.value in text for preset in OAuth2Preset)
    assert all(cloud.value in PAGE for cloud in Cloud)
