"""Makes the pictures of docs/images from the running demo, by Chromium: `python3 scripts/screenshots.py`."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from environment import ROOT, prepare, python

IMAGES = ROOT / "docs" / "images"
WIDE, NARROW = {"width": 860, "height": 480}, {"width": 360, "height": 640}
ALICE = "alice@example.com"


def main() -> int:
    if Path(sys.prefix).resolve() != python().parent.parent.resolve():  # Playwright is only in the environment
        return subprocess.run([prepare("dev", "postgresql", "tray"), __file__, *sys.argv[1:]]).returncode
    from playwright.sync_api import sync_playwright

    sys.path.insert(0, str(ROOT))
    from tests.servers.packages import program

    chromium = program("chromium")
    if chromium is None:
        print("chromium is not installed")
        return 1
    IMAGES.mkdir(parents=True, exist_ok=True)
    with demo() as administrator, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(chromium), args=["--no-sandbox"])
        take(browser, administrator)
        browser.close()
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


def opened(browser: Any, address: str, **options: Any) -> Any:
    page = browser.new_context(**{"viewport": WIDE, "locale": "en-GB", "color_scheme": "light"} | options).new_page()
    page.goto(address)
    return page


def shoot(page: Any, name: str) -> None:
    page.screenshot(path=IMAGES / f"{name}.png", full_page=True)


if __name__ == "__main__":
    sys.exit(main())
