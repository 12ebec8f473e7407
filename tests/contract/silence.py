"""No secret is told: neither in a log, nor in an error, nor in its causes."""

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
    """Importing this fixture makes each test of a module check that no library has logged a secret."""
    caplog.set_level(logging.DEBUG)
    yield
    # caplog.text has only the records of the running phase, which is the teardown: there adapters are closed.
    form = logging.Formatter()
    records = [*caplog.get_records("setup"), *caplog.get_records("call"), *caplog.get_records("teardown")]
    check_silence(authorization_server, [form.format(record) for record in records])


def check_silence(server: AuthorizationServer | None, texts: Iterable[str]) -> None:
    secrets = () if server is None else server.secrets
    for text in texts:
        found = [secret for secret in ("CANARY", *secrets) if secret in text]
        assert not found, text


@contextmanager
def refusal(expected: type[E], server: AuthorizationServer | None = None) -> Iterator[pytest.ExceptionInfo[E]]:
    """Exactly this class, no subclass, and without a secret in the error or its causes, which a log would print too."""
    with pytest.raises(expected) as caught:
        yield caught
    assert caught.type is expected
    error: BaseException | None = caught.value
    while error is not None:
        check_silence(server, [str(error), repr(error)])
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
