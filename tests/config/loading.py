"""Loads a text as a configuration, or returns the problems that the loader finds in it."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest

from bridge.config.load import LoadedConfig, parse_config
from bridge.errors import ConfigError
from tests.config.bad_values import GOOD

CANARY = "CANARY-s3cret"
HERE = Path("/nowhere")


def load(text: str, directory: Path = HERE, **environ: str) -> LoadedConfig:
    return parse_config(text, directory=directory, environ=environ, read_keyring={"office365": CANARY}.get)


def problems(text: str, directory: Path = HERE, **environ: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(text, directory, **environ)
    assert CANARY not in "".join(traceback.format_exception(caught.value))
    return list(caught.value.problems)


def edited(*changes: tuple[str, str], text: str = GOOD) -> str:
    for before, after in changes:
        assert before in text
        text = text.replace(before, after, 1)
    return text
