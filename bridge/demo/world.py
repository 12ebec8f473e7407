"""Starts the demo's provider and mail servers, and writes the configuration that leads to them."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ipaddress
import socket
import ssl
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from bridge.advice.said import Translate, said
from bridge.advice.system import system_reason
from bridge.config.console import USUAL_CONSOLE
from bridge.demo.imap import ImapConnection
from bridge.demo.mailboxes import Mail
from bridge.demo.pop3 import Pop3Connection
from bridge.demo.provider import CLIENT_ID, DemoProvider
from bridge.demo.smtp import SmtpConnection
from bridge.errors import BridgeError

ADDRESSES = ("alice@example.com", "bob@example.com")
LINE_LIMIT = 1024 * 1024
"""Octets of one line: more than any mail has."""


@dataclass(frozen=True, slots=True)
class DemoWorld:
    """A running demo."""

    yaml: str
    """A configuration for it."""
    addresses: tuple[str, ...]


@asynccontextmanager
async def demo_world(
    console_port: int = USUAL_CONSOLE,
    ports: tuple[int, int, int] = (1143, 1110, 1587),
    *,
    translate: Translate = str,
    language: str = "en",
) -> AsyncIterator[DemoWorld]:
    """Everything that the bridge needs from outside, on free loopback ports, until the context ends.

    Raises: BridgeError for lack of a descriptor, disk space and the like.
    """
    provider = DemoProvider(ADDRESSES, translate, language)
    mail = Mail(ADDRESSES)
    await mail.welcome()
    async with AsyncExitStack() as stack:
        try:
            stack.push_async_callback(provider.stop)
            await provider.start()
            made = tempfile.TemporaryDirectory(prefix="mail-bridge-demo-", ignore_cleanup_errors=True)
            directory = stack.enter_context(made)
            ca_file, context = _certificates(Path(directory))
            servers = []
            for kind in (ImapConnection, Pop3Connection, SmtpConnection):
                servers.append(await _serve(kind, provider, mail, context))
                stack.callback(servers[-1].close)
        except OSError as problem:
            raise BridgeError(said("the demo cannot start: {reason}", reason=system_reason(problem))) from problem
        upstream = [server.sockets[0].getsockname()[1] for server in servers]
        yield DemoWorld(_yaml(provider.url, ca_file, upstream, console_port, ports), ADDRESSES)


async def _serve(
    kind: Callable[..., Any], provider: DemoProvider, mail: Mail, context: ssl.SSLContext
) -> asyncio.Server:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await kind(reader, writer, provider.owner, mail).serve()
        except asyncio.CancelledError:
            return  # the loop is ending; asyncio would log it as a failure of ours
        finally:
            with contextlib.suppress(ConnectionError, RuntimeError):
                writer.close()

    sock = socket.create_server(("127.0.0.1", 0))  # without a descriptor, asyncio would make a server without a port
    try:
        return await asyncio.start_server(connected, sock=sock, ssl=context, limit=LINE_LIMIT)
    except OSError:
        sock.close()
        raise


def _certificates(directory: Path) -> tuple[Path, ssl.SSLContext]:
    """A CA for this run, and a server context with its certificate for localhost; no private key stays on disk."""
    now = datetime.datetime.now(datetime.UTC)
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mail-bridge demo CA")])

    def builder(subject: x509.Name, public_key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(ca_name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=30))
        )

    ca = (
        builder(ca_name, ca_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key()), critical=False)
        .add_extension(_usage(cert_sign=True), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    leaf = (
        builder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")]), key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    ca_file, pair_file = directory / "ca.pem", directory / "server.pem"
    ca_file.write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    # The ssl module reads keys from files only; this one lives for a moment, in a directory of this user alone,
    # and is good for nothing but this run of the demo.
    pair_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + leaf.public_bytes(serialization.Encoding.PEM)
    )
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair_file)
    finally:
        with contextlib.suppress(PermissionError):  # Windows: a virus scanner reads it; it goes with the directory
            pair_file.unlink()
    return ca_file, context


def _usage(*, cert_sign: bool) -> x509.KeyUsage:
    off = dict.fromkeys(
        (
            "digital_signature",
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    return x509.KeyUsage(key_cert_sign=cert_sign, crl_sign=cert_sign, **off)


def _yaml(url: str, ca_file: Path, upstream: list[int], console_port: int, ports: tuple[int, int, int]) -> str:
    ca = str(ca_file).replace("'", "''")
    servers = "\n".join(
        f"    {name}: {{host: localhost, port: {port}, tls: implicit}}"
        for name, port in zip(("imap", "pop3", "smtp"), upstream, strict=True)
    )
    accounts = "\n".join(f"  - {{address: {address}, provider: demo}}" for address in ADDRESSES)
    return f"""\
providers:
  demo:
    kind: oauth2
    client_id: {CLIENT_ID}
    authorization_url: {url}/authorize
    token_url: {url}/token
    redirect_uri: http://localhost:{console_port}/
    scopes: [openid, email, mail]
    ca_file: '{ca}'
{servers}
accounts:
{accounts}
listeners: {{imap: localhost:{ports[0]}, pop3: localhost:{ports[1]}, smtp: localhost:{ports[2]}}}
console: 127.0.0.1:{console_port}
"""
