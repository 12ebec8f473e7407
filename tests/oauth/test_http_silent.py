"""The HTTPS session when the CA file does not answer: it is on a network drive whose server is gone."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from bridge.errors import ProviderNotAsked, ProviderUnavailable
from bridge.oauth.http import AT_ONCE, Https
from bridge.oauth.limits import Limits
from tests.oauth.raw import Tls, http, serving
from tests.silent import fall_silent, release


async def test_a_ca_file_that_does_not_answer_holds_up_one_request_alone(
    tls: Tls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is on a network drive whose server is gone; what was read before stays in use."""
    monkeypatch.setattr("bridge.oauth.http.WAIT_SECONDS", 0.05)
    named = tmp_path / "company.pem"
    named.write_bytes(Path(tls[0]).read_bytes())
    limits = Limits(connect=2, read=1, overall=5, answer=1)
    https = Https("test", ca_file=str(named), limits=limits)
    with serving(http(b"{}"), *tls) as raw:
        assert (await https.run(partial(https.get, raw.url))).status_code == 200
        fall_silent(named)
        async with asyncio.TaskGroup() as group:
            first = group.create_task(https.run(partial(https.get, raw.url)))
            while not https._looking.locked():
                await asyncio.sleep(0.01)
            for _ in range(2):
                assert (await https.run(partial(https.get, raw.url))).status_code == 200
            assert not first.done()
            release(named)
            assert (await first).status_code == 200
    https.close()


class _Hasty(Limits):
    call = 0.2


async def test_a_request_that_was_given_up_while_the_ca_file_did_not_answer_never_goes_out(
    tls: Tls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its refresh token may have been sent again since: a server that rotates tokens would take that for a theft."""
    named = tmp_path / "company.pem"
    named.write_bytes(Path(tls[0]).read_bytes())
    with serving(http(b"{}"), *tls) as raw:
        https = Https("given up", ca_file=str(named), limits=_Hasty())
        assert (await asyncio.to_thread(https.get, raw.url)).status_code == 200
        monkeypatch.setattr("bridge.oauth.http.LOOK_SECONDS", 0.0)  # however late its thread begins to look
        fall_silent(named)
        with pytest.raises(ProviderUnavailable, match="no answer within"):
            await https.run(partial(https.post, raw.url, data={"refresh_token": "CANARY-r"}))
        release(named)
        for thread in threading.enumerate():
            if thread.name == "given up":
                await asyncio.to_thread(thread.join)
        assert len(raw.requests) == 1
    https.close()


async def test_a_first_request_is_told_of_the_ca_file_that_does_not_answer(
    tls: Tls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At least those behind it are told: they do not wait for the drive, and their threads are free for later ones."""
    monkeypatch.setattr("bridge.oauth.http.LOOK_SECONDS", 0.1)
    named = fall_silent(tmp_path / "company.pem")
    https = Https("test", ca_file=str(named))
    with serving(http(b"{}"), *tls) as raw, ExitStack() as undo:
        undo.callback(release, named)
        async with asyncio.TaskGroup() as group:
            first = group.create_task(https.run(partial(https.get, raw.url)))
            while not https._looking.locked():
                await asyncio.sleep(0.01)
            for _ in range(AT_ONCE):
                with pytest.raises(ProviderNotAsked, match=rf"company\.pem.*{os.strerror(errno.ETIMEDOUT)}"):
                    async with asyncio.timeout(20):
                        await https.run(partial(https.get, raw.url))
            first.cancel()
        assert raw.requests == []
    https.close()
