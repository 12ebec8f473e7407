"""The benchmark runs and measures: with the smallest sizes, and with mail-bridge alone, whatever the figures are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

WRONG = """
import socket
from bench import client
here, there = socket.socketpair()
session = client.Session.__new__(client.Session)
session.protocol, session.socket = "imap", here
exchange = client.fetch(session, 78)
before, behind = client.imap_response(78)
there.sendall(before + {content} + behind)
try:
    while not exchange.take():
        pass
    print("right")
except client.WrongBytes:
    print("wrong")
"""
RIGHT_CONTENT = "bytes(next(client.pieces(78)))"
PEER = """
import sys
from pathlib import Path
from bench import peers
peers._PLACE = Path(sys.argv[1])
python = peers._environment("peer", ["pip"])
assert python.read_bytes()[:4] == b"\\x7fELF", "an interpreter"
"""
PAGE = """
import json, sys
from bench import chart, report, rows
found = report.from_json(rows.rows(rows.FULL), sys.stdin.read())
print(json.dumps([report.table(found, ["HAProxy", "mail-bridge"]), chart.chart(found)]))
"""


def bench(*words: str, stdin: str = "") -> str:
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "scripts"), str(ROOT)])}
    done = subprocess.run(
        [sys.executable, *words], input=stdin, env=environ, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.timeout(600)
def test_every_row_is_measured_and_every_byte_compared() -> None:
    found = json.loads(bench("-m", "bench", "--quick", "--json", "--systems", "mail-bridge"))
    rows = {each["row"] for each in found}
    assert {"fetch", "send", "wan", "trip", "trips", "small-imap", "small-pop3", "mixed", "slow", "stalled"} <= rows
    assert {"login-imap", "login-pop3", "login-smtp", "idle-100", "idle-pop3", "idle-smtp"} <= rows
    assert {"cold", "morning", "start", "help"} <= rows
    for each in found:
        if each["unit"] not in ("MiB", "%"):  # these may be 0: no growth of memory, no work of an idle process
            assert min(each["figures"]["mail-bridge"]) > 0, each
    requests = [each["figures"]["mail-bridge"] for each in found if each["row"] == "cold"]
    assert requests == [[1], [1]], "one token request for each account, however many log in"


@pytest.mark.parametrize(
    ("content", "told"),
    [(RIGHT_CONTENT, "right"), (f"{RIGHT_CONTENT}[::-1]", "wrong"), (f"{RIGHT_CONTENT} + b'x'", "wrong")],
)
def test_a_byte_that_differs_is_found(content: str, told: str) -> None:
    assert bench("-c", WRONG.format(content=content)).strip() == told


def test_a_peer_whose_installation_was_interrupted_is_installed_anew(tmp_path: Path) -> None:
    half_made = tmp_path / "peer" / "bin" / "python"
    half_made.parent.mkdir(parents=True)
    half_made.touch()
    bench("-c", PEER, str(tmp_path))


def test_figures_become_a_table_with_goals_and_a_chart() -> None:
    figures = {"HAProxy": [1.0, 2.0, 4.0], "mail-bridge": [0.5, 3.0, 3.0]}
    measured = [{"row": "fetch", "title": "Bulk FETCH", "figures": figures}]
    table, chart = json.loads(bench("-c", PAGE, stdin=json.dumps(measured)))
    assert "| Bulk FETCH | CPU-s per GB | 2 (1–4) | 3 (0.5–3) | ≤ 1 x HAProxy | yes (0.75 x) |" in table
    assert ElementTree.fromstring(chart).tag.endswith("svg")
    assert "prefers-color-scheme:dark" in chart
