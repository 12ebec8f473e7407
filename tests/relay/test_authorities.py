"""Which CAs we trust for mail servers: CA files that change, cannot be used, or do not answer while the bridge runs."""

from __future__ import annotations

import asyncio
import errno
import io
import os
import ssl
import sys
import threading
from contextlib import ExitStack
from itertools import count, pairwise
from pathlib import Path

import pytest
import trustme

from bridge.errors import UpstreamUnavailable
from bridge.model import Endpoint, TlsMode
from bridge.relay.authorities import FIRST_SECONDS, LOOK_SECONDS, REST_SECONDS, SESSION_SECONDS, UpstreamContexts
from bridge.trust import client_context
from tests.relay.scripted import context_of
from tests.relay.sockets import shaken_in_memory
from tests.silent import fall_silent, no_thread, release


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def looking() -> UpstreamContexts:
    """Contexts whose clock moves so far with each call that the files are checked every time."""
    return UpstreamContexts(now=count(0.0, LOOK_SECONDS).__next__)


def forbidden(*_: object) -> ssl.SSLContext:
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


@pytest.fixture
def company(tmp_path: Path) -> Endpoint:
    return Endpoint("mail.example", 993, TlsMode.IMPLICIT, str(tmp_path / "company.pem"))


def trust(company: Endpoint, authority: trustme.CA) -> None:
    assert company.ca_file is not None
    authority.cert_pem.write_to_path(company.ca_file)


async def is_believed(contexts: UpstreamContexts, company: Endpoint, authority: trustme.CA) -> bool:
    """Whether a server whose certificate this CA has issued is trusted."""
    try:
        shaken_in_memory(await contexts.context(company), context_of(authority, "localhost"), "localhost")
    except ssl.SSLCertVerificationError:
        return False
    return True


async def test_a_ca_file_that_has_changed_is_read_anew(
    company: Endpoint, authority: trustme.CA, log: io.StringIO
) -> None:
    """The company's CA has expired, and the administrator has replaced its file."""
    contexts, successor = looking(), trustme.CA()
    trust(company, authority)
    assert await is_believed(contexts, company, authority)
    assert await contexts.context(company) is await contexts.context(company)
    trust(company, successor)
    os.utime(company.ca_file or "", (0, 0))  # an old file that was only now put here
    assert await is_believed(contexts, company, successor)
    assert not await is_believed(contexts, company, authority)
    assert log.getvalue().count("authorities.renewed") == 1


async def test_each_server_is_judged_by_the_authorities_of_its_own_file(
    company: Endpoint, authority: trustme.CA, tmp_path: Path
) -> None:
    """Whichever is asked first: a server of one company cannot pass for the other's."""
    contexts, other = looking(), trustme.CA()
    partner = Endpoint(company.host, company.port, company.tls, str(tmp_path / "partner.pem"))
    trust(company, authority)
    trust(partner, other)
    judged = [await is_believed(contexts, of, by) for of in (company, partner) for by in (authority, other)]
    assert judged == [True, False, False, True]
    public = Endpoint(company.host, company.port, company.tls)
    assert not await is_believed(contexts, public, authority)
    contexts.keep_session(
        company, shaken_in_memory(await contexts.context(company), context_of(authority, "localhost"), "localhost")
    )
    beside = Endpoint(company.host, company.port + 1, company.tls, company.ca_file)
    assert [contexts.session(of) is not None for of in (company, beside, partner, public)] == [True] + [False] * 3


async def test_a_session_under_the_authorities_of_before_is_not_resumed(
    company: Endpoint, authority: trustme.CA
) -> None:
    contexts = looking()
    trust(company, authority)
    before = shaken_in_memory(await contexts.context(company), context_of(authority, "localhost"), "localhost")
    contexts.keep_session(company, before)
    trust(company, trustme.CA())
    await contexts.context(company)
    assert contexts.session(company) is None
    contexts.keep_session(company, before)  # from a login that was under way meanwhile
    assert contexts.session(company) is None


async def by_the_clock(
    company: Endpoint, authority: trustme.CA
) -> tuple[list[float], UpstreamContexts, ssl.SSLContext, ssl.SSLContext]:
    """A clock to be set; contexts that use it; the client context for this server; and the server's context."""
    clock = [100.0]
    contexts = UpstreamContexts(now=lambda: clock[0])
    trust(company, authority)
    return clock, contexts, await contexts.context(company), context_of(authority, "localhost")


async def test_a_session_is_looked_at_once_in_a_minute(company: Endpoint, authority: trustme.CA) -> None:
    """Because some Python versions leak 7 KiB with each look."""
    clock, contexts, ours, theirs = await by_the_clock(company, authority)
    kept = []
    for _ in range(3):
        contexts.keep_session(company, shaken_in_memory(ours, theirs, "localhost"))
        kept.append(contexts.session(company))
        clock[0] += SESSION_SECONDS / 2
    assert kept[0] is kept[1] is not None
    assert kept[2] is not kept[1]


async def test_of_a_server_that_resumes_nothing_a_session_is_looked_at_ever_more_seldom(
    company: Endpoint, authority: trustme.CA
) -> None:
    """Once a minute would leak 10 MB a day, in a bridge that runs for months."""
    clock, contexts, ours, theirs = await by_the_clock(company, authority)
    tls = shaken_in_memory(ours, theirs, "localhost")
    looked_at = []
    for minute in range(7 * 24 * 60):
        before = contexts.session(company)
        contexts.keep_session(company, tls)
        if contexts.session(company) is not before:
            looked_at.append(minute)
        clock[0] += 60
    assert looked_at[:6] == [0, 1, 3, 7, 15, 31]
    assert {later - sooner for sooner, later in pairwise(looked_at[11:])} == {24 * 60}


async def test_where_sessions_are_resumed_again_the_end_of_one_is_made_good_at_once(
    company: Endpoint, authority: trustme.CA
) -> None:
    clock, contexts, ours, theirs = await by_the_clock(company, authority)
    theirs.maximum_version = ssl.TLSVersion.TLSv1_2  # because its sessions come with the handshake

    def log_in(*, resumes: bool) -> bool:
        """True if the kept session is another one than before."""
        before = contexts.session(company)
        tls = shaken_in_memory(ours, theirs, "localhost", before if resumes else None)
        assert tls.session_reused == resumes
        contexts.keep_session(company, tls)
        return contexts.session(company) is not before

    for _ in range(100):
        log_in(resumes=False)
        clock[0] += SESSION_SECONDS
    assert [log_in(resumes=True) for _ in range(100)] == [False] * 100
    clock[0] += 128 * SESSION_SECONDS
    assert log_in(resumes=False), "it lived that long"
    assert not log_in(resumes=False)
    clock[0] += SESSION_SECONDS
    assert log_in(resumes=False)


async def test_a_ca_file_that_is_half_written_changes_nothing_and_is_spoken_of_once(
    company: Endpoint, authority: trustme.CA, log: io.StringIO
) -> None:
    contexts = looking()
    trust(company, authority)
    await contexts.context(company)
    Path(company.ca_file or "").write_text("-----BEGIN CERTIFICATE-----\n")
    for _ in range(3):
        assert await is_believed(contexts, company, authority)
    assert log.getvalue().count("authorities.unusable") == 1
    with pytest.raises(UpstreamUnavailable, match=r"company\.pem"):
        await UpstreamContexts().context(company)


async def test_a_ca_file_that_cannot_be_read_yet_is_read_once_it_can(
    company: Endpoint, authority: trustme.CA, log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    contexts, successor = looking(), trustme.CA()
    trust(company, authority)
    await contexts.context(company)
    trust(company, successor)
    with monkeypatch.context() as patch:
        patch.setattr("bridge.relay.authorities.client_context", forbidden)
        for _ in range(3):
            assert await is_believed(contexts, company, authority)
    assert log.getvalue().count("authorities.unusable") == 1
    assert await is_believed(contexts, company, successor)
    assert await contexts.context(company) is await contexts.context(company)


async def test_a_ca_file_that_is_gone_is_spoken_of_once_and_missed_until_it_is_there_again(
    company: Endpoint, authority: trustme.CA, log: io.StringIO
) -> None:
    contexts, successor = looking(), trustme.CA()
    trust(company, authority)
    await contexts.context(company)
    Path(company.ca_file or "").unlink()
    for _ in range(3):
        assert await is_believed(contexts, company, authority)
    assert log.getvalue().count("authorities.unusable") == 1
    trust(company, successor)
    assert await is_believed(contexts, company, successor)


async def test_a_ca_file_that_can_be_read_at_last_and_is_no_good_is_told_of_too(
    company: Endpoint, authority: trustme.CA, log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    contexts = looking()
    trust(company, authority)
    await contexts.context(company)
    Path(company.ca_file or "").write_text("-----BEGIN CERTIFICATE-----\n")
    with monkeypatch.context() as patch:
        patch.setattr("bridge.relay.authorities.client_context", forbidden)
        await contexts.context(company)
    for _ in range(3):
        assert await is_believed(contexts, company, authority)
    assert log.getvalue().count("authorities.unusable") == 2


async def test_this_machines_authorities_are_read_anew_when_their_file_has_changed(
    tmp_path: Path, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The company has added its own CA while the bridge runs."""
    contexts, bundle, company = looking(), tmp_path / "bundle.pem", trustme.CA()
    endpoint = Endpoint("mail.example", 993, TlsMode.IMPLICIT)
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "nowhere"))
    authority.cert_pem.write_to_path(bundle)
    assert await is_believed(contexts, endpoint, authority)
    assert not await is_believed(contexts, endpoint, company)
    company.cert_pem.write_to_path(bundle, append=True)
    assert await is_believed(contexts, endpoint, company)
    bundle.unlink()  # the file may be missing for a moment while it is replaced
    assert await is_believed(contexts, endpoint, authority)


async def test_where_the_system_has_no_authorities_the_public_ones_count_for_mail_servers_too(
    tmp_path: Path, company: Endpoint, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with Python on a Mac, and on Windows, which shows only the CAs that have been used before."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "nowhere.pem"))
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "empty"))
    contexts = UpstreamContexts()
    context = await contexts.context(Endpoint("imap.gmail.com", 993, TlsMode.IMPLICIT))
    assert context.cert_store_stats()["x509_ca"] > 50
    trust(company, authority)
    context = await contexts.context(company)
    assert context.cert_store_stats()["x509_ca"] == 1, "those of a file count alone"


@pytest.mark.skipif(sys.platform == "win32", reason="shows no more of its own than have been used before")
async def test_where_the_system_has_authorities_no_others_count(
    tmp_path: Path, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An administrator may have removed some CAs from the system's store."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "bundle.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "nowhere"))
    authority.cert_pem.write_to_path(tmp_path / "bundle.pem")
    context = await UpstreamContexts().context(Endpoint("imap.gmail.com", 993, TlsMode.IMPLICIT))
    assert context.cert_store_stats()["x509_ca"] == 1


async def test_an_authority_without_a_key_usage_is_believed_by_every_python(
    company: Endpoint, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The CAs of programs that inspect TLS often lack it; Python 3.13 refuses them unless told not to."""
    as_before = ssl.create_default_context

    def as_python_3_13_does(cafile: str | None = None) -> ssl.SSLContext:
        context = as_before(cafile=cafile)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    monkeypatch.setattr(ssl, "create_default_context", as_python_3_13_does)
    trust(company, authority)
    assert not (await UpstreamContexts().context(company)).verify_flags & ssl.VERIFY_X509_STRICT


async def test_a_file_is_not_asked_for_again_within_the_same_second(company: Endpoint, authority: trustme.CA) -> None:
    clock, successor = [100.0], trustme.CA()
    contexts = UpstreamContexts(now=lambda: clock[0])
    trust(company, authority)
    assert await is_believed(contexts, company, authority)
    trust(company, successor)
    clock[0] += LOOK_SECONDS / 2
    assert await is_believed(contexts, company, authority)
    clock[0] += LOOK_SECONDS / 2
    assert await is_believed(contexts, company, successor)


# --- a file that does not answer, as on a network drive whose server is gone ----------------------------------------


async def test_a_ca_file_that_does_not_answer_costs_one_short_wait_and_its_authorities_stay(
    company: Endpoint, authority: trustme.CA, log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.relay.authorities.WAIT_SECONDS", 0.05)
    clock, successor = [100.0], trustme.CA()
    contexts = UpstreamContexts(now=lambda: clock[0])
    trust(company, authority)
    assert await is_believed(contexts, company, authority)
    pipe = fall_silent(Path(company.ca_file or ""))
    clock[0] += LOOK_SECONDS
    believed = await asyncio.gather(*(is_believed(contexts, company, authority) for _ in range(3)))
    assert believed == [True] * 3
    assert log.getvalue().count("no answer within 0.05 s") == 1
    clock[0] += LOOK_SECONDS  # not asked again so soon, since each login would have to wait
    assert await is_believed(contexts, company, authority)
    clock[0] += REST_SECONDS  # the first thread still waits for the file
    assert await is_believed(contexts, company, authority)
    assert log.getvalue().count("no answer within 0.05 s") == 2
    release(pipe)
    trust(company, successor)
    clock[0] += REST_SECONDS
    monkeypatch.setattr("bridge.relay.authorities.WAIT_SECONDS", FIRST_SECONDS)  # a busy machine takes a while to read
    assert await is_believed(contexts, company, successor)


async def test_nobody_stands_still_for_a_ca_file_that_does_not_answer(
    company: Endpoint, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.relay.authorities.WAIT_SECONDS", 0.2)
    contexts = looking()
    trust(company, authority)
    await contexts.context(company)
    pipe, turns = fall_silent(Path(company.ca_file or "")), 0
    async with asyncio.TaskGroup() as group:
        asked = group.create_task(is_believed(contexts, company, authority))
        while not asked.done():
            await asyncio.sleep(0.01)
            turns += 1
    assert asked.result()
    assert turns > 3
    release(pipe)


async def test_a_first_login_is_told_of_the_ca_file_that_does_not_answer(
    company: Endpoint, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    contexts = looking()
    pipe = fall_silent(Path(company.ca_file or ""))
    with monkeypatch.context() as patch:
        patch.setattr("bridge.relay.authorities.FIRST_SECONDS", 0.05)
        with pytest.raises(UpstreamUnavailable, match=rf"company\.pem.*{os.strerror(errno.ETIMEDOUT)}"):
            await contexts.context(company)
    release(pipe)
    trust(company, authority)
    monkeypatch.setattr("bridge.relay.authorities.WAIT_SECONDS", 0.0)  # only for a server that has a context already
    assert await is_believed(contexts, company, authority)


async def test_a_first_look_serves_the_next_login_where_its_own_has_not_waited(
    company: Endpoint, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a slow drive, each login with a short time limit would otherwise read the file anew, and none would get in."""
    looks, there = list[object](), threading.Event()

    def slowly(file: str | None) -> ssl.SSLContext:
        looks.append(file)
        assert there.wait(20)
        return client_context(file)

    monkeypatch.setattr("bridge.relay.authorities.client_context", slowly)
    contexts = looking()
    trust(company, authority)
    for _ in range(3):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await contexts.context(company)
    there.set()
    assert await is_believed(contexts, company, authority)
    assert len(looks) == 1


async def test_what_a_first_look_has_found_is_out_of_date_once_the_file_has_changed(
    company: Endpoint, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    has_read, there, successor = threading.Event(), threading.Event(), trustme.CA()

    def slowly(file: str | None) -> ssl.SSLContext:
        context = client_context(file)
        has_read.set()
        assert there.wait(20)
        return context

    monkeypatch.setattr("bridge.relay.authorities.client_context", slowly)
    contexts = looking()
    trust(company, authority)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await contexts.context(company)
    assert await asyncio.to_thread(has_read.wait, 20)
    trust(company, successor)
    os.utime(company.ca_file or "", (0, 0))
    there.set()
    assert await is_believed(contexts, company, successor)


async def test_who_waits_behind_the_first_look_is_told_with_it(
    company: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a morning's logins waited one after the other, each of them would blame its mail server for the delay."""
    monkeypatch.setattr("bridge.relay.authorities.FIRST_SECONDS", 0.2)
    contexts = UpstreamContexts()
    pipe = fall_silent(Path(company.ca_file or ""))
    with ExitStack() as undo:
        undo.callback(release, pipe)
        async with asyncio.timeout(20):
            told = await asyncio.gather(*(contexts.context(company) for _ in range(500)), return_exceptions=True)
    assert {type(one) for one in told} == {UpstreamUnavailable}
    assert all("company.pem" in str(one) for one in told)


async def test_without_a_thread_to_look_in_the_authorities_of_before_are_believed_on(
    company: Endpoint, authority: trustme.CA, log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If no more threads can be started just now, logins still go on."""
    contexts = looking()
    trust(company, authority)
    assert await is_believed(contexts, company, authority)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        assert await is_believed(contexts, company, authority)
        with pytest.raises(UpstreamUnavailable, match=r"company\.pem\) cannot be used: .can't start"):
            await UpstreamContexts().context(company)
    assert log.getvalue().count("authorities.unusable") == 1
    assert "start new thread" in log.getvalue(), "the drive is not what is to be looked at"
