"""The HTTPS session: POST and GET, plain HTTP and TLS, and what is loaded while an answer is awaited."""

from __future__ import annotations

import ast
import socket
import subprocess
import sys
import threading
from functools import partial

import pytest

from bridge.errors import ProviderUnavailable
from bridge.oauth.http import Https
from bridge.oauth.limits import Limits
from tests.oauth.raw import OK, Tls, http, serving
from tests.oauth.test_http import SHORT, dripping


async def test_an_answer_to_a_post_may_take_longer_than_one_to_a_get(tls: Tls) -> None:
    """If the answer to a POST is lost, so is what the POST has brought about, such as a new grant."""

    def late(channel: socket.socket) -> None:
        threading.Event().wait(0.6)
        channel.sendall(http(b"{}"))

    with serving(late, *tls) as raw:
        https = Https("test", ca_file=raw.ca_file, limits=Limits(connect=10.0, read=0.2, overall=30.0, answer=30.0))
        with pytest.raises(ProviderUnavailable, match=r"did not answer within 0\.2 seconds"):
            await https.run(partial(https.get, raw.url))
        assert (await https.run(partial(https.post, raw.url))).status_code == 200
        https.close()


async def test_drops_without_tls_end_with_the_overall_limit_too() -> None:
    """With an http:// URL to this machine."""
    with serving(dripping(OK + b"Content-Length: 1000000\r\n\r\n", b" "), "", None) as raw:
        https = Https("test", limits=SHORT)
        with pytest.raises(ProviderUnavailable, match="takes too long"):
            await https.run(partial(https.get, f"http://localhost:{raw.port}/"))
        https.close()


async def test_a_get_follows_no_redirect_from_tls_to_plain_http_of_the_same_host(tls: Tls) -> None:
    def moved(channel: socket.socket) -> None:
        here = f"http://localhost:{channel.getsockname()[1]}/token"
        channel.sendall(http(b"", "302 There", f"Location: {here}\r\n"))

    with serving(moved, *tls) as raw:
        https = Https("test", ca_file=raw.ca_file)
        with pytest.raises(ProviderUnavailable, match="captive portal"):
            await https.run(partial(https.get, raw.url))
        https.close()


async def test_all_redirects_of_a_get_together_end_with_the_overall_limit(tls: Tls) -> None:
    """Each had a limit of its own, and there may be thirty of them."""

    def moved(channel: socket.socket) -> None:
        threading.Event().wait(0.1)
        channel.sendall(http(b"", "302 There", "Location: /token\r\n"))

    with serving(moved, *tls) as raw:
        https = Https("test", ca_file=raw.ca_file, limits=SHORT)
        with pytest.raises(ProviderUnavailable, match="takes too long"):
            await https.run(partial(https.get, raw.url))
        https.close()


OPENED = """\
import sys

from bridge.oauth.http import Https

opened = None


def note(event, arguments):
    global opened
    if event == "socket.connect":
        opened = []
    elif opened is not None and event in {"import", "open", "os.listdir", "os.scandir"}:
        opened.append((event, str(arguments[0])))


sys.addaudithook(note)
Https("test", ca_file=sys.argv[1]).post(sys.argv[2], data={"refresh_token": "r"}).json()
print(opened)
"""


def test_nothing_is_opened_once_a_request_is_on_its_way(tls: Tls) -> None:
    """If no descriptor were left for it, the answer would be lost, and the next refresh token with it."""
    with serving(http(b'{"refresh_token": "next"}'), *tls) as raw:
        command = [sys.executable, "-c", OPENED, raw.ca_file, raw.url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert ast.literal_eval(done.stdout) == []
