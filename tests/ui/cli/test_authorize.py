"""`authorize`: whose news ends the wait. Against the whole bridge and the demo's provider, in this process."""

from __future__ import annotations

import asyncio

from bridge.ui.cli.authorize import sign_in
from bridge.ui.cli.session import DONE, FAILED
from tests.test_app import ALICE, BOB, Running, running


async def until_under_way(it: Running) -> None:
    while it.app._authorizations.find(ALICE) is None:
        await asyncio.sleep(0)


async def test_an_alias_will_do() -> None:
    def with_alias(text: str) -> str:
        return text.replace(f"{{address: {ALICE}, ", f"{{address: {ALICE}, aliases: ['CRM\\alice'], ")

    async with running(with_alias) as it, asyncio.timeout(20), asyncio.TaskGroup() as group:
        asked = group.create_task(sign_in(it.app.control, "crm\\Alice", open_browser=False))
        await until_under_way(it)
        await it.sign_in(BOB)
        await it.sign_in(ALICE)
        assert await asked == DONE


async def test_somebody_else_who_tries_the_mail_servers_does_not_end_the_wait() -> None:
    """The account works all the while: it is signed in once more, such as for a new right."""
    async with running() as it, asyncio.timeout(20), asyncio.TaskGroup() as group:
        await it.sign_in(ALICE)
        asked = group.create_task(sign_in(it.app.control, ALICE, open_browser=False))
        await until_under_way(it)
        await it.app.control.check_account(ALICE)
        for _ in range(100):
            await asyncio.sleep(0)
        assert not asked.done()
        await it.app.control.cancel_authorization(ALICE)
        assert await asked == FAILED
