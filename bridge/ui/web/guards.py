"""Who may ask: hosts, origins, forms that we have served, the administrator."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import secrets
from collections.abc import Awaitable, Callable
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web

from bridge.advice.said import said
from bridge.clock import Clock
from bridge.config.console import DEFAULT_PORT
from bridge.control.redirect import fields_of
from bridge.model import Ends
from bridge.secret import Secret
from bridge.ui.web.expiring import Expiring
from bridge.ui.web.turns import Turns

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

SESSION_SECONDS = 8 * 3600.0
"""An administrator's working day."""
SESSIONS = 100
"""Browsers with an open administrator's session."""

TICKET_SECONDS = 60.0
"""For a browser to start and open the console: on a slow machine, after an update, that takes half of this time."""
TICKETS = 100
"""Links to the console that were requested but not opened yet."""

FRESH_SECONDS = 900.0
"""For how long after the administrator's link was opened its session also shows and changes local passwords."""

BODY_SECONDS = 10.0
"""For the body of a form to arrive: it was typed, or comes from a provider's page, and is below 64 KiB."""

AGAIN = said(
    "Nothing has happened yet: this page was too old, or your browser does not keep its cookies. Please press the "
    "button once more."
)
"""For a page whose form was not accepted."""

USER: Final = web.RequestKey("user", str)
"""The value of user_of(), set by Site."""

TURNS: Final = web.RequestKey("turns", Turns)
"""The turns of all requests, set by Site."""

ROOT: Final = "0"
"""Root's id, who is trusted with everything anyway."""

_AHEAD = ("Sec-Purpose", "Purpose", "X-Purpose", "X-Moz")
"""Headers by which browsers say that nobody has asked for the page yet."""


def is_ours(request: web.Request, hosts: frozenset[str]) -> bool:
    """True if the request names this console by exactly one Host, and has no other host in its target.

    Stops DNS rebinding: a page of evil.example whose name points to 127.0.0.1 arrives with its own name.
    """
    named = request.headers.getall("Host", [])
    return len(named) == 1 and named[0].lower() in hosts and request.raw_path.startswith("/")


def is_ahead(request: web.Request) -> bool:
    """True for a prefetch or prerender: the person may never look at the page, so nothing may happen."""
    return any(
        word in request.headers.get(name, "").lower()
        for name in _AHEAD
        for word in ("prefetch", "prerender", "preview")
    )


def is_foreign(request: web.Request, hosts: frozenset[str]) -> bool:
    """True if the browser says that a page from elsewhere has sent this.

    Our own forms come with `Origin: null`, because our pages send no referrer (Fetch standard, "append a request
    Origin header"), so null is judged by Sec-Fetch-Site alone, and forms need their token besides.
    """
    origins = request.headers.getall("Origin", [])
    own = {"null", *(f"http://{host}" for host in hosts)}
    if any(origin.lower() not in own for origin in origins):
        return True
    return request.headers.get("Sec-Fetch-Site", "none") not in {"none", "same-origin"}


def is_shown(request: web.Request) -> bool:
    """True unless the browser says that the answer is for a script, and not a page to be shown.

    Our own script opens no administrator's link, brings no provider's answer and sends no form. So this one is of
    another user's program, which had our port for a while: a service worker, which gets every page in the browser's
    place, or a page that is still open. To the browser it is as good as ours, and sends the person's cookies. A worker
    may also have the browser ask for the page itself, and give it the answer (Service Workers, navigation preload).
    """
    is_for_worker = "Service-Worker-Navigation-Preload" in request.headers
    return request.headers.get("Sec-Fetch-Dest", "document") == "document" and not is_for_worker


def user_of(request: web.Request) -> str:
    """The system's id of the user whose browser has sent this; empty if not known."""
    user: str = request.get(USER, "")
    return user


def ends_of(transport: asyncio.BaseTransport | None) -> Ends | None:
    """Both addresses of the browser's connection; None if it is closed already."""
    client, ours = (transport.get_extra_info(name) if transport else None for name in ("peername", "sockname"))
    return Ends(tuple(client[:2]), tuple(ours[:2])) if client and ours else None


async def form_fields(request: web.Request) -> list[tuple[str, str]] | None:
    """The fields of a form, in order; None for anything else, or one that is broken or slow."""
    if request.content_type != "application/x-www-form-urlencoded":  # multipart would be written to temporary files
        return None
    try:
        async with asyncio.timeout(BODY_SECONDS):
            body = await request.read()  # refuses more than the application's limit
    except TimeoutError:
        return None
    await request[TURNS].mine()  # parsing 64 KiB takes 20 ms, and hundreds of requests may be complete at once
    return fields_of(body.decode("latin-1"))


def cookie_name(kind: str, request: web.Request) -> str:
    """Browsers send cookies of localhost to every port: the port in the name keeps two bridges apart."""
    port = urlsplit(f"//{request.headers['Host']}").port or DEFAULT_PORT
    return f"mail_bridge_{kind}_{port}"


def cookie_of(request: web.Request, kind: str) -> str:
    """The value of our cookie; empty if the browser has none. If there are several of that name, the last one.

    aiohttp would parse the whole header first, to which programs on other ports of localhost contribute: 32 KiB take
    65 ms, in which the loop serves nobody else.
    """
    name = cookie_name(kind, request)
    found = re.findall(rf"(?:^|;)[ \t]*{name}=([\w-]*)[ \t]*(?=;|$)", request.headers.get("Cookie", ""), re.ASCII)
    return str(found[-1]) if found else ""


def set_cookie(response: web.StreamResponse, name: str, value: str, *, goes_with_links: bool = False) -> None:
    """Set a cookie for the browser's session, out of reach of scripts and of other sites.

    Args: goes_with_links, sent also when somebody follows a link from another site, though not with its forms.
    """
    response.set_cookie(name, value, path="/", httponly=True, samesite="Lax" if goes_with_links else "Strict")


class Forms:
    """A form is accepted from a browser that we have shown it to, and from no page of another site."""

    def __init__(self, hosts: frozenset[str]) -> None:
        self._hosts = hosts
        self._key = secrets.token_bytes(32)

    def issue(self, request: web.Request) -> tuple[str, str]:
        """The browser's cookie, kept if it has one so that other tabs go on working, and the form's hidden field."""
        cookie = cookie_of(request, "form")
        if len(cookie) != 43:
            cookie = secrets.token_urlsafe(32)
        return cookie, self._field(request, cookie)

    async def sent(self, request: web.Request) -> dict[str, str] | None:
        """The fields of a form; None if accept() refuses it."""
        fields = dict(await form_fields(request) or [])
        return fields if self.accept(request, fields.get("form", "")) else None

    def accept(self, request: web.Request, field: str) -> bool:
        """True if cookie and field belong together and the browser does not name another site."""
        cookie = cookie_of(request, "form")
        matches = hmac.compare_digest(self._field(request, cookie).encode(), field.encode("utf-8", "surrogatepass"))
        return matches and cookie != "" and not is_foreign(request, self._hosts)

    def _field(self, request: web.Request, cookie: str) -> str:
        """The field, valid for this OS user's browsers only. Otherwise another user's program, on another port of
        localhost, could set in this browser the cookie that it got with a form itself, and have the browser send that
        form; not every browser tells us that it comes from another site."""
        text = f"{user_of(request)} {cookie}"
        return hmac.new(self._key, text.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()


class Administrators:
    """Browsers in which the administrator's link was opened.

    Their cookie is not the token but the name of a session: browsers send cookies of localhost to every port, so on a
    shared machine a colleague's program may see one. A session is therefore valid only for connections of the OS user
    who has opened it, and of root, who also forwards those of others (a container's, WSL's). Where users are not known,
    that protection is missing. Because a local password opens a mailbox, a session shows one only while it is fresh;
    after that the link must be opened again.
    """

    def __init__(self, token: Secret[str], clock: Clock) -> None:
        self._token = token
        self._sessions: Expiring[str] = Expiring(clock, limit=SESSIONS, life=SESSION_SECONDS)
        """The OS user of each session: see _is_of."""
        self._tickets: Expiring[str] = Expiring(clock, limit=TICKETS, life=TICKET_SECONDS)
        self._fresh: Expiring[str] = Expiring(clock, limit=SESSIONS, life=FRESH_SECONDS)

    def issue_ticket(self, user_id: str = "") -> Secret[str]:
        """A ticket that opens one session, soon, in a browser of this OS user; of anybody if that is not known.

        It is bound to the user because others can read a browser's arguments in the list of processes, and use the link
        before the browser is up.
        """
        ticket = secrets.token_urlsafe(32)
        self._tickets.add(ticket, user_id)
        return Secret(ticket)

    def admits(self, request: web.Request, text: str) -> bool:
        """True for the token, which is compared in constant time, and for a ticket, once."""
        if bool(self._token) and self._token.matches(Secret(text)):
            return True
        return _is_of(request, self._tickets.get(text)) and self._tickets.take(text) is not None

    def open_session(self, request: web.Request) -> str:
        """The value of a new cookie."""
        name = secrets.token_urlsafe(32)
        for kept in (self._sessions, self._fresh):
            kept.add(name, user_of(request))
        return name

    def is_open(self, request: web.Request) -> bool:
        """True if the browser's session is known and not over."""
        return _is_of(request, self._sessions.get(_session(request)))

    def is_fresh(self, request: web.Request) -> bool:
        """True if it was opened recently: required to show or change a secret."""
        return _is_of(request, self._fresh.get(_session(request)))


def was_open(request: web.Request) -> bool:
    """True if the browser has, or once had, a session (until it is closed). This proves nothing."""
    return _session(request) != ""


def _is_of(request: web.Request, owner: str | None) -> bool:
    """True for a browser of this OS user. None stands for nobody; empty for anybody, where the system did not tell."""
    return owner is not None and (owner == "" or user_of(request) in {owner, ROOT})


def _session(request: web.Request) -> str:
    return cookie_of(request, "admin")
