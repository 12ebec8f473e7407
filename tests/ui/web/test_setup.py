"""The first-run page: who may use it, what it shows and keeps, what it does when something fails."""

from __future__ import annotations

import asyncio
import io
import os
import re
import signal
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest

from bridge.advice.diagnosis import Diagnosis
from bridge.config.load import load_config
from bridge.control.remote import RemoteControl
from bridge.control.unconfigured import Unconfigured
from bridge.errors import BridgeError, LoginRefused
from bridge.relay.limits import console_cap
from bridge.secret import Secret
from bridge.ui.cli.local_installer import FORGET_SECONDS, FirstRunOptions, LocalInstaller
from bridge.ui.setup.roster import LARGEST
from bridge.ui.web.console_sockets import ConsoleSockets
from bridge.ui.web.first_run import FirstRun
from bridge.ui.web.guards import SESSION_SECONDS, Administrators
from tests.consoles import Console, nobody_knows
from tests.fakes_control import FakeControl
from tests.tokens.fakes import HandClock
from tests.ui.web.conftest import TOKEN, Browser, Buttons, browsing
from tests.ui.web.test_server import assert_headers, raw

CANARY = "CANARY-secret"
GOOGLE_ID = "1111.apps.googleusercontent.com"
GUID = "11111111-2222-3333-4444-555555555555"
GOOD = {"client_id": GOOGLE_ID, "client_secret": CANARY}
PORTS = {"imap": "1143", "pop3": "1110", "smtp": "1587"}


class Machine(LocalInstaller):
    """The real installer on a real disk; its start of the bridge is only counted, and may fail."""

    def __init__(self, output: Path, clock: HandClock, port: int) -> None:
        super().__init__(FirstRunOptions(output), port, False, clock)
        self.started = 0
        self.trouble: BridgeError | None = None
        self.is_free = asyncio.Event()
        """Until it is set, a locked keyring keeps everybody waiting who looks for a place in it."""
        self.is_free.set()
        self.looking = asyncio.Event()

    async def place(self, scheme: str, name: str) -> str:
        self.looking.set()
        await self.is_free.wait()
        return await super().place(scheme, name)

    async def start(self) -> None:
        self.started += 1
        if self.trouble is not None:
            raise self.trouble


@dataclass
class Site:
    """The page, and a browser that looks at it."""

    page: FirstRun
    machine: Machine
    port: int
    browser: Browser
    console_sockets: ConsoleSockets
    administrators: Administrators
    seen: list[str] = field(default_factory=list)

    async def enter(self) -> None:
        async with self.browser.get(f"/admin/{TOKEN}") as answer:
            assert answer.url.path == "/setup/provider"

    async def send(self, path: str, source: str = "", **fields: str) -> tuple[int, str, str]:
        """Press a button of the page `source`. Returns: status, path and text of the page that it ends at."""
        return await self._press(await self.browser.text(source or path), path, **fields)

    async def _press(self, page: str, path: str, **fields: str) -> tuple[int, str, str]:
        found = re.search(r'name="form" value="([0-9a-f]+)"', page)
        data = {"form": found[1] if found else "", **fields}
        async with self.browser.post(path, data=data, headers={"Origin": "null"}) as answer:
            return answer.status, answer.url.path, await self._read(answer)

    async def upload(self, content: bytes = b"", name: str = "list.csv", **fields: str) -> tuple[int, str, str]:
        found = re.search(r'name="form" value="([0-9a-f]+)"', await self.browser.text("/setup/accounts"))
        form = aiohttp.FormData()
        for key, value in {"form": found[1] if found else "", "accounts": "", **PORTS, **fields}.items():
            form.add_field(key, value, content_type="text/plain; charset=utf-8")
        form.add_field("csv", io.BytesIO(content), filename=name if content else "", content_type="text/csv")
        async with self.browser.post("/setup/accounts", data=form, headers={"Origin": "null"}) as answer:
            return answer.status, answer.url.path, await self._read(answer)

    async def answer_all(self, accounts: str = "alice@example.com") -> str:
        """Answer every step up to the summary. Returns: the summary."""
        await self.enter()
        await self.send("/setup/provider", choice="GOOGLE")
        await self.send("/setup/provider/gmail", **GOOD)
        status, path, text = await self.upload(accounts=accounts)
        assert (status, path) == (200, "/setup/summary")
        return text

    async def write(self) -> tuple[int, str, str]:
        page = await self.browser.text("/setup/summary")
        found = re.search(r'name="seen" value="([0-9a-f]+)"', page)
        assert found is not None, page
        return await self._press(page, "/setup/write", seen=found[1])

    async def _read(self, answer: object) -> str:
        text: str = await answer.text()  # type: ignore[attr-defined]  # aiohttp's
        self.seen.append(text)
        return text


@pytest.fixture
async def site(tmp_path: Path, clock: HandClock) -> AsyncIterator[Site]:
    sock = socket.create_server(("127.0.0.1", 0))
    port = sock.getsockname()[1]
    machine = Machine(tmp_path / "bridge" / "config.yaml", clock, port)
    administrators = Administrators(Secret(TOKEN), clock)
    page = FirstRun(
        machine,
        Unconfigured(str(machine.output)),
        admin_token=Secret(TOKEN),
        hosts=frozenset({f"127.0.0.1:{port}", f"localhost:{port}"}),
        places=console_cap(),
        user_of=nobody_knows,
        administrators=administrators,
    )
    console_sockets = ConsoleSockets([sock])
    async with page.serving(console_sockets), browsing(port) as browser:
        site = Site(page, machine, port, browser, console_sockets, administrators)
        yield site
        assert CANARY not in "".join(site.seen)
        assert all(len(text) < 50_000 for text in site.seen)


async def test_who_has_no_link_learns_where_it_is_and_changes_nothing(site: Site) -> None:
    for path in ("/", "/setup", "/setup/provider", "/setup/summary", "/check", "/nowhere"):
        async with site.browser.get(path) as answer:
            assert answer.status == 403
            assert "Not set up yet" in await answer.text()
    for path in ("/setup/provider", "/setup/provider/gmail", "/setup/write", "/setup/test", "/setup/start"):
        status, _, _ = await site.send(path, choice="GOOGLE")
        assert status == 403
    status, _, _ = await site.upload(b"alice@example.com\n")
    assert status == 403
    assert site.machine.draft.sections == {}
    assert site.machine.started == 0


async def test_the_link_opens_it_and_leaves_the_address_bar(site: Site) -> None:
    await site.enter()
    async with site.browser.get("/") as answer:
        assert answer.url.path == "/setup/provider"
    async with site.browser.get("/nowhere") as answer:
        assert answer.status == 404


async def test_the_link_on_a_page_of_another_site_leads_on_by_a_page_of_ours(site: Site) -> None:
    async with site.browser.get(f"/admin/{TOKEN}", headers={"Sec-Fetch-Site": "cross-site"}) as answer:
        assert '<meta http-equiv="refresh" content="0; url=/setup">' in await answer.text()


async def test_every_answer_has_the_headers_and_only_our_host_is_answered(site: Site) -> None:
    await site.answer_all()
    for path in ("/setup/provider", "/setup/provider/gmail", "/setup/accounts", "/setup/summary", "/style.css"):
        async with site.browser.get(path) as answer:
            assert_headers("\n".join(f"{name}: {value}" for name, value in answer.headers.items()))
    head, body = await raw(site.port, b"GET /setup HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 404")
    assert body == b""


async def test_a_form_of_another_site_or_of_an_earlier_process_does_nothing(site: Site) -> None:
    await site.answer_all()
    summary = await site.browser.text("/setup/summary")
    seen = re.findall(r'name="(form|seen)" value="([0-9a-f]+)"', summary)
    for data, headers in (
        ({**dict(seen), "form": "0" * 64}, {"Origin": "null"}),
        (dict(seen), {"Origin": "http://evil.example"}),
        (dict(seen), {"Sec-Fetch-Site": "same-site"}),
    ):
        async with site.browser.post("/setup/write", data=data, headers=headers) as answer:
            assert answer.status == 403
            assert "Nothing has happened yet" in await answer.text()
    assert not site.machine.output.exists()


async def test_answers_that_are_wrong_are_shown_again_and_the_secret_is_not(site: Site) -> None:
    await site.enter()
    status, _, page = await site.send("/setup/provider", choice="nonsense")
    assert status == 422
    _, path, _ = await site.send("/setup/provider", choice="MICROSOFT")
    assert path == "/setup/provider/office365"
    status, _, page = await site.send(
        path, client_id=GUID, tenant="Contoso <Ltd>", client_secret=CANARY, client_secret_expires="2027-01-31"
    )
    assert status == 422
    assert f'value="{GUID}"' in page
    assert "Contoso &lt;Ltd&gt;" in page
    assert 'aria-describedby="tenant-problem' in page
    assert "is kept" in page
    status, path, _ = await site.send(path, client_id=GUID, tenant="contoso.com")
    assert (status, path) == (200, "/setup/accounts")
    assert site.machine.draft.sections["office365"].secret == Secret(CANARY)
    _, _, page = await site.send("/setup/provider/office365", client_id=GUID, tenant="contoso.com", no_secret="1")
    assert site.machine.draft.sections["office365"].secret is None


async def test_no_step_can_be_skipped(site: Site) -> None:
    await site.enter()
    for step, expected in (
        ("/setup/accounts", "/setup/provider"),
        ("/setup/summary", "/setup/provider"),
        ("/setup/provider/gmail", "/setup/provider"),
    ):
        async with site.browser.get(step) as answer:
            assert answer.url.path == expected
    await site.send("/setup/provider", choice="GOOGLE")
    async with site.browser.get("/setup/summary") as answer:
        assert answer.url.path == "/setup/provider/gmail"
    _, path, _ = await site.send("/setup/write", "/setup/provider", seen="0" * 64)
    assert path == "/setup/provider/gmail"
    assert not site.machine.output.exists()


@pytest.mark.parametrize("step", ["test", "write", "start", "provider/gmail/remove"])
async def test_the_address_of_a_buttons_answer_leads_to_the_step_and_does_nothing(site: Site, step: str) -> None:
    """A browser requests this address again after its restart, for an unloaded tab, or from its address bar."""
    await site.answer_all()
    async with site.browser.get(f"/setup/{step}") as answer:
        assert (answer.status, answer.url.path) == (200, "/setup/summary")
    assert not site.machine.output.exists()


async def test_a_provider_is_changed_and_removed(site: Site) -> None:
    await site.answer_all()
    _, path, page = await site.send("/setup/provider", choice="YAHOO")
    assert path == "/setup/provider/yahoo"
    await site.send(path, client_id=GOOGLE_ID.replace("1", "2"))
    status, path, page = await site.upload(accounts="alice@example.com")
    assert status == 422
    assert "name the provider: gmail, yahoo" in page
    await site.send("/setup/provider/yahoo/remove", "/setup/provider")
    status, path, _ = await site.upload(accounts="alice@example.com")
    assert (status, path) == (200, "/setup/summary")


async def test_with_a_second_provider_the_hint_for_mailboxes_has_one_sentence_more(site: Site) -> None:
    await site.enter()
    for choice, name in (("GOOGLE", "gmail"), ("YAHOO", "yahoo")):
        await site.send("/setup/provider", choice=choice)
        await site.send(f"/setup/provider/{name}", **GOOD)
    hint = (await site.browser.text("/setup/accounts")).partition('id="accounts-hint">')[2]
    assert "alice@example.com</code>.\nThere are several providers" in hint


@pytest.mark.parametrize(
    ("seen", "chosen_since", "flow"),
    [("MICROSOFT", "MICROSOFT_DEVICE", None), ("MICROSOFT_DEVICE", "MICROSOFT", "device")],
)
async def test_the_form_that_is_sent_counts_whatever_was_chosen_since(
    site: Site, seen: str, chosen_since: str, flow: str | None
) -> None:
    """Another way to sign in with the same provider may have been chosen in another window, or before the browser's
    Back."""
    await site.enter()
    await site.send("/setup/provider", choice=seen)
    form = re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', site.seen[-1])
    await site.send("/setup/provider", choice=chosen_since)
    given = {"client_secret": CANARY, "home": "file"}
    since = given if flow is not None else {}
    await site.send("/setup/provider/office365", client_id=GUID, tenant="contoso.com", **since)
    assert bool(site.machine.draft.files) is bool(since)
    secret = given if flow is None else {}
    answers = {**dict(form), "client_id": GUID, "tenant": "contoso.com", **secret}
    async with site.browser.post("/setup/provider/office365", data=answers, headers={"Origin": "null"}) as answer:
        assert answer.url.path == "/setup/accounts"
    settings = site.machine.draft.sections["office365"].settings
    assert settings.get("flow") == flow
    assert bool(site.machine.draft.files) is (flow is None)
    assert (await site.upload(accounts="alice@contoso.com"))[:2] == (200, "/setup/summary")
    site.machine.draft.loaded()


async def test_a_file_of_mailboxes_in_windows_letters(site: Site) -> None:
    await site.answer_all()
    status, _, page = await site.upload("Adresse;Connexion\nventes@example.com;élodie@\n".encode("cp1252"))
    assert status == 422
    assert "line 2:" in page
    status, path, page = await site.upload("Adresse;Connexion\nventes@example.com;alice@example.com\n".encode("cp1252"))
    assert (status, path) == (200, "/setup/summary")
    assert "sign_in_as: alice@example.com" in page
    status, _, page = await site.upload(no_file="1")
    assert status == 422
    assert "name at least one mailbox" in page


@pytest.mark.parametrize("port", ["abc", "", "1110"])
async def test_a_port_that_is_wrong_is_not_passed_over_by_another_window(site: Site, port: str) -> None:
    await site.answer_all()
    summary = await site.browser.text("/setup/summary")
    seen = dict(re.findall(r'name="(seen)" value="([0-9a-f]+)"', summary))
    status, _, _ = await site.upload(accounts="alice@example.com", imap=port)
    assert status == 422
    async with site.browser.get("/setup/summary") as answer:
        assert (answer.status, answer.url.path) == (200, "/setup/accounts")
    for button in ("/setup/test", "/setup/write"):  # buttons of the summary that was opened before
        status, path, _ = await site.send(button, "/setup/accounts", **seen)
        assert (status, path) == (200, "/setup/accounts")
    assert not site.machine.output.exists()
    status, path, _ = await site.upload(accounts="alice@example.com")
    assert (status, path) == (200, "/setup/summary")


async def test_a_file_that_is_too_large_is_refused_and_the_page_lives(site: Site) -> None:
    await site.answer_all()
    status, _, page = await site.upload(b"a@example.com\n" * (LARGEST // 14 + 1))
    assert status == 422
    assert "larger than 4 MiB" in page
    status, _, _ = await site.upload(accounts="bob@example.com")
    assert status == 200


async def test_a_broken_upload_is_refused(site: Site) -> None:
    await site.answer_all()
    for kind, body in (
        ("multipart/form-data; boundary=x", b"--x\r\nContent-Disposition: form-data; name=a\r\n\r\nwithout an end"),
        ("multipart/form-data", b""),
        ("multipart/form-data; boundary=x", b"nothing of the kind"),
        ("text/plain", b"form=1"),
    ):
        headers = {"Content-Type": kind, "Origin": "null"}
        async with site.browser.post("/setup/accounts", data=body, headers=headers) as answer:
            assert answer.status == 403
    assert [account.address for account in site.machine.draft.accounts] == ["alice@example.com"]


async def test_ten_thousand_mailboxes_make_a_small_page(site: Site) -> None:
    await site.answer_all()
    many = "\n".join(f"user{number}@example.com" for number in range(10_000)).encode()
    status, path, page = await site.upload(many)
    assert (status, path) == (200, "/setup/summary")
    assert "more lines" in page
    status, _, _ = await site.write()
    assert site.machine.output.read_text().count("- address:") == 10_000


@pytest.mark.parametrize(("name", "number_of"), [("somebody.with.a.long.name.", 20_000), ("é" * 24, 11_000)])
async def test_a_list_that_makes_too_large_a_file_is_told_before_anything_is_written(
    site: Site, name: str, number_of: int
) -> None:
    await site.answer_all()
    many = "\n".join(f"{name}{number}@example.com" for number in range(number_of)).encode()
    _, path, page = await site.upload(many)
    assert path == "/setup/summary"
    assert "larger than 1 MiB" in page
    status, _, page = await site.write()
    assert status == 503
    assert not site.machine.output.exists()


async def test_what_is_written_is_for_its_owner_alone_and_the_bridge_goes_on(site: Site) -> None:
    page = await site.answer_all()
    assert str(site.machine.output) in page
    status, path, _ = await site.write()
    assert path == "/welcome"  # a page that only the bridge itself has: hence the 404
    assert status == 404
    assert site.machine.started == 1
    secret = site.machine.output.parent / "secrets" / "gmail.txt"
    assert secret.read_text() == CANARY + "\n"
    if os.name == "posix":  # on Windows the directory's access list protects it
        assert secret.stat().st_mode & 0o077 == 0
        assert site.machine.output.stat().st_mode & 0o077 == 0
    assert CANARY not in site.machine.output.read_text()


async def test_a_secret_that_is_there_from_earlier_is_left_alone(site: Site) -> None:
    earlier = site.machine.output.parent / "secrets" / "gmail.txt"
    earlier.parent.mkdir(parents=True)
    earlier.write_text("of another configuration")
    page = await site.answer_all()
    assert "gmail-2.txt" in page
    await site.write()
    assert earlier.read_text() == "of another configuration"
    assert (earlier.parent / "gmail-2.txt").read_text() == CANARY + "\n"


async def test_a_secret_without_a_place_yet_is_not_left_out_of_what_is_written(site: Site) -> None:
    """Another window may show the summary while the keyring prompts its owner for a password."""
    await site.enter()
    await site.send("/setup/provider", choice="MICROSOFT")
    answers = {"client_id": GUID, "tenant": GUID, "client_secret": CANARY}
    await site.send("/setup/provider/office365", **answers)
    await site.upload(accounts="alice@example.com")
    site.machine.is_free.clear()
    site.machine.looking.clear()
    async with asyncio.TaskGroup() as group:
        sending = group.create_task(site.send("/setup/provider/office365", **answers))
        await site.machine.looking.wait()
        async with site.browser.get("/setup/summary") as answer:
            path = answer.url.path
        site.machine.is_free.set()
    assert path == "/setup/provider/office365"
    assert sending.result()[:2] == (200, "/setup/accounts")
    assert "client_secret: ${file:" in await site.browser.text("/setup/summary")


async def test_two_secrets_never_share_a_place_whatever_is_there_from_earlier(site: Site) -> None:
    earlier = site.machine.output.parent / "secrets/gmail.txt"
    earlier.parent.mkdir(parents=True)
    earlier.write_text("earlier")
    await site.answer_all()
    await site.send("/setup/provider", choice="GOOGLE")
    await site.send("/setup/provider/gmail-2", client_id=f"2-{GOOGLE_ID}", client_secret=f"{CANARY}-2")
    await site.upload(accounts="alice@example.com,gmail\nbob@example.com,gmail-2")
    await site.write()
    providers = load_config(site.machine.output).config.providers
    secrets = {name: provider.client_secret for name, provider in providers.items()}
    assert {name: secret.reveal() for name, secret in secrets.items() if secret is not None} == {
        "gmail": CANARY,
        "gmail-2": f"{CANARY}-2",
    }
    assert earlier.read_text() == "earlier"


async def test_a_configuration_that_appeared_meanwhile_is_left_alone(site: Site) -> None:
    await site.answer_all()
    site.machine.output.parent.mkdir()
    site.machine.output.write_text("of somebody else")
    status, _, page = await site.write()
    assert status == 409
    assert "somebody has written one in the meantime" in page
    assert site.machine.output.read_text() == "of somebody else"
    assert list(site.machine.output.parent.iterdir()) == [site.machine.output]
    assert site.machine.started == 0
    site.machine.trouble = BridgeError("there it is wrong")
    status, _, page = await site.send("/setup/start", "/setup/provider")
    assert status == 503
    assert "there it is wrong" in page


async def test_a_disk_that_is_full_leaves_nothing_half_written(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource")
    await site.answer_all()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, before[1]))  # the secret fits, the configuration does not
    try:
        status, _, page = await site.write()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert status == 503
    assert "cannot be written" in page
    assert [path for path in site.machine.output.parent.rglob("*") if path.is_file()] == []
    status, path, _ = await site.write()
    assert path == "/welcome"
    assert site.machine.output.exists()


async def test_a_bridge_that_cannot_start_says_why_and_is_tried_again(site: Site) -> None:
    await site.answer_all()
    site.machine.trouble = BridgeError("the port is taken")
    status, _, page = await site.write()
    assert status == 503
    assert "the port is taken" in page
    site.machine.trouble = None
    _, path, _ = await site.send("/setup/start", "/setup/provider")
    assert path == "/welcome"


async def test_answers_that_nobody_touches_are_forgotten_with_their_secret(site: Site, clock: HandClock) -> None:
    await site.answer_all()
    clock.advance(FORGET_SECONDS + 1)
    assert site.machine.draft.sections == {}
    async with site.browser.get("/setup") as answer:
        assert answer.status == 403  # the session that the link had opened is forgotten, too
    assert FORGET_SECONDS == SESSION_SECONDS


async def test_two_at_once_do_not_write_twice(site: Site) -> None:
    await site.answer_all()
    answers = await asyncio.gather(site.write(), site.write())
    assert sorted(status for status, _, _ in answers)[0] in {404, 409}
    assert site.machine.started == 1


async def test_the_bridge_takes_the_sockets_over_and_nobody_is_refused(site: Site) -> None:
    """The bridge's console takes over the same sockets; the browser's session and its open connections go on."""
    await site.answer_all()
    hosts = frozenset({f"127.0.0.1:{site.port}", f"localhost:{site.port}"})
    control = FakeControl("alice@example.com")
    console = Console(
        control, admin_token=Secret(TOKEN), places=console_cap(), hosts=hosts, administrators=site.administrators
    )
    async with console.serving(site.console_sockets):
        site.page.hand_over()
        async with site.browser.get("/welcome?x=1", allow_redirects=False) as answer:  # on its old connection
            assert answer.status == 307
            assert answer.headers["Location"] == "/welcome?x=1"
            assert answer.headers["Connection"] == "close"
        async with site.browser.get("/setup/summary") as answer:
            assert answer.url.path == "/welcome"
            text = await answer.text()
            assert "alice@example.com" in text
            assert "more mailbox" not in text
        button = "/accounts/alice@example.com/password"
        async with site.browser.post(button, data=Buttons(text).sent[button]) as answer:
            assert answer.status == 200
            assert "It is shown on this page only." in await answer.text()
        async with site.browser.post("/setup/write", data={"form": "x"}) as answer:
            assert answer.status == 409
            assert "The set-up is finished" in await answer.text()
        async with site.browser.post("/setup/start", data={"form": "x"}) as answer:  # “Try again”, after the start
            assert answer.url.path == "/welcome"
        async with browsing(site.port) as stranger:
            for path in ("/welcome", "/setup", "/setup/summary"):
                async with stranger.get(path, allow_redirects=False) as answer:
                    assert answer.status == 404
            async with stranger.post("/setup/write", data={"form": "x"}) as answer:
                assert answer.status == 404
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", site.port), timeout=5)


async def test_a_moved_page_names_no_other_host(site: Site) -> None:
    site.page.hand_over()
    head, _ = await raw(
        site.port,
        b"GET //evil.example/ HTTP/1.1\r\nHost: localhost:%d\r\nConnection: close\r\n\r\n" % site.port,
    )
    assert b"Location" not in head


async def test_a_tray_finds_it_and_leads_there(site: Site) -> None:
    async with RemoteControl.opened(f"http://127.0.0.1:{site.port}", Secret(TOKEN)) as control:
        assert control is not None
        status = await control.status()
        assert status.accounts == ()
        assert status.warnings == (Diagnosis.of("setup.first"),)
        with pytest.raises(LoginRefused):
            await control.local_password("alice@example.com")
        link = await control.console_link()
    async with site.browser.get(link.removeprefix(f"http://localhost:{site.port}")) as answer:
        assert answer.url.path == "/setup/provider"


async def test_nothing_of_the_answers_is_logged(site: Site, log: io.StringIO) -> None:
    await site.answer_all()
    await site.write()
    assert CANARY not in log.getvalue()
    assert TOKEN not in log.getvalue()
    assert "setup.written" in log.getvalue()
