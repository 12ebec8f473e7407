"""Where a bridge's log goes: to standard error, or to the file of its configuration."""

from __future__ import annotations

from pathlib import Path
from typing import TextIO

from bridge.advice.said import said
from bridge.config.load import LoadedConfig
from bridge.errors import ConfigError
from bridge.observe import logs
from bridge.observe.log_file import log_file, reason_of
from bridge.ui.cli.configured import Settings


def log_stream(loaded: LoadedConfig) -> TextIO | None:
    """The configured file, opened; None for standard error. Raises: ConfigError."""
    file = loaded.config.log.file
    if file is None:
        return None
    try:
        return log_file(Path(file))
    except OSError as problem:
        reason = reason_of(problem, Path(file))
        raise ConfigError([said("log.file: {file} cannot be written: {reason}", file=file, reason=reason)]) from problem


def log_as(settings: Settings, loaded: LoadedConfig, stream: TextIO | None) -> None:
    """Log to `stream`, from log_stream(), from now on. The old place gets a line that says where the log goes."""
    before = logs.current_stream()
    if stream not in (None, before):
        logs.configure("info", loaded.config.log.format, before)
        logs.event("log.goes_on", file=loaded.config.log.file)
    logs.configure(settings.log_level or loaded.config.log.level, loaded.config.log.format, stream)
