"""What `kind: google` and `kind: microsoft` stand for: endpoints, scopes, mail servers. Sources: docs/quirks.md."""

from __future__ import annotations

from bridge.model import Endpoint, Protocol, TlsMode

GOOGLE_AUTHORIZATION_URL = "https://accounts.google.com/o/oauth2/v2/auth"
GOOGLE_TOKEN_URL = "https://oauth2.googleapis.com/token"  # noqa: S105  an address, not a secret
GOOGLE_REVOCATION_URL = "https://oauth2.googleapis.com/revoke"
GOOGLE_MAIL_SCOPE = "https://mail.google.com/"
"""IMAP, POP and SMTP alike; the slash at the end belongs to it."""
GOOGLE_SCOPES = (GOOGLE_MAIL_SCOPE, "openid", "https://www.googleapis.com/auth/userinfo.email")
"""openid and the address tell who signed in; full URIs, since oauthlib compares what was asked with what it got."""

MICROSOFT_AUTHORITY_HOST = "login.microsoftonline.com"
MICROSOFT_SCOPES = (
    "https://outlook.office.com/IMAP.AccessAsUser.All",
    "https://outlook.office.com/POP.AccessAsUser.All",
    "https://outlook.office.com/SMTP.Send",
)
"""The portal lists these under Microsoft Graph, but a token for graph.microsoft.com is refused by IMAP."""

_COMMON = frozenset({"PIPELINING", "ENHANCEDSTATUSCODES", "8BITMIME", "CHUNKING", "SMTPUTF8"})

ENDPOINTS: dict[str, dict[Protocol, Endpoint]] = {
    "google": {
        # 15 for all clients of a mailbox together; the sixteenth is told that its login is wrong.
        Protocol.IMAP: Endpoint("imap.gmail.com", 993, TlsMode.IMPLICIT, connections=15),
        Protocol.POP3: Endpoint("pop.gmail.com", 995, TlsMode.IMPLICIT),
        Protocol.SMTP: Endpoint("smtp.gmail.com", 465, TlsMode.IMPLICIT, extensions=_COMMON | {"SIZE 35882577"}),
    },
    "microsoft": {
        Protocol.IMAP: Endpoint("outlook.office365.com", 993, TlsMode.IMPLICIT),
        Protocol.POP3: Endpoint("outlook.office365.com", 995, TlsMode.IMPLICIT),
        Protocol.SMTP: Endpoint(
            "smtp.office365.com",
            587,  # Exchange has no port 465
            TlsMode.STARTTLS,
            extensions=_COMMON | {"SIZE 157286400", "DSN", "BINARYMIME"},
            connections=3,  # for each mailbox; a fourth gets 432 4.3.2, and a CRM reports lost mail
        ),
    },
    "oauth2": {},
}
"""By `kind`; `oauth2` has none: the admin names the servers."""

DEFAULT_PORTS: dict[tuple[Protocol, TlsMode], int] = {
    (Protocol.IMAP, TlsMode.IMPLICIT): 993,
    (Protocol.IMAP, TlsMode.STARTTLS): 143,
    (Protocol.POP3, TlsMode.IMPLICIT): 995,
    (Protocol.POP3, TlsMode.STARTTLS): 110,
    (Protocol.SMTP, TlsMode.IMPLICIT): 465,
    (Protocol.SMTP, TlsMode.STARTTLS): 587,
}
"""RFC 8314 section 3, and the STARTTLS ports of RFC 3501, 1939 and 6409."""
