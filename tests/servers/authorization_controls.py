"""What tests set and read at their authorization server (registrations, people, faults), and what a person does."""

from __future__ import annotations

import html
import http.client
import re
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from tests.servers.ca import Authority

TENANT = "11111111-aaaa-bbbb-cccc-222222222222"
JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
CERTIFIED_CLIENT = "certified-client"
"""Registered by certified_config()."""
CLOUD_HOSTS = (
    *("login.microsoftonline.com", "login.microsoftonline.us", "login.partner.microsoftonline.cn"),
    *("login.sovcloud-identity.fr", "login.sovcloud-identity.de", "login.sovcloud-identity.sg"),
)
"""Microsoft's sign-in hosts, which the server's certificate names too: tests.servers.tunnel routes them here."""
GOOGLE_CLIENT, PUBLIC_CLIENT = "google-client.apps.example", "public-client"
MICROSOFT_CLIENT = "22222222-aaaa-bbbb-cccc-333333333333"
"""A GUID, as Entra assigns them: `init` accepts nothing else."""
GOOGLE_SCOPES = "https://mail.google.com/ openid https://www.googleapis.com/auth/userinfo.email"
REDIRECT = "http://localhost:3017/"
GOOGLE_AUDIENCE = "https://oauth2.googleapis.com/token"
"""The audience (`aud`) of a service account's assertion, whatever its token_uri says."""


class Fault(Enum):
    """What a request meets instead of an answer."""

    STATUS_500 = "500"
    STATUS_429 = "429"
    HTML = "html"
    RESET = "reset"
    SLOW = "slow"
    """Waits until the fault is over."""
    TEMPORARY_400 = "temporarily_unavailable"


@dataclass
class Client:
    secret: str | None
    redirect_uris: set[str]


@dataclass
class Code:
    client_id: str
    redirect_uri: str
    address: str
    scope: str
    challenge: str
    nonce: str
    wants_refresh: bool
    expires_at: float


@dataclass
class Grant:
    client_id: str
    address: str
    scope: str


@dataclass
class Device:
    """A sign-in by device code (RFC 8628)."""

    client_id: str
    user_code: str
    scope: str
    address: str = ""
    """The person who has approved; empty until somebody has."""
    is_denied: bool = False
    expires_at: float = 0.0
    interval: float = 0.0
    """Grows with each slow_down."""
    polled_at: float = 0.0


@dataclass
class Controls:
    """Controls for tests; all attributes may be changed from any thread."""

    authority: Authority
    url: str = ""
    introspection_url: str = ""
    padding: int = 0
    """Octets by which access tokens are longer than necessary, like a JWT that lists the groups of its user."""
    lifetime: int = 3600
    """Seconds that an access token lives; with 0 every login needs a refresh, yet mail servers accept the token."""
    token_seconds: float = 0.0
    """How long the token endpoint takes to answer."""
    code_lifetime: float = 60.0
    """Seconds in which a code can be redeemed."""
    tenants: set[str] = field(default_factory=lambda: {TENANT})
    """Microsoft's personality: the tenants that exist."""
    claims: dict[str, Any] = field(default_factory=dict)
    """Claims of id_tokens that differ from the usual ones; None leaves one out."""
    auto_consent: str | None = None
    """A person who consents to everything at once: the authorization page is not shown, the browser goes straight on.
    A query with `auto=1` does the same for the person in its login_hint."""
    people: set[str] = field(default_factory=lambda: {"alice@example.com", "bob@example.com"})
    rotates: bool = True
    """Microsoft's personality: a refresh token works once. Google's never rotates."""
    renews: bool = True
    """A refresh at Microsoft comes with a new refresh token, unless the app lacks offline_access."""
    is_repeating: bool = False
    """The token endpoint refuses each request and repeats all its parameters, as a gateway's error page does."""
    rotates_elsewhere: bool = False
    """The other personality: rotate there too, as servers other than Google's do."""
    consented: set[tuple[str, str]] = field(default_factory=set)
    """Google's personality: (client_id, address) that have a refresh token; only prompt=consent brings another one."""
    requests: list[dict[str, str]] = field(default_factory=list)
    """The requests so far: `kind`, `grant_type`, `client_id`, `scope`, `login_hint`, `authentication` (body, basic or
    both), `audience`, `resource`, `time` (seconds since the epoch)."""
    secrets: list[str] = field(default_factory=list)
    """Everything that must never appear in a log: secrets, codes, tokens."""
    clients: dict[str, Client] = field(default_factory=dict)
    codes: dict[str, Code] = field(default_factory=dict)
    access: dict[str, tuple[str, float]] = field(default_factory=dict)
    refresh: dict[str, Grant] = field(default_factory=dict)
    devices: dict[str, Device] = field(default_factory=dict)
    """By device code."""
    device_lifetime: float = 900.0
    device_interval: int = 0
    """Seconds between two polls, as announced and as enforced (slow_down); a test's clock is not this server's."""
    device_changes: dict[str, Any] = field(default_factory=dict)
    """Fields of the device authorization response that differ, as at other servers; None leaves one out."""
    kept_out: set[str] = field(default_factory=set)
    """People whose tokens introspection calls inactive, as where a policy forbids them mail programs."""
    refuses_pkce: bool = False
    """PKCE is refused, as old servers refuse parameters that they do not know."""
    is_strict: bool = False
    """offline_access is ignored without prompt=consent (OpenID Connect Core section 11), and openid needs a nonce."""
    is_rfc7009: bool = False
    """The revocation endpoint authenticates the client and accepts any token; Google's does neither."""
    revokes_by_basic: bool = False
    """The revocation endpoint requires the secret as HTTP Basic, however the token endpoint takes it."""
    unknown_token_status: int = 400
    """The status for an unknown token, from a revocation endpoint that does not accept any token; RFC 6750 has 401 for
    `invalid_token`."""
    apps: dict[str, set[str]] = field(default_factory=dict)
    """App-only access (client credentials): maps client_id to the mailboxes that its tokens open."""
    app_tokens: dict[str, set[str]] = field(default_factory=dict)
    client_certificates: dict[str, str] = field(default_factory=dict)
    """Maps client_id to one or more PEM certificates whose keys may sign its assertions (RFC 7523 section 2.2)."""
    refusals: dict[str, tuple[str, int]] = field(default_factory=dict)
    """Maps grant_type to the error and AADSTS number with which the token endpoint refuses every such request."""
    service_accounts: dict[str, str] = field(default_factory=dict)
    """Google: maps client_email to the PEM public key of its key file; see service_accounts.py."""
    delegations: dict[str, set[str]] = field(default_factory=dict)
    """Maps client_email to the scopes with which it may act for everybody in `people` (domain-wide delegation); without
    an entry, the mail scope."""
    clock_ahead: float = 0.0
    """Seconds by which this server's clock differs from the one that signs assertions."""
    is_holding_back: bool = False
    """See holding_back()."""
    presented: list[str] = field(default_factory=list)
    """Refresh tokens, in the order in which they were presented."""
    retry_after: int | None = None
    """Seconds for the Retry-After of Fault.STATUS_429; None sends no such header."""
    faults: dict[str, Fault] = field(default_factory=dict)
    over: threading.Event = field(default_factory=threading.Event)
    waiting: threading.Event = field(default_factory=threading.Event)
    """Set once a request has met SLOW."""

    # --- what tests call ----------------------------------------------------------------------------------------

    def register(self, client_id: str, secret: str | None, *redirect_uris: str) -> None:
        """Register an app; without a secret it is a public client."""
        self.clients[client_id] = Client(secret, set(redirect_uris))
        if secret:
            self.secrets.append(secret)

    def allow_redirect(self, uri: str) -> None:
        """Add a redirect URI to every app."""
        for client in self.clients.values():
            client.redirect_uris.add(uri)

    def count(self, grant_type: str) -> int:
        """How many token requests of this type have come."""
        return sum(request.get("grant_type") == grant_type for request in list(self.requests))

    def issue(self, address: str) -> str:
        """An access token without a grant."""
        token = self._secret("access") + "a" * self.padding
        self.access[token] = (address, time.time() + self.lifetime)
        return token

    def issue_refresh_token(self, address: str) -> str:
        """A refresh token that every client may use, as if another program with the same client id had received it."""
        token = self._secret("refresh")
        self.refresh[token] = Grant("*", address, "")
        return token

    def expire_all_access(self) -> None:
        """Make all access tokens invalid; refresh tokens stay valid."""
        self.access.clear()

    def approve_device(self, user_code: str, address: str, answer: str = "accept") -> None:
        """What a person does with the code that a program shows: type it, choose, press."""
        body = urlencode({"user_code": user_code, "account": address, "answer": answer})
        status, _, page = self._browse("POST", f"{self.url}/device", body)
        if status != 200:
            raise AssertionError(f"the device page answers {status}: {page}")

    def revoke_person(self, address: str) -> None:
        """Revoke all tokens of this person, as after a changed password."""
        self.refresh = {token: grant for token, grant in list(self.refresh.items()) if grant.address != address}
        self.access = {token: held for token, held in list(self.access.items()) if held[0] != address}
        self.consented = {pair for pair in list(self.consented) if pair[1] != address}

    @contextmanager
    def failing(self, kind: str, fault: Fault) -> Iterator[None]:
        """Every request of this kind (token, discovery, authorize) meets the fault."""
        self.over.clear()
        self.waiting.clear()
        self.faults[kind] = fault
        try:
            yield
        finally:
            del self.faults[kind]
            self.over.set()

    @contextmanager
    def holding_back(self) -> Iterator[None]:
        """Refreshes are carried out at once, but answered only at the end of this context, or after release()."""
        self.over.clear()
        self.is_holding_back = True
        try:
            yield
        finally:
            self.is_holding_back = False
            self.release()

    def release(self) -> None:
        """Answer the waiting requests."""
        self.over.set()

    def consent(self, url: str, address: str, answer: str = "accept") -> dict[str, str]:
        """What a person and a browser do: open the page, choose, press. Returns: the callback's parameters."""
        status, location, page = self._browse("GET", url)
        if status == 302:
            return dict(parse_qsl(urlsplit(location).query, keep_blank_values=True))
        if status != 200:
            raise AssertionError(f"the authorization page answers {status}: {page}")
        fields = dict(re.findall(r'type="hidden" name="([^"]+)" value="([^"]*)"', page))
        fields = {name: html.unescape(value) for name, value in fields.items()}
        body = urlencode({**fields, "account": address, "answer": answer})
        status, location, page = self._browse("POST", f"{self.url}/consent", body)
        if status == 302:
            return dict(parse_qsl(urlsplit(location).query, keep_blank_values=True))
        return {name: html.unescape(value) for name, value in re.findall(r'name="([^"]+)" value="([^"]*)"', page)}

    def microsoft_config(self, client_id: str = MICROSOFT_CLIENT, *, tenant: str = TENANT) -> dict[str, Any]:
        """A `kind: microsoft` section for this server."""
        secret = self.clients[client_id].secret
        return {
            "kind": "microsoft",
            "client_id": client_id,
            **({"client_secret": secret} if secret else {}),
            "authorization_url": f"{self.url}/{tenant}/oauth2/v2.0/authorize",
            "token_url": f"{self.url}/{tenant}/oauth2/v2.0/token",
            "discovery": False,
            "redirect_uri": REDIRECT,
            "ca_file": str(self.authority.ca_file),
        }

    def certified_config(self, *, tenant: str = TENANT) -> dict[str, Any]:
        """A `kind: microsoft` section for this server, of a client with a certificate in place of a secret."""
        certificate, key = self.authority.client_pair()
        if CERTIFIED_CLIENT not in self.clients:
            self.register(CERTIFIED_CLIENT, None, REDIRECT)
            self.client_certificates[CERTIFIED_CLIENT] = certificate.read_text()
            self.secrets += [line for line in key.read_text().splitlines() if "-----" not in line]
        files = {"client_certificate": str(certificate), "client_certificate_key": str(key)}
        return {**self.microsoft_config(CERTIFIED_CLIENT, tenant=tenant), **files}

    def google_config(self) -> dict[str, Any]:
        """A `kind: google` section for this server."""
        return {
            "kind": "google",
            "client_id": GOOGLE_CLIENT,
            "client_secret": self.clients[GOOGLE_CLIENT].secret,
            "authorization_url": f"{self.url}/o/oauth2/v2/auth",
            "token_url": f"{self.url}/token",
            "revocation_url": f"{self.url}/revoke",
            "redirect_uri": REDIRECT,
            "ca_file": str(self.authority.ca_file),
        }

    def generic_config(self) -> dict[str, Any]:
        """A `kind: oauth2` section for this server."""
        return {
            **self.google_config(),
            "kind": "oauth2",
            "authorization_url": f"{self.url}/o/oauth2/v2/auth?access_type=offline&prompt=consent",
            "scopes": GOOGLE_SCOPES.split(),
        }

    def _secret(self, what: str) -> str:
        token = f"CANARY-{what}-{secrets.token_urlsafe(24)}"
        self.secrets.append(token)
        return token

    def _browse(self, method: str, url: str, body: str | None = None) -> tuple[int, str, str]:
        parts = urlsplit(url)
        connection = http.client.HTTPSConnection(
            parts.hostname or "", parts.port, context=self.authority.client_context(), timeout=30
        )
        try:
            headers = {"Content-Type": "application/x-www-form-urlencoded"} if body is not None else {}
            connection.request(method, f"{parts.path}?{parts.query}", body, headers)
            answer = connection.getresponse()
            return answer.status, answer.headers.get("Location", ""), answer.read().decode()
        finally:
            connection.close()
