"""The servers of email-oauth2-proxy: its ports become our listeners, its upstreams the providers' mail servers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from bridge.advice.said import Said, said
from bridge.config.addresses import unmapped
from bridge.config.importers.ini import IniSection, is_on
from bridge.config.importers.yaml_text import Scalar
from bridge.config.presets import CLOUDS, GOOGLE_SERVERS, OAUTH2_SERVERS, Cloud
from bridge.config.values import is_host, is_loopback
from bridge.model import Endpoint, Protocol, TlsMode

LOOPBACK = "127.0.0.1"
BOTH_LOOPBACKS = "localhost"
"""127.0.0.1 and ::1: in the other program `::` takes IPv4 as well, and a mail program may use either."""
DUAL_STACK = "[::]"
"""In our configuration this is IPv6 alone, on every system."""

_SECTION = re.compile(r"(?P<type>IMAP|POP|SMTP)-(?P<port>[0-9]+)")
"""Upper case only, as in that program."""

_PROTOCOLS = {"IMAP": Protocol.IMAP, "POP": Protocol.POP3, "SMTP": Protocol.SMTP}

KNOWN = frozenset(
    {
        "server_address",
        "server_port",
        "server_starttls",
        "starttls",
        "local_address",
        "local_starttls",
        "local_certificate_path",
        "local_key_path",
    }
)
"""Options of a server."""


@dataclass(frozen=True, slots=True)
class Upstream:
    """A mail server, as a section names it."""

    host: str
    port: int
    tls: TlsMode

    def differs_from(self, endpoint: Endpoint | None) -> dict[str, Scalar]:
        """What must be written so that a provider with this endpoint uses this server."""
        server: dict[str, Scalar] = {"port": self.port, "tls": self.tls.value}
        if endpoint is None or endpoint.host != self.host:
            return {"host": self.host, **server}
        # A known port of theirs has only one TLS mode; a forgotten server_starttls did not work there, either.
        return {} if endpoint.port == self.port else server


@dataclass(frozen=True, slots=True)
class Server:
    """One section [IMAP-1993]: a local port, and where it led."""

    section: str
    line: int
    protocol: Protocol
    address: str
    """Where to listen: `127.0.0.1:1993`."""
    port: int
    upstream: Upstream | None
    certificate: str = ""
    key: str = ""
    tls: TlsMode | None = None
    """TLS towards mail programs."""
    remarks: tuple[Said, ...] = ()
    is_narrowed: bool = False
    """True if other machines could connect to the other program, and cannot connect here."""
    is_exposed: bool = False
    """True if other machines can connect, as before."""


def is_server(section: IniSection) -> bool:
    """True for [IMAP-…], [POP-…] and [SMTP-…]."""
    return _SECTION.fullmatch(section.name) is not None


def is_almost_server(section: IniSection) -> bool:
    """True for [imap-1993] and the like, which that program did not see."""
    return not is_server(section) and _SECTION.fullmatch(section.name.strip().upper()) is not None


def read_servers(sections: Sequence[IniSection]) -> tuple[tuple[Server, ...], tuple[tuple[IniSection, Said], ...]]:
    """All servers in the order of the file, and why the other sections are none."""
    servers: dict[int, Server] = {}
    refused: list[tuple[IniSection, Said]] = []
    for section in sections:
        if (match := _SECTION.fullmatch(section.name)) is None:
            continue
        port = int(match["port"]) if len(match["port"]) <= 9 else 0
        if not 0 < port < 65536:
            refused.append((section, said("its port is not between 1 and 65535")))
        elif port in servers:
            other = servers[port].section
            refused.append((section, said("its port is that of [{section}]; give it another one", section=other)))
        else:
            servers[port] = _server(section, _PROTOCOLS[match["type"]], port)
    return tuple(servers.values()), tuple(refused)


def _server(section: IniSection, protocol: Protocol, port: int) -> Server:
    certificate, key = section.get("local_certificate_path"), section.get("local_key_path")
    has_tls = bool(certificate and key and f"{certificate}{key}".isprintable())
    is_starttls = protocol is Protocol.SMTP and is_on(section.get("local_starttls"))
    written = section.get("local_address")
    written = unmapped(written.strip("[]")) or written
    host, remark = _local_host(written, has_tls=has_tls)
    remarks = [remark] if remark is not None else []
    if bool(certificate or key) and not has_tls:
        remarks.append(said("TLS for mail programs needs both a certificate and a key; it had one of them."))
    return Server(
        section.name,
        section.line,
        protocol,
        f"[{host}]:{port}" if ":" in host else f"{host}:{port}",
        port,
        _upstream(section, protocol),
        certificate if has_tls else "",
        key if has_tls else "",
        (TlsMode.STARTTLS if is_starttls else TlsMode.IMPLICIT) if has_tls else None,
        tuple(remarks),
        is_narrowed=host in {LOOPBACK, BOTH_LOOPBACKS} and not is_loopback(written),
        is_exposed=not is_loopback(host),
    )


def _local_host(written: str, *, has_tls: bool) -> tuple[str, Said | None]:
    """Where to listen, and a remark. No address means all interfaces in the other program, and this machine here."""
    host = written.strip("[]")
    if not host:
        return BOTH_LOOPBACKS, said("It listened on all interfaces; now only programs on this machine can connect.")
    if not is_host(host):
        return LOOPBACK, said(
            "Its local_address {address} is not an address; now only programs on this machine can connect.",
            address=written,
        )
    if is_loopback(host):
        return host, None
    if has_tls and host == "::":
        return "0.0.0.0", said(
            "Other machines can connect, as before; for IPv6, add {address} with the same port.", address=DUAL_STACK
        )
    if has_tls:
        return host, said("Other machines can connect, as before.")
    return BOTH_LOOPBACKS if host == "::" else LOOPBACK, said(
        "It listened on {address}, without TLS, so passwords crossed the network unencrypted; now only programs on "
        "this machine can connect. For others, give the address together with tls and `exposed: true`.",
        address=host,
    )


def _upstream(section: IniSection, protocol: Protocol) -> Upstream | None:
    host, port = section.get("server_address").rstrip(".").lower(), section.get("server_port")
    if not is_host(host) or not re.fullmatch(r"[0-9]{1,5}", port) or not 0 < int(port) < 65536:
        return None
    is_starttls = protocol is Protocol.SMTP and is_on(section.get("server_starttls") or section.get("starttls"))
    return Upstream(host, int(port), TlsMode.STARTTLS if is_starttls else TlsMode.IMPLICIT)


# --- whose servers --------------------------------------------------------------------------------------------------


def microsoft(cloud: Cloud) -> str:
    """The family of a cloud's servers."""
    return f"microsoft {cloud.value}"


_FAMILIES: dict[str, str] = {
    **{endpoint.host: "google" for endpoint in GOOGLE_SERVERS.values()},
    **{server.host: microsoft(cloud) for cloud, preset in CLOUDS.items() for server in preset.servers.values()},
    **{server.host: preset.value for preset, servers in OAUTH2_SERVERS.items() for server in servers.values()},
    "gmail.com": "google",
    "googlemail.com": "google",
    "office365.com": microsoft(Cloud.PUBLIC),
    "outlook.com": microsoft(Cloud.PUBLIC),
    "office.com": microsoft(Cloud.PUBLIC),
    "hotmail.com": microsoft(Cloud.PUBLIC),
    "live.com": microsoft(Cloud.PUBLIC),
    "office365.us": microsoft(Cloud.US_GOV),
    "outlook.cn": microsoft(Cloud.CHINA),
    "yahoo.com": "yahoo",
    "aol.com": "aol",
    "fastmail.com": "fastmail",
    "yandex.com": "yandex",
    "yandex.ru": "yandex",
}
"""From a host name, which stands for all names below it too, to the family of its provider."""


def family_of(host: str) -> str | None:
    """Whose server this is; None for one that no preset knows."""
    labels = host.split(".")
    return next((family for n in range(len(labels)) if (family := _FAMILIES.get(".".join(labels[n:])))), None)


Choice = Mapping[Protocol, tuple[Upstream, ...]]
"""For each protocol the servers that a provider may mean, the likeliest first."""


def of_family(servers: Iterable[Server], family: str | None) -> Choice:
    """The upstreams of this family, each once; with None those that no preset knows."""
    found: dict[Protocol, dict[Upstream, None]] = {}
    for server in servers:
        if server.upstream is not None and family_of(server.upstream.host) == family:
            found.setdefault(server.protocol, {})[server.upstream] = None
    return {protocol: tuple(upstreams) for protocol, upstreams in found.items()}


def closest(choice: Choice, domains: Iterable[str]) -> Choice:
    """The upstreams whose name is most like one of these domains; none where nothing is alike."""
    names = tuple({domain.lower() for domain in domains})
    found: dict[Protocol, tuple[Upstream, ...]] = {}
    for protocol, upstreams in choice.items():
        likeness = {upstream: max((_alike(upstream.host, name) for name in names), default=0) for upstream in upstreams}
        best = max(likeness.values(), default=0)
        if best:
            found[protocol] = tuple(upstream for upstream in upstreams if likeness[upstream] == best)
    return found


def _alike(one: str, other: str) -> int:
    """How many labels two names share at their ends, if these make a registrable domain."""
    count = 0
    for mine, theirs in zip(reversed(one.split(".")), reversed(other.split(".")), strict=False):
        if mine != theirs:
            break
        count += 1
    is_public_suffix = count == 2 and one.split(".")[-2] in _SECOND_LEVEL
    return 0 if count < 2 or is_public_suffix else count


_SECOND_LEVEL = frozenset({"ac", "co", "com", "edu", "gov", "gouv", "ne", "net", "or", "org"})
"""As in co.uk: names that share no more than this have nothing in common."""


def host_of(url: str) -> str:
    """The host of a URL in lower case; empty if there is none."""
    try:
        return (urlsplit(url).hostname or "").lower()
    except ValueError:
        return ""
