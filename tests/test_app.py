"""The whole bridge: from a refused login to a delivered message, and everything that may change meanwhile."""

from __future__ import annotations

import asyncio
import imaplib
import io
import poplib
import smtplib
import socket
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest

from bridge.app import App
from bridge.config.load import parse_config
from bridge.control.contract import AccountState, Leftover
from bridge.controller import server_checks
from bridge.demo.world import demo_world
from bridge.errors import AuthorizationFailed, ConfigError, LoginRefused, SignInUnsaved, StoreUnavailable
from bridge.hooks.dispatch import Hooks
from bridge.host.sockets import bind
from bridge.model import AccessToken, Account, Protocol
from bridge.notices import AuthorizationNeeded, Authorized, Forgotten
from bridge.oauth.providers import Providers
from bridge.relay.limits import console_cap
from bridge.relay.ports import Ports
from bridge.relay.server_check import ServerCheck, check_servers
from bridge.relay.upstream import Upstream
from bridge.secret import Secret
from bridge.stores.base import Record
from bridge.stores.memory import MemoryStore
from bridge.stores.sealed import KEY_BYTES, SealedStore
from bridge.stores.sqlite import SqliteStore
from bridge.tokens.expiry import SecretWatch
from bridge.tokens.renewal import Renewal
from bridge.tokens.vault import PREFIX
from tests.bridging import ALICE, BOB, bridging, running
from tests.consoles import Console
from tests.servers.disks import full, small_disk
from tests.surroundings import surroundings
from tests.tokens.fakes import FailingStore


class AskedStore(MemoryStore):
    """Counts how often it is read."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    async def get(self, key: str) -> Record | None:
        self.asked += 1
        return await super().get(key)

    async def versions(self, prefix: str) -> dict[str, int]:
        self.asked += 1
        return await super().versions(prefix)


async def test_a_status_that_is_asked_for_as_the_console_closes_is_answered() -> None:
    """The tray icon may ask during a stop, when the console has already closed its ports."""
    async with running() as it:
        before = await it.app.control.status()
        assert f":{it.app.console_sockets[0].getsockname()[1]}/sign-in/" in before.accounts[0].sign_in_url
        for sock in it.app.console_sockets:
            sock.close()
        assert (await it.app.control.status()).accounts == before.accounts


async def test_the_page_that_anybody_may_open_asks_the_store_for_nothing() -> None:
    """With thousands of accounts that would take a second, and logins wait for the same store."""
    store = AskedStore()
    async with demo_world() as world, bridging(world, store=store) as it:
        address = f"localhost:{it.app.console_sockets[0].getsockname()[1]}"
        console = Console(it.app.control, admin_token=Secret(""), hosts=frozenset({address}), places=console_cap())
        async with console.serving(it.app.console_sockets), aiohttp.ClientSession() as http:
            asked = store.asked
            async with http.get(f"http://{address}/") as answer:
                assert f">{it.ports['imap']}<" in await answer.text()
            assert store.asked == asked
    assert store.asked


async def test_from_a_refused_login_to_a_delivered_message() -> None:
    async with running() as it:
        password = await it.password(ALICE)
        with pytest.raises(
            imaplib.IMAP4.error, match=r"\[UNAVAILABLE\] Open http[^ ]+ \(alice@example.com must sign in\)"
        ):
            await it.imap(ALICE, password, lambda session: session.noop())
        assert sum(isinstance(notice, AuthorizationNeeded) for notice in it.notices) == 1
        assert await it.sign_in(ALICE) == ALICE
        assert sum(isinstance(notice, Authorized) for notice in it.notices) == 1
        assert (await it.imap(ALICE, password, lambda session: session.select("INBOX")))[0] == "OK"

        def send_and_fetch() -> list[bytes]:
            with smtplib.SMTP("localhost", it.ports["smtp"], "crm.example", timeout=60) as smtp:
                smtp.login(ALICE, password)
                smtp.sendmail(ALICE, [ALICE], b"Subject: by SMTP\r\n\r\n.dot\r\n")
            pop3 = poplib.POP3("localhost", it.ports["pop3"], timeout=60)
            pop3.user(ALICE)
            pop3.pass_(password)
            count, _ = pop3.stat()
            lines = pop3.retr(count)[1]
            pop3.quit()
            return lines

        lines = await asyncio.to_thread(send_and_fetch)
        assert b"Subject: by SMTP" in lines
        assert b".dot" in lines


async def test_trap_43_ehlo_promises_nothing_of_a_server_until_it_is_known() -> None:
    async with running() as it:

        def features() -> set[str]:
            with smtplib.SMTP("localhost", it.ports["smtp"], "crm.example", timeout=60) as smtp:
                smtp.ehlo()
                return set(smtp.esmtp_features)

        assert await asyncio.to_thread(features) == {"auth"}
        await it.sign_in(ALICE)  # also tries the mail servers, so that their EHLO is known
        assert await asyncio.to_thread(features) > {"auth"}


async def test_the_wrong_person_is_sent_away_and_the_right_one_may_follow() -> None:
    async with running() as it:
        with pytest.raises(AuthorizationFailed, match=r"bob@example.com has signed in"):
            await it.sign_in(ALICE, person=BOB)
        with pytest.raises(AuthorizationFailed):
            await it.sign_in(ALICE, decision="deny")
        assert (await it.app.control.status()).accounts[0].state is AccountState.SIGN_IN
        await it.sign_in(ALICE)
        assert (await it.app.control.status()).accounts[0].state is AccountState.READY


async def test_status_tells_of_a_sign_in_under_way() -> None:
    async with running() as it:
        await it.app.control.begin_authorization(ALICE)
        assert (await it.app.control.status()).accounts[0].state is AccountState.PENDING
        await it.app.control.cancel_authorization(ALICE)
        assert (await it.app.control.status()).accounts[0].state is AccountState.SIGN_IN


async def test_everybody_of_a_domain_has_an_account_from_the_first_sign_in_on() -> None:
    def whole_domain(text: str) -> str:
        lines = [line for line in text.splitlines() if "bob@" not in line]
        return "\n".join(line.replace(ALICE, '"*@example.com"') for line in lines)

    async with running(whole_domain) as it:
        assert (await it.app.control.status()).accounts == ()
        assert (await it.app.control.status()).patterns == ("*@example.com",)
        await it.sign_in(BOB)
        (account,) = (await it.app.control.status()).accounts
        assert (account.address, account.state) == (BOB, AccountState.READY)
        await it.imap("Bob@Example.com", await it.password(BOB), lambda session: session.select())


async def test_whoever_a_whole_domain_waits_for_is_seen_from_the_first_refused_login_on() -> None:
    """Nothing is stored about them yet, but they are the ones who must act: docs/reference.md refers to the status for
    that."""

    def whole_domain(text: str) -> str:
        lines = [line for line in text.splitlines() if "bob@" not in line]
        return "\n".join(line.replace(ALICE, '"*@example.com"') for line in lines)

    async with running(whole_domain) as it:
        password = await it.password(BOB)
        with pytest.raises(imaplib.IMAP4.error, match="User name or local password is wrong"):
            await it.imap(BOB, "another", lambda session: session.noop())
        assert (await it.app.control.status()).accounts == ()
        with pytest.raises(imaplib.IMAP4.error, match=f"{BOB} must sign in"):
            await it.imap(BOB.upper(), password, lambda session: session.noop())
        (account,) = (await it.app.control.status()).accounts
        assert (account.address, account.state) == (BOB, AccountState.SIGN_IN)
        assert account.sign_in_url.endswith(f"/sign-in/{BOB}")
        await it.sign_in(BOB)
        (account,) = (await it.app.control.status()).accounts
        assert (account.address, account.state) == (BOB, AccountState.READY)


async def test_peer_01_the_first_password_that_comes_along_opens_nothing() -> None:
    def whole_domain(text: str) -> str:
        lines = [line for line in text.splitlines() if "bob@" not in line]
        return "\n".join(line.replace(ALICE, '"*@example.com"') for line in lines)

    async with running(whole_domain) as it:
        await it.sign_in(BOB)
        for address in (BOB, "ceo@example.com"):
            with pytest.raises(imaplib.IMAP4.error, match="AUTHENTICATIONFAILED"):
                await it.imap(address, "any password", lambda session: session.noop())


async def test_a_shared_mailbox_names_itself_upstream_and_its_delegate_at_the_provider() -> None:
    def shared(text: str) -> str:
        return text.replace(f"address: {BOB}, provider: demo", f"address: {BOB}, provider: demo, sign_in_as: {ALICE}")

    async with running(shared) as it:
        with pytest.raises(AuthorizationFailed):
            await it.sign_in(BOB, person=BOB)
        await it.sign_in(BOB, person=ALICE)
        # The demo's server gives nobody rights to another person's mailbox: it refuses the mailbox, not the token.
        with pytest.raises(imaplib.IMAP4.error, match="AUTHORIZATIONFAILED"):
            await it.imap(BOB, await it.password(BOB), lambda session: session.noop())


async def test_forget_asks_for_a_new_sign_in_and_keeps_the_password() -> None:
    async with running() as it:
        await it.sign_in(ALICE)
        password = await it.password(ALICE)
        assert (await it.app.control.forget(ALICE)).was_signed_in
        with pytest.raises(imaplib.IMAP4.error, match="must sign in"):
            await it.imap(ALICE, password, lambda session: session.noop())
        assert not (await it.app.control.forget(ALICE)).was_signed_in


async def test_a_sign_in_that_waits_to_be_saved_is_one_that_can_be_removed() -> None:
    store = FailingStore()
    async with demo_world() as world, bridging(world, store=store) as it:
        store.is_full = True
        with pytest.raises(SignInUnsaved):
            await it.sign_in(ALICE)
        assert (await it.app.control.forget(ALICE)).was_signed_in
        assert not (await it.app.control.forget(ALICE)).was_signed_in


async def test_what_mail_servers_said_to_a_grant_that_was_given_up_meanwhile_is_not_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    checked, signed_out = asyncio.Event(), asyncio.Event()

    async def slow(
        upstreams: Mapping[Protocol, Upstream], account: Account, token: AccessToken
    ) -> tuple[ServerCheck, ...]:
        found = await check_servers(upstreams, account, token)
        checked.set()
        await signed_out.wait()
        return found

    async with running() as it:
        await it.sign_in(ALICE)
        monkeypatch.setattr(server_checks, "check_servers", slow)
        async with asyncio.TaskGroup() as group:
            checking = group.create_task(it.app.control.check_account(ALICE))
            await checked.wait()
            await it.app.control.forget(ALICE)
            signed_out.set()
        status = checking.result()
        assert (status.state, status.checks) == (AccountState.SIGN_IN, ())
        monkeypatch.undo()
        await it.sign_in(ALICE)
        assert [check.is_ok for check in (await it.app.control.check_account(ALICE)).checks] == [True] * 3


async def test_what_mail_servers_said_goes_with_a_sign_in_that_another_process_has_removed() -> None:
    store = MemoryStore()
    async with demo_world() as world, bridging(world, store=store) as it:
        await it.sign_in(ALICE)
        record = await store.get(PREFIX + ALICE)
        assert record is not None
        await store.delete(PREFIX + ALICE, expected=record.version)
        await it.app._tokens.notice_removals()
        assert [account.checks for account in (await it.app.control.status()).accounts if account.address == ALICE] == [
            ()
        ]


@pytest.mark.parametrize("address", ["nobody@example.com", "", "*@example.com", "alice@example.com\r\nX"])
async def test_an_address_that_is_not_configured_is_refused_everywhere(address: str) -> None:
    async with running() as it:
        with pytest.raises(LoginRefused):
            await it.app.control.begin_authorization(address)
        with pytest.raises(LoginRefused):
            await it.app.control.local_password(address)


async def test_a_sign_in_that_could_not_be_kept_does_not_begin() -> None:
    store = FailingStore()
    async with demo_world() as world, bridging(world, store=store) as it:
        store.is_away = True
        with pytest.raises(StoreUnavailable, match="the disk is away"):
            await it.app.control.begin_authorization(ALICE)
        store.is_away = False
        assert await it.sign_in(ALICE) == ALICE


async def test_a_sign_in_does_not_begin_either_where_the_store_can_only_be_read(tmp_path: Path) -> None:
    """Otherwise the person would pass the second factor, and the sign-in would be lost after that."""
    with small_disk(tmp_path / "disk") as disk:
        file = disk / "store.sqlite"
        async with demo_world() as world, bridging(world, store=SqliteStore(file)) as it:
            await it.app.check_store()
            with full(file):
                assert (await it.app.control.status()).accounts[0].state is AccountState.SIGN_IN
                with pytest.raises(StoreUnavailable, match="cannot be written: the disk is full"):
                    await it.app.control.begin_authorization(ALICE)
            assert await it.sign_in(ALICE) == ALICE


async def test_a_store_that_can_only_be_read_is_told_at_the_start(tmp_path: Path) -> None:
    """Otherwise it would be noticed an hour later, when the first token has to be renewed."""
    with small_disk(tmp_path / "disk") as disk:
        file = disk / "store.sqlite"
        async with demo_world() as world, bridging(world, store=SqliteStore(file)) as it:
            await it.sign_in(ALICE)
            await it.app.check_store()
            with full(file), pytest.raises(StoreUnavailable, match="cannot be written: the disk is full"):
                await it.app.check_store()
            await it.app.check_store()


async def test_a_store_that_is_away_is_asked_once_for_a_list_of_all() -> None:
    """A store that hangs takes five seconds per question: with a hundred accounts nobody would wait for the page."""
    store = FailingStore()
    async with demo_world() as world, bridging(world, store=store) as it:
        await it.sign_in(ALICE)
        store.is_away = True
        found = (await it.app.control.status()).accounts
        assert len(found) > 1
        assert {(account.state, account.detail) for account in found} == {(AccountState.TROUBLE, "the disk is away")}
        assert store.asked_in_vain == 1
        store.is_away = False
        assert (await it.app.control.status()).accounts[0].state is AccountState.READY


async def test_a_damaged_record_does_not_keep_its_person_from_signing_in() -> None:
    store = MemoryStore()
    async with demo_world() as world, bridging(world, store=store) as it:
        await it.sign_in(ALICE)
        (key,) = await store.keys(PREFIX)
        record = await store.get(key)
        assert record is not None
        await store.put(key, record.value[:-1], expected=record.version)
        assert await it.sign_in(ALICE) == ALICE


async def test_ports_are_opened_all_or_none() -> None:
    async with running() as it:
        free = socket.create_server(("127.0.0.1", 0))
        free.close()
        store = SealedStore(MemoryStore(), Secret(bytes(KEY_BYTES)))

        def third_fails(host: str, port: int, what: str) -> list[socket.socket]:
            if what == "listeners.smtp":
                raise LoginRefused("taken")
            opened.extend(found := bind(host, 0, what=what))
            return found

        opened: list[socket.socket] = []
        app = App(it.app._loaded, surroundings(store, third_fails))
        async with app.opened():
            with pytest.raises(LoginRefused):
                app.bind()
        assert len(opened) >= 3
        assert all(sock.fileno() == -1 for sock in opened)


async def test_workers_are_refused_before_a_port_is_open_where_the_system_has_no_way_to_start_them() -> None:
    async with demo_world() as world:
        loaded = parse_config(world.yaml + "workers: 2\n", name="test", directory=Path.cwd())
        store = SealedStore(MemoryStore(), Secret(bytes(KEY_BYTES)))
        opened: list[str] = []

        def bound(host: str, port: int, what: str) -> list[socket.socket]:
            opened.append(what)
            return bind(host, 0, what=what)

        app = App(loaded, surroundings(store, bound))
        async with app.opened():
            with pytest.raises(ConfigError, match="only Linux and macOS"):
                app.bind()
        assert opened == []


async def test_the_sign_in_of_who_has_left_is_seen_and_can_be_ended() -> None:
    async with demo_world() as world, bridging(world) as it:
        control = it.app.control
        await it.sign_in(ALICE)
        await it.sign_in(BOB)
        await it.password(BOB)
        assert (await control.status()).leftovers == ()
        lines = [line for line in world.yaml.splitlines(keepends=True) if BOB not in line]
        text = "".join(lines).replace(f"address: {ALICE}", f"address: {ALICE}, aliases: [{BOB}]", 1)
        await it.app.apply(parse_config(text, name="test", directory=Path.cwd()))
        status = await control.status()
        assert status.leftovers == (Leftover(BOB, is_signed_in=True, has_password=True),)
        assert BOB not in {account.address for account in status.accounts}
        found = [finding.detail for finding in await it.app.examination(held_ports="held").basics()]
        assert any(f"still signed in: {BOB}" in detail for detail in found)
        with pytest.raises(LoginRefused):
            await control.forget("b@nowhere.example")  # nobody's, and not the one that is left
        done = await control.forget(BOB)
        assert done.was_left
        (unrevoked,) = done.unrevoked
        assert "does not let programs end a sign-in" in unrevoked.told()
        status = await control.status()
        assert status.leftovers == ()
        assert next(one for one in status.accounts if one.address == ALICE).state is AccountState.READY
        assert sum(notice == Forgotten(BOB) for notice in it.notices) == 1
        done = await control.forget(BOB)  # nothing is left of BOB: the address now means what the alias stands for
        assert not done.was_left


async def test_once_a_change_is_told_no_port_that_it_closes_accepts_anybody() -> None:
    """Whoever connects behind the log line meets the new port, its certificate for instance, in the very same turn."""
    async with demo_world() as world, bridging(world) as it:
        without = world.yaml.replace("pop3: localhost:1110", "pop3: off")
        await it.app.apply(parse_config(without, name="test", directory=Path.cwd()))
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", it.ports["pop3"]))


async def test_the_browser_comes_back_to_the_console_that_is_there_until_the_restart() -> None:
    async with demo_world() as world, bridging(world) as it:
        moved = world.yaml.replace("localhost:3017/", "localhost:3999/").replace("127.0.0.1:3017", "127.0.0.1:3999")
        for _ in range(2):  # the second reload changes nothing, and the new console is still not there
            summary = await it.app.apply(parse_config(moved, name="test", directory=Path.cwd()))
            begun = await it.app.control.begin_authorization(ALICE)
            (back,) = parse_qs(urlsplit(begun.url).query)["redirect_uri"]
            assert back == "http://localhost:3017/"
            await it.app.control.cancel_authorization(ALICE)
        assert summary == ""


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("alice@example.com, provider: demo}", "alice@example.com, provider: demo, sign_in_as: bob@example.com}"),
        ("imap: {host: localhost, port: ", "imap: {host: 127.0.0.1, port: "),
    ],
)
async def test_how_the_mail_servers_answered_is_not_told_of_others(before: str, after: str) -> None:
    async def checked() -> list[str]:
        status = await it.app.control.status()
        return [check.protocol for account in status.accounts if account.address == ALICE for check in account.checks]

    async with demo_world() as world, bridging(world) as it:
        await it.sign_in(ALICE)
        await it.app.apply(parse_config(world.yaml + "language: fr\n", name="test", directory=Path.cwd()))
        assert await checked() == ["imap", "pop3", "smtp"]
        await it.app.apply(parse_config(world.yaml.replace(before, after), name="test", directory=Path.cwd()))
        assert await checked() == []


@pytest.mark.parametrize("helper", ["renewal", "hooks", "client secrets", "certificates", "replaced providers"])
async def test_a_helper_with_a_bug_ends_nobodys_mail(
    helper: str, monkeypatch: pytest.MonkeyPatch, log: io.StringIO
) -> None:
    async def bug(*_: object) -> None:
        raise RuntimeError("of ours")

    owners: dict[str, tuple[type, str]] = {
        "renewal": (Renewal, "run"),
        "hooks": (Hooks, "run"),
        "client secrets": (SecretWatch, "run"),
        "certificates": (Ports, "follow_certificates"),
        "replaced providers": (Providers, "close_retired"),
    }
    monkeypatch.setattr(*owners[helper], bug)
    async with running() as it:
        await it.sign_in(ALICE)
        assert f'"helper": "{helper}"' in log.getvalue()
        answer = await it.imap(ALICE, await it.password(ALICE), lambda session: session.select("INBOX"))
        assert answer[0] == "OK"
