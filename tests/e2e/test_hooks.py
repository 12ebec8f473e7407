"""Notices that the running program sends: to a real script, and to a real URL."""

from __future__ import annotations

import json
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.e2e.bridge import running
from tests.e2e.conftest import ALICE, CAROL, World
from tests.e2e.logins import replies

pytestmark = pytest.mark.servers

SCRIPT = """#!/bin/sh
env > "$1.new"
mv "$1.new" "$1"
"""


@contextmanager
def receiver(received: list[dict[str, str]]) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/CANARY-path"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def environment(file: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in file.read_text().splitlines() if "=" in line)


def test_a_script_and_a_url_are_told_who_must_sign_in_and_nothing_else(world: World, tmp_path: Path) -> None:
    bridge = world.bridge(tmp_path)
    script, told = tmp_path / "tell.sh", tmp_path / "told"
    script.write_text(SCRIPT)
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    received: list[dict[str, str]] = []
    bridge.environment["OFFICE_SECRET"] = "CANARY-environment"
    with receiver(received) as url:
        bridge.config["notify"] = {"command": ["./tell.sh", str(told)], "webhook": url}
        with running(bridge):
            replies(bridge.login(CAROL))
            bridge.wait_for_log("hook=webhook")
            bridge.wait_for_log("hook=command")
            found = environment(told)
            assert found["MAIL_BRIDGE_EVENT"] == "authorization-needed"
            assert found["MAIL_BRIDGE_ACCOUNT"] == CAROL
            assert found["MAIL_BRIDGE_URL"] == f"http://localhost:{bridge.console_port}/sign-in/{CAROL}"
            assert "CANARY" not in told.read_text()
            assert "OFFICE_SECRET" not in found
            assert [content["account"] for content in received] == [CAROL]
            replies(bridge.login(CAROL))  # the same person again within ten minutes: no second notice
            assert len(received) == 1
            bridge.config["notify"] = {"command": ["./tell.sh", str(tmp_path / "later")]}
            bridge.write_config()
            bridge.wait_for_log("notify changed")
            bridge.authorize(world.provider, ALICE, person=CAROL, code=1)
            bridge.wait_for_log("event_name=authorization-ended")
            assert environment(tmp_path / "later")["MAIL_BRIDGE_EVENT"] == "authorization-ended"
        assert len(received) == 1
        assert "CANARY" not in bridge.log


def test_a_script_that_fails_or_is_missing_harms_nobody(world: World, tmp_path: Path) -> None:
    bridge = world.bridge(tmp_path)
    bridge.config["notify"] = {"command": ["./not-there.sh"], "webhook": "http://127.0.0.1:9/CANARY?key=CANARY"}
    with running(bridge):
        assert CAROL in replies(bridge.login(CAROL))["imap"]
        bridge.wait_for_log("cannot be started")
        bridge.wait_for_log("127.0.0.1 cannot be reached")
        assert CAROL in replies(bridge.login(CAROL))["imap"]
        assert "CANARY" not in bridge.log
        assert "Traceback" not in bridge.log
