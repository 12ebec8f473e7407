"""PKCE and state: code verifier and S256 challenge (RFC 7636), and checking the code that comes back."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Mapping

from bridge.errors import AuthorizationFailed
from bridge.oauth.failures import Failure, not_signed_in, sign_in_problem
from bridge.secret import Secret

RANDOM_OCTETS = 32
"""Gives 43 characters, the length that RFC 7636 section 4.1 recommends; ample for a state, too (RFC 6749 10.10)."""


def new_state() -> str:
    """An unguessable value that ties the browser's answer to our question (RFC 6749 section 10.12)."""
    return secrets.token_urlsafe(RANDOM_OCTETS)


def new_verifier() -> Secret[str]:
    """A code verifier: 43 characters, all of them unreserved."""
    return Secret(secrets.token_urlsafe(RANDOM_OCTETS))


def challenge(verifier: Secret[str]) -> str:
    """The S256 code challenge of a verifier (RFC 7636 section 4.2)."""
    digest = hashlib.sha256(verifier.reveal().encode("ascii")).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")


def check_state(expected: str, parameters: Mapping[str, str]) -> None:
    """Compare the state that came back, in constant time.

    Raises: AuthorizationFailed(unknown_state) if it is missing or differs; the text quotes neither.
    """
    if not hmac.compare_digest(expected.encode(), parameters.get("state", "").encode("utf-8", "surrogatepass")):
        raise AuthorizationFailed("The browser's answer does not belong to this sign-in.", code="unknown_state")


def code_of(state: str, parameters: Mapping[str, str]) -> str:
    """The authorization code of the answer to this sign-in, whichever library redeems it (RFC 6749 section 4.1.2).

    Raises: BridgeError for an answer to another sign-in, an error answer, or an answer without a code.
    """
    check_state(state, parameters)
    if "error" in parameters:
        raise sign_in_problem(Failure.of(parameters))
    if not parameters.get("code"):
        raise not_signed_in("oauth.no_code", "provider")
    return parameters["code"]
