"""What a mail server that does not open becomes: who must do what."""

from __future__ import annotations

import pytest

from bridge.advice.base import Turn
from bridge.advice.diagnosis import Diagnosis
from bridge.errors import BridgeError, TlsFailed, TokenRefused, UpstreamUnavailable
from bridge.relay.flight import diagnosis

BUSY = Diagnosis.of("mail.too_many", "[ALERT] Too many simultaneous connections.")
RIGHTS = Diagnosis.of("mail.no_right", "AUTHENTICATE failed.", mailbox="sales@example.com", person="alice@example.com")
TLS = Diagnosis.of("mail.tls", "mail.example: certificate verify failed")


@pytest.mark.parametrize(
    ("problem", "turn", "words"),
    [
        (UpstreamUnavailable("x", diagnosis=BUSY), Turn.NOBODY, "too many connections"),
        (UpstreamUnavailable("mail.example:993 does not answer"), Turn.NOBODY, "mail.example:993 does not answer"),
        (TokenRefused("x", text="no", diagnosis=RIGHTS), Turn.TENANT_ADMIN, "may not open the mailbox sales@example"),
        (TlsFailed("x", diagnosis=TLS), Turn.APP_ADMIN, "ca_file"),
    ],
)
def test_trouble_on_the_way_is_told_apart(problem: BridgeError, turn: Turn, words: str) -> None:
    found = diagnosis(problem)
    assert found.advice.turn is turn
    assert words in found.told()
