"""Each trap (docs/quirks.md), and each weakness that was measured in email-oauth2-proxy, has a test with its number."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent

TRAPS = 47
"""What providers, libraries and mail programs really do; most have a line in docs/quirks.md."""

PEER = 18
"""What is unsafe or wrong in email-oauth2-proxy and must not be so here: peer_NN."""

NOT_FOR_A_TEST = {
    "trap_19": "Google ends the sign-ins of an app in status Testing after 7 days: README says to choose Internal",
    "trap_26": "two registered redirect URIs that differ in the port alone: README asks for exactly one",
    "trap_33": "providers keep a copy of sent mail themselves: the mail program's setting, which README names",
    "trap_47": "a date",
}


def numbered() -> set[str]:
    """Every trap_NN and peer_NN in the names of tests and transcripts."""
    names = [path.name for path in (TESTS / "transcripts").rglob("*.txt")]
    for path in TESTS.rglob("test_*.py"):
        names += re.findall(r"^(?:async )?def (test_\w+)", path.read_text("utf-8"), re.MULTILINE)
    return {number for name in names for number in re.findall(r"(?:trap|peer)_\d\d", name)}


@pytest.mark.parametrize(
    "row", [f"trap_{n:02}" for n in range(1, TRAPS + 1)] + [f"peer_{n:02}" for n in range(1, PEER + 1)]
)
def test_has_a_test_named_after_it_or_a_reason(row: str) -> None:
    assert (row in numbered()) is not (row in NOT_FOR_A_TEST)
