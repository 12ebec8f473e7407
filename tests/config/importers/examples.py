"""Configurations of email-oauth2-proxy as people have them."""

from __future__ import annotations

import json

CANARY = "CANARY"

TOKENS = f"""\
token_salt = {CANARY}c2FsdA==
token_iterations = 1200000
access_token = {CANARY}gAAAAABaccess
access_token_expiry = 1767225600
refresh_token = {CANARY}gAAAAABrefresh
last_activity = 1767220000
"""

MICROSOFT = "https://login.microsoftonline.com/{tenant}/oauth2/v2.0/{leaf}"
MICROSOFT_SCOPE = (
    "https://outlook.office365.com/IMAP.AccessAsUser.All https://outlook.office365.com/POP.AccessAsUser.All "
    "https://outlook.office365.com/SMTP.Send offline_access"
)
SERVICE_ACCOUNT = json.dumps(
    {
        "type": "service_account",
        "client_email": "robot@project.iam.gserviceaccount.com",
        "private_key": f"-----BEGIN PRIVATE KEY-----\n{CANARY}\n-----END PRIVATE KEY-----\n",
        "token_uri": "https://oauth2.googleapis.com/token",
    }
)

GMAIL_SERVERS = """\
[IMAP-2993]
server_address = imap.gmail.com
server_port = 993
local_address = 127.0.0.1

[SMTP-2465]
server_address = smtp.gmail.com
server_port = 465
local_address = 127.0.0.1
"""

OFFICE365_SERVERS = """\
[IMAP-1993]
server_address = outlook.office365.com
server_port = 993
local_address = 127.0.0.1

[POP-1995]
server_address = outlook.office365.com
server_port = 995
local_address = 127.0.0.1

[SMTP-1587]
server_address = smtp.office365.com
server_port = 587
server_starttls = True
local_address = 127.0.0.1
"""


def account(name: str, **options: str) -> str:
    """The section of one account."""
    return "\n".join([f"[{name}]", *(f"{key} = {value}" for key, value in options.items() if value), ""])


def gmail(name: str = "alice@gmail.com", **options: str) -> str:
    return account(
        name,
        **{
            "permission_url": "https://accounts.google.com/o/oauth2/auth",
            "token_url": "https://oauth2.googleapis.com/token",
            "oauth2_scope": "https://mail.google.com/",
            "redirect_uri": "http://localhost",
            "client_id": "1234.apps.googleusercontent.com",
            "client_secret": f"{CANARY}-google",
            **options,
        },
    )


def office365(name: str = "bob@contoso.com", tenant: str = "contoso.com", **options: str) -> str:
    return account(
        name,
        **{
            "permission_url": MICROSOFT.format(tenant=tenant, leaf="authorize"),
            "token_url": MICROSOFT.format(tenant=tenant, leaf="token"),
            "oauth2_scope": MICROSOFT_SCOPE,
            "redirect_uri": "http://localhost",
            "client_id": "11111111-2222-3333-4444-555555555555",
            "client_secret": f"{CANARY}-microsoft",
            **options,
        },
    )


def app_only(name: str = "bob@contoso.com", tenant: str = "contoso.com", **options: str) -> str:
    """Client credentials grant: no permission_url."""
    return office365(
        name,
        tenant,
        **{
            "permission_url": "",
            "oauth2_flow": "client_credentials",
            "oauth2_scope": "https://outlook.office365.com/.default",
            **options,
        },
    )


def service_account(name: str = "alice@example.com", **options: str) -> str:
    return gmail(
        name, permission_url="", redirect_uri="", oauth2_flow="service_account", **{"client_id": "key", **options}
    )


def yahoo(name: str = "carol@yahoo.com", host: str = "yahoo.com", **options: str) -> str:
    return account(
        name,
        **{
            "permission_url": f"https://api.login.{host}/oauth2/request_auth",
            "token_url": f"https://api.login.{host}/oauth2/get_token",
            "oauth2_scope": "mail-w",
            "redirect_uri": "http://localhost:8080",
            "client_id": "yahoo-client",
            "client_secret": f"{CANARY}-yahoo",
            **options,
        },
    )


def fastmail(name: str = "dave@fastmail.com", **options: str) -> str:
    """A public client with PKCE."""
    return account(
        name,
        **{
            "permission_url": "https://api.fastmail.com/oauth/authorize",
            "token_url": "https://api.fastmail.com/oauth/refresh",
            "oauth2_scope": "https://www.fastmail.com/dev/protocol-imap https://www.fastmail.com/dev/protocol-smtp",
            "redirect_uri": "http://localhost:8080/",
            "client_id": "fastmail-client",
            "use_pkce": "True",
            **options,
        },
    )


def company(name: str = "erin@example.org", **options: str) -> str:
    """A provider that no preset knows."""
    return account(
        name,
        **{
            "permission_url": "https://login.example.org/authorize",
            "token_url": "https://login.example.org/token",
            "oauth2_scope": "openid email mail offline_access",
            "redirect_uri": "http://localhost:8080/",
            "client_id": "crm",
            **options,
        },
    )


def server(section: str, host: str, port: int, **options: str) -> str:
    return account(section, server_address=host, server_port=str(port), **{"local_address": "127.0.0.1", **options})
