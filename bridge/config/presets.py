"""What a kind, a cloud or a preset stands for: endpoints, scopes, mail servers. Sources: docs/quirks.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from bridge.model import Endpoint, Protocol, TlsMode

GOOGLE_AUTHORIZATION_URL = "https://accounts.google.com/o/oauth2/v2/auth"
GOOGLE_TOKEN_URL = "https://oauth2.googleapis.com/token"  # noqa: S105  an address, not a secret
GOOGLE_REVOCATION_URL = "https://oauth2.googleapis.com/revoke"
GOOGLE_MAIL_SCOPE = "https://mail.google.com/"
"""IMAP, POP and SMTP alike; the slash at the end belongs to it."""
GOOGLE_SCOPES = (GOOGLE_MAIL_SCOPE, "openid", "https://www.googleapis.com/auth/userinfo.email")
"""openid and the address tell who signed in. Full URIs, since oauthlib compares the scopes requested and granted."""

_IMAP = frozenset({"CHILDREN", "IDLE", "MOVE", "NAMESPACE", "UIDPLUS", "UNSELECT"})
_COMMON = frozenset({"PIPELINING", "ENHANCEDSTATUSCODES", "8BITMIME", "CHUNKING", "SMTPUTF8"})

GOOGLE_SERVERS: Mapping[Protocol, Endpoint] = {
    # 15 for all clients of a mailbox together; the sixteenth is told that its login is wrong.
    Protocol.IMAP: Endpoint("imap.gmail.com", 993, TlsMode.IMPLICIT, extensions=_IMAP | {"ENABLE"}, connections=15),
    Protocol.POP3: Endpoint("pop.gmail.com", 995, TlsMode.IMPLICIT),
    Protocol.SMTP: Endpoint("smtp.gmail.com", 465, TlsMode.IMPLICIT, extensions=_COMMON | {"SIZE 35882577"}),
}


class Cloud(str, Enum):
    """Microsoft's clouds: each has sign-in hosts, scopes and mail servers of its own."""

    PUBLIC = "public"
    US_GOV = "us-gov"
    """GCC High; plain GCC lives in the public cloud."""
    US_DOD = "us-dod"
    CHINA = "china"
    """Operated by 21Vianet."""


@dataclass(frozen=True, slots=True)
class CloudPreset:
    """Where one of Microsoft's clouds lives."""

    authority_host: str
    scopes: tuple[str, ...]
    """For a person: the mail protocols that the token opens."""
    app_scope: str
    """For the app alone (client credentials); `.default` means all permissions that it was granted."""
    servers: Mapping[Protocol, Endpoint]


def _exchange(imap: str, pop3: str, smtp: str) -> Mapping[Protocol, Endpoint]:
    return {
        Protocol.IMAP: Endpoint(imap, 993, TlsMode.IMPLICIT, extensions=_IMAP),
        Protocol.POP3: Endpoint(pop3, 995, TlsMode.IMPLICIT),
        Protocol.SMTP: Endpoint(
            smtp,
            587,  # Exchange has no port 465
            TlsMode.STARTTLS,
            extensions=_COMMON | {"SIZE 157286400", "DSN", "BINARYMIME"},
            connections=3,  # for each mailbox; a fourth gets 432 4.3.2, and a CRM reports lost mail
        ),
    }


def _sovereign(host: str, *, service: str, smtp: str) -> CloudPreset:
    """Outside the public cloud only `.default` is known to work, which asks for all that the app is registered for."""
    scope = f"https://{service}/.default"
    return CloudPreset(host, (scope,), scope, _exchange(service, service, smtp))


CLOUDS: Mapping[Cloud, CloudPreset] = {
    Cloud.PUBLIC: CloudPreset(
        "login.microsoftonline.com",
        # The portal lists these under Microsoft Graph, but a token for graph.microsoft.com is refused by IMAP.
        (
            "https://outlook.office.com/IMAP.AccessAsUser.All",
            "https://outlook.office.com/POP.AccessAsUser.All",
            "https://outlook.office.com/SMTP.Send",
        ),
        "https://outlook.office365.com/.default",
        _exchange("outlook.office365.com", "outlook.office365.com", "smtp.office365.com"),
    ),
    Cloud.US_GOV: _sovereign("login.microsoftonline.us", service="outlook.office365.us", smtp="smtp.office365.us"),
    Cloud.US_DOD: _sovereign(
        "login.microsoftonline.us", service="outlook-dod.office365.us", smtp="outlook-dod.office365.us"
    ),
    Cloud.CHINA: _sovereign(
        "login.partner.microsoftonline.cn", service="partner.outlook.cn", smtp="smtp.partner.outlook.cn"
    ),
}

MICROSOFT_AUTHORITY_HOST = CLOUDS[Cloud.PUBLIC].authority_host

MICROSOFT_HOSTS: Mapping[str, Cloud] = {
    **{CLOUDS[cloud].authority_host: cloud for cloud in (Cloud.PUBLIC, Cloud.US_GOV, Cloud.CHINA)},
    "login.microsoft.com": Cloud.PUBLIC,
    "login.windows.net": Cloud.PUBLIC,
    "login.live.com": Cloud.PUBLIC,
    "login.chinacloudapi.cn": Cloud.CHINA,
}
"""Where people sign in, by the names of today and of earlier years."""

NATIONAL_HOSTS = frozenset({"login.sovcloud-identity.fr", "login.sovcloud-identity.de", "login.sovcloud-identity.sg"})
"""The same for Microsoft's clouds of France (Bleu), Germany (Delos) and Singapore, whose mail servers and scopes the
admin names."""

MICROSOFT_SIGN_IN_HOSTS = NATIONAL_HOSTS.union(MICROSOFT_HOSTS)


class OAuth2Preset(str, Enum):
    """Well-known providers with `kind: oauth2`."""

    AOL = "aol"
    FASTMAIL = "fastmail"
    YAHOO = "yahoo"
    YANDEX = "yandex"


def _servers(imap: str, pop3: str, smtp: str) -> Mapping[Protocol, Endpoint]:
    """The ports of RFC 8314 section 3: TLS from the first byte everywhere."""
    return {
        Protocol.IMAP: Endpoint(imap, 993, TlsMode.IMPLICIT),
        Protocol.POP3: Endpoint(pop3, 995, TlsMode.IMPLICIT),
        Protocol.SMTP: Endpoint(smtp, 465, TlsMode.IMPLICIT),
    }


OAUTH2_SERVERS: Mapping[OAuth2Preset, Mapping[Protocol, Endpoint]] = {
    OAuth2Preset.AOL: _servers("imap.aol.com", "pop.aol.com", "smtp.aol.com"),
    OAuth2Preset.FASTMAIL: _servers("imap.fastmail.com", "pop.fastmail.com", "smtp.fastmail.com"),
    OAuth2Preset.YAHOO: _servers("imap.mail.yahoo.com", "pop.mail.yahoo.com", "smtp.mail.yahoo.com"),
    OAuth2Preset.YANDEX: _servers("imap.yandex.com", "pop.yandex.com", "smtp.yandex.com"),
}

OAUTH2_PRESETS: Mapping[OAuth2Preset, Mapping[str, Any]] = {
    OAuth2Preset.AOL: {
        "authorization_url": "https://api.login.aol.com/oauth2/request_auth",
        "token_url": "https://api.login.aol.com/oauth2/get_token",
        "scopes": ["mail-w"],
        "client_authentication": "basic",
    },
    OAuth2Preset.FASTMAIL: {
        "authorization_url": "https://api.fastmail.com/oauth/authorize",
        "token_url": "https://api.fastmail.com/oauth/refresh",
        "scopes": [
            "https://www.fastmail.com/dev/protocol-imap",
            "https://www.fastmail.com/dev/protocol-pop",
            "https://www.fastmail.com/dev/protocol-smtp",
        ],
    },
    OAuth2Preset.YAHOO: {
        "authorization_url": "https://api.login.yahoo.com/oauth2/request_auth",
        "token_url": "https://api.login.yahoo.com/oauth2/get_token",
        "scopes": ["mail-w"],
        "client_authentication": "basic",
    },
    OAuth2Preset.YANDEX: {
        "authorization_url": "https://oauth.yandex.com/authorize",
        "token_url": "https://oauth.yandex.com/token",
        "scopes": ["mail:imap_full", "mail:smtp"],
    },
}
"""Keys of the provider's section that the preset fills in; what the file says wins."""

DEFAULT_PORTS: dict[tuple[Protocol, TlsMode], int] = {
    (Protocol.IMAP, TlsMode.IMPLICIT): 993,
    (Protocol.IMAP, TlsMode.STARTTLS): 143,
    (Protocol.POP3, TlsMode.IMPLICIT): 995,
    (Protocol.POP3, TlsMode.STARTTLS): 110,
    (Protocol.SMTP, TlsMode.IMPLICIT): 465,
    (Protocol.SMTP, TlsMode.STARTTLS): 587,
}
"""RFC 8314 section 3, and the STARTTLS ports of RFC 3501, 1939 and 6409."""
