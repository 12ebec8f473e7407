"""The mail programs that want a mailbox, in words; and whose password is kept on first use."""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import web

from bridge.control.contract import Visitors
from bridge.errors import BridgeError
from bridge.model import WaitingProgram
from bridge.observe.logs import report
from bridge.ui.i18n import say, say_number
from bridge.ui.web import guards

SHOWN = 8
"""Waiting programs on one page."""
LONGEST = 60
"""Characters of a program's or user's name."""


async def shown_programs(visitors: Visitors, address: str, request: web.Request) -> tuple[WaitingProgram, ...]:
    """The programs that this browser may know of. Raises: BridgeError while the store cannot tell."""
    return (await visitors.waiting_programs(address, guards.ends_of(request.transport)))[:SHOWN]


async def waiting_programs_of(visitors: Visitors, address: str, request: web.Request) -> tuple[WaitingProgram, ...]:
    """The same; none while the store cannot tell, since a sign-in works without them."""
    try:
        return await shown_programs(visitors, address, request)
    except BridgeError as problem:
        report("console.programs_unknown", problem, account=address)
        return ()


async def program_lines(visitors: Visitors, address: str, request: web.Request) -> Sequence[str]:
    """A sentence for each."""
    return [sentence(program) for program in await waiting_programs_of(visitors, address, request)]


def with_password(programs: Sequence[WaitingProgram]) -> Sequence[WaitingProgram]:
    """The programs whose password can be kept."""
    return [program for program in programs if program.has_password]


def only_own(choice: Sequence[WaitingProgram]) -> WaitingProgram | None:
    """The program whose password can be kept without asking: it is the only one, and runs as the browser's user."""
    return choice[0] if len(choice) == 1 and choice[0].is_own else None


def sentence(program: WaitingProgram) -> str:
    """Who has asked, and when: for the person who is to say whether that was theirs."""
    minutes = round(program.seconds / 60)
    when = (
        say_number("{number} minute ago", "{number} minutes ago", minutes).format(number=minutes)
        if minutes
        else say("just now")
    )
    name, user = program.name[:LONGEST], program.user[:LONGEST]
    if name and user:
        return say("{program}, run by the user {user}, {when}").format(program=name, user=user, when=when)
    if user:
        return say("a program of the user {user}, {when}").format(user=user, when=when)
    return say("a program on this computer, {when}").format(when=when)
