"""Values sent between the bridge and its workers arrive unchanged, secrets too, and nothing else is accepted."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bridge.model import AccessToken, Account, Endpoint, Login, Mechanism, Protocol, TlsMode
from bridge.secret import Secret
from bridge.workers.wire import Misunderstood, Port, WorkerSettings, pack, unpack

ENDPOINT = Endpoint(
    "imap.example.com", 993, TlsMode.IMPLICIT, "/ca.pem", frozenset({"SIZE 1", "8BITMIME"}), 3, Mechanism.OAUTHBEARER
)
VALUES = [
    Login(Protocol.SMTP, "Zoë@example.com", Secret(bytes(range(256))), "crm"),
    Account("zoë@example.com", "it", "zoë@example.com", {Protocol.IMAP: ENDPOINT, Protocol.POP3: ENDPOINT}),
    AccessToken(Secret("CANARY-token"), 1.5, 0),
    Port(7, Protocol.POP3, None, "", ""),
    WorkerSettings(
        "debug",
        "json",
        "/var/log/mail-bridge.log",
        {Protocol.IMAP: (), Protocol.SMTP: (ENDPOINT, Endpoint("smtp.example.com", 587, TlsMode.STARTTLS))},
    ),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_a_value_comes_back_as_it_was(value: Any) -> None:
    assert unpack(type(value), json.loads(json.dumps(pack(value)))) == value


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        ["imap", "alice", "CANARY"],
        ["imap", "alice", 7, ""],
        ["gopher", "alice", "CANARY", ""],
        ["imap", ["alice"], "CANARY", ""],
        ["imap", "alice", "CANARY", "", "more"],
        {"protocol": "imap"},
    ],
)
def test_what_is_no_login_is_refused_without_repeating_it(data: Any) -> None:
    with pytest.raises(Misunderstood) as refused:
        unpack(Login, data)
    assert "CANARY" not in str(refused.value)


def test_a_type_that_the_model_has_not_is_a_bug_that_shows() -> None:
    with pytest.raises(TypeError, match="object has no form"):
        pack(object())
