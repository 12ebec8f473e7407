"""The demo's identity provider: a consent page, codes, tokens (RFC 6749, RFC 7636); its tokens open the demo's mail."""

from __future__ import annotations

import base64
import hashlib
import hmac
import html
import json
import secrets
import socket
import time
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit

from aiohttp import web

from bridge.advice.said import Translate, said

ACCESS_SECONDS = 3600.0
"""Life of an access token, as with real providers."""
CODE_SECONDS = 60.0
"""Life of an authorization code; it is redeemed within milliseconds."""
CLIENT_ID = "mail-bridge-demo"


@dataclass(frozen=True, slots=True)
class _Code:
    address: str
    redirect_uri: str
    challenge: str
    nonce: str
    expires_at: float


class DemoProvider:
    """Issues tokens for the demo's addresses to whoever presses Accept: there is no password to know."""

    def __init__(self, addresses: tuple[str, ...], translate: Translate = str, language: str = "en") -> None:
        """Args: translate, and language, of the page on which a person presses Accept."""
        self._addresses = addresses
        words = {name: html.escape(sentence.told(translate)) for name, sentence in _WORDS.items()}
        self._page = {**words, "language": language}
        self._codes: dict[str, _Code] = {}
        self._access: dict[str, tuple[str, float]] = {}
        self._refresh: dict[str, str] = {}
        self._runner: web.AppRunner | None = None
        self.url = ""

    async def start(self) -> None:
        """Listen on a free loopback port; `url` is then set."""
        app = web.Application()
        app.add_routes(
            [web.get("/authorize", self._ask), web.post("/authorize", self._answer), web.post("/token", self._token)]
        )
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        sock = socket.create_server(("127.0.0.1", 0))  # without a descriptor, aiohttp would make a site without a port
        try:
            await web.SockSite(self._runner, sock).start()
        except OSError:
            sock.close()
            raise
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        """Close the port."""
        if self._runner is not None:
            await self._runner.cleanup()

    def owner(self, access_token: str) -> str | None:
        """Whose mail this token opens; None if it is unknown or expired."""
        address, expires_at = self._access.get(access_token, (None, 0.0))
        return address if expires_at > time.time() else None

    async def _ask(self, request: web.Request) -> web.Response:
        query = request.query
        if query.get("client_id") != CLIENT_ID or not _is_loopback_redirect(query.get("redirect_uri", "")):
            return web.Response(status=400, text="This is not a request of the demo bridge.")
        hint = query.get("login_hint", "")
        choices = "".join(
            f'<label><input type="radio" name="address" value="{html.escape(a)}"{" checked" if a == hint else ""}> '
            f"{html.escape(a)}</label>"
            for a in self._addresses
        )
        kept = "".join(
            f'<input type="hidden" name="{key}" value="{html.escape(query.get(key, ""))}">'
            for key in ("redirect_uri", "state", "code_challenge", "nonce")
        )
        return web.Response(text=_PAGE.format(choices=choices, kept=kept, **self._page), content_type="text/html")

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        form = {key: str(value) for key, value in (await request.post()).items()}
        redirect_uri = form.get("redirect_uri", "")
        if not _is_loopback_redirect(redirect_uri):
            return web.Response(status=400, text="This is not a request of the demo bridge.")
        if form.get("decision") != "accept" or form.get("address") not in self._addresses:
            answer = {"error": "access_denied", "state": form.get("state", "")}
        else:
            code = secrets.token_urlsafe(24)
            self._codes[code] = _Code(
                form["address"],
                redirect_uri,
                form.get("code_challenge", ""),
                form.get("nonce", ""),
                time.time() + CODE_SECONDS,
            )
            answer = {"code": code, "state": form.get("state", "")}
        raise web.HTTPFound(f"{redirect_uri}?{urlencode(answer)}")

    async def _token(self, request: web.Request) -> web.Response:
        form = {key: str(value) for key, value in (await request.post()).items()}
        if form.get("grant_type") == "authorization_code":
            code = self._codes.pop(form.get("code", ""), None)
            if code is None or code.expires_at < time.time() or not _proves(form.get("code_verifier", ""), code):
                return _refused("The code is unknown, used or not yours.")
            if form.get("redirect_uri") != code.redirect_uri:
                return _refused("The redirect URI is not the one of the authorization request.")
            return self._issue(code.address, code.nonce)
        if form.get("grant_type") == "refresh_token":
            address = self._refresh.pop(form.get("refresh_token", ""), None)
            return self._issue(address, "") if address else _refused("The refresh token is unknown or used.")
        return web.json_response({"error": "unsupported_grant_type"}, status=400)

    def _issue(self, address: str, nonce: str) -> web.Response:
        access, refresh = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
        self._access[access] = (address, time.time() + ACCESS_SECONDS)
        self._refresh[refresh] = address
        claims = {"iss": self.url, "aud": CLIENT_ID, "sub": address, "email": address, "email_verified": True}
        return web.json_response(
            {
                "access_token": access,
                "refresh_token": refresh,
                "token_type": "Bearer",
                "expires_in": int(ACCESS_SECONDS),
                "scope": "openid email mail",
                "id_token": _unsigned_jwt({**claims, "nonce": nonce, "exp": int(time.time() + ACCESS_SECONDS)}),
            },
            headers={"Cache-Control": "no-store"},
        )


def _proves(verifier: str, code: _Code) -> bool:
    digest = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    return hmac.compare_digest(digest, code.challenge)


def _refused(description: str) -> web.Response:
    return web.json_response({"error": "invalid_grant", "error_description": description}, status=400)


def _is_loopback_redirect(uri: str) -> bool:
    url = urlsplit(uri)
    return url.scheme == "http" and url.hostname in {"localhost", "127.0.0.1"} and url.username is None


def _unsigned_jwt(claims: dict[str, object]) -> str:
    """`alg: none` is allowed where the token comes from the token endpoint itself (OpenID Connect Core 2)."""
    parts = [json.dumps(part, separators=(",", ":")).encode() for part in ({"alg": "none"}, claims)]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts) + "."


_WORDS = {
    "title": said("Demo sign-in"),
    "mark": said("Demo identity provider"),
    "question": said("Who are you?"),
    "wish": said("mail-bridge wants to read and send mail for you. This is only a demo: no password, no real mail."),
    "account": said("Account"),
    "accept": said("Accept"),
    "deny": said("Deny"),
}

_PAGE = """<!doctype html>
<html lang="{language}"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
  :root {{ color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }}
  body {{ max-width: 26rem; margin: 12vh auto; padding: 0 1rem }}
  .mark {{ background: #b45309; color: #fff; padding: .2rem .6rem; border-radius: .3rem; font-size: .85rem }}
  label {{ display: block; padding: .4rem 0 }}
  button {{ font: inherit; padding: .5rem 1.2rem; margin: 1rem .5rem 0 0 }}
</style>
<main>
<p><span class="mark">{mark}</span></p>
<h1>{question}</h1>
<p>{wish}</p>
<form method="post" action="/authorize">
<fieldset><legend>{account}</legend>{choices}</fieldset>
{kept}
<button name="decision" value="accept" id="accept">{accept}</button>
<button name="decision" value="deny" id="deny">{deny}</button>
</form>
</main>
</html>
"""
