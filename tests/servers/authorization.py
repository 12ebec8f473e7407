"""An authorization server that msal and google-auth-oauthlib accept: Microsoft's v2 shape and Google's, on one port.

Strict where the real ones are: exact redirect URI at both endpoints, PKCE, secret, codes that work once, nonce,
client_info, rotation. It runs in its own thread and listens on real ports, so that child processes can use it too.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import html
import secrets
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote_plus, urlencode

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from tests.servers.authorization_controls import (
    CLOUD_HOSTS,
    GOOGLE_AUDIENCE,
    GOOGLE_CLIENT,
    GOOGLE_SCOPES,
    JWT_BEARER,
    MICROSOFT_CLIENT,
    PUBLIC_CLIENT,
    REDIRECT,
    TENANT,
    Client,
    Code,
    Controls,
    Device,
    Fault,
    Grant,
)
from tests.servers.ca import NAMES, Authority
from tests.servers.jwt import claims_of, encoded, header_of, signed_claims

_OF_A_CODE = {"grant_type", "code", "redirect_uri", "code_verifier", "client_id", "client_secret", "authentication"}
"""The parameters that redeem a code (RFC 6749 section 4.1.3, RFC 7636 section 4.5), and our own note of how the client
has authenticated."""


class AuthorizationServer(Controls):
    """The endpoints and pages; see Controls for what tests may change, from any thread."""

    # --- pages --------------------------------------------------------------------------------------------------

    async def authorize(self, request: web.Request) -> web.Response:
        query = request.query
        client = self.clients.get(query.get("client_id", ""))
        self._note("authorize", query)
        if not self._has_tenant(request):
            return web.Response(status=400, text="AADSTS90002: this tenant is not found")
        if client is None or query.get("redirect_uri") not in client.redirect_uris:
            return web.Response(status=400, text="AADSTS50011: unknown client, or the redirect URI does not match")
        if query.get("response_type") != "code" or query.get("code_challenge_method") != self._challenge_method:
            return web.Response(
                status=400, text="response_type=code and PKCE with S256, please; or without, if refused"
            )
        hint = query.get("login_hint", "")
        if person := self.auto_consent or (hint if query.get("auto") == "1" else None):
            return self._return({**query, "account": person, "answer": "accept"})
        choices = "".join(
            f'<label><input type="radio" name="account" value="{html.escape(a)}"{" checked" if a == hint else ""}>'
            f"{html.escape(a)}</label>"
            for a in sorted(self.people)
        )
        kept = "".join(
            f'<input type="hidden" name="{html.escape(name)}" value="{html.escape(value)}">'
            for name, value in query.items()
        )
        buttons = "".join(
            f'<button id="{name}" name="answer" value="{name}">{name}</button>' for name in ("accept", "deny")
        )
        form = f'<form method="post" action="/consent">{choices}{kept}{buttons}</form>'
        return web.Response(text=f"<!doctype html><title>Sign in</title>{form}", content_type="text/html")

    async def consent_given(self, request: web.Request) -> web.Response:
        form = {name: str(value) for name, value in (await request.post()).items()}
        client = self.clients.get(form.get("client_id", ""))
        redirect_uri = form.get("redirect_uri", "")
        if client is None or redirect_uri not in client.redirect_uris:
            return web.Response(status=400, text="the redirect URI does not match")
        return self._return(form)

    def _return(self, form: Mapping[str, str]) -> web.Response:
        """Send the browser back to the app with a code, or with the reason why there is none."""
        redirect_uri = form["redirect_uri"]
        if form.get("answer") != "accept" or form.get("account") not in self.people:
            answer = {"error": "access_denied", "error_description": "The person declined."}
        elif self.is_strict and "openid" in form.get("scope", "").split() and not form.get("nonce"):
            answer = {"error": "invalid_request", "error_description": "Missing 'nonce' in request."}
        else:
            code = self._secret("code")
            client_and_person = (form["client_id"], form["account"])
            asks_again = "consent" in form.get("prompt", "").split() or client_and_person not in self.consented
            offline = form.get("access_type") == "offline" and asks_again
            if offline:
                self.consented.add(client_and_person)
            is_consented = not self.is_strict or "consent" in form.get("prompt", "").split()
            self.codes[code] = Code(
                form["client_id"],
                redirect_uri,
                form["account"],
                form.get("scope", ""),
                form.get("code_challenge", ""),
                form.get("nonce", ""),
                offline or (is_consented and "offline_access" in form.get("scope", "").split()),
                time.time() + self.code_lifetime,
            )
            answer = {"code": code}
            if form.get("client_info") == "1":
                answer["client_info"] = _client_info(form["account"])
        answer["state"] = form.get("state", "")
        if form.get("response_mode") == "form_post":
            fields = "".join(f'<input type="hidden" name="{k}" value="{html.escape(v)}">' for k, v in answer.items())
            page = f'<form method="post" action="{html.escape(redirect_uri)}">{fields}<button>Go</button></form>'
            return web.Response(text=page, content_type="text/html")
        return web.Response(status=302, headers={"Location": f"{redirect_uri}?{urlencode(answer)}"})

    async def device_authorization(self, request: web.Request) -> web.StreamResponse:
        """RFC 8628 section 3.1; at Microsoft a client shows no secret here."""
        form = await _client_form(request)
        self._note("device", form)
        if (failed := await self._fault("device", request)) is not None:
            return failed
        client = self.clients.get(form.get("client_id", ""))
        if client is None:
            return _error("invalid_client", 700016, "the app is not known in this tenant", 401)
        # A confidential client authenticates here too (RFC 8628 section 3.1); at Microsoft only public clients may.
        if not _is_microsoft(request) and not _same(client.secret or "", form.get("client_secret", "")):
            return _error("invalid_client", 0, "the client is not authenticated", 401)
        code, user_code = self._secret("device"), secrets.token_hex(4).upper()
        expires_at = time.time() + self.device_lifetime
        scope, interval = form.get("scope", ""), float(self.device_interval)
        self.devices[code] = Device(form["client_id"], user_code, scope, expires_at=expires_at, interval=interval)
        answer = {
            "device_code": code,
            "user_code": user_code,
            "verification_uri": f"{self.url}/device",
            "expires_in": int(self.device_lifetime),
            "interval": self.device_interval,
        }
        if _is_microsoft(request):
            answer["message"] = f"To sign in, open {self.url}/device and enter the code {user_code} to authenticate."
        else:
            answer["verification_uri_complete"] = f"{self.url}/device?user_code={user_code}"
        told = {name: value for name, value in (answer | self.device_changes).items() if value is not None}
        return web.json_response(told, headers={"Cache-Control": "no-store"})

    async def device_page(self, request: web.Request) -> web.Response:
        """Where a person types the code."""
        given = html.escape(request.query.get("user_code", ""))
        choices = "".join(
            f'<label><input type="radio" name="account" value="{html.escape(a)}">{html.escape(a)}</label>'
            for a in sorted(self.people)
        )
        buttons = "".join(
            f'<button id="{name}" name="answer" value="{name}">{name}</button>' for name in ("accept", "deny")
        )
        form = f'<form method="post"><input name="user_code" value="{given}">{choices}{buttons}</form>'
        return web.Response(text=f"<!doctype html><title>Device</title>{form}", content_type="text/html")

    async def device_answered(self, request: web.Request) -> web.Response:
        form = {name: str(value) for name, value in (await request.post()).items()}
        for device in self.devices.values():
            if device.user_code == form.get("user_code") and device.expires_at > time.time():
                if form.get("answer") == "accept" and form.get("account") in self.people:
                    device.address = form["account"]
                else:
                    device.is_denied = True
                return web.Response(text="Done. You can close this page.")
        return web.Response(status=400, text="no such code")

    async def token(self, request: web.Request) -> web.StreamResponse:
        form = await _client_form(request)
        self._note("token", form)
        await asyncio.sleep(self.token_seconds)
        if (failed := await self._fault("token", request)) is not None:
            return failed
        if self.is_repeating:
            return _error("invalid_grant", 0, " ".join(form.values()))
        if refusal := self.refusals.get(form.get("grant_type", "")):
            return _error(*refusal, "refused on purpose", 401 if refusal[0] == "invalid_client" else 400)
        if not self._has_tenant(request):
            return _error("invalid_tenant", 90002, f"Tenant '{request.match_info['tenant']}' not found")
        if form.get("grant_type") == "urn:ietf:params:oauth:grant-type:jwt-bearer":
            return self._by_assertion(form)
        if form["authentication"] == "both":
            return _error("invalid_request", 0, "more than one way of client authentication (RFC 6749 section 2.3)")
        client = self.clients.get(form.get("client_id", ""))
        if client is None:
            return _error("invalid_client", 700016, "the app is not known in this tenant", 401)
        if form.get("client_assertion"):
            if not self._is_certified(form, request):
                return _error("invalid_client", 700027, "the certificate is not registered, or the key is wrong", 401)
        elif self._wants_proof(form, client) and not form.get("client_secret"):
            return _error("invalid_client", 7000218, "the body must contain client_assertion or client_secret", 401)
        elif client.secret is not None and not _same(client.secret, form.get("client_secret", "")):
            return _error("invalid_client", 7000215, "Invalid client secret provided", 401)
        if client.secret is None and form.get("client_secret"):
            return _error("invalid_client", 700025, "Client is public so no secret should be presented", 401)
        if form.get("grant_type") == "authorization_code":
            return self._redeem(form, request)
        if form.get("grant_type") == "refresh_token":
            answer = self._refresh(form, request)
            if self.is_holding_back:
                await asyncio.to_thread(self.over.wait, 60)
            return answer
        if form.get("grant_type") == "urn:ietf:params:oauth:grant-type:device_code":
            return self._poll(form, request)
        if form.get("grant_type") == "client_credentials":
            return self._for_app(form, client)
        return _error("unsupported_grant_type", 70003, "unsupported grant type")

    def _poll(self, form: Mapping[str, str], request: web.Request) -> web.Response:
        """RFC 8628 section 3.5."""
        is_microsoft = _is_microsoft(request)

        def say(error: str, number: int, text: str) -> web.Response:
            return _error(error, number, text) if is_microsoft else _google_error(error, text)

        code = form.get("device_code", "")
        device = self.devices.get(code)
        if device is None or device.client_id != form["client_id"]:
            unknown = "bad_verification_code" if is_microsoft else "invalid_grant"
            return say(unknown, 70000, "no such device code")
        if device.expires_at < time.time():
            return say("expired_token", 70020, "the code has expired")
        if device.is_denied:
            del self.devices[code]
            return say("authorization_declined" if is_microsoft else "access_denied", 70017, "declined")
        now = time.time()
        too_soon, device.polled_at = now - device.polled_at < device.interval, now
        if too_soon:
            device.interval += 5
            return say("slow_down", 70016, "too fast")
        if not device.address:
            return say("authorization_pending", 70016, "not yet")
        del self.devices[code]
        grant = Grant(device.client_id, device.address, device.scope)
        offline = "offline_access" in device.scope.split() or not is_microsoft
        return self._answer(grant, self._new_refresh(grant) if offline else None, request, form)

    def _for_app(self, form: Mapping[str, str], client: Client) -> web.Response:
        """RFC 6749 section 4.4: no id_token, no refresh token, and the token opens the app's mailboxes."""
        if client.secret is None and not form.get("client_assertion"):
            return _error("invalid_client", 7000218, "a secret or an assertion is needed", 401)
        if form["client_id"] not in self.apps:
            return _error("unauthorized_client", 700016, "the app was not found in the directory")
        token = self._secret("app")
        expires_at = time.time() + self.lifetime
        self.access[token] = ("*", expires_at)
        self.app_tokens[token] = self.apps[form["client_id"]]
        answer = {"token_type": "Bearer", "access_token": token, "expires_in": self.lifetime}
        return web.json_response(answer, headers={"Cache-Control": "no-store"})

    def _wants_proof(self, form: Mapping[str, str], client: Client) -> bool:
        """True if a secret or a certificate is registered: the client has to present one."""
        return client.secret is not None or form["client_id"] in self.client_certificates

    def _is_certified(self, form: Mapping[str, str], request: web.Request) -> bool:
        """True for an unexpired assertion of this client for this endpoint (RFC 7523 section 3), signed with the key of
        the registered certificate that its header names by x5t#S256 (RFC 7515 section 4.1.8)."""
        assertion, pem = form["client_assertion"], self.client_certificates.get(form["client_id"])
        self.secrets.append(assertion)
        if pem is None or form.get("client_assertion_type") != JWT_BEARER:
            return False
        named = header_of(assertion).get("x5t#S256", "").rstrip("=")
        for certificate in x509.load_pem_x509_certificates(pem.encode()):
            print_of = base64.urlsafe_b64encode(certificate.fingerprint(hashes.SHA256())).rstrip(b"=").decode()
            if print_of == named:
                claims = signed_claims(assertion, certificate.public_key())
                who, where = {claims.get("iss"), claims.get("sub")}, f"https://{request.host}{request.path}"
                return who == {form["client_id"]} and claims.get("aud") == where and claims["exp"] > time.time()
        return False

    def _by_assertion(self, form: Mapping[str, str]) -> web.Response:
        """Google's service accounts with domain-wide delegation (RFC 7523 section 2.1), in Google's words."""
        assertion = form.get("assertion", "")
        self.secrets.append(assertion)
        issuer = str(claims_of(assertion).get("iss", ""))
        pem = self.service_accounts.get(issuer)
        if pem is None:
            return _google_error("invalid_grant", "Invalid grant: account not found")
        claims = signed_claims(assertion, serialization.load_pem_public_key(pem.encode()))
        if not claims:
            return _google_error("invalid_grant", "Invalid JWT Signature.")
        if not claims["iat"] - 300 <= time.time() + self.clock_ahead <= claims["exp"]:
            return _google_error(
                "invalid_grant",
                "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. Check your "
                "iat and exp values in the JWT claim.",
            )
        if claims.get("aud") != GOOGLE_AUDIENCE:
            return _google_error("invalid_grant", "Invalid JWT: Failed audience check.")
        if not set(str(claims.get("scope", "")).split()) <= self.delegations.get(issuer, {GOOGLE_SCOPES.split()[0]}):
            return _google_error(
                "unauthorized_client",
                "Client is unauthorized to retrieve access tokens using this method, or client not authorized for any "
                "of the scopes requested.",
                401,
            )
        if claims.get("sub") not in self.people:
            return _google_error("invalid_grant", "Invalid email or User ID")
        token = self.issue(str(claims["sub"]))
        answer = {"token_type": "Bearer", "access_token": token, "expires_in": self.lifetime}
        return web.json_response(answer | {"scope": claims.get("scope", "")}, headers={"Cache-Control": "no-store"})

    def _redeem(self, form: Mapping[str, str], request: web.Request) -> web.Response:
        code = self.codes.pop(form.get("code", ""), None)
        if code is None or code.expires_at < time.time() or code.client_id != form["client_id"]:
            return _error("invalid_grant", 54005, "the code was redeemed already, has expired, or is another app's")
        if self.is_strict and not form.keys() <= _OF_A_CODE:
            return _error("invalid_request", 0, "a parameter that has no place here")
        if code.redirect_uri != form.get("redirect_uri"):
            return _error("invalid_grant", 50011, "the redirect URI differs from the authorization request's")
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        if "code_verifier" in form if self.refuses_pkce else challenge != code.challenge:
            return _error("invalid_grant", 501481, "the code verifier does not match the challenge")
        grant = Grant(code.client_id, code.address, code.scope)
        refresh = self._new_refresh(grant) if code.wants_refresh else None
        return self._answer(grant, refresh, request, form, code.nonce)

    def _refresh(self, form: Mapping[str, str], request: web.Request) -> web.Response:
        token = form.get("refresh_token", "")
        self.presented.append(token)
        grant = self.refresh.get(token)
        if grant is None or grant.client_id not in ("*", form["client_id"]):
            return _error("invalid_grant", 50173, "the provided grant has expired or was revoked")
        grant = Grant(form["client_id"], grant.address, grant.scope or form.get("scope", "") or GOOGLE_SCOPES)
        if self.rotates if _is_microsoft(request) else self.rotates_elsewhere:
            del self.refresh[token]
        elif not _is_microsoft(request):
            return self._answer(grant, None, request, form)
        return self._answer(grant, self._new_refresh(grant) if self.renews else None, request, form)

    def _answer(
        self, grant: Grant, refresh: str | None, request: web.Request, form: Mapping[str, str], nonce: str = ""
    ) -> web.Response:
        access = self.issue(grant.address)
        scopes = [scope for scope in grant.scope.split() if scope != "offline_access"]
        answer: dict[str, Any] = {
            "token_type": "Bearer",
            "access_token": access,
            "expires_in": self.lifetime,
            "scope": " ".join(scopes),
            "id_token": self._id_token(grant, request, nonce),
        }
        if refresh is not None:
            answer["refresh_token"] = refresh
        if form.get("client_info") == "1":
            answer["client_info"] = _client_info(grant.address)
        return web.json_response(answer, headers={"Cache-Control": "no-store"})

    def _id_token(self, grant: Grant, request: web.Request, nonce: str) -> str:
        now = int(time.time())
        claims: dict[str, Any] = {"aud": grant.client_id, "iat": now, "nbf": now, "exp": now + 3600}
        if _is_microsoft(request):
            tenant = request.match_info["tenant"]
            claims |= {"iss": f"{self.url}/{tenant}/v2.0", "tid": tenant, "oid": _identifier(grant.address)}
            claims |= {"sub": _identifier(grant.address), "preferred_username": grant.address, "nonce": nonce}
        else:
            claims |= {"iss": self.url, "sub": _identifier(grant.address)}
            claims |= {"email": grant.address, "email_verified": True}
            if nonce:
                claims["nonce"] = nonce
        claims = {name: value for name, value in (claims | self.claims).items() if value is not None}
        token = ".".join([encoded({"alg": "none", "typ": "JWT"}), encoded(claims), "c2lnbmF0dXJl"])
        self.secrets.append(token)
        return token

    async def discovery(self, request: web.Request) -> web.StreamResponse:
        self._note("discovery", {})
        if (failed := await self._fault("discovery", request)) is not None:
            return failed
        tenant = request.match_info["tenant"]
        if not self._has_tenant(request):
            return _error("invalid_tenant", 90002, f"Tenant '{tenant}' not found")
        base = f"https://{request.host}/{tenant}"
        return web.json_response(
            {
                "issuer": f"{base}/v2.0",
                "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
                "token_endpoint": f"{base}/oauth2/v2.0/token",
                "device_authorization_endpoint": f"{base}/oauth2/v2.0/devicecode",
                "jwks_uri": f"{base}/discovery/v2.0/keys",
            }
        )

    async def revoke(self, request: web.Request) -> web.StreamResponse:
        form = await _client_form(request)
        self._note("revoke", form)
        if (failed := await self._fault("revoke", request)) is not None:
            return failed
        if self.revokes_by_basic and form["authentication"] != "basic":
            return _error("invalid_client", 0, "the client is not authenticated", 401)
        if self.is_rfc7009:
            client = self.clients.get(form.get("client_id", ""))
            if client is None or not _same(client.secret or "", form.get("client_secret", "")):
                return _error("invalid_client", 0, "the client is not authenticated", 401)
        grant = self.refresh.pop(form.get("token", ""), None)
        if grant is None and self.is_rfc7009:
            return web.json_response({})  # RFC 7009 section 2.2: the client could not handle an error in any useful way
        if grant is None:
            return web.json_response({"error": "invalid_token"}, status=self.unknown_token_status)
        self.consented.discard((grant.client_id, grant.address))
        return web.json_response({})

    async def introspect(self, request: web.Request) -> web.Response:
        """RFC 7662, as Dovecot asks: it can do both POST and GET."""
        form: Mapping[str, object] = await request.post() if request.method == "POST" else request.query
        token = str(form.get("token", ""))
        address, expires_at = self.access.get(token, ("", 0.0))
        is_alive = expires_at >= time.time() or self.lifetime == 0
        if not address or not is_alive or address in self.kept_out:
            return web.json_response({"active": False})
        if token in self.app_tokens and not self.app_tokens[token]:
            return web.json_response({"active": False})
        if token in self.app_tokens:
            # Dovecot compares the SASL response's user with the one name that we return: this works for one mailbox.
            address = min(self.app_tokens[token])
        return web.json_response({"active": True, "username": address, "email": address, "exp": int(expires_at)})

    # --- small things -------------------------------------------------------------------------------------------

    async def _fault(self, kind: str, request: web.Request) -> web.StreamResponse | None:
        match self.faults.get(kind):
            case None:
                return None
            case Fault.STATUS_500:
                return web.json_response({"error": "server_error"}, status=500)
            case Fault.STATUS_429:
                asks = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
                return web.json_response({"error": "throttled"}, status=429, headers=asks)
            case Fault.HTML:
                return web.Response(text="<html>Log in to the hotel's network</html>", content_type="text/html")
            case Fault.TEMPORARY_400:
                return web.json_response({"error": "temporarily_unavailable"}, status=400)
            case Fault.SLOW:
                self.waiting.set()
                await asyncio.to_thread(self.over.wait, 60)
                return None
            case Fault.RESET:
                assert request.transport is not None
                request.transport.abort()
                return web.Response()

    def _new_refresh(self, grant: Grant) -> str:
        token = self._secret("refresh")
        self.refresh[token] = grant
        return token

    def _note(self, kind: str, form: Mapping[str, str]) -> None:
        names = ("grant_type", "client_id", "scope", "login_hint", "authentication", "audience", "resource")
        kept = {name: form[name] for name in names if name in form}
        self.requests.append({"kind": kind, "time": f"{time.time():.3f}", **kept})

    @property
    def _challenge_method(self) -> str | None:
        return None if self.refuses_pkce else "S256"

    def _has_tenant(self, request: web.Request) -> bool:
        return not _is_microsoft(request) or request.match_info["tenant"] in self.tenants

    def application(self) -> web.Application:
        app = web.Application()
        app.add_routes(
            [
                web.get("/{tenant}/v2.0/.well-known/openid-configuration", self.discovery),
                web.get("/{tenant}/oauth2/v2.0/authorize", self.authorize),
                web.post("/{tenant}/oauth2/v2.0/token", self.token),
                web.get("/o/oauth2/v2/auth", self.authorize),
                web.post("/{tenant}/oauth2/v2.0/devicecode", self.device_authorization),
                web.post("/device/code", self.device_authorization),
                web.get("/device", self.device_page),
                web.post("/device", self.device_answered),
                web.post("/consent", self.consent_given),
                web.post("/token", self.token),
                web.post("/revoke", self.revoke),
                web.post("/introspect", self.introspect),
                web.get("/introspect", self.introspect),
            ]
        )
        return app


async def _client_form(request: web.Request) -> dict[str, str]:
    """The form, with the client's id and secret from the body or from HTTP Basic (RFC 6749 section 2.3.1)."""
    form = {name: str(value) for name, value in (await request.post()).items()}
    header = request.headers.get("Authorization", "")
    if not header.startswith("Basic "):
        return form | {"authentication": "body"}
    client_id, _, secret = base64.b64decode(header[6:]).decode().partition(":")
    way = "both" if "client_secret" in form else "basic"
    return form | {"client_id": unquote_plus(client_id), "client_secret": unquote_plus(secret), "authentication": way}


def _is_microsoft(request: web.Request) -> bool:
    return "tenant" in request.match_info


def _same(secret: str, other: str) -> bool:
    return hmac.compare_digest(secret.encode(), other.encode())


def _identifier(address: str) -> str:
    return hashlib.sha256(address.encode()).hexdigest()[:32]


def _client_info(address: str) -> str:
    return encoded({"uid": _identifier(address), "utid": TENANT})


def _google_error(error: str, text: str, status: int = 400) -> web.Response:
    return web.json_response({"error": error, "error_description": text}, status=status)


def _error(error: str, number: int, text: str, status: int = 400) -> web.Response:
    description = f"AADSTS{number}: {text}. Trace ID: 0 Correlation ID: 0"
    return web.json_response({"error": error, "error_description": description, "error_codes": [number]}, status=status)


@contextmanager
def authorization_server(authority: Authority) -> Iterator[AuthorizationServer]:
    """Runs until the context ends; three apps are registered."""
    server = AuthorizationServer(authority)
    server.register(GOOGLE_CLIENT, "CANARY-google-secret", REDIRECT)
    server.register(MICROSOFT_CLIENT, "CANARY-microsoft-secret", REDIRECT)
    server.register(PUBLIC_CLIENT, None, REDIRECT)
    server.apps[MICROSOFT_CLIENT] = set()  # a client with a secret gets an app-only token, which opens no mailbox
    up = threading.Event()
    loop = asyncio.new_event_loop()
    done = asyncio.Event()

    async def serve() -> None:
        runner = web.AppRunner(server.application(), access_log=None, shutdown_timeout=1)
        await runner.setup()
        context = authority.server_context(*NAMES, *CLOUD_HOSTS)
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        server.url = f"https://localhost:{runner.addresses[0][1]}"
        server.introspection_url = f"http://127.0.0.1:{runner.addresses[1][1]}/introspect"
        up.set()
        await done.wait()
        await runner.cleanup()

    def run() -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_until_complete(serve())
            loop.run_until_complete(loop.shutdown_default_executor())
        finally:
            loop.close()

    thread = threading.Thread(target=run, name="authorization server")
    thread.start()
    try:
        assert up.wait(60), "the authorization server does not start"
        yield server
    finally:
        server.over.set()
        loop.call_soon_threadsafe(done.set)
        thread.join()
