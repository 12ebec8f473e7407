"""The answer to each of our errors: the table of docs/architecture.md matches the program."""

from __future__ import annotations

import re
from pathlib import Path

from bridge.model import Protocol
from bridge.protocols.base import Hangup, Send
from bridge.protocols.registry import server_machine
from bridge.protocols.smtp.replies import refusal_reply
from tests.protocols.transcripts import PROBLEMS

PAGE = Path(__file__).parents[2] / "docs" / "architecture.md"
LOGIN = {Protocol.IMAP: b"a LOGIN alice pw\r\n", Protocol.POP3: b"USER alice\r\nPASS pw\r\n"}


def reply(protocol: Protocol, name: str) -> str:
    """The reply without its tag and its sentence."""
    if protocol is Protocol.SMTP:
        return " ".join(refusal_reply(PROBLEMS[name]).split()[:2])
    machine = server_machine(protocol, starttls=False)
    machine.greet()
    machine.receive(LOGIN[protocol])
    (said,) = machine.refuse(PROBLEMS[name])
    assert isinstance(said, Send | Hangup)
    line = said.data if isinstance(said, Send) else said.farewell
    found = re.match(rb"(?:a |\* )?((?:NO|BYE|-ERR) \[[A-Z/]+\]) \S", line)
    assert found is not None, said
    return found[1].decode()


def test_the_replies_are_those_of_the_table() -> None:
    table = PAGE.read_text("utf-8").split("| class | when | IMAP (RFC 5530)")[1].split("\n\n")[0]
    rows = [tuple(cell.strip(" `") for cell in line.strip("|").split("|")) for line in table.splitlines()[2:]]
    assert {name for name, *_ in rows} == set(PROBLEMS)
    for name, _, *told in rows:
        assert told == [reply(protocol, name) for protocol in Protocol], name
