"""Service accounts as Google makes them: a key pair, whose private half is downloaded as a JSON file."""

from __future__ import annotations

import functools
import json
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.servers.authorization import AuthorizationServer
from tests.servers.authorization_controls import GOOGLE_AUDIENCE

ACCOUNT = "mail-bridge@project.iam.gserviceaccount.com"
CLIENT_ID = "103456789012345678901"
MAIL_SCOPE = "https://mail.google.com/"


@functools.cache
def key_pair(number: int) -> tuple[str, str]:
    """The private and the public half in PEM; made only once for each number, because it takes long."""
    key = rsa.generate_private_key(65537, 2048)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return private.decode(), public.decode()


def add_service_account(server: AuthorizationServer, file: Path, *, number: int = 1) -> Path:
    """Make a key for ACCOUNT that replaces its former one, delegate the domain's mail to it, and write the key file to
    `file`."""
    private, public = key_pair(number)
    server.service_accounts[ACCOUNT] = public
    server.delegations[ACCOUNT] = {MAIL_SCOPE}
    server.secrets += private.splitlines()[1:-1]
    file.write_text(json.dumps(key_file(private)), "utf-8")
    return file


def key_file(private: str, **changes: object) -> dict[str, object]:
    """What Google's console downloads; a value of None leaves a field out."""
    fields = {
        "type": "service_account",
        "project_id": "project",
        "private_key_id": "0123456789abcdef",
        "private_key": private,
        "client_email": ACCOUNT,
        "client_id": CLIENT_ID,
        "auth_uri": "https://accounts.google.com/o/oauth2/auth",
        "token_uri": GOOGLE_AUDIENCE,
        "auth_provider_x509_cert_url": "https://www.googleapis.com/oauth2/v1/certs",
        "universe_domain": "googleapis.com",
        **changes,
    }
    return {name: value for name, value in fields.items() if value is not None}


def service_account_config(server: AuthorizationServer, file: Path) -> dict[str, object]:
    """A `kind: google` section with `flow: service_account` for this server."""
    return {
        "kind": "google",
        "flow": "service_account",
        "service_account_file": str(file),
        "token_url": f"{server.url}/token",
        "ca_file": str(server.authority.ca_file),
    }
