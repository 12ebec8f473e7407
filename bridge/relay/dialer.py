"""Dials mail servers: looks the name up, and races its addresses, beginning with the one that has answered last."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from contextlib import suppress

from bridge.advice.said import Said, quoted, said
from bridge.advice.system import name_reason, system_reason, told_reasons
from bridge.dialing import AddressInfo, look_up, race
from bridge.errors import UpstreamUnavailable
from bridge.model import Endpoint
from bridge.observe.logs import event
from bridge.relay.channel import Channel
from bridge.relay.connected import open_channel
from bridge.relay.resolver import Lookup, Resolver
from bridge.threads import NotDone

CONNECT_SECONDS = 10.0
"""For name lookup and TCP together; a CRM gives up after 30 to 60 s, and a login may need two attempts."""


class Dialer:
    """TCP to an endpoint: asynchronous name lookup, then the addresses of both families in a race (RFC 8305)."""

    def __init__(self, *, lookup: Lookup = look_up, connect_seconds: float = CONNECT_SECONDS) -> None:
        self._resolver = Resolver(lookup)
        self._connect_seconds = connect_seconds
        self._used: dict[tuple[str, int], object] = {}
        """The address of each server that has answered last, unless a login failed there."""

    async def dial(self, endpoint: Endpoint) -> Channel:
        """Connect. Raises: UpstreamUnavailable with a sentence that names the server."""
        place = f"{endpoint.host}:{endpoint.port}"
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._connect_seconds):
                found = await self._resolver.addresses(endpoint.host, endpoint.port)
                sock = await race(self._used_first(endpoint, found))
        except TimeoutError:
            self._forget(endpoint)
            raise UpstreamUnavailable(
                said("{place} does not answer within {seconds} s", place=place, seconds=f"{self._connect_seconds:g}")
            ) from None
        except (socket.gaierror, UnicodeError) as problem:
            raise UpstreamUnavailable(
                said("the name {host} cannot be looked up: {reason}", host=endpoint.host, reason=name_reason(problem))
            ) from problem
        except NotDone as problem:
            raise UpstreamUnavailable(problem.said) from problem
        except OSError as problem:
            self._forget(endpoint)
            event("upstream.unreached", upstream=place, reason=str(problem))  # which names the addresses
            raise UpstreamUnavailable(
                said("{place} cannot be reached: {reason}", place=place, reason=_unreached(problem))
            ) from problem
        with suppress(OSError):  # it may be gone again
            self._used[endpoint.host, endpoint.port] = sock.getpeername()
        return open_channel(sock, loop, peer=place, is_upstream=True)

    def _used_first(self, endpoint: Endpoint, found: Sequence[AddressInfo]) -> Sequence[AddressInfo]:
        """The address that has answered last is tried first (RFC 8305 section 4): where a network drops one family,
        only the first login waits a head start for it."""
        used = self._used.get((endpoint.host, endpoint.port))
        return sorted(found, key=lambda one: one[4] != used)

    def _forget(self, endpoint: Endpoint) -> None:
        """Next time the name server says what to try, and in which order."""
        self._resolver.forget(endpoint.host, endpoint.port)
        self.forget_used(endpoint)

    def forget_used(self, endpoint: Endpoint) -> None:
        """Prefer no address any more: the machine behind it may be ill, although it answers."""
        self._used.pop((endpoint.host, endpoint.port), None)


def _unreached(problem: OSError) -> Said:
    """Why no connection could be made to any of the addresses."""
    # Where addresses fail in different ways (IPv6 in an office without it), the error has all reasons in its text, and
    # an errno only if they share one: on Windows that is EINVAL, whatever the reason.
    reasons = told_reasons(problem.strerror or str(problem))
    if not reasons and (problem.errno or isinstance(problem, ConnectionRefusedError)):
        return system_reason(problem)
    if not reasons:
        return quoted(str(problem) or type(problem).__name__)
    names = [f"reason_{number}" for number in range(len(reasons))]
    return Said(", ".join(f"{{{name}}}" for name in names), tuple(zip(names, reasons, strict=True)))
