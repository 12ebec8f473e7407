"""Makes the pictures of docs/images from the running program: `python3 scripts/screenshots.py`.

The console's by Chromium, from the demo. The tray's on a screen without glass, with a real panel and a real server of
notifications; they come from Debian's packages, as for the tests.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from environment import DEVELOPMENT, ROOT, prepare, python
from options import parser

IMAGES = ROOT / "docs" / "images"
WIDE, NARROW = {"width": 860, "height": 480}, {"width": 360, "height": 640}
ALICE = "alice@example.com"
DESKTOP = "#d5d9de"
LANGUAGES = ("en", "fr")
CONFIG = """
language: {language}
providers:
  gmail: {{kind: google, client_id: demo, client_secret: demo}}
accounts:
  - {{address: alice@example.com, provider: gmail}}
store: {{key_file: store.key}}
listeners: {{imap: "127.0.0.1:11143", pop3: "127.0.0.1:11110", smtp: "127.0.0.1:11587"}}
"""


def main() -> int:
    parser().parse_args()
    if Path(sys.prefix).resolve() != python().parent.parent.resolve():  # Playwright is only in the environment
        runpy.run_path(str(ROOT / "scripts" / "test.py"))["install_servers"]()
        return subprocess.run([prepare(*DEVELOPMENT), __file__, *sys.argv[1:]]).returncode
    from playwright.sync_api import sync_playwright

    sys.path.insert(0, str(ROOT))
    from tests.servers.packages import program

    chromium = program("chromium")
    if chromium is None:
        print("chromium is not installed")
        return 1
    IMAGES.mkdir(parents=True, exist_ok=True)
    with demo() as administrator, first_set_up() as setup, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(chromium), args=["--no-sandbox"])
        take(browser, administrator)
        take_setup(browser, setup)
        browser.close()
    for language in LANGUAGES:
        asyncio.run(take_tray(language))
    total = sum(image.stat().st_size for image in IMAGES.glob("*.png"))
    print(f"{len(list(IMAGES.glob('*.png')))} pictures, {total // 1000} KB, in {IMAGES.relative_to(ROOT)}")
    return 0


@contextmanager
def demo() -> Iterator[str]:
    """The demo while it runs; its administrator's link."""
    command = [sys.executable, "-m", "bridge", "run", "--demo"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if found := re.search(r"http://localhost:\d+/admin/\S+", line):
                yield found[0]
                return
        raise RuntimeError("the demo has not started")
    finally:
        process.terminate()
        process.wait()


@contextmanager
def first_set_up() -> Iterator[str]:
    """The page of `init --browser` while it waits; its link. Nothing is written."""
    with tempfile.TemporaryDirectory() as home:
        command = [sys.executable, "-m", "bridge", "--config", f"{home}/config.yaml", "init", "--browser", "--no-open"]
        process = subprocess.Popen([*command, "--port", "43017"], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            yield next(found[0] for line in process.stdout if (found := re.search(r"http://\S+/admin/\S+", line)))
        finally:
            process.terminate()
            process.wait()


def take_setup(browser: Any, link: str) -> None:
    """A picture of one step with an answer that is refused."""
    for name, locale in (("light", "en-GB"), ("french", "fr-FR")):
        page = opened(browser, link, locale=locale)
        if name == "light":  # the set-up keeps its answers: the second time it goes on where it was
            page.check("input[value=MICROSOFT]")
            page.click("main button[type=submit]")
        page.fill("#client_id", "11111111-2222-3333-4444-555555555555")
        page.fill("#authorization_url", "https://login.microsoftonline.com/contoso.com/oauth2/authorize")
        page.fill("#token_url", "https://login.microsoftonline.com/contoso.com/oauth2/v2.0/token")
        page.click("main form:last-of-type button[type=submit]")
        shoot(page, f"setup-{name}")
        page.context.close()


def take(browser: Any, administrator: str) -> None:
    """A person signs in; then the administrator's pages."""
    home = administrator.partition("/admin/")[0]
    page = opened(browser, f"{home}/sign-in/{ALICE}")
    shoot(page, "sign-in")
    page.click("main button[type=submit]")
    page.click("button[value=accept]")
    page.wait_for_url(f"{home}/done/**")
    shoot(page, "result")
    looks = {
        "light": {},
        "dark": {"color_scheme": "dark"},
        "narrow": {"viewport": NARROW},
        "french": {"locale": "fr-FR"},
    }
    for name, options in looks.items():
        page = opened(browser, administrator, **options)
        shoot(page, f"console-{name}")
    page = opened(browser, administrator)
    page.goto(f"{home}/accounts/{ALICE}")
    shoot(page, "account")


async def take_tray(language: str) -> None:
    """Somebody must sign in: the notification, and the icon's menu. Nobody asks a provider or a mail server."""
    from tests.servers import desktop

    with tempfile.TemporaryDirectory(prefix="mb-") as name, desktop.session(Path(name)) as session:
        config = session.directory / "config.yaml"
        config.write_text(CONFIG.format(language=language))
        async with desktop.panel(session, has_place=False, notifies=False):
            with desktop.trayer(session), desktop.notifier(session), running(session, config):
                bubble = await desktop.until_window(session, "^xfce4-notifyd$")
                save(await desktop.until_drawn(session, bubble), f"notification-{language}", bubble)
                icon = await desktop.until_window(session, "^mail-bridge( |\u00a0)?:")
                session.run("xdotool", "mousemove", str(icon.x + 16), str(icon.y + 16), "click", "3")
                menu = await desktop.until_window(session, "^mail-bridge$")
                session.run("xdotool", "mousemove", "0", "0")
                save(await desktop.until_drawn(session, menu), f"tray-{language}", menu, icon)


@contextlib.contextmanager
def running(session: Any, config: Path) -> Iterator[None]:
    process = session.start("--config", str(config), "run", "--tray")
    try:
        yield
    finally:
        process.terminate()
        process.communicate()


def save(screen: Any, name: str, *windows: Any) -> None:
    """Save a picture of these windows, as they are on the screen, without their surroundings."""
    from PIL import Image

    boxes = [(window.x, window.y, window.x + window.width, window.y + window.height) for window in windows]
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    left, top = min(lefts), min(tops)
    picture = Image.new("RGB", (max(rights) - left, max(bottoms) - top), DESKTOP)
    for box in boxes:
        picture.paste(screen.convert("RGB").crop(box), (box[0] - left, box[1] - top))
    picture.save(IMAGES / f"{name}.png", optimize=True)


def opened(browser: Any, address: str, **options: Any) -> Any:
    page = browser.new_context(**{"viewport": WIDE, "locale": "en-GB", "color_scheme": "light"} | options).new_page()
    page.goto(address)
    return page


def shoot(page: Any, name: str) -> None:
    page.screenshot(path=IMAGES / f"{name}.png", full_page=True)


if __name__ == "__main__":
    sys.exit(main())
