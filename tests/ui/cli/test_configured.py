"""Which configuration a command uses if none was named."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.host import paths
from bridge.ui.cli.configured import Settings, own_config


@pytest.mark.parametrize("place", ["here", "mine", "machine's"])
def test_what_starts_at_login_names_a_configuration_that_is_found_in_this_directory_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """A desktop session starts the bridge in another directory, which has no configuration: instead of serving mail it
    would begin a first set-up."""
    for name in ("here", "mine", "machine's"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(paths, "config_dir", lambda: tmp_path / "mine")
    monkeypatch.setattr(paths, "machine_config_dir", lambda: tmp_path / "machine's")
    monkeypatch.chdir(tmp_path / "here")
    settings = Settings(None, None)
    assert own_config(settings) == [], "there is none"
    file = tmp_path / place / "config.yaml"
    file.touch()
    assert own_config(settings) == (["--config", str(file)] if place == "here" else [])
