"""Once a session has ended or has been handed over, nothing is left of aiosmtpd and of the login."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable

import pytest
from aiosmtpd.smtp import Session

from bridge import errors
from bridge.model import Login
from bridge.protocols.base import Ready
from bridge.relay.smtp_frontend import SmtpFrontend
from tests.relay.scripted import mail_client
from tests.relay.smtp_talk import PLAIN, Talk, talking


async def test_trap_36_no_timer_and_no_task_of_the_library_outlives_the_hand_over() -> None:
    async with talking() as (talk, waiting):
        before = {task for task in asyncio.all_tasks() if "_handle_client" in repr(task)}
        assert before
        await talk.say("EHLO crm", f"AUTH PLAIN {PLAIN}")
        await talk.hear()
        await waiting
        await talk.frontend.accept(Ready(text=b"ok"))
        await asyncio.wait(before, timeout=60)
        assert all(task.done() for task in before)


async def _sent_away(talk: Talk, waiting: asyncio.Future[Login]) -> None:
    for _ in range(5):
        assert (await talk.ask("REGISTER sip:localhost SIP/2.0")).startswith("500")
    assert (await talk.ask("EHLO crm")).startswith("421")
    with pytest.raises(errors.LimitReached):
        await waiting


async def _breaks_the_protocol(talk: Talk, waiting: asyncio.Future[Login]) -> None:
    await talk.client.send(b"EHLO " + b"x" * 20_000)
    assert (await talk.hear())[-1].startswith("500")
    with pytest.raises(errors.ProtocolViolation):
        await waiting


async def _leaves_within_a_challenge(talk: Talk, waiting: asyncio.Future[Login]) -> None:
    await talk.ask("EHLO crm")
    assert (await talk.ask("AUTH LOGIN")).startswith("334")
    talk.client.close()
    with pytest.raises(errors.PeerGone):
        await waiting


async def _is_refused_for_good(talk: Talk, waiting: asyncio.Future[Login]) -> None:
    await talk.ask("EHLO crm")
    await talk.say(f"AUTH PLAIN {PLAIN}")
    await waiting
    with pytest.raises(errors.PeerGone):
        await talk.frontend.refuse(errors.LimitReached("too many"))
    assert (await talk.hear())[-1].startswith("421")


async def _has_no_verdict(talk: Talk, waiting: asyncio.Future[Login]) -> None:
    await talk.ask("EHLO crm")
    await talk.say(f"AUTH PLAIN {PLAIN}")
    await waiting


@pytest.mark.parametrize(
    "end", [_sent_away, _breaks_the_protocol, _leaves_within_a_challenge, _is_refused_for_good, _has_no_verdict]
)
async def test_no_task_of_the_library_outlives_a_session_however_it_ends(
    end: Callable[[Talk, asyncio.Future[Login]], Awaitable[None]],
) -> None:
    async with talking() as (talk, waiting):
        before = {task for task in asyncio.all_tasks() if "_handle_client" in repr(task)}
        assert before
        await end(talk, waiting)
        talk.frontend.close()
        await asyncio.wait(before, timeout=60)
        assert all(task.done() for task in before)


async def test_a_session_that_ends_before_its_verdict_leaves_neither_password_nor_channel_to_the_collector() -> None:
    def passwords() -> int:
        return sum(isinstance(each, Login) and each.password.reveal() == b"s3cret" for each in gc.get_objects())

    gc.collect()
    before = passwords()
    gc.disable()
    try:
        with mail_client() as client:
            frontend = SmtpFrontend(client.bridge, extensions=tuple)
            await client.say(b"EHLO crm", f"AUTH PLAIN {PLAIN}".encode())
            await frontend.login()
            assert passwords() == before + 1
            frontend.close()
            assert passwords() == before
            assert client.bridge not in vars(frontend).values()
    finally:
        gc.enable()


async def test_a_session_that_is_handed_over_keeps_nothing_of_the_library() -> None:
    """It lasts for hours, and there may be thousands."""

    def servers() -> set[int]:
        return {id(each) for each in gc.get_objects() if isinstance(each, Session)}

    gc.collect()
    before = servers()
    gc.disable()
    try:
        async with talking() as (talk, waiting):
            tasks = {task for task in asyncio.all_tasks() if "_handle_client" in repr(task)}
            await talk.say("EHLO crm", f"AUTH PLAIN {PLAIN}")
            await waiting
            assert len(servers() - before) == 1
            await talk.frontend.accept(Ready(text=b"ok"))
            await asyncio.wait(tasks, timeout=60)
            tasks.clear()  # a cancelled one has the frames that it was cancelled in
            assert not servers() - before
    finally:
        gc.enable()
