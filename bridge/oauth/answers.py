"""Reads a token endpoint's answer: access token, scopes, who signed in (RFC 6749 section 5.1, id_token)."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

from bridge.advice.diagnosis import Diagnosis
from bridge.advice.said import said
from bridge.config.provider import GrantIdentity
from bridge.errors import AuthorizationFailed, ProviderUnavailable
from bridge.model import LONGEST_ADDRESS, AccessToken, Subject
from bridge.secret import Secret

DEFAULT_LIFE = 600
"""Seconds that a token is taken to live if the provider does not say: short enough to be true (RFC 6749 section 5.1
only recommends the field)."""


LONGEST_GRANT = 10 * 366 * 86400
"""Seconds. A longer life is ignored: nobody would ever see such a grant end."""


def access_token(answer: Mapping[str, Any], *, asked_at: float) -> AccessToken:
    """The bearer token. Its life counts from when we asked, so that a slow answer does not make it seem longer.

    Raises: ProviderUnavailable if there is none that we can use. The answer is not quoted: it may hold other tokens.
    """
    token = answer.get("access_token")
    kind = answer.get("token_type", "Bearer")
    if not isinstance(token, str) or not _is_vschar(token) or not isinstance(kind, str) or kind.lower() != "bearer":
        raise ProviderUnavailable(said("The provider's answer holds no token that we can use (bearer)."))
    try:
        life = float(answer.get("expires_in", DEFAULT_LIFE))
    except (TypeError, ValueError, OverflowError):
        life = DEFAULT_LIFE
    if not math.isfinite(life):  # Python's JSON accepts NaN and Infinity: the token would be never or always fresh
        life = DEFAULT_LIFE
    return AccessToken(Secret(token), expires_at=asked_at + life, obtained_at=asked_at)


def _is_vschar(token: str) -> bool:
    """True for printable ASCII (RFC 6749 appendix A.12). Mail servers get the token between octets 0x01, and in UTF-8,
    which cannot encode everything that JSON can hold (a lone surrogate)."""
    return token != "" and token.isascii() and token.isprintable()


def sendable(token: object) -> str:
    """A token or code that is to be sent back as it is; empty if there is none. JSON can hold a lone surrogate, which
    no request can: such a refresh token, once stored, would be a bug at each login."""
    return token if isinstance(token, str) and token == token.encode(errors="ignore").decode() else ""


def grant_end(answer: Mapping[str, Any], *, asked_at: float) -> float | None:
    """When the refresh token ends, whether it is used or not, in seconds since the epoch; None if the answer does not
    say. The field is in no RFC; Google sends it while an app's status is Testing."""
    life = answer.get("refresh_token_expires_in")
    if isinstance(life, bool) or not isinstance(life, (int, float)) or not 0 < life < LONGEST_GRANT:
        return None
    return asked_at + life


def granted_scopes(answer: Mapping[str, Any], asked_for: Iterable[str]) -> frozenset[str]:
    """The scopes granted; an answer without `scope` grants those that were asked for (RFC 6749 section 5.1)."""
    scope = answer.get("scope")
    if isinstance(scope, str):
        return frozenset(scope.split())
    if isinstance(scope, (list, tuple)):  # in no RFC, but seen
        return frozenset(name for name in scope if isinstance(name, str))
    return frozenset(asked_for)


def check_scopes(granted: Iterable[str], needed: Iterable[str]) -> None:
    """Raises: AuthorizationFailed(missing_scope) that names what is missing; case does not count."""
    have = {scope.lower().rstrip("/") for scope in granted}
    missing = sorted(scope for scope in needed if scope.lower().rstrip("/") not in have)
    if missing:
        found = Diagnosis.of("sign_in.missing_scope", scopes=", ".join(missing))
        raise AuthorizationFailed(code="missing_scope", diagnosis=found)


def claims(answer: Mapping[str, Any]) -> dict[str, Any]:
    """The claims of the id_token, empty if there is none or it cannot be read.

    Its signature is not checked: it came straight from the token endpoint over TLS, whose certificate vouches for it
    (OpenID Connect Core 3.1.3.7 item 6). Nor is `exp`: the token is a second old, and a wrong local clock would have it
    refused.
    """
    token = answer.get("id_token")
    if not isinstance(token, str):
        return {}
    try:
        body = token.split(".")[1]
        value = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    except (IndexError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def check_audience(found: Mapping[str, Any], client_id: str) -> None:
    """Raises: AuthorizationFailed(provider) if these claims were made for another client; no claims are fine."""
    if found and not is_for(found, client_id):
        raise AuthorizationFailed(code="provider", diagnosis=Diagnosis.of("oauth.other_client"))


def check_nonce(found: Mapping[str, Any], nonce: str) -> None:
    """Raises: AuthorizationFailed(provider) if these claims were made for another sign-in (OpenID Connect Core 3.1.3.7
    item 11). If no nonce was sent, or the server has left it out, PKCE alone ties a code to its sign-in."""
    if nonce and found.get("nonce") not in (None, nonce):
        raise AuthorizationFailed(code="provider", diagnosis=Diagnosis.of("oauth.other_sign_in"))


def is_for(found: Mapping[str, Any], client_id: str) -> bool:
    """True for claims whose audience is this client (OpenID Connect Core 3.1.3.7 item 3)."""
    audience = found.get("aud")
    return client_id in (audience if isinstance(audience, list) else [audience])


def subject_by_email(found: Mapping[str, Any], *, unsaid: bool) -> Subject | None:
    """Who signed in, by `email` and `sub`; None without an address that the provider has verified.

    Args: unsaid, whether an address counts as verified if the provider sends no email_verified.
    """
    email = named(found.get("email"))
    if not email or found.get("email_verified", unsaid) not in (True, "true"):
        return None
    return Subject(email, identifier=str(found.get("sub", "")))


def named(claim: object) -> str:
    """The address in a claim, normalized like those of the configuration; empty if there is none.

    A person may have chosen it freely, and if it is the wrong person's it is shown to the administrator, even in a
    terminal. So a claim with control characters, line breaks or bidirectional formatting characters is no address.
    """
    if not isinstance(claim, str) or len(claim) > LONGEST_ADDRESS:
        return ""
    address = unicodedata.normalize("NFC", claim).strip().lower()
    return address if "@" in address and " " not in address and address.isprintable() else ""


def fingerprint(identity: GrantIdentity) -> str:
    """Changes exactly when a stored grant can no longer be used. The client secret is not part of it: a grant outlives
    its secret."""
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()
