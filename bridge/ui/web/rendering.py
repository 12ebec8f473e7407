"""Renders templates to answers, and sets the headers that every answer has."""

from __future__ import annotations

import functools
import re
from importlib import resources
from typing import TYPE_CHECKING, Final

from aiohttp import web

from bridge import __version__
from bridge.advice.said import Said
from bridge.observe.logs import trouble
from bridge.shortage import lacking
from bridge.ui import i18n
from bridge.ui.web import guards

if TYPE_CHECKING:
    import jinja2
    import markupsafe

HEADERS: Final = {
    # One script of ours, nothing inline, nothing from elsewhere, no frame around us. `form-action` stops at this
    # console on purpose: Chromium applies it to the redirects after a form too, so no form's answer redirects to a
    # provider (see pages.Pages.begin).
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'self'; "
    "img-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "Referrer-Policy": "no-referrer",  # our URLs hold addresses, and for a moment a code
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Edge's IE mode takes localhost for the intranet, and shows that as Internet Explorer 7, which does not know
    # `formaction`, so that "Test first" would write the configuration. With this header it behaves as version 11.
    "X-UA-Compatible": "IE=edge",
    "Server": "mail-bridge",  # otherwise aiohttp's and Python's versions
}

FORGET: Final = {"Clear-Site-Data": '"cache", "storage"'}
"""Has the browser drop all pages, scripts and service workers that it keeps under our address. We let it keep none; but
while mail-bridge did not run, another user's program may have had our port, and what that let the browser keep, for a
year if it likes, would be shown in place of our pages. Not on each answer: it may take the browser a second."""

_NO_WORKER: Final = (
    'addEventListener("install", () => skipWaiting());\n'
    'addEventListener("activate", event => event.waitUntil(registration.unregister()));\n'
)

_FILES = resources.files("bridge.ui.web")
SCRIPT: Final = _FILES.joinpath("static/console.js").read_text("utf-8")
STYLE: Final = _FILES.joinpath("static/style.css").read_text("utf-8")
ICON: Final = _FILES.joinpath("static/favicon.svg").read_text("utf-8")


@functools.cache
def _templates() -> jinja2.Environment:
    """Made for the first page: jinja2 and its templates cost 2 MiB, and most consoles are never looked at."""
    import jinja2

    files = (file for file in _FILES.joinpath("templates").iterdir() if file.is_file())
    templates = jinja2.Environment(
        loader=jinja2.DictLoader({file.name: file.read_text("utf-8") for file in files}),  # read once
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.i18n"],
    )
    templates.policies["ext.i18n.trimmed"] = True  # a sentence is one line to translators, however it is wrapped here
    templates.install_gettext_callables(i18n.say, i18n.say_number, newstyle=True)  # type: ignore[attr-defined]  # by it
    templates.filters["with_code"] = _with_code
    templates.globals["spoken"] = i18n.spoken
    templates.globals["version"] = __version__
    return templates


def _with_code(sentence: str) -> markupsafe.Markup:
    """The sentence as HTML: what it quotes as `…`, a command or a setting, is in the type of code."""
    import markupsafe

    code = markupsafe.Markup("<code>{}</code>")
    parts = enumerate(re.split("`([^`]+)`", sentence))  # text and code by turns; join() and format() escape both
    return markupsafe.Markup().join(code.format(part) if number % 2 else part for number, part in parts)


def page(template: str, status: int = 200, **fields: object) -> web.Response:
    """An HTML answer; every field is escaped. If the templates cannot be loaded, the page is a plain sentence."""
    try:
        text = _templates().get_template(template).render(fields)
    except (OSError, ImportError) as problem:
        if (reason := lacking(problem)) is None:
            raise
        return _bare(reason)
    # A lone surrogate (from a URL, or a provider's text) has no UTF-8 form.
    return web.Response(status=status, body=text.encode("utf-8", "replace"), content_type="text/html", charset="utf-8")


def _bare(reason: Said) -> web.Response:
    """What happened and what to do, without a template; in English if the catalogue cannot be loaded either."""
    trouble("console.cannot_load", reason=str(reason))
    try:
        text = f"{i18n.say('Please reload this page in a moment')}\n\n{reason.told(i18n.say)}\n"
    except OSError:
        text = f"Please reload this page in a moment\n\n{reason}\n"
    return web.Response(status=503, text=text)


def form_page(
    forms: guards.Forms, request: web.Request, template: str, status: int = 200, **fields: object
) -> web.Response:
    """A page with forms that only this browser can send."""
    cookie, field = forms.issue(request)
    response = page(template, status, field=field, **fields)
    # Sent also when a sign-in link in a chat is followed: a new cookie would invalidate the forms in all other tabs.
    guards.set_cookie(response, guards.cookie_name("form", request), cookie, goes_with_links=True)
    return response


def admitted(request: web.Request, administrators: guards.Administrators, path: str) -> web.Response:
    """The answer to the administrator's link, or to one that works once: on to `path`, if it is right.

    From then on this browser is an administrator's.
    """
    if not guards.is_shown(request):
        return once_more(request)
    if not administrators.admits(request, request.match_info["token"]):
        return page("problem.html", 403, kind="administrator", detail="")
    # Either way the token leaves the address bar. After a link on another site's page (a terminal in the browser, a
    # chat), redirects count as that site's, and come without our "Strict" cookie; our own page's navigation does not.
    is_from_elsewhere = request.headers.get("Sec-Fetch-Site") == "cross-site"
    response = page("arrived.html", path=path) if is_from_elsewhere else see_other(path)
    guards.set_cookie(response, guards.cookie_name("admin", request), administrators.open_session(request))
    response.headers.update(FORGET)
    return response


def once_more(request: web.Request) -> web.Response:
    """The answer to a request that a service worker has made in the browser's place (guards.is_shown): have the browser
    drop that worker, and repeat the request itself."""
    return web.Response(status=307, headers={"Location": request.raw_path, **FORGET})


def worker_that_ends() -> web.Response:
    """The answer to a browser that asks anew for a service worker's script, as it does after each page. We have none:
    it is one that another program has left. This script takes its place and then gives it up. An error would let the
    other one go on. FORGET is no help here: WebKit leaves workers alone, and Firefox would stop this one instead."""
    headers = {"Service-Worker-Allowed": "/"}  # whatever the other one's scope is
    return web.Response(text=_NO_WORKER, content_type="text/javascript", charset="utf-8", headers=headers)


def see_other(path: str) -> web.Response:
    """Redirect with a GET; this request's URL disappears from the browser's address bar and history."""
    return web.Response(status=303, headers={"Location": path})


def sign_in_over(retry: str = "") -> web.Response:
    """The page for a sign-in that we do not know any more. Args: retry, where a new one begins."""
    return page("problem.html", 404, kind="too_late", detail="", retry=retry)


def for_administrators(administrators: guards.Administrators, handler: guards.Handler) -> guards.Handler:
    """An administrator's page: any other browser gets the answer of a page that does not exist or, if it once had a
    session, that this is over."""

    async def guarded(request: web.Request) -> web.StreamResponse:
        if administrators.is_open(request):
            return await handler(request)
        return page("problem.html", 404, kind="session", detail="") if guards.was_open(request) else not_found()

    return guarded


def not_found() -> web.Response:
    """The page for whatever does not exist, or no longer exists."""
    return page("problem.html", 404, kind="not_found", detail="")
