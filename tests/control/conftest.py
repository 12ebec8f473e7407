"""Fixtures of the control interface's tests."""

from __future__ import annotations

from tests.ui.web.conftest import log

__all__ = ["log"]
