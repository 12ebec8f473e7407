"""The mail programs that want a mailbox, in words; and whose password is kept on first use."""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import web

from bridge.control.contract import Visitors
from bridge.errors import BridgeError
from bridge.model import Wish
from bridge.observe.logs import report
from bridge.ui.i18n import say, say_number
from bridge.ui.web import guards

SHOWN = 8
"""Wishes on one page."""
LONGEST = 60
"""Characters of a program's or user's name."""


async def shown_wishes(visitors: Visitors, address: str, request: web.Request) -> tuple[Wish, ...]:
    """The wishes that this browser may know of. Raises: BridgeError while the store cannot tell."""
    return (await visitors.wishes(address, guards.ends_of(request.transport)))[:SHOWN]


async def wishes_of(visitors: Visitors, address: str, request: web.Request) -> tuple[Wish, ...]:
    """The same; none while the store cannot tell, since a sign-in works without them."""
    try:
        return await shown_wishes(visitors, address, request)
    except BridgeError as problem:
        report("console.wishes_unknown", problem, account=address)
        return ()


async def wish_lines(visitors: Visitors, address: str, request: web.Request) -> Sequence[str]:
    """A sentence for each."""
    return [sentence(wish) for wish in await wishes_of(visitors, address, request)]


def with_password(wishes: Sequence[Wish]) -> Sequence[Wish]:
    """The wishes whose password can be kept."""
    return [wish for wish in wishes if wish.has_password]


def only_own(choice: Sequence[Wish]) -> Wish | None:
    """The wish whose password can be kept without asking: it is the only one, and its program runs as the browser's
    user."""
    return choice[0] if len(choice) == 1 and choice[0].is_own else None


def sentence(wish: Wish) -> str:
    """Who has asked, and when: for the person who is to say whether that was theirs."""
    minutes = round(wish.seconds / 60)
    when = (
        say_number("{number} minute ago", "{number} minutes ago", minutes).format(number=minutes)
        if minutes
        else say("just now")
    )
    program, user = wish.program[:LONGEST], wish.user[:LONGEST]
    if program and user:
        return say("{program}, run by the user {user}, {when}").format(program=program, user=user, when=when)
    if user:
        return say("a program of the user {user}, {when}").format(user=user, when=when)
    return say("a program on this computer, {when}").format(when=when)
