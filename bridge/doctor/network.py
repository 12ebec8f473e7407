"""Connects to every host in the configuration, providers and mail servers, as a session would.

If a certificate was made on the way, its maker is named: an antivirus program, or a company's proxy.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from functools import partial
from urllib.parse import urlsplit

from bridge.advice.base import Turn
from bridge.config.endpoints import used_endpoints
from bridge.config.microsoft import MicrosoftProvider
from bridge.config.provider import Flow
from bridge.config.providers import ProviderConfig
from bridge.config.proxies import environment_proxy
from bridge.config.schema import Config
from bridge.config.values import is_loopback
from bridge.control.contract import Finding
from bridge.doctor.certificates import Certificate, no_verification, public_authorities, read_certificate
from bridge.doctor.clock import clock_finding, skew
from bridge.doctor.findings import VERBATIM, failed, ok, problem_text, skipped, warning
from bridge.doctor.probe import Reached, Stage, Stopped, Target, probe
from bridge.errors import ProviderUnavailable
from bridge.model import TlsMode
from bridge.oauth.http import trust
from bridge.threads import NotDone, NoThread, Threads

SECONDS = 10.0
"""For one connection, from the lookup to the answer; a good one takes a tenth of a second."""
LOOK_SECONDS = 4.0
"""For one more connection that only looks at a certificate."""
AT_ONCE = 64
"""Connections side by side; a dozen is usual."""

PLAIN = "reached at {address} in {milliseconds} ms, without TLS, which never leaves this machine"
SECURE = "reached at {address} in {milliseconds} ms: {version}, certificate issued by {issuer}, valid until {day}"
OPENED_TRUSTED = (
    "reached, but {product} opens the encryption on the way (certificate issued by {issuer}), which this machine "
    "trusts; if sign-ins or mail fail nevertheless, exempt mail-bridge there"
)
FOREIGN_TRUSTED = (
    "reached, but the certificate was issued by {issuer}, which is not a public authority known to mail-bridge: a "
    "security program or a company's proxy may open the encryption on the way; this machine trusts it"
)
NO_NAME = (
    "the name {host} cannot be looked up ({reason}): there is no network, no name server, or the name in the "
    "configuration is wrong"
)
NAME_SLOW = "no result within {seconds} s: most likely the name server does not answer"
REFUSED = "cannot be connected to ({reason}): check the network, the firewalls, and the port in the configuration"
SILENT = (
    "does not answer within {seconds} s: a firewall drops what is sent there, or there is no network; the "
    "administrator of the network must let this machine reach port {port}"
)
PROXY = (
    "the proxy {proxy} does not lead there ({reason}): the administrator must check its address, and that it lets this "
    "machine reach {host}"
)
OTHER_PROXY = (
    "not tried: the proxy speaks TLS itself or requires a password, which this check does not support; a sign-in does"
)
SOCKS = (
    "this system's proxy is a SOCKS proxy, which mail-bridge does not support: the administrator must name an HTTP "
    "proxy with `proxy`, or exempt {host} from it (NO_PROXY)"
)
BAD_PROXY = (
    "this system's proxy setting cannot be used: the administrator must correct it (HTTPS_PROXY, or the system's "
    "settings), for example to http://proxy.example.com:3128"
)
NOT_MAIL = (
    "answers, but TLS cannot be started there ({reason}): the port or `tls` in the configuration may be wrong, or a "
    "security program removes STARTTLS from the answers"
)
NOT_TLS = (
    "TLS fails ({reason}): the port or `tls` in the configuration may be wrong, or something on the way interferes"
)
TLS_SILENT = (
    "connects, but does not answer the TLS handshake within {seconds} s: something on the way swallows it, or the port "
    "or `tls` in the configuration is wrong"
)
NO_ANSWER = "TLS works, but no answer comes ({reason}): there is a proxy on the way, or the provider is having problems"
EXPIRED = (
    "the certificate expired on {day} (issued by {issuer}): the administrator of that server must renew it, unless "
    "this machine's clock is wrong"
)
NOT_YET = "the certificate is valid only from {day} (issued by {issuer}): this machine's clock may be wrong"
OTHER_NAME = (
    "the certificate is for {names}, not for this name: the host in the configuration is wrong, or something else "
    "answers in its place"
)
OPENED = (
    "{product} opens the encryption on the way (certificate issued by {issuer}), and this machine does not trust it: "
    "exempt mail-bridge there, or name its root certificate as `ca_file` of the provider"
)
FOREIGN = (
    "the certificate is not trusted ({reason}): issued by {issuer}, which is not a public authority known to "
    "mail-bridge. If a company's proxy opens the encryption on the way, have its administrator exempt mail-bridge, or "
    "name its CA certificate as `ca_file` of the provider"
)
NOT_FROM_CA_FILE = (
    "the certificate is not trusted ({reason}): it was issued by {issuer}, but `ca_file` of the provider names another "
    "authority"
)
NOT_TRUSTED = "the certificate is not trusted: {reason}"

_EXPIRED, _NOT_YET, _OTHER_NAME = 10, 9, {62, 64}
"""OpenSSL: X509_V_ERR_CERT_HAS_EXPIRED, _CERT_NOT_YET_VALID, _HOSTNAME_MISMATCH and _IP_ADDRESS_MISMATCH."""


async def network_findings(config: Config, *, seconds: float = SECONDS) -> tuple[Finding, ...]:
    """One finding for each connection, and one for this machine's clock, compared with the servers' Date. Connects to
    everything, side by side, each connection within `seconds`; takes at most twice as long."""
    threads = Threads("the connection", limit=2 * seconds, at_once=AT_ONCE)
    try:
        found = list((await Threads("proxies", at_once=1).run(partial(targets, config))).items())
    except NoThread:  # then in this thread: the connections will report that no thread can be started
        found = list(targets(config).items())
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_examined(threads, target, what, seconds)) for target, what in found]
    results = [task.result() for task in tasks]
    clock = clock_finding(ahead for _, ahead in results if ahead is not None)
    return (*(finding for finding, _ in results), clock)


def targets(config: Config) -> dict[Target, str]:
    """Each place once, in the order of the file, with what it is for. May block, see environment_proxy()."""
    found: dict[Target, str] = {}
    for name, provider in config.providers.items():
        for url in _urls(provider):
            parts = urlsplit(url)
            port = parts.port or (443 if parts.scheme == "https" else 80)
            tls = TlsMode.IMPLICIT if parts.scheme == "https" else None
            target = Target(parts.hostname or "", port, tls, None, provider.ca_file, _proxy(url, provider.proxy))
            found.setdefault(target, name)
        for protocol, endpoint in used_endpoints(config, provider).items():
            target = Target(endpoint.host, endpoint.port, endpoint.tls, protocol, endpoint.ca_file)
            found.setdefault(target, f"{name}, {protocol.value}")
    return found


def _urls(provider: ProviderConfig) -> Iterator[str]:
    """The URLs that the bridge or the person's browser requests."""
    if isinstance(provider, MicrosoftProvider):
        yield provider.authority
        return
    if provider.flow is Flow.BROWSER and provider.authorization_url:
        yield provider.authorization_url
    if provider.flow is Flow.DEVICE and (device_url := getattr(provider, "device_url", None)):
        yield str(device_url)
    yield provider.token_url
    if provider.revocation_url and not provider.flow.is_unattended:
        yield provider.revocation_url


_OTHER_PROXY = ("", 0)
"""Stands for a proxy that this check cannot go through."""
_SOCKS_PROXY, _BAD_PROXY = ("", 1080), ("", -1)
"""Stand for proxies that no part of the bridge can go through."""


def _proxy(url: str, configured: str | None) -> tuple[str, int] | None:
    """The proxy that requests to this URL go through: the provider's, or the environment's, as requests reads it."""
    written = configured or environment_proxy(url)
    if written is None:
        return None
    try:
        proxy = urlsplit(written)
        if proxy.scheme.startswith("socks"):
            return _SOCKS_PROXY
        host, port = proxy.hostname or "", proxy.port or 80
    except ValueError:
        return _BAD_PROXY
    if host.split() != [host] or written[0].isspace():  # white space: urlsplit() drops it, requests refuses it
        return _BAD_PROXY
    if proxy.scheme not in {"http", "https"}:
        return _BAD_PROXY
    return (host, port) if proxy.scheme == "http" and proxy.username is None else _OTHER_PROXY


# --- one connection -------------------------------------------------------------------------------------------------


async def _examined(threads: Threads, target: Target, what: str, seconds: float) -> tuple[Finding, float | None]:
    subject = f"{target.place} ({what})"
    if target.proxy == _OTHER_PROXY:
        return skipped("connection", subject, OTHER_PROXY), None
    if target.proxy == _SOCKS_PROXY:
        return failed("connection", subject, SOCKS, host=target.host), None
    if target.proxy == _BAD_PROXY:
        return failed("connection", subject, BAD_PROXY), None
    try:
        return await threads.run(lambda: _connect(target, subject, seconds))
    except NoThread as problem:
        return failed("connection", subject, VERBATIM, problem=problem.said), None
    except NotDone:  # the lookup is the only step without a limit of its own
        return failed("connection", subject, NAME_SLOW, seconds=round(2 * seconds)), None


def _connect(target: Target, subject: str, seconds: float) -> tuple[Finding, float | None]:
    """Runs in a thread."""
    try:
        context = trust(target.ca_file) if target.tls is not None else None  # as for sign-ins and sessions
        reached = probe(target, context, seconds)
    except ProviderUnavailable as problem:  # the CA file cannot be used
        return failed("connection", subject, VERBATIM, problem=problem_text(problem)), None
    except Stopped as stopped:
        return _stopped(target, subject, stopped, seconds), None
    ahead = skew(reached.date, reached.asked, reached.answered) if reached.date else None
    return _reached(target, subject, reached), None if is_loopback(target.host) and target.tls is None else ahead


def _reached(target: Target, subject: str, reached: Reached) -> Finding:
    address, milliseconds = reached.address, reached.milliseconds
    if target.tls is None:
        return ok("connection", subject, PLAIN, address=address, milliseconds=milliseconds)
    certificate = read_certificate(reached.certificate)
    issuer = certificate.issuer if certificate is not None else "?"
    if target.ca_file is None and certificate is not None and not _is_public(target):
        if certificate.interceptor:
            product = certificate.interceptor
            return warning("connection", subject, OPENED_TRUSTED, product=product, issuer=issuer)
        return ok("connection", subject, FOREIGN_TRUSTED, issuer=issuer)
    return ok(
        "connection",
        subject,
        SECURE,
        address=address,
        milliseconds=milliseconds,
        version=reached.tls_version,
        issuer=issuer,
        day=certificate.last_day if certificate is not None else "?",
    )


def _is_public(target: Target) -> bool:
    """True if a machine with no added authorities would trust it. Unknown counts as True: the first try succeeded."""
    try:
        probe(target, public_authorities(), LOOK_SECONDS, only_look=True)
    except Stopped as stopped:
        return stopped.verify_code == 0
    except (OSError, ssl.SSLError):  # certifi's file is not there
        return True
    return True


def _stopped(target: Target, subject: str, stopped: Stopped, seconds: float) -> Finding:
    reason = stopped.reason
    match stopped.stage:
        case Stage.NAME if target.proxy is None:
            return failed("connection", subject, NO_NAME, host=target.host, reason=reason)
        case Stage.CONNECT if target.proxy is None and stopped.timed_out:
            return failed("connection", subject, SILENT, seconds=round(seconds), port=target.port)
        case Stage.CONNECT if target.proxy is None:
            return failed("connection", subject, REFUSED, reason=reason)
        case Stage.NAME | Stage.CONNECT | Stage.PROXY:
            proxy = "{}:{}".format(*(target.proxy or ("", 0)))
            return failed("connection", subject, PROXY, proxy=proxy, reason=reason, host=target.host)
        case Stage.GREETING:
            return failed("connection", subject, NOT_MAIL, reason=reason)
        case Stage.ANSWER:
            return failed("connection", subject, NO_ANSWER, reason=reason)
        case Stage.TLS if stopped.verify_code:
            return _refused(target, subject, stopped, _seen(target))
        case _ if stopped.timed_out:
            return failed("connection", subject, TLS_SILENT, seconds=round(seconds))
        case _:
            return failed("connection", subject, NOT_TLS, reason=reason)


def _seen(target: Target) -> Certificate | None:
    """The certificate that was refused, on a second connection over which nothing is sent."""
    try:
        der = probe(target, no_verification(), LOOK_SECONDS, only_look=True).certificate
    except Stopped:
        return None
    return read_certificate(der)


def _refused(target: Target, subject: str, stopped: Stopped, certificate: Certificate | None) -> Finding:
    """The finding for a refused certificate: which one it was, and whose turn it is."""
    reason = stopped.reason
    if certificate is None:
        return failed("connection", subject, NOT_TRUSTED, reason=reason)
    issuer = certificate.issuer
    if stopped.verify_code == _EXPIRED:
        day = certificate.last_day
        return failed("connection", subject, EXPIRED, turn=Turn.TENANT_ADMIN, day=day, issuer=issuer)
    if stopped.verify_code == _NOT_YET:
        return failed("connection", subject, NOT_YET, day=certificate.first_day, issuer=issuer)
    if stopped.verify_code in _OTHER_NAME:
        return failed("connection", subject, OTHER_NAME, names=", ".join(certificate.names) or "?")
    if certificate.interceptor:
        return failed("connection", subject, OPENED, product=certificate.interceptor, issuer=issuer)
    sentence = FOREIGN if target.ca_file is None else NOT_FROM_CA_FILE
    return failed("connection", subject, sentence, reason=reason, issuer=issuer)
