"""`check --online` with and without a running bridge: it names what is wrong, and what was not tried is not "ok"."""

from __future__ import annotations

import datetime
import json
import os
import socket
import ssl
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.doctor.servers import https, server_context, serving, silent
from tests.e2e.bridge import Bridge, Section, configuration, running
from tests.e2e.conftest import ALICE, BOB, CAROL, World
from tests.e2e.logins import replies

pytestmark = pytest.mark.servers

Rows = list[dict[str, Any]]


def of(rows: Rows, check: str, subject: str = "") -> dict[str, Any]:
    """The only row of this check and subject."""
    (row,) = [row for row in rows if row["check"] == check and subject in row["subject"]]
    return row


def test_beside_a_running_bridge_everything_is_tried_and_nobody_is_asked(bridge: Bridge, world: World) -> None:
    asked, codes = world.provider.count("refresh_token"), world.provider.count("authorization_code")
    noted = bridge.log.count("sign_in.needed")
    rows: Rows = bridge.json_of("check", "--online", code=1)
    assert of(rows, "port", "imap")["detail"] == "open: this bridge listens here"
    assert {row["outcome"] for row in rows if row["check"] == "connection"} == {"ok"}
    assert of(rows, "clock")["outcome"] == "ok"
    assert of(rows, "tenant", "office365")["outcome"] == "ok"
    assert of(rows, "keyring")["outcome"] == "skipped"  # a key file is configured
    for address in (ALICE, BOB):
        assert of(rows, "token", address)["detail"].endswith("its token was renewed just now")
        assert {row["outcome"] for row in rows if row["check"].endswith("log-in") and row["subject"] == address} == {
            "ok"
        }
    carol = of(rows, "token", CAROL)
    assert (carol["outcome"], carol["turn"]) == ("failed", "user")
    assert world.provider.count("refresh_token") == asked + 2
    assert world.provider.count("authorization_code") == codes  # with a renewed token, no made-up code is tried
    assert bridge.log.count("sign_in.needed") == noted
    assert "  [the person whose mailbox it is must act]" in bridge.run("check", "--online", code=1)


def test_of_a_whole_domain_everybody_who_has_signed_in_is_tried_and_nobody_yet_is_said(
    world: World, tmp_path: Path
) -> None:
    """The configuration of a terminal server: one line for all users."""
    bridge = world.bridge(tmp_path)
    bridge.config["accounts"] = [
        {"address": "*@example.com", "provider": "gmail"},
        {"address": "*@example.net", "provider": "gmail"},
    ]
    with running(bridge):
        before: Rows = bridge.json_of("check", "--online")
        assert {(row["outcome"], row["subject"]) for row in before if row["check"] == "token"} == {
            ("skipped", "*@example.com"),
            ("skipped", "*@example.net"),
        }
        assert "must sign in" in replies(bridge.login(ALICE))["imap"]
        alice = of(bridge.json_of("check", "--online", code=1), "token", ALICE)
        assert (alice["outcome"], alice["turn"]) == ("failed", "user")
        bridge.sign_in(world.provider, ALICE)
        rows: Rows = bridge.json_of("check", "--online")
    for found in rows, bridge.json_of("check", "--online"):
        assert of(found, "token", ALICE)["outcome"] == "ok"
        assert {row["check"] for row in found if row["subject"] == ALICE} > {"imap log-in", "smtp log-in"}
        assert "no mailbox of *@example.net has been used yet" in of(found, "token", "*@example.net")["detail"]
        assert not [row for row in found if row["subject"] == "*@example.com"]


def test_without_a_bridge_nothing_is_made_and_accounts_are_not_called_ok(world: World, tmp_path: Path) -> None:
    bridge = world.bridge(tmp_path)
    rows: Rows = bridge.json_of("check", "--online")
    assert of(rows, "token")["outcome"] == "skipped"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.yaml"]


@pytest.mark.parametrize("is_running", [False, True])
def test_a_wrong_secret_and_a_wrong_path_are_named_before_anybody_signs_in(
    world: World, tmp_path: Path, is_running: bool
) -> None:
    bridge = world.bridge(tmp_path)
    own = bridge.config["providers"]["gmail"] | {"kind": "oauth2", "scopes": ["mail"]}
    bridge.config["providers"]["gmail"]["client_secret"] = "CANARY-wrong"
    bridge.config["providers"]["own"] = own | {"token_url": f"{world.provider.url}/tokens"}
    with ExitStack() as stack:
        if is_running:
            stack.enter_context(running(bridge))
        rows: Rows = bridge.json_of("check", "--online", code=1)
    assert {row["subject"] for row in rows if row["check"] == "registration"} == {"gmail", "own"}
    assert "client_secret" in of(rows, "registration", "gmail")["detail"]
    assert "`token_url` in the configuration is wrong" in of(rows, "registration", "own")["detail"]
    assert "CANARY" not in json.dumps(rows)


def test_a_redirect_uri_that_the_provider_does_not_know_is_named_before_anybody_signs_in(
    world: World, tmp_path: Path
) -> None:
    bridge = world.bridge(tmp_path)
    section = world.provider.generic_config() | {"imap": bridge.config["providers"]["gmail"]["imap"]}
    redirect_uri = f"http://localhost:{bridge.console_port}/"
    bridge.config["providers"] = {"own": section | {"redirect_uri": redirect_uri}}
    bridge.config["accounts"] = [{"address": ALICE, "provider": "own"}]
    assert not [row for row in bridge.json_of("check", "--online") if row["check"] == "registration"]
    world.provider.clients[section["client_id"]].redirect_uris.discard(redirect_uri)
    rows: Rows = bridge.json_of("check", "--online", code=1)
    assert f"the redirect URI {redirect_uri} is not" in of(rows, "registration", "own")["detail"]


def test_a_token_that_dovecot_does_not_read_is_told_as_too_long(world: World, fresh: Bridge) -> None:
    """Dovecot hangs up without an answer; Postfix accepts longer lines."""
    world.provider.padding = 6200
    try:
        fresh.sign_in(world.provider, ALICE)
        rows: Rows = fresh.json_of("check", "--online", code=1)
    finally:
        world.provider.padding = 0
    told = {row["check"]: row["detail"] for row in rows if row["subject"] == ALICE and row["outcome"] == "failed"}
    assert sorted(told) == ["imap log-in", "pop3 log-in"]
    assert all("token seems to be too long" in detail for detail in told.values())


def test_without_a_bridge_the_page_to_sign_in_at_is_not_said_to_open(world: World, tmp_path: Path) -> None:
    with running(world.bridge(tmp_path)) as bridge:
        (carol,) = (row for row in bridge.json_of("accounts", "list") if row["address"] == CAROL)
    found = of(bridge.json_of("check", "--online", code=1), "token", CAROL)
    assert found["detail"].startswith(f"somebody must sign in: start mail-bridge, then open {carol['sign_in_url']}")


def test_a_port_of_another_program_is_named(world: World, tmp_path: Path) -> None:
    bridge = world.bridge(tmp_path)
    with running(bridge):
        other = world.bridge(tmp_path / "other")
        (tmp_path / "other").mkdir()
        other.config["listeners"]["imap"] = bridge.config["listeners"]["imap"]
        rows: Rows = other.json_of("check", code=2)
        assert f"(process {bridge.pid})" in of(rows, "port", "imap")["detail"]
        assert of(rows, "port", "smtp")["outcome"] == "ok"


def test_a_port_that_a_running_bridge_could_not_take_is_not_called_its_own(world: World, tmp_path: Path) -> None:
    with running(world.bridge(tmp_path)) as bridge, socket.create_server(("127.0.0.1", 0)) as taken:
        before = bridge.config["listeners"]["imap"]
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        bridge.config["listeners"]["imap"] = [before, address]
        bridge.write_config()
        bridge.wait_for_log("configuration.refused")
        rows: Rows = bridge.json_of("check", code=2)
        assert of(rows, "port", f"imap {before}")["outcome"] == "ok"
        assert of(rows, "port", address)["outcome"] == "failed"
        assert of(rows, "port", "console")["outcome"] == "ok"


def test_a_port_that_the_console_is_to_have_after_a_restart_is_tried(world: World, tmp_path: Path) -> None:
    with running(world.bridge(tmp_path)) as bridge, socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        bridge.config["console"] = f"127.0.0.1:{port}"
        for provider in bridge.config["providers"].values():
            provider["redirect_uri"] = f"http://localhost:{port}/"
        bridge.write_config()
        bridge.wait_for_log("console: takes effect after a restart")
        for options in ((), ("--online",)):
            rows: Rows = bridge.json_of("check", *options, code=2)
            assert of(rows, "port", "console")["outcome"] == "failed"
            assert of(rows, "port", "imap")["outcome"] == "ok"


def test_an_unknown_tenant_is_named(world: World, tmp_path: Path) -> None:
    bridge = world.bridge(tmp_path)
    section = world.provider.microsoft_config(tenant="contoso.example")
    bridge.config["providers"]["office365"] |= {key: section[key] for key in ("authorization_url", "token_url")}
    tenant = of(bridge.json_of("check", "--online", code=1), "tenant")
    assert (tenant["outcome"], tenant["turn"]) == ("failed", "app-admin")
    assert "contoso.example does not exist" in tenant["detail"]


def provider(port: int, ca_file: Path | None, host: str = "localhost") -> Section:
    """A provider at a port where something untrustworthy answers, or nothing at all."""
    section = {
        "kind": "oauth2",
        "client_id": "c",
        "client_secret": "CANARY-client-secret",
        "authorization_url": f"https://{host}:{port}/a",
        "token_url": f"https://{host}:{port}/t",
        "scopes": ["mail"],
        "imap": {"host": "127.0.0.1", "port": 9},
    }
    return section | ({"ca_file": str(ca_file)} if ca_file is not None else {})


def test_everything_that_is_wrong_on_the_way_is_named_in_one_go(tmp_path: Path) -> None:
    authority, opened = trustme.CA(organization_name="Example Corp"), trustme.CA(organization_name="Kaspersky Lab")
    ca_file, bundle = tmp_path / "ca.pem", tmp_path / "system.pem"
    authority.cert_pem.write_to_path(ca_file)
    opened.cert_pem.write_to_path(bundle)
    past = {"not_before": datetime.datetime(2020, 1, 1), "not_after": datetime.datetime(2021, 2, 3)}
    with ExitStack() as stack:

        def port(talk: Callable[[socket.socket], None]) -> int:
            return stack.enter_context(serving(talk))

        def tls(by: trustme.CA, *names: str, **options: Any) -> ssl.SSLContext:
            return server_context(by, *names, **options)

        providers = {
            "unknown": provider(port(https(tls(authority))), None),
            "opened": provider(port(https(tls(opened))), None),
            "misnamed": provider(port(https(tls(authority, "else.example"))), ca_file),
            "expired": provider(port(https(tls(authority, **past))), ca_file),
            "silent": provider(port(silent), ca_file),
            "nameless": provider(443, ca_file, host="idp.nowhere.invalid"),
        }
        bridge = Bridge(tmp_path, configuration(tmp_path, providers, [{"address": ALICE, "provider": "silent"}]))
        bridge.environment["SSL_CERT_FILE"] = str(bundle)
        started = time.monotonic()
        rows: Rows = bridge.json_of("check", "--online", code=1)
        assert time.monotonic() - started < 45
    found = {
        row["subject"].partition(" (")[2].rstrip(")"): row
        for row in rows
        if row["check"] == "connection" and not row["subject"].endswith(", imap)")
    }
    for name, words in {
        "unknown": "issued by Example Corp, which is not a public authority",
        "misnamed": "the certificate is for else.example",
        "expired": "the certificate expired on 2021-02-03",
        "silent": "does not answer the TLS handshake",
        "nameless": "the name idp.nowhere.invalid cannot be looked up",
    }.items():
        assert words in found[name]["detail"]
        assert found[name]["outcome"] == "failed"
    assert "Kaspersky opens the encryption on the way" in found["opened"]["detail"]
    assert found["opened"]["outcome"] == "warning"  # this machine trusts it, and so does the bridge


def test_connections_that_fail_for_one_cause_are_one_line_for_people_and_all_there_for_programs(tmp_path: Path) -> None:
    providers = {name: provider(443, None, host=f"{name}.nowhere.invalid") for name in ("one", "two")}
    for port, section in enumerate(providers.values(), 9):
        section["imap"] = {"host": "127.0.0.1", "port": port}
    accounts = [{"address": ALICE, "provider": "one"}, {"address": BOB, "provider": "two"}]
    bridge = Bridge(tmp_path, configuration(tmp_path, providers, accounts))
    said = bridge.run("check", "--online", code=1)
    names, refused = (line for line in said.splitlines() if line.startswith("FAILED  connection "))
    assert names.startswith("FAILED  connection one.nowhere.invalid:443 (one): the name one.nowhere.invalid cannot be")
    assert "; the same for two.nowhere.invalid:443 (two)" in names
    assert refused.startswith("FAILED  connection 127.0.0.1:9 (one, imap): cannot be connected to (")
    assert "; the same for 127.0.0.1:10 (two, imap)" in refused
    rows: Rows = bridge.json_of("check", "--online", code=1)
    assert sum(row["check"] == "connection" for row in rows) == 4
    assert "the name two.nowhere.invalid cannot be" in of(rows, "connection", "(two)")["detail"]


def test_a_clock_that_is_wrong_is_told_by_how_much(tmp_path: Path) -> None:
    authority = trustme.CA()
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(ca_file)
    with serving(https(server_context(authority), ahead=-1800.0)) as port:
        section = provider(port, ca_file)
        bridge = Bridge(tmp_path, configuration(tmp_path, {"it": section}, [{"address": ALICE, "provider": "it"}]))
        clock = of(bridge.json_of("check", "--online", code=1), "clock")
    assert clock["outcome"] == "failed"
    assert "s ahead of the time of the providers" in clock["detail"]
    assert 1797 <= int(clock["detail"].split()[0]) <= 1803


def test_the_report_can_be_forwarded(fresh: Bridge, world: World, tmp_path: Path) -> None:
    fresh.sign_in(world.provider, ALICE)
    password = fresh.password(ALICE)
    file = tmp_path / "report.txt"
    assert "report is in" in fresh.run("check", "--online", "--report", str(file), code=1)
    text = file.read_text()
    assert file.stat().st_mode & 0o077 == 0
    for secret in [password, (tmp_path / "key").read_text().strip(), "CANARY", *world.provider.secrets]:
        assert secret not in text
    assert ALICE not in text
    assert "a…e@example.com: signed in" in text
    assert str(tmp_path) not in text.replace(str(world.authority.ca_file), "")
    fresh.run("check", "--report", str(file), "--full")
    assert ALICE in file.read_text()
    assert "--report" in fresh.run("check", "--full", code=2)
    assert "cannot be written" in fresh.run("check", "--report", str(tmp_path / "none" / "x"), code=1)


@pytest.mark.parametrize("name", ["config.yaml", "key"])
def test_a_report_is_written_over_an_earlier_one_and_nothing_else(world: World, tmp_path: Path, name: str) -> None:
    """Someone who takes the option for the report's input must not lose their configuration or everybody's sign-in."""
    bridge = world.bridge(tmp_path)
    with running(bridge):
        before = (tmp_path / name).read_bytes()
        said = bridge.run("check", "--report", name, code=2)
        assert f"{name} already exists, and is something else: name another file" in said
        assert (tmp_path / name).read_bytes() == before
    (tmp_path / "empty").touch()  # as mktemp creates one
    for _ in range(2):
        bridge.run("check", "--report", "empty")


def test_a_report_takes_no_devices_place(tmp_path: Path) -> None:
    """/dev/stdout is a device or a link to one: if root runs the command, it must not become a file for everybody."""
    if os.name == "nt":
        pytest.skip("devices have no names in Windows' directories")
    bridge = Bridge(tmp_path, {"providers": {"it": {"kind": "google", "client_secret": "CANARY"}}})
    pipe, output, there = (tmp_path / name for name in ("pipe", "output", "there.txt"))
    os.mkfifo(pipe)
    there.touch()
    output.symlink_to(there)
    for file in (pipe, output):
        assert "name an ordinary file" in bridge.run("check", "--report", str(file), code=2)
    assert pipe.is_fifo()
    assert output.is_symlink()
    assert there.read_text() == ""


def test_a_configuration_that_is_wrong_has_a_report_too(tmp_path: Path) -> None:
    bridge = Bridge(tmp_path, {"providers": {"it": {"kind": "google", "client_secret": "CANARY"}}})
    file = tmp_path / "report.txt"
    bridge.run("check", "--online", "--report", str(file), code=2)
    assert "config.yaml:" in file.read_text()
    assert "CANARY" not in file.read_text()
