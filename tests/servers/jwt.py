"""JSON Web Tokens as the tests' authorization server makes and checks them: RS256 and PS256 (RFC 7515, RFC 7518)."""

from __future__ import annotations

import base64
import json
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding


def claims_of(token: str) -> dict[str, Any]:
    """The claims of a JWT, without a check of its signature."""
    body = token.split(".")[1]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    return found


def header_of(token: str) -> dict[str, Any]:
    """The header of a JWT."""
    head = token.split(".")[0]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))
    return found


def signed_claims(token: str, key: Any) -> dict[str, Any]:
    """The claims of a JWT if its RS256 or PS256 signature by this key is valid; otherwise no claims."""
    head, body, signature = token.split(".")
    algorithm = header_of(token)["alg"]
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH)
    try:
        key.verify(
            base64.urlsafe_b64decode(signature + "=" * (-len(signature) % 4)),
            f"{head}.{body}".encode(),
            pss if algorithm == "PS256" else padding.PKCS1v15(),
            hashes.SHA256(),
        )
    except InvalidSignature:
        return {}
    return claims_of(token)


def encoded(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()
