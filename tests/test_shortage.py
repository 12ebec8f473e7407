"""Which errors may pass by themselves, and which ones somebody has to fix."""

from __future__ import annotations

import errno
import os
import runpy
import socket

import pytest

from bridge import shortage

MISSING = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "secret.txt")


def test_a_name_server_that_is_away_may_come_back_and_a_name_that_is_none_stays_none() -> None:
    assert shortage.may_pass(socket.gaierror(socket.EAI_AGAIN, "no answer"))
    assert not shortage.may_pass(socket.gaierror(socket.EAI_NONAME, "no such name"))


def test_a_file_that_is_not_there_is_no_name_server_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a Mac both errors have the number 2 (netdb.h), because getaddrinfo()'s numbers are not negative there."""
    monkeypatch.setattr(socket, "EAI_AGAIN", errno.ENOENT)
    may_pass = runpy.run_path(shortage.__file__)["may_pass"]
    assert not may_pass(MISSING)
    assert may_pass(socket.gaierror(socket.EAI_AGAIN, "no answer"))
    assert may_pass(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))


def test_a_part_that_cannot_be_loaded_lacks_something_and_a_missing_file_of_the_user_s_does_not() -> None:
    """Python has an ImportError for both: a file of ours that an update replaced, and a shared library for which the
    system had no descriptor."""
    words = os.strerror(errno.EMFILE)
    replaced = ImportError("cannot import name 'Turns' from 'bridge.ui.web.turns'")
    assert "has been updated since mail-bridge was started, start it again" in str(shortage.lacking(replaced))
    unloaded = ImportError(f"x.so: cannot open shared object file: {words}")
    assert "not have enough resources left" in str(shortage.lacking(unloaded))
    assert "not have enough resources left" in str(shortage.lacking(OSError(errno.EMFILE, words)))
    assert shortage.lacking(MISSING) is None
    assert not shortage.may_pass(replaced)
