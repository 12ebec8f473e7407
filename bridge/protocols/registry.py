"""Protocol to factory: the client machine and the server machine of each protocol."""

from __future__ import annotations

from bridge.model import Protocol
from bridge.protocols.base import ClientMachine, Credentials, ServerMachine
from bridge.protocols.imap.client import ImapClient
from bridge.protocols.imap.server import ImapServer
from bridge.protocols.pop3.client import Pop3Client
from bridge.protocols.pop3.server import Pop3Server
from bridge.protocols.smtp.client import SmtpClient


def client_machine(
    protocol: Protocol, credentials: Credentials, *, starttls: bool, client_name: str = ""
) -> ClientMachine:
    """Us as the client of an upstream."""
    match protocol:
        case Protocol.IMAP:
            return ImapClient(credentials, starttls=starttls)
        case Protocol.POP3:
            return Pop3Client(credentials, starttls=starttls)
        case Protocol.SMTP:
            return SmtpClient(credentials, starttls=starttls, client_name=client_name)


def server_machine(
    protocol: Protocol, *, starttls: bool, is_tls: bool = False, promised: tuple[str, ...] = ()
) -> ServerMachine:
    """Us as the server of a mail client; see the machines. SMTP has none: relay.smtp_frontend is its server side."""
    match protocol:
        case Protocol.IMAP:
            return ImapServer(starttls=starttls, is_tls=is_tls, promised=promised)
        case Protocol.POP3:
            return Pop3Server(starttls=starttls, is_tls=is_tls)
        case Protocol.SMTP:
            raise ValueError("the SMTP side of a mail client is relay.smtp_frontend")
