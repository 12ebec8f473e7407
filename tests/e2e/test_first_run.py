"""From no configuration at all to a mail program that logs in, with a real Chromium."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import sqlite3
import stat
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.bridge import STOP_SECONDS
from tests.e2e.clients import Login
from tests.e2e.conftest import ALICE, BOB, World
from tests.e2e.first_run import FirstRun, answers, first_run, secret
from tests.e2e.logins import replies
from tests.servers.axe import SERIOUS
from tests.servers.daemons import free_ports
from tests.servers.needed import absent
from tests.servers.packages import axe_core, needs

pytestmark = [pytest.mark.servers, pytest.mark.browser]

try:
    from playwright.sync_api import Browser, BrowserContext, Page
except ImportError:  # pragma: no cover
    absent("playwright")

LIMIT = 50_000
"""The most bytes that a page may have."""


@pytest.fixture
def run(world: World, tmp_path: Path) -> Iterator[FirstRun]:
    with first_run(tmp_path) as run:
        world.provider.allow_redirect(f"{run.base}/")
        yield run


def opened(chromium: Browser, *, script: bool = True, locale: str = "en-GB") -> tuple[BrowserContext, Page]:
    context = chromium.new_context(ignore_https_errors=True, java_script_enabled=script, locale=locale)
    page = context.new_page()
    page.set_default_timeout(60_000)
    return context, page


def heading(page: Page) -> str:
    return page.inner_text("[aria-current=step]").strip()


def next_step(page: Page) -> None:
    page.click("main button:has-text('Continue')")


def choose_other(page: Page, run: FirstRun) -> None:
    page.goto(run.link)
    assert "/admin/" not in page.url
    page.check("input[value=OTHER]")
    next_step(page)


def fill(page: Page, texts: dict[str, str]) -> None:
    for name, text in texts.items():
        page.fill(f"input[name={name}]", text)


def fill_provider(page: Page, world: World) -> None:
    fill(page, answers(world))
    page.fill("input[name=client_secret]", secret(world))
    next_step(page)


def fill_accounts(page: Page, text: str, ports: list[int]) -> None:
    page.fill("textarea", text)
    page.click("summary")
    fill(page, {name: str(port) for name, port in zip(("imap", "pop3", "smtp"), ports, strict=True)})
    next_step(page)


def to_summary(page: Page, run: FirstRun, world: World, accounts: str = ALICE) -> list[int]:
    """Give good answers up to the summary page. Returns: the ports for mail programs."""
    ports = free_ports(3)
    choose_other(page, run)
    fill_provider(page, world)
    fill_accounts(page, accounts, ports)
    assert heading(page) == "Review, test, write"
    return ports


def login_at(ports: list[int], password: str) -> Login:
    imap, pop3, smtp = ports
    return Login(imap, pop3, smtp, ALICE, password)


def wanted(world: World, run: FirstRun) -> dict[str, Any]:
    """A configuration with which the bridge can start, as somebody might write it meanwhile."""
    return {
        "providers": {"gmail": world.providers()["gmail"] | {"redirect_uri": f"{run.base}/"}},
        "accounts": [{"address": ALICE, "provider": "gmail"}],
        "listeners": {
            protocol: f"127.0.0.1:{port}"
            for protocol, port in zip(("imap", "pop3", "smtp"), free_ports(3), strict=True)
        },
        "console": f"localhost:{run.port}",
        "store": {"path": str(run.home / "store"), "key_file": str(run.home / "key")},
    }


def put(configuration: dict[str, Any], place: Path) -> None:
    """Put the whole file in place at once, because the program looks for it all the time."""
    staged = place.with_suffix(".new")
    staged.write_text(yaml.safe_dump(configuration))
    staged.chmod(0o600)
    staged.rename(place)


@pytest.mark.parametrize("script", [True, False], ids=["with JavaScript", "without"])
def test_from_nothing_to_a_mail_program_that_logs_in(
    run: FirstRun, world: World, chromium: Browser, script: bool
) -> None:
    """With wrong answers on the way. The same process goes on as the bridge, and the browser keeps the administrator's
    session."""
    context, page = opened(chromium, script=script)
    choose_other(page, run)
    fill(page, answers(world) | {"token_url": "http://mail.example.com/token", "smtp": "nowhere"})
    page.fill("input[name=client_secret]", secret(world))
    next_step(page)
    assert "must begin with https://" in page.inner_text("#token_url-problem")
    assert "must be a host and a port" in page.inner_text("#smtp-problem")
    assert page.input_value("input[name=client_id]") == answers(world)["client_id"]
    assert page.input_value("input[name=client_secret]") == ""
    assert secret(world) not in page.content()
    fill(page, answers(world))
    next_step(page)

    ports = free_ports(3)
    fill_accounts(page, "alice@@example.com", ports)
    assert "line 1:" in page.inner_text("#accounts-problem")
    assert page.input_value("textarea") == "alice@@example.com"
    page.fill("textarea", ALICE)
    roster = {"name": "list.csv", "mimeType": "text/csv", "buffer": f"address\n{BOB}\n*@example.org\n".encode()}
    page.set_input_files("input[type=file]", roster)  # type: ignore[arg-type]  # its TypedDict
    next_step(page)

    preview = page.inner_text("pre")
    assert ALICE in preview
    assert BOB in preview
    assert '"*@example.org"' in preview
    assert secret(world) not in page.content()
    assert not run.config.parent.exists()
    page.click("text=Test first")
    found = page.inner_text(".findings")
    assert f"localhost:{world.dovecot.imap_tls}" in found
    assert "Failed" not in found, found
    assert not run.config.parent.exists()

    page.click("text=Write it and start")
    page.wait_for_url(f"{run.base}/welcome")
    assert heading(page) == "Sign in, and use it"
    for port in ports:
        assert str(port) in page.inner_text("section[aria-labelledby=settings]")
    page.click(f"a[aria-label='Sign in: {ALICE}']")
    page.click("main button[type=submit]")
    page.check(f"input[name=account][value='{ALICE}']")
    page.click("#accept")
    page.wait_for_url(f"{run.base}/**")
    assert f"{ALICE} is signed in" in page.inner_text("main")

    page.goto(f"{run.base}/welcome")
    page.click(f"button[aria-label='Local password of {ALICE}']")
    password = page.inner_text(".password")
    answered = replies(login_at(ports, password))
    assert answered["imap"] == "OK"
    assert answered["pop3"].startswith("+OK")
    assert answered["smtp"].startswith("235")
    context.close()
    for hidden in (secret(world), password, run.link.rpartition("/")[2]):
        assert hidden not in run.said.replace(run.link, "")
    assert stat.S_IMODE(run.config.stat().st_mode) == 0o600
    assert secret(world) not in run.config.read_text()


def test_every_step_is_accessible_and_small(run: FirstRun, world: World, chromium: Browser) -> None:
    script = axe_core().read_text("utf-8")
    seen: list[str] = []

    def look(page: Page) -> None:
        for scheme, width in (("light", 1000), ("dark", 320)):
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]  # its Literal
            page.set_viewport_size({"width": width, "height": 800})
            page.evaluate(script)
            assert page.evaluate(SERIOUS) == [], page.url
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), page.url
        assert len(page.content().encode()) < LIMIT
        seen.append(page.inner_text("h1"))

    context, page = opened(chromium)
    page.goto(run.base)
    look(page)  # a stranger's
    page.goto(run.link)
    look(page)
    page.check("input[value=OTHER]")
    next_step(page)
    next_step(page)  # without any answer
    assert page.locator("[aria-invalid]").count() > 4
    look(page)
    fill_provider(page, world)
    ports = free_ports(3)
    fill_accounts(page, "nobody", ports)
    look(page)
    page.fill("textarea", "\n".join(f"mailbox.number.{number}@example.com" for number in range(400)))
    next_step(page)
    look(page)
    context.clear_cookies(name=f"mail_bridge_form_{run.port}")
    page.click("text=Write it and start")
    assert page.inner_text("h1") == "Once more, please"
    look(page)
    page.click("text=Go to the set-up")
    with socket.create_server(("127.0.0.1", ports[0])):
        page.click("text=Write it and start")
        assert "cannot start with it yet" in page.inner_text("[role=alert]")
        look(page)
    page.click("text=Try again")
    page.wait_for_url(f"{run.base}/welcome")
    look(page)
    context.close()
    assert len(seen) == 8


def test_the_links_back_stand_clear_of_the_page(run: FirstRun, world: World, chromium: Browser) -> None:
    """The summary goes on with a card, and after a test with its verdict; other steps go on with a heading."""
    clear = """() => { const back = document.querySelector('.back');
        return back.getBoundingClientRect().bottom <= back.nextElementSibling.getBoundingClientRect().top; }"""
    context, page = opened(chromium)
    to_summary(page, run, world)
    assert page.evaluate(clear)
    page.click("text=Test first")
    assert page.locator(".back + .note").count() == 1
    assert page.evaluate(clear)
    context.close()


def test_in_french(run: FirstRun, world: World, chromium: Browser) -> None:
    context, page = opened(chromium, script=False, locale="fr-FR")
    page.goto(run.link)
    assert page.get_attribute("html", "lang") == "fr"
    assert page.inner_text("h1") == "Première configuration"
    page.check("input[value=OTHER]")
    page.click("main button:has-text('Continuer')")
    fill(page, answers(world))
    page.fill("input[name=client_secret]", secret(world))
    page.click("main button:has-text('Continuer')")
    page.fill("textarea", ALICE)
    page.click("summary")
    ports = free_ports(3)
    fill(page, dict(zip(("imap", "pop3", "smtp"), map(str, ports), strict=True)))
    page.click("main button:has-text('Continuer')")
    assert "# Les boîtes aux lettres." in page.inner_text("pre")
    run.config.parent.write_text("a file, where a directory was to be made")
    page.click("main form.actions button:not(.quiet)")
    assert "ne peut pas être écrit" in page.inner_text("[role=alert]")
    run.config.parent.unlink()
    with socket.create_server(("127.0.0.1", ports[0])):
        page.click("main form.actions button:not(.quiet)")
        said = page.inner_text("[role=alert]")
        assert f"127.0.0.1:{ports[0]} (" in said
        assert "est occupé par un autre programme" in said
        run.wait_for("is in use")  # the log is English
    page.click("text=Réessayer")
    page.wait_for_url(f"{run.base}/welcome")
    assert "boîte" in page.inner_text("main")
    context.close()


def test_it_ends_with_its_terminal(run: FirstRun) -> None:
    assert run.process is not None
    run.process.send_signal(signal.SIGHUP)
    assert run.process.wait(15) == 0


def test_it_ends_with_its_terminal_also_after_a_configuration_that_cannot_be_used(run: FirstRun) -> None:
    assert run.process is not None
    run.config.parent.mkdir()
    run.config.write_text("nonsense: 1\n")
    run.wait_for("setup.cannot_start")
    run.process.send_signal(signal.SIGHUP)
    assert run.process.wait(15) == 0


def test_a_browser_that_is_waited_for_until_it_is_closed_holds_nothing_up(world: World, tmp_path: Path) -> None:
    """Python's webbrowser waits for a browser that it does not know, and for one in the terminal."""
    browser, closed = tmp_path / "browser", tmp_path / "closed"
    browser.write_text(f"#!/bin/sh\nread line < '{closed}'\n")
    browser.chmod(0o755)
    os.mkfifo(closed)
    with first_run(tmp_path, browser=browser) as run, closed.open("r+b", buffering=0):  # closing it ends the browser
        assert run.process is not None
        world.provider.allow_redirect(f"{run.base}/")
        run.config.parent.mkdir()
        put(wanted(world, run), run.config)
        run.wait_for("bridge.up")
        run.process.terminate()
        assert run.process.wait(STOP_SECONDS) == 0


def test_under_nohup_it_outlives_its_terminal_and_then_reads_the_file_again(world: World, tmp_path: Path) -> None:
    needs("nohup")
    with first_run(tmp_path, starter=("nohup",)) as run:
        assert run.process is not None
        run.process.send_signal(signal.SIGHUP)
        run.config.parent.mkdir()
        put(wanted(world, run), run.config)
        run.wait_for("bridge.up")
        run.process.send_signal(signal.SIGHUP)
        run.wait_for("configuration.read")


def test_a_stranger_gets_nothing(run: FirstRun) -> None:
    for path in ("/", "/setup", "/setup/provider", "/setup/accounts", "/setup/summary", "/welcome", "/accounts/x"):
        status, said = run.ask(path)
        assert status == 403
        assert "Not set up yet" in said
        assert str(run.home) not in said
        assert 'name="form"' not in said
    assert run.ask("/admin/guessed")[0] == 403
    assert run.ask("/api/status")[0] == 401
    assert run.ask("/setup", Host="evil.example")[0] == 404


def test_a_configuration_that_appears_meanwhile_is_used(run: FirstRun, world: World, chromium: Browser) -> None:
    """Somebody has run `init` in a terminal while two browsers were open: nothing is overwritten."""
    context, page = opened(chromium)
    ports = to_summary(page, run, world)
    other, second = opened(chromium)
    second.goto(run.link)
    assert ALICE in second.inner_text("pre")  # the answers belong to the set-up, not to one browser
    written = yaml.safe_load(page.inner_text("pre")) | {"language": "en"}
    section = written["providers"]["mail"]
    section["client_secret"] = secret(world)
    run.config.parent.mkdir()
    put(written, run.config)
    before = run.config.read_text()
    run.wait_for("bridge.up")
    page.click("text=Write it and start")
    assert page.inner_text("h1") == "The set-up is finished"
    second.goto(f"{run.base}/setup/summary")
    assert second.url == f"{run.base}/welcome"
    assert str(ports[0]) in second.inner_text("main")
    assert run.config.read_text() == before
    context.close()
    other.close()


def test_what_a_colleague_puts_into_the_current_directory_meanwhile_is_not_used(run: FirstRun, world: World) -> None:
    """The same rule as at a start, because a configuration can name a program to run."""
    here = run.home / "config.yaml"
    put(wanted(world, run), here.with_name("theirs.yaml"))
    os.chown(here.with_name("theirs.yaml"), 4242, 4242)
    here.with_name("theirs.yaml").rename(here)
    run.wait_for("setup.cannot_start")
    assert "belongs to another user" in run.said
    assert "bridge.up" not in run.said
    put(wanted(world, run), here)  # one's own
    run.wait_for("bridge.up")


def test_the_log_goes_to_the_file_that_the_configuration_names(run: FirstRun, world: World) -> None:
    """From the moment the bridge runs; that the file cannot be written is logged where everything was logged before."""
    logging = wanted(world, run) | {"log": {"file": str(run.home / "logs" / "mail-bridge.log")}}
    (run.home / "logs").touch()
    run.config.parent.mkdir()
    put(logging, run.config)
    run.wait_for("setup.cannot_start")
    run.wait_for("mail-bridge.log cannot be written")
    (run.home / "logs").unlink()
    put(logging, run.config)
    run.wait_for("log.goes_on")
    while "bridge.up" not in (run.home / "logs" / "mail-bridge.log").read_text():
        threading.Event().wait(0.02)
    assert run.ask(f"/sign-in/{ALICE}")[0] == 200
    assert "bridge.up" not in run.said


SERVER = Path(__file__).parents[2] / "bridge" / "ui" / "web" / "server.py"


@pytest.mark.parametrize(
    "files",
    [(str(Path(sqlite3.__file__).parent),), (str(SERVER), importlib.util.cache_from_source(str(SERVER)))],
    ids=["the store", "the console"],
)
def test_what_is_not_loaded_for_want_of_a_descriptor_is_loaded_the_next_time(
    world: World, tmp_path: Path, files: tuple[str, ...]
) -> None:
    """The bridge's modules are loaded once there is a configuration; a person who had written it in the browser got no
    answer."""
    needs("strace")
    failing = ["--trace=openat", f"--inject=openat:error=EMFILE:when=1..{len(files)}", "-o", str(tmp_path / "trace")]
    paths = [word for file in files for word in ("-P", file)]
    with first_run(tmp_path, starter=("strace", "-D", "-f", "--seccomp-bpf", *failing, *paths)) as run:
        run.config.parent.mkdir()
        put(wanted(world, run), run.config)
        run.wait_for("setup.cannot_start")
        run.wait_for("bridge.up")
    assert "Too many open files" in run.said
    assert "Traceback" not in run.said


def test_an_order_to_start_while_it_starts_by_itself_is_answered(
    run: FirstRun, world: World, chromium: Browser
) -> None:
    """The configuration is a FIFO, so that the start waits in the middle until the test writes."""
    context, page = opened(chromium)
    to_summary(page, run, world)
    written = yaml.safe_load(page.inner_text("pre"))
    written["providers"]["mail"]["client_secret"] = secret(world)
    run.config.parent.mkdir()
    following = run.config.with_suffix(".new")
    following.write_text(yaml.safe_dump(written))
    following.chmod(0o600)
    os.mkfifo(run.config, 0o600)
    with run.config.open("w") as pipe:  # returns once the program, which has found the file, reads it
        page.click("text=Write it and start")
        assert "There is a configuration now" in page.inner_text("[role=alert]")
        order = run.post("/setup/start", context.cookies(), form=page.input_value("input[name=form]"))
        run.ask("/")  # answered after the order has arrived
        following.rename(run.config)  # the configuration is read a second time
        yaml.safe_dump(written, pipe)
    # Not sent by the browser, which would silently retry if its connection were cut.
    with closing(order), order.getresponse() as answer:
        assert (answer.status, answer.headers["Location"]) == (303, "/welcome")
    page.goto(f"{run.base}/welcome")
    assert heading(page) == "Sign in, and use it"
    context.close()


def test_what_is_written_is_what_was_looked_at(run: FirstRun, world: World, chromium: Browser) -> None:
    context, page = opened(chromium)
    ports = to_summary(page, run, world)
    other, second = opened(chromium)
    second.goto(run.link)
    second.goto(f"{run.base}/setup/accounts")
    second.fill("textarea", BOB)
    next_step(second)
    page.click("text=Write it and start")
    assert "in another window" in page.inner_text("[role=alert]")
    assert BOB in page.inner_text("pre")
    assert not run.config.exists()
    page.click("text=Write it and start")
    page.wait_for_url(f"{run.base}/welcome")
    assert [account["address"] for account in yaml.safe_load(run.config.read_text())["accounts"]] == [BOB]
    assert str(ports[0]) in page.inner_text("main")
    context.close()
    other.close()


def test_a_port_that_is_taken_at_the_last_moment_can_be_freed(run: FirstRun, world: World, chromium: Browser) -> None:
    context, page = opened(chromium)
    ports = to_summary(page, run, world)
    with socket.create_server(("127.0.0.1", ports[0])):
        page.click("text=Test first")
        assert "1 check has failed" in page.inner_text("[role=status]")
        page.click("text=Write it and start")
        said = page.inner_text("[role=alert]")
        assert f"127.0.0.1:{ports[0]}" in said
        assert run.config.exists()
    page.click("text=Try again")
    page.wait_for_url(f"{run.base}/welcome")
    assert replies(login_at(ports, "wrong"))["imap"] != "OK"
    context.close()


def test_a_place_that_cannot_be_written_is_said_and_left_as_it_was(
    run: FirstRun, world: World, chromium: Browser
) -> None:
    context, page = opened(chromium)
    to_summary(page, run, world)
    run.config.parent.write_text("a file, where a directory was to be made")
    page.click("text=Write it and start")
    assert "cannot be written" in page.inner_text("[role=alert]")
    assert os.listdir(run.home) == ["settings"]
    run.config.parent.unlink()
    page.click("text=Write it and start")
    page.wait_for_url(f"{run.base}/welcome")
    context.close()


def test_the_back_button_and_a_restart(run: FirstRun, world: World, chromium: Browser) -> None:
    context, page = opened(chromium)
    to_summary(page, run, world)
    page.go_back()
    assert page.input_value("textarea") == ALICE
    page.go_back()
    assert page.input_value("input[name=client_id]") == answers(world)["client_id"]
    assert "is kept" in page.inner_text("#client_secret-hint")
    next_step(page)  # without typing the secret again
    next_step(page)
    assert heading(page) == "Review, test, write"
    assert run.stop() == 0
    run.start()
    page.click("text=Write it and start")
    assert page.inner_text("h1") == "Not set up yet"
    assert not run.config.exists()
    page.goto(run.link)
    assert heading(page) == "Provider"
    context.close()


def test_a_port_of_the_console_in_use_is_said_with_the_way_out(run: FirstRun, tmp_path: Path) -> None:
    second = FirstRun(tmp_path / "second", run.port)
    second.home.mkdir()
    done = subprocess.run(
        second.command("init", "--browser", "--no-open", "--port", str(run.port)),
        capture_output=True,
        text=True,
        env=second.environ,
        cwd=second.home,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert f"{run.port} (console) is in use" in done.stderr
    assert "init --browser --port" in done.stderr
    assert "Traceback" not in done.stderr
