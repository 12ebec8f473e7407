"""The debug messages of the libraries never reach the log."""

import logging

import pytest

from bridge.oauth.quiet import quieten


def test_trap_46_debug_of_a_library_never_gets_out_whatever_the_levels(caplog: pytest.LogCaptureFixture) -> None:
    child = logging.getLogger("msal.oauth2cli.test")
    with caplog.at_level(logging.DEBUG), caplog.at_level(logging.DEBUG, "msal.oauth2cli.test"):
        quieten()
        child.debug("code=s3cret")
        child.info("fine")
    assert caplog.messages == ["fine"]
