"""The tray as people use it: the program itself, a running bridge, a desktop's bus, clicks on menu entries by label."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib import resources
from pathlib import Path

import pytest
from PIL import Image

from bridge.host.autostart import desktop_entry
from bridge.ui.tray.view import Picture
from tests.e2e.bridge import Bridge, configuration, running
from tests.servers.authorization import AuthorizationServer
from tests.servers.authorization import authorization_server as serve
from tests.servers.ca import Authority
from tests.servers.desktop import (
    SECONDS,
    Panel,
    Session,
    ended,
    notifier,
    panel,
    screen,
    session,
    trayer,
    until_drawn,
    until_window,
)
from tests.servers.needed import absent
from tests.servers.packages import needs

pytestmark = pytest.mark.desktop

ALICE, BOB = "alice@example.com", "bob_b@example.com"

LOGIN = """
import os, sys
from gi.repository import Gio
for stream in (1, 2):  # else the program that is started keeps our caller waiting for their end
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
assert Gio.DesktopAppInfo.new_from_filename(sys.argv[1]).launch([], None)
"""


@pytest.fixture(scope="module")
def desktop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    with session(tmp_path_factory.mktemp("desktop")) as found:
        yield found


@pytest.fixture
async def shown(desktop: Session) -> AsyncIterator[Panel]:
    async with panel(desktop) as found:
        yield found


def configured(server: AuthorizationServer, desktop: Session, directory: Path) -> Bridge:
    """A bridge with two accounts and nobody signed in, which this person's other commands find."""
    provider = server.google_config() | {
        # Nothing listens there, because the tray is about sign-ins, not about mail.
        protocol: {"host": "localhost", "port": 9, "tls": "implicit"}
        for protocol in ("imap", "pop3", "smtp")
    }
    accounts = [{"address": address, "provider": "gmail"} for address in (ALICE, BOB)]
    made = Bridge(directory, configuration(directory, {"gmail": provider}, accounts))
    made.environment["XDG_DATA_HOME"] = str(desktop.directory / "data")
    server.allow_redirect(f"http://localhost:{made.console_port}/")
    server.people |= {ALICE, BOB}
    return made


@contextmanager
def serving(server: AuthorizationServer, desktop: Session, directory: Path) -> Iterator[Bridge]:
    """The same bridge, running."""
    with running(configured(server, desktop, directory)) as bridge:
        yield bridge


@pytest.fixture(scope="module")
def bridge(authority: Authority, desktop: Session, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bridge]:
    """A running bridge, shared by tests that do not change it."""
    with serve(authority) as server, serving(server, desktop, tmp_path_factory.mktemp("bridge")) as made:
        yield made


@contextmanager
def program(desktop: Session, *arguments: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    process = desktop.start(*arguments, **environment)
    try:
        yield process
    except BaseException:
        print(f"state before the end: {process.poll()}")  # pytest shows this and the next print with a failure
        process.send_signal(signal.SIGABRT)  # PYTHONFAULTHANDLER makes it print the stack of each thread
        print(process.communicate(timeout=SECONDS)[1])
        raise
    finally:
        process.kill()
        process.communicate()


def config_of(bridge: Bridge) -> str:
    return str(bridge.directory / "config.yaml")


async def test_from_the_prompt_to_a_sign_in_and_through_a_restart(
    desktop: Session, shown: Panel, authority: Authority, tmp_path: Path
) -> None:
    with (
        serve(authority) as server,
        serving(server, desktop, tmp_path) as bridge,
        program(desktop, "--config", config_of(bridge), "tray") as tray,
    ):
        await shown.until_icon()
        notice = await shown.until_notice("Mail: 2 accounts need a sign-in")
        assert notice.text == "The menu of the mail-bridge icon lists them."
        await until_picture(shown, Picture.SIGN_IN)
        await shown.click(f"Sign in as {BOB}")
        await shown.until_visit(f"http://localhost:{bridge.console_port}/sign-in/{BOB}")

        await asyncio.to_thread(bridge.sign_in, server, BOB)
        await shown.until_entry(f"{BOB} is signed in")
        await shown.until_line("mail-bridge: 1 account needs a sign-in")

        await asyncio.to_thread(bridge.stop)
        await shown.until_line("mail-bridge is not running, or cannot be reached")
        await until_picture(shown, Picture.ABSENT)
        line = "mail-bridge is not running, or cannot be reached"
        await shown.until_labels([line, "Start at login", "Quit"])
        await asyncio.to_thread(bridge.start)
        await shown.until_entry(f"Sign in as {ALICE}")

        await shown.click("Quit")
        assert await ended(tray) == (0, "")
    assert len(shown.notices) == 1, "nobody is told again because the bridge was restarted"


async def test_the_icon_its_menu_and_its_notifications_speak_french(
    desktop: Session, shown: Panel, bridge: Bridge
) -> None:
    french = {"LANG": "fr_FR.UTF-8", "LANGUAGE": "fr"}
    with program(desktop, "--config", config_of(bridge), "tray", **french) as tray:
        await shown.until_icon()
        notice = await shown.until_notice("Messagerie\u00a0: 2 comptes attendent une connexion")
        assert notice.text == "Le menu de l’icône de mail-bridge en donne la liste."
        await shown.until_line("mail-bridge\u00a0: 2 comptes attendent une connexion")
        await shown.until_entry("Ouvrir la console")
        labels = (await shown.menu()).labels()
        assert f"Se connecter en tant que {BOB}" in labels
        assert labels[-2:] == ["Lancer à l’ouverture de session", "Quitter"]
        assert "Ouvrir la console" in labels
        await shown.click("Quitter")
        assert (await ended(tray))[0] == 0  # error output is ignored: GTK complains if the system lacks that locale


async def test_the_console_opens_with_a_link_that_works_once(desktop: Session, shown: Panel, bridge: Bridge) -> None:
    with program(desktop, "--config", config_of(bridge), "tray") as tray:
        await shown.until_icon()
        await shown.click("Open console")
        link = await shown.until_visit(f"http://localhost:{bridge.console_port}/admin/")
        token = json.loads(published(desktop).read_text())["token"]
        assert token not in link
        path = link.removeprefix(f"http://localhost:{bridge.console_port}")
        status, page = await asyncio.to_thread(bridge.get, path)
        assert status == 200
        assert "mail-bridge" in page
        status, _ = await asyncio.to_thread(bridge.get, path)
        assert status == 403
        tray.send_signal(signal.SIGTERM)
        assert await ended(tray) == (0, "")


def clipboard_of(desktop: Session) -> str:
    command = ["xclip", "-selection", "clipboard", "-out"]
    return subprocess.run(command, env=desktop.environment, capture_output=True, text=True, timeout=SECONDS).stdout


async def test_the_local_password_is_in_the_clipboard(desktop: Session, shown: Panel, bridge: Bridge) -> None:
    needs("xclip")
    with program(desktop, "--config", config_of(bridge), "tray"):
        await shown.until_icon()
        await shown.until_entry("Copy local password")
        await shown.click(ALICE)
        notice = await shown.until_notice("Local password copied")
        password = await asyncio.to_thread(bridge.password, ALICE)
        async with asyncio.timeout(SECONDS):
            # xclip goes to the background before it owns the X selection: until then the clipboard is empty.
            while not (pasted := await asyncio.to_thread(clipboard_of, desktop)):
                await asyncio.sleep(0.05)
        assert pasted == password
        assert pasted not in notice.text
        assert ALICE in notice.text


async def test_start_at_login_writes_what_a_desktop_can_start(desktop: Session, shown: Panel, bridge: Bridge) -> None:
    file = desktop.directory / "config" / "autostart" / "mail-bridge.desktop"
    with program(desktop, "--config", config_of(bridge), "tray") as tray:
        await shown.until_icon()
        await shown.click("Start at login")

        async def is_ticked() -> bool:
            entry = (await shown.menu()).find("Start at login")
            return entry is not None and entry.is_ticked and file.exists()  # GTK ticks it before the program acts

        await shown.until(is_ticked, "the tick")
        await shown.click("Quit")
        assert await ended(tray) == (0, "")

    desktop.run(sys.executable, "-c", LOGIN, str(file))  # as a session does at login with each file of that directory
    await shown.until_icon(2)
    await shown.until_entry(f"Sign in as {ALICE}")
    await shown.click("Start at login")

    async def is_gone() -> bool:
        entry = (await shown.menu()).find("Start at login")
        return entry is not None and not entry.is_ticked and not file.exists()

    await shown.until(is_gone, "the end of the tick")
    await shown.click("Quit")
    await shown.until_left()


async def test_a_desktop_reads_a_path_with_any_character_as_it_was_written(desktop: Session, shown: Panel) -> None:
    path = '/home/é/a "b" $HOME `id` 100% %u \\n \\\\x.yaml'
    file = desktop.directory / "any.desktop"
    file.write_bytes(desktop_entry([str(desktop.directory / "browser"), path]))  # it tells us its first argument
    desktop.run(sys.executable, "-c", LOGIN, str(file))
    assert await shown.until_visit("/home/") == path


async def test_a_bridge_of_somebody_else_is_found_by_the_file_that_its_administrator_shares(
    desktop: Session, shown: Panel, bridge: Bridge, tmp_path: Path
) -> None:
    shared = tmp_path / "shared.json"
    shared.write_bytes(published(desktop).read_bytes())
    shared.chmod(0o640)
    with program(desktop, "tray", "--control", str(shared), XDG_DATA_HOME=str(tmp_path / "of another user")) as tray:
        await shown.until_icon()
        await shown.until_entry(f"Sign in as {ALICE}")
        await shown.click("Quit")
        assert await ended(tray) == (0, "")


async def test_a_click_on_the_notification_opens_the_page_that_it_is_about(
    desktop: Session, shown: Panel, authorization_server: AuthorizationServer, tmp_path: Path
) -> None:
    bridge = configured(authorization_server, desktop, tmp_path)
    del bridge.config["accounts"][1]
    with running(bridge), program(desktop, "--config", config_of(bridge), "tray") as tray:
        notice = await shown.until_notice(f"Mail: {ALICE} must sign in")
        assert notice.actions == ("default", "Sign in")
        await shown.until_entry("Open console")  # it has answered, so it also knows that its notification is shown
        await shown.click_notice(notice)
        await shown.until_visit(f"http://localhost:{bridge.console_port}/sign-in/{ALICE}")
        await shown.click_notice(dataclasses.replace(notice, number=notice.number + 1))  # another program's
        await shown.click("Open console")
        await shown.until_visit(f"http://localhost:{bridge.console_port}/admin/")
        assert len(shown.visits) == 2
        tray.send_signal(signal.SIGTERM)
        assert await ended(tray) == (0, "")

        async def is_taken_back() -> bool:
            return notice.number in shown.closed

        await shown.until(is_taken_back, "the end of the notification")


async def test_a_desktop_that_shows_no_buttons_is_not_asked_for_any(desktop: Session, bridge: Bridge) -> None:
    async with panel(desktop) as shown:
        shown.abilities = ("body",)
        with program(desktop, "--config", config_of(bridge), "tray"):
            notice = await shown.until_notice("Mail: 2 accounts need a sign-in")
    assert notice.actions == ()


async def test_a_click_on_a_notification_on_the_screen_opens_the_console(desktop: Session, bridge: Bridge) -> None:
    """Xfce's own notification server shows it, and offers the default action as a button."""
    async with panel(desktop, notifies=False) as shown:
        with notifier(desktop), program(desktop, "--config", config_of(bridge), "tray"):
            window = await until_window(desktop, "^xfce4-notifyd$")
            await until_drawn(desktop, window)
            button = str(window.x + window.width - 60), str(window.y + window.height - 30)
            desktop.run("xdotool", "mousemove", *button, "click", "1")
            await shown.until_visit(f"http://localhost:{bridge.console_port}/admin/")


async def test_a_second_icon_for_the_same_bridge_on_the_same_desktop_says_so_and_ends(
    desktop: Session, shown: Panel, bridge: Bridge
) -> None:
    def another(**environment: str) -> AbstractContextManager[subprocess.Popen[str]]:
        return program(desktop, "--config", config_of(bridge), "tray", **environment)

    sentence = "This mail-bridge already has an icon on this desktop; one is enough.\n"
    with another() as first:
        await shown.until_icon()
        for same in (another(), another(DISPLAY=f"{desktop.display}.0"), by_its_file(desktop)):
            with same as second:
                assert await ended(second) == (0, sentence)
        assert shown.programs == 1
        with screen() as other_display, another(DISPLAY=other_display):
            await shown.until_icon(2)  # the same person, logged in twice
        first.kill()
        await asyncio.to_thread(first.wait, SECONDS)
    with another():  # a crash leaves nothing behind that blocks the next start
        await shown.until_icon(3)


async def test_two_bridges_of_one_person_have_an_icon_each(
    desktop: Session, shown: Panel, bridge: Bridge, authorization_server: AuthorizationServer, tmp_path: Path
) -> None:
    other = configured(authorization_server, desktop, tmp_path)
    other.write_config()
    with (
        program(desktop, "--config", config_of(bridge), "tray"),
        program(desktop, "--config", config_of(other), "tray"),
    ):
        await shown.until_icon(2)


async def test_a_bridge_whose_icon_is_there_already_serves_without_a_second(
    desktop: Session, shown: Panel, authorization_server: AuthorizationServer, tmp_path: Path
) -> None:
    bridge = configured(authorization_server, desktop, tmp_path)
    bridge.write_config()
    with program(desktop, "--config", config_of(bridge), "tray") as tray:
        await shown.until_icon()
        with program(desktop, "--config", config_of(bridge), "run", "--tray") as serving_too:
            await shown.until_entry(f"Sign in as {ALICE}")  # the first icon has found it
            serving_too.send_signal(signal.SIGTERM)
            code, said = await ended(serving_too)
        assert code == 0
        assert said.startswith("This mail-bridge already has an icon on this desktop; one is enough.\n")
        tray.send_signal(signal.SIGTERM)
        assert await ended(tray) == (0, "")
    assert shown.programs == 1


def by_its_file(desktop: Session) -> AbstractContextManager[subprocess.Popen[str]]:
    """The tray of the running bridge, which is named by --control instead of --config."""
    return program(desktop, "tray", "--control", str(published(desktop)))


@pytest.mark.parametrize("how", ["Ctrl-C", "Quit"])
async def test_bridge_and_icon_in_one_process_end_together(
    desktop: Session, shown: Panel, authorization_server: AuthorizationServer, tmp_path: Path, how: str
) -> None:
    bridge = configured(authorization_server, desktop, tmp_path)
    bridge.write_config()
    with program(desktop, "--config", config_of(bridge), "run", "--tray") as both:
        await shown.until_icon()
        await shown.click(f"Sign in as {ALICE}")
        page = await shown.until_visit(f"http://localhost:{bridge.console_port}/sign-in/")
        assert (await asyncio.to_thread(bridge.get, page.removeprefix(f"http://localhost:{bridge.console_port}")))[
            0
        ] == 200
        if how == "Ctrl-C":
            both.send_signal(signal.SIGINT)
        else:
            await shown.click("Quit, and stop mail-bridge")
        code, said = await ended(both)
    assert code == 0, said
    assert "bridge.stopping" in said
    assert "Traceback" not in said


async def test_where_what_shows_notifications_does_not_start_mail_is_served(
    desktop: Session, authorization_server: AuthorizationServer, tmp_path: Path
) -> None:
    """Nothing shows an icon either. An earlier version hung here silently."""
    bridge = configured(authorization_server, desktop, tmp_path)
    bridge.write_config()
    with program(desktop, "--config", config_of(bridge), "run", "--tray") as both:
        deadline = asyncio.get_running_loop().time() + SECONDS
        while True:
            try:
                assert (await asyncio.to_thread(bridge.get, "/"))[0] == 200
                break
            except OSError:
                assert asyncio.get_running_loop().time() < deadline
                await asyncio.sleep(0.1)
        both.send_signal(signal.SIGINT)
        code, said = await ended(both)
    assert code == 0, said
    assert "bridge.stopping" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("port", [3017, 3018])
async def test_without_a_configuration_the_icon_leads_to_the_set_up_and_stays_for_the_bridge(
    desktop: Session, shown: Panel, authorization_server: AuthorizationServer, tmp_path: Path, port: int
) -> None:
    """Runs in its own network namespace, because the set-up uses one fixed port. The configuration that is written may
    name another port."""
    launcher = ("unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh")
    if shutil.which("unshare") is None or subprocess.run([*launcher, "true"], check=False).returncode != 0:
        absent("the right to a network namespace")
    settings = tmp_path / "settings"
    alone = dataclasses.replace(desktop, launcher=launcher)
    with program(alone, "run", "--tray", XDG_CONFIG_HOME=str(settings)) as both:
        await shown.until_icon()
        await shown.until_line(
            "There is no configuration yet: the administrator of mail-bridge makes one in the console."
        )
        await until_picture(shown, Picture.SIGN_IN)
        invitation = await shown.until_visit("http://localhost:3017/admin/")
        shown.visits.clear()
        await shown.click("Open console")
        link = await shown.until_visit("http://localhost:3017/admin/")
        assert link != invitation
        curl = ["curl", "-sS", "--location", "--cookie", "", "--max-time", str(int(SECONDS)), link]
        page = await asyncio.to_thread(desktop.run, "nsenter", "--target", str(both.pid), "--net", *curl)
        assert "First set-up" in page

        bridge = configured(authorization_server, desktop, tmp_path)
        bridge.config["console"] = f"127.0.0.1:{port}"
        bridge.config["providers"]["gmail"]["redirect_uri"] = f"http://localhost:{port}/"
        (settings / "mail-bridge").mkdir(parents=True)
        bridge.write_config().rename(settings / "mail-bridge" / "config.yaml")
        await shown.until_line("mail-bridge: 2 accounts need a sign-in")
        await shown.click(f"Sign in as {ALICE}")
        await shown.until_visit(f"http://localhost:{port}/sign-in/{ALICE}")
        assert shown.programs == 1
        await shown.click("Quit, and stop mail-bridge")
        code, said = await ended(both)
    assert code == 0, said
    assert "bridge.stopping" in said
    assert "Traceback" not in said


async def test_a_desktop_without_a_place_for_icons_still_shows_notifications(desktop: Session, bridge: Bridge) -> None:
    async with panel(desktop, has_place=False) as shown:
        with program(desktop, "--config", config_of(bridge), "tray") as tray:
            await shown.until_notice("Mail: 2 accounts need a sign-in")
            tray.send_signal(signal.SIGINT)
            code, said = await ended(tray)
    assert code == 0
    assert said.startswith("This desktop has no place for icons")


@pytest.mark.parametrize(
    ("lacks", "sentence"),
    [
        ({"DISPLAY": ""}, "there is no desktop here"),
        ({"DBUS_SESSION_BUS_ADDRESS": "unix:path=/nowhere"}, "there is no desktop here"),
        ({"PYTHONPATH": str(Path(__file__).parents[2])}, "the icon needs GTK and its Python binding"),
    ],
)
@pytest.mark.parametrize(
    ("command", "begin"), [(["tray"], "mail-bridge: "), (["run", "--demo", "--tray"], "mail-bridge cannot start: ")]
)
async def test_without_a_desktop_one_sentence_says_what_is_missing(
    desktop: Session, tmp_path: Path, command: list[str], begin: str, lacks: dict[str, str], sentence: str
) -> None:
    (tmp_path / "config.yaml").touch()
    with program(desktop, "--config", str(tmp_path / "config.yaml"), *command, **lacks) as tried:
        code, said = await ended(tried)
    assert code == 2
    assert said.startswith(begin + sentence)
    assert said.count("\n") == 1


async def test_without_the_extra_one_sentence_says_how_to_get_it(desktop: Session) -> None:
    without = "import sys; sys.modules['pystray'] = None; from bridge.__main__ import main; sys.exit(main())"
    command = [sys.executable, "-c", without, "run", "--demo", "--tray"]
    done = await asyncio.to_thread(
        subprocess.run, command, env=desktop.environment, cwd=desktop.directory, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.startswith(
        "mail-bridge cannot start: the icon needs the extra “tray”, which `python3 scripts/run.py tray`"
    )
    assert done.stderr.count("\n") == 1


async def test_a_click_on_the_icon_of_a_real_panel(desktop: Session, bridge: Bridge, tmp_path: Path) -> None:
    """With a panel of the older kind. The screenshots are for people, in MAIL_BRIDGE_ARTIFACTS if that is set."""
    artifacts = Path(os.environ.get("MAIL_BRIDGE_ARTIFACTS", tmp_path))
    artifacts.mkdir(parents=True, exist_ok=True)
    with trayer(desktop):
        async with panel(desktop, has_place=False) as shown:
            with program(desktop, "--config", config_of(bridge), "tray") as tray:
                await shown.until_notice("Mail: 2 accounts need a sign-in")
                icon = await until_window(desktop, "^mail-bridge: 2 accounts need a sign-in$")
                (await until_drawn(desktop, icon)).save(artifacts / "tray-icon.png")
                desktop.run("xdotool", "mousemove", str(icon.x + 16), str(icon.y + 16), "click", "3")
                menu = await until_window(desktop, "^mail-bridge$")
                (await until_drawn(desktop, menu)).save(artifacts / "tray-menu.png")
                desktop.run("xdotool", "key", "Down", "Return")  # the first line can only be read
                await shown.until_visit(f"http://localhost:{bridge.console_port}/sign-in/{ALICE}")
                tray.send_signal(signal.SIGINT)
                code, _ = await ended(tray)  # GTK 3 itself may print a warning about its status icon
                assert code == 0


def published(desktop: Session) -> Path:
    """The file in which the bridge publishes its address; the newest one, since others have run here."""
    return max(desktop.directory.glob("data/mail-bridge/run/*/control.json"), key=lambda file: file.stat().st_mtime)


async def until_picture(shown: Panel, wanted: Picture) -> None:
    """Wait until the icon shows this picture. Its tooltip may have changed earlier."""

    async def holds() -> bool:
        return await picture(shown) == wanted

    await shown.until(holds, f"the picture {wanted}")


async def picture(shown: Panel) -> Picture | None:
    """The picture in the icon's file, compared pixel by pixel with the drawn ones; None if it is none of them."""
    name = await shown.property("IconName")
    if not Path(name).exists():
        return None
    with Image.open(name) as found:
        for each in Picture:
            file = resources.files("bridge.ui.tray").joinpath(f"pictures/{each.value}-64.png")
            with file.open("rb") as stream, Image.open(stream) as drawn:
                if drawn.convert("RGBA").tobytes() == found.convert("RGBA").tobytes():
                    return each
    return None
