"""Which capabilities our greeting may promise on behalf of the upstreams."""

from __future__ import annotations

import pytest

from bridge.protocols.imap.promises import promises

GMAIL = frozenset({"IMAP4REV1", "IDLE", "ENABLE", "MOVE", "X-GM-EXT-1", "LITERAL-"})
EXCHANGE = frozenset({"IMAP4REV1", "IDLE", "MOVE", "LITERAL+", "LOGINDISABLED", "AUTH=XOAUTH2"})
YAHOO = frozenset({"IMAP4REV1", "MOVE", "LITERAL+"})


def test_what_every_upstream_has_and_programs_look_for() -> None:
    assert promises([GMAIL]) == ("ENABLE", "IDLE", "MOVE")
    assert promises([GMAIL, EXCHANGE]) == ("IDLE", "MOVE")
    assert promises([GMAIL, YAHOO, EXCHANGE]) == ("MOVE",)
    assert promises([YAHOO, EXCHANGE]) == ("MOVE",), (
        "LITERAL+ is of use before the login, where it would be ours to keep"
    )


@pytest.mark.parametrize("name", ["CHILDREN", "ENABLE", "IDLE", "MOVE", "NAMESPACE", "UIDPLUS", "UNSELECT"])
def test_each_of_what_programs_look_for_is_promised(name: str) -> None:
    assert promises([frozenset({"IMAP4REV1", name}), frozenset({name, "SPECIAL-USE"})]) == (name,)


def test_of_an_unknown_upstream_nothing_is_promised() -> None:
    assert promises([GMAIL, None]) == ()
    assert promises([]) == ()
