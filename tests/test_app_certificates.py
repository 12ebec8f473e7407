"""A bridge whose IMAP port has a certificate from a file, during a reload and during `check`."""

from __future__ import annotations

import asyncio
import io
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trustme

from bridge.config.load import LoadedConfig, parse_config
from bridge.demo.world import DemoWorld, demo_world
from tests.bridging import bridging
from tests.silent import fall_silent, release


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return issue(tmp_path / "server.pem")


def issue(file: Path) -> Path:
    trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(file))
    return file


def certified(world: DemoWorld, file: Path) -> DemoWorld:
    given = f"imap: {{address: 127.0.0.1:1143, tls: implicit, certificate: {file}, key: {file}}}"
    return replace(world, yaml=re.sub(r"imap: localhost:\d+", lambda found: given, world.yaml))


def speaking(world: DemoWorld, language: str) -> LoadedConfig:
    """The world's configuration with another language."""
    return parse_config(f"{world.yaml}language: {language}\n", name="test", directory=Path.cwd())


@contextmanager
def silent(file: Path) -> Iterator[threading.Timer]:
    """While the context is open, `file` does not answer. A loop that waits for it is released after 20 seconds by the
    timer that is yielded."""
    at_last = threading.Timer(20, release, [fall_silent(file)])
    at_last.start()
    try:
        yield at_last
    finally:
        at_last.cancel()
        at_last.join()
        if file.exists():
            release(file)


async def test_a_reload_takes_up_the_certificate_that_was_renewed(file: Path, log: io.StringIO) -> None:
    """The reload itself reads the file, not the check that comes every ten seconds: the administrator wants it now."""
    async with demo_world() as world:
        world = certified(world, file)
        async with bridging(world) as it:
            assert "certificate.renewed" not in log.getvalue()
            issue(file)
            assert await it.app.apply(speaking(world, "fr"))
            assert "certificate.renewed" in log.getvalue()


async def test_a_reload_does_not_wait_for_a_certificate_that_does_not_answer(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is on a network drive whose server is gone. At the second reload the first one's read still hangs."""
    monkeypatch.setattr("bridge.app.LOOK_SECONDS", 0.05)
    async with demo_world() as world:
        world = certified(world, file)
        changed = [speaking(world, language) for language in ("fr", "en")]
        async with bridging(world) as it:
            with silent(file) as help_at_last:
                for loaded in changed:
                    assert await it.app.apply(loaded)
                    assert it.app.language == loaded.config.language
                assert help_at_last.is_alive()


async def test_no_session_stands_still_for_it_while_the_administrator_looks_what_is_wrong(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.doctor.examination.MACHINE_SECONDS", 0.5)
    async with demo_world() as world, bridging(certified(world, file)) as it:
        with silent(file) as help_at_last:
            findings = await it.app.examination(held_ports="ours").basics()
            assert help_at_last.is_alive()
    (found,) = (one for one in findings if one.check == "certificate")
    assert found.detail.startswith("no result within")


async def test_the_status_tells_which_file_does_not_answer_and_of_the_others_what_there_is(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.app.LOOK_SECONDS", 0.5)
    own = tmp_path / "own.pem"
    issue(own)
    async with demo_world() as world:
        world = certified(world, file)
        pop3 = f"pop3: {{address: 127.0.0.1:1110, tls: implicit, certificate: '{own}', key: '{own}'}}"
        world = replace(world, yaml=world.yaml.replace("pop3: localhost:1110", pop3))
        async with bridging(world) as it:
            assert (await it.app.control.status()).warnings == ()
            with silent(file):
                for _ in range(2):
                    (warning,) = (await it.app.control.status()).warnings
                    assert warning.told().startswith("The certificate of imap 127.0.0.1:1143: its file does not answer")


async def test_the_next_status_does_not_wait_for_a_file_whose_last_look_is_not_over(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.app.LOOK_SECONDS", 60.0)
    async with demo_world() as world, bridging(certified(world, file)) as it:
        with silent(file) as help_at_last:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1):
                    await it.app.control.status()
            (warning,) = (await it.app.control.status()).warnings
            assert help_at_last.is_alive()
    assert "its file does not answer" in warning.told()
