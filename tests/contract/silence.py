"""No secret is told: not in a log, not in an error, not in what led to it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import pytest

from bridge.errors import BridgeError
from tests.servers.authorization import AuthorizationServer

E = TypeVar("E", bound=BridgeError)


@pytest.fixture(autouse=True)
def no_secret_is_told(caplog: pytest.LogCaptureFixture, authorization_server: AuthorizationServer) -> Iterator[None]:
    """Whatever a test of a module that imports this does: no library has logged a secret."""
    caplog.set_level(logging.DEBUG)
    yield
    # caplog.text is empty again by now: it holds the records of the running phase, and this is the teardown.
    form = logging.Formatter()
    check_silence(authorization_server, [form.format(record) for record in caplog.get_records("call")])


def check_silence(server: AuthorizationServer, texts: Iterable[str]) -> None:
    for text in texts:
        found = [secret for secret in ("CANARY", *server.secrets) if secret in text]
        assert not found, text


@contextmanager
def refusal(expected: type[E], server: AuthorizationServer) -> Iterator[pytest.ExceptionInfo[E]]:
    """Exactly this class, not one below it; and no secret in it or in what led to it, which a log would print too."""
    with pytest.raises(expected) as caught:
        yield caught
    assert caught.type is expected
    error: BaseException | None = caught.value
    while error is not None:
        check_silence(server, [str(error), repr(error)])
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
