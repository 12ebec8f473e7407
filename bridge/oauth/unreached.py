"""Tells in a sentence why a request has not reached a provider, or has lost its answer."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator

import requests
from urllib3.exceptions import (
    ConnectTimeoutError,
    LocationParseError,
    NameResolutionError,
    ProxyError,
    ReadTimeoutError,
)

from bridge.advice.said import Said, said
from bridge.advice.system import system_reason
from bridge.advice.tls import certificate_reason, tls_reason
from bridge.shortage import is_short

OUT_OF_TIME, OF_ANOTHER = frozenset({9, 10}), frozenset({62, 64})
"""OpenSSL's X509_V_ERR_*: not yet or no longer valid; for another name or address."""


def why_unreached(host: str, problem: BaseException, silence: float) -> Said:
    """A sentence for the admin; without the library's text, which may hold the proxy's password. `silence`: the seconds
    that the provider had for its answer."""
    for cause in _causes(problem):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return _distrusted(host, cause)
        if isinstance(cause, ProxyError):
            return said(
                "The proxy does not lead to {host}: the administrator must check the proxy's address and password.",
                host=host,
            )
        if isinstance(cause, (NameResolutionError, LocationParseError, socket.gaierror)):
            return said("{host} cannot be found (DNS): there is no network, or the name is wrong.", host=host)
        if isinstance(cause, ConnectionRefusedError):
            return said("{host} refuses the connection.", host=host)
        if is_short(cause):
            return said("{place} cannot be reached: {reason}", place=host, reason=system_reason(cause))
        if isinstance(cause, (ConnectTimeoutError, requests.ConnectTimeout)):
            return said("{host} cannot be reached: no network, or a firewall.", host=host)
        if isinstance(cause, (ReadTimeoutError, requests.ReadTimeout)):
            return said("{host} did not answer within {seconds} seconds.", host=host, seconds=f"{silence:g}")
        if isinstance(cause, ssl.SSLError):
            return said("TLS with {host} failed ({reason}).", host=host, reason=tls_reason(cause))
    return said("The connection to {host} was lost.", host=host)


def _distrusted(host: str, problem: ssl.SSLCertVerificationError) -> Said:
    """Each kind of refused certificate has a usual reason of its own, and so a hint of its own."""
    reason = certificate_reason(problem)
    if problem.verify_code in OUT_OF_TIME:
        return said(
            "The certificate of {host} is not trusted ({reason}). This machine's clock may be wrong.",
            host=host,
            reason=reason,
        )
    if problem.verify_code in OF_ANOTHER:
        return said(
            "The certificate of {host} is not trusted ({reason}). There is a captive portal, or a URL is wrong.",
            host=host,
            reason=reason,
        )
    return said(
        "The certificate of {host} is not trusted ({reason}). If a company proxy inspects TLS, the "
        "administrator must name its CA certificate with ca_file.",
        host=host,
        reason=reason,
    )


def _causes(problem: BaseException) -> Iterator[BaseException]:
    """The error and all its causes: requests and urllib3 nest them in args, `reason` and contexts."""
    seen: list[BaseException] = []
    waiting: list[object] = [problem]
    while waiting:
        error = waiting.pop(0)
        if isinstance(error, BaseException) and not any(error is known for known in seen):
            seen.append(error)
            waiting += [*error.args, getattr(error, "reason", None), error.__cause__, error.__context__]
    telling = (ssl.SSLCertVerificationError, ProxyError, ConnectionRefusedError)  # these say more than their wrappers
    yield from sorted(seen, key=lambda error: not isinstance(error, telling) and not is_short(error))
