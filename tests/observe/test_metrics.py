"""Numbers for programs that monitor the bridge."""

from __future__ import annotations

import re

import pytest

from bridge.control.contract import AccountState
from bridge.model import Protocol
from bridge.observe.metrics import ACCOUNTS, BYTES, INFO, LOGINS, REFRESHES, SESSIONS, Counters, exposition

NAME = r"[a-z_]+"
LINE = re.compile(
    rf"# HELP {NAME} \S.*\.|# TYPE {NAME} (counter|gauge)|{NAME}(\{{({NAME}=\"([\w.]+|sign-in)\",?)+\}})? \d+", re.ASCII
)


def values(page: str) -> dict[str, int]:
    """The value of each sample."""
    samples = [line.rpartition(" ") for line in page.splitlines() if not line.startswith("#")]
    return {sample: int(value) for sample, _, value in samples}


def test_the_page_is_what_monitoring_reads() -> None:
    counters = Counters()
    counters.add(LOGINS, "imap", "yes")
    counters.add(BYTES, "smtp", "server", by=2**40)
    page = exposition(counters, {"pop3": 3}, {"sign-in": 2})
    assert page.endswith("\n")
    assert all(LINE.fullmatch(line) for line in page.splitlines())
    found = values(page)
    assert found['mail_bridge_logins_total{protocol="imap",answer="yes"}'] == 1
    assert found['mail_bridge_relayed_bytes_total{protocol="smtp",to="server"}'] == 2**40
    assert found['mail_bridge_sessions{protocol="pop3"}'] == 3
    assert found['mail_bridge_accounts{state="sign-in"}'] == 2
    assert sum(found.values()) == 1 + 2**40 + 3 + 2 + 1, "all others are 0, and there: a rate begins with the first"
    assert len(found) == 9 + 6 + 3 + 3 + 4 + 1


def test_each_name_is_introduced_once_in_front_of_its_samples() -> None:
    lines = exposition(Counters(), {}, {}).splitlines()
    for metric in (LOGINS, BYTES, REFRESHES, SESSIONS, ACCOUNTS, INFO):
        first = lines.index(f"# HELP {metric.name} {metric.meaning}")
        assert lines[first + 1] == f"# TYPE {metric.name} {metric.kind}"
        behind = lines[first + 2 : first + 2 + len(metric.samples())]
        assert [line.rpartition(" ")[0] for line in behind] == list(metric.samples().values())
        assert metric.name.endswith("_total") == (metric.kind == "counter")


def test_accounts_are_counted_by_the_words_of_the_status_or_not_at_all() -> None:
    assert ACCOUNTS.labels == {"state": tuple(state.value for state in AccountState)}
    assert ACCOUNTS.name not in exposition(Counters(), {}, None)


def test_what_one_process_has_taken_another_adds() -> None:
    ours, theirs = Counters(), Counters()
    for counters in (ours, theirs):
        for protocol in Protocol:
            counters.add(LOGINS, protocol.value, "no")
    theirs.add(LOGINS, "imap", "no")
    ours.add_all(theirs.take())
    assert [ours[sample] for sample in (LOGINS.sample("imap", "no"), LOGINS.sample("smtp", "no"))] == [3, 2]
    assert theirs.take() == {}


def test_a_process_may_have_counted_something_of_everything() -> None:
    ours, theirs = Counters(), Counters()
    for metric in (LOGINS, BYTES, REFRESHES):
        for _, *labels in metric.samples():
            theirs.add(metric, *labels)
    ours.add_all(theirs.take())
    assert set(ours.take().values()) == {1}


@pytest.mark.parametrize(
    "said", [{"CANARY": 1}, {SESSIONS.sample("imap"): 1}, {"": -1}, {"": True}, {"": 1.5}, {"": "1"}, {"": None}]
)
def test_what_is_no_count_is_not_added(said: dict[str, int]) -> None:
    counters, good = Counters(), LOGINS.sample("imap", "yes")
    with pytest.raises(ValueError, match="no counts"):
        counters.add_all({LOGINS.sample("pop3", "yes"): 1} | {key or good: value for key, value in said.items()})
    assert counters.take() == {}


def test_what_nobody_has_thought_of_is_a_bug() -> None:
    with pytest.raises(KeyError):
        Counters().add(LOGINS, "imap", "perhaps")
