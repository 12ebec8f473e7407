"""Values and errors survive the wire; anything else is refused."""

from __future__ import annotations

import contextlib
import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge import errors
from bridge.advice.base import Turn
from bridge.advice.diagnosis import Diagnosis
from bridge.advice.said import said
from bridge.control import wire
from bridge.control.contract import (
    AccountState,
    AccountStatus,
    ListenerStatus,
    ProtocolCheck,
    SignInStarted,
    Status,
)
from bridge.errors import BridgeError
from bridge.notices import (
    AuthorizationEnded,
    AuthorizationNeeded,
    Authorized,
    Forgotten,
    ListenerUp,
    MailServerAnswered,
    Notice,
    PasswordReplaced,
    Refreshed,
    RefreshFailed,
    Reloaded,
    SecretExpiring,
    ServersChecked,
)
from bridge.secret import Secret

FULL = Diagnosis("mail.full", (("mailbox", "c@example.com {0} é"),), "554 5.2.2")
REVOKED = Diagnosis("microsoft.revoked", words="AADSTS50173")

STATUS = Status(
    "1.2.3",
    "C:\\bridge\\config.yaml",
    True,
    (
        AccountStatus("a@example.com", "p", "a@example.com", AccountState.READY, "", 1.5, "http://localhost:1/x"),
        AccountStatus('b\n\ud800"@example.com', "p", "", AccountState.SIGN_IN),
        AccountStatus(
            "c@example.com",
            "p",
            "",
            AccountState.TROUBLE,
            detail="x",
            checks=(ProtocolCheck("imap", False, Turn.USER, "full", FULL, 1.25), ProtocolCheck("smtp", True)),
            diagnosis=REVOKED,
        ),
    ),
    (ListenerStatus("imap", "[::1]:1143", "starttls", 3),),
    (),
)
NOTICES: list[Notice] = [
    AuthorizationNeeded("a@example.com", "http://localhost:1/x", "why\nnot"),
    Authorized("a@example.com", "b@example.com"),
    AuthorizationEnded("a@example.com", "denied", "é"),
    ServersChecked("a@example.com", "smtp"),
    MailServerAnswered("a@example.com", "imap", "full", True, FULL),
    MailServerAnswered("a@example.com", "imap", ""),
    Refreshed("a@example.com", 12.25),
    RefreshFailed("a@example.com", "", True),
    RefreshFailed("a@example.com", "x", False, REVOKED),
    RefreshFailed("a@example.com", "x", True, Diagnosis("oauth.unreachable", words=said("{host} is away", host="é"))),
    AuthorizationNeeded("a@example.com", "http://localhost:1/x", "x", REVOKED),
    Forgotten("a@example.com"),
    PasswordReplaced("a@example.com"),
    ListenerUp("imap", "127.0.0.1:1143"),
    SecretExpiring("office365", "2027-01-31", -3),
    Reloaded("nothing changed"),
]


def plain_status() -> dict[str, Any]:
    return wire.loads(wire.dumps(wire.encode(STATUS)))


@pytest.mark.parametrize("value", [STATUS, SignInStarted("a", "b", 4.0)], ids=["status", "started"])
def test_a_value_comes_back_as_it_went(value: Any) -> None:
    assert wire.decode(type(value), wire.loads(wire.dumps(wire.encode(value)))) == value


def test_a_status_in_pieces_is_the_same() -> None:
    assert "".join(wire.dumped(STATUS)) == wire.dumps(wire.encode(STATUS))


@pytest.mark.parametrize("notice", NOTICES, ids=lambda notice: type(notice).__name__)
def test_each_notice_is_one_line_and_comes_back(notice: Notice) -> None:
    line = wire.encode_notice(notice)
    assert line.count("\n") == 1
    assert wire.decode_notice(line) == notice


def test_every_kind_of_notice_is_tried_here() -> None:
    assert {type(notice) for notice in NOTICES} == set(wire._NOTICES.values())


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("version",), 1),
        (("version",), None),
        (("is_demo",), 0),
        (("is_demo",), "false"),
        (("accounts",), {}),
        (("accounts",), "x"),
        (("accounts", 0), []),
        (("accounts", 0, "state"), "happy"),
        (("accounts", 0, "expires_at"), True),
        (("accounts", 0, "expires_at"), "1"),
        (("accounts", 0, "more"), "1"),
        (("listeners", 0, "sessions"), 1.5),
        (("listeners", 0, "sessions"), True),
        (("accounts", 2, "diagnosis"), "microsoft.revoked"),
        (("accounts", 2, "diagnosis"), {"key": "microsoft.revoked", "arguments": []}),
        (("accounts", 2, "diagnosis"), {"key": "of.tomorrow", "arguments": [], "words": ""}),
        (("accounts", 2, "diagnosis"), {"key": "mail.full", "arguments": [], "words": ""}),
        (("accounts", 2, "diagnosis"), {"key": "mail.full", "arguments": [["mailbox"]], "words": ""}),
        (("accounts", 2, "diagnosis"), {"key": "mail.full", "arguments": [["mailbox", 1]], "words": ""}),
        (("accounts", 2, "checks", 0, "turn"), "postman"),
        (("patterns",), [1]),
        (("more",), 1),
    ],
)
def test_a_wrong_field_is_refused_with_its_place(place: tuple[Any, ...], value: object) -> None:
    data = plain_status()
    target: Any = data
    for step in place[:-1]:
        target = target[step]
    target[place[-1]] = value
    with pytest.raises(wire.WireError, match=str(place[-1])):
        wire.decode(Status, data)


def test_a_missing_field_is_refused() -> None:
    for name in plain_status():
        data = plain_status()
        del data[name]
        with pytest.raises(wire.WireError, match=name):
            wire.decode(Status, data)


@pytest.mark.parametrize("text", ["", "[]", "1", "null", '{"a":NaN}', "{", b"\xff", "[" * 100_000, '"CANARY'])
def test_what_is_no_json_object_is_refused_without_being_repeated(text: str | bytes) -> None:
    with pytest.raises(wire.WireError) as caught:
        wire.loads(text)
    assert "CANARY" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_an_unknown_notice_is_refused() -> None:
    for line in ('{"notice":"Exploded"}', '{"notice":1}', "{}", '{"notice":"Forgotten"}'):
        with pytest.raises(wire.WireError):
            wire.decode_notice(line)


def test_a_secret_has_no_form_on_the_wire() -> None:
    with pytest.raises(TypeError):
        wire.encode(Secret("CANARY"))


def every_error() -> list[errors.BridgeError]:
    special: dict[type[errors.BridgeError], errors.BridgeError] = {
        errors.AuthorizationRequired: errors.AuthorizationRequired("a@example.com", "http://localhost/", "why"),
        errors.AuthorizationFailed: errors.AuthorizationFailed("no", code="wrong_person"),
        errors.UpstreamRefused: errors.UpstreamRefused("no", text="5.7.8 no"),
        errors.TokenRefused: errors.TokenRefused("no", text="5.7.8 no"),
        errors.MailboxNotOpened: errors.MailboxNotOpened("no", text="not connected"),
        errors.ConfigError: errors.ConfigError(("one", "two")),
    }
    kinds = [k for k in vars(errors).values() if isinstance(k, type) and issubclass(k, errors.BridgeError)]
    explained: list[errors.BridgeError] = [
        errors.GrantRevoked("x", diagnosis=REVOKED),
        errors.AuthorizationRequired("a@example.com", "http://localhost/", "why", diagnosis=REVOKED),
        errors.AuthorizationFailed("no", code="provider", diagnosis=REVOKED),
        errors.UpstreamRefused("no", text="554 5.2.2", diagnosis=FULL),
        errors.StoreUnavailable(said("{store} is locked by another program", store="a.db")),
    ]
    return [special[kind] if kind in special else kind("words é") for kind in kinds] + explained


@pytest.mark.parametrize("problem", every_error(), ids=lambda problem: type(problem).__name__)
def test_each_error_comes_back_as_it_went(problem: errors.BridgeError) -> None:
    back = wire.decode_error(wire.loads(wire.dumps(wire.encode_error(problem))))
    assert type(back) is type(problem)
    assert isinstance(back, errors.BridgeError)
    assert str(back) == str(problem)
    assert back.public == problem.public
    assert back.temporary == problem.temporary
    assert vars(back) == vars(problem)


def test_a_switch_that_is_not_there_is_off() -> None:
    assert [wire.take_switch(data, "at_once") for data in ({}, {"at_once": False}, {"at_once": True})] == [
        False,
        False,
        True,
    ]
    with pytest.raises(wire.WireError, match="at_once is neither true nor false"):
        wire.take_switch({"at_once": 1}, "at_once")


def test_an_error_of_a_class_that_only_one_side_knows_comes_back_as_its_base() -> None:
    class Odd(errors.StoreUnavailable):
        """Known here only."""

    back = wire.decode_error(wire.encode_error(Odd("odd")))
    assert type(back) is errors.StoreUnavailable
    assert type(wire.decode_error(wire.encode_error(ValueError("too short")))) is ValueError


BROKEN: tuple[tuple[str, object], ...] = (
    *(("error", "OSError"), ("error", 1), ("text", None), ("fields", []), ("fields", {})),
    *(("diagnosis", "x"), ("diagnosis", {"key": "of.tomorrow", "arguments": [], "words": ""})),
)


def test_a_broken_error_is_an_error_too() -> None:
    sound = wire.encode_error(errors.AuthorizationFailed("no", code="denied"))
    for name, value in BROKEN:
        broken = copy.deepcopy(sound)
        broken[name] = value
        assert isinstance(wire.decode_error(broken), wire.WireError)


def test_the_proof_depends_on_token_and_nonce() -> None:
    proofs = {wire.proof(Secret(token), nonce) for token in ("CANARY-1", "CANARY-2") for nonce in ("a", "b")}
    assert len(proofs) == 4


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
NAMES = st.sampled_from(["error", "text", "fields", "notice", "address", "code", "problems", "reason", "url"])


@given(data=st.dictionaries(NAMES, JSON | st.sampled_from(sorted(wire._ERRORS)), max_size=6))
def test_any_object_is_an_error_of_ours_and_raises_none(data: dict[str, Any]) -> None:
    assert isinstance(wire.decode_error(data), BridgeError | ValueError)


@given(line=st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_line_is_a_notice_or_misunderstood(line: bytes) -> None:
    with contextlib.suppress(wire.WireError):
        assert wire.decode_notice(line) is not None


@given(data=JSON, kind=st.sampled_from([Status, AccountStatus, SignInStarted]))
def test_any_value_is_of_its_kind_or_misunderstood(data: object, kind: type) -> None:
    with contextlib.suppress(wire.WireError):
        assert isinstance(wire.decode(kind, data), kind)


def test_a_number_that_no_clock_has_is_misunderstood() -> None:
    started = wire.encode(SignInStarted("a", "b", 4.0))
    with pytest.raises(wire.WireError, match="expires_at"):
        wire.decode(SignInStarted, {**started, "expires_at": 10**400})
