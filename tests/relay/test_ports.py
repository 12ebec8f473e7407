"""The configured ports, while the configuration changes."""

from __future__ import annotations

import errno
import os
import socket
from typing import Self

import pytest

from bridge.config.addresses import ListenAddress
from bridge.config.diff import ConfiguredListener
from bridge.errors import ConfigError
from bridge.host.sockets import bind
from bridge.model import Protocol
from bridge.relay.limits import ConnectionCap
from bridge.relay.ports import Ports, no_certificate
from bridge.relay.session import no_room
from bridge.relay.stopping import Stopping
from bridge.relay.welcome import Service
from tests.servers.daemons import free_ports


class Last(socket.socket):
    """Of a process that has no descriptor left for another one."""

    def dup(self) -> Self:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def test_a_port_that_is_to_be_had_at_another_address_of_the_machine_needs_a_restart() -> None:
    """The kernel gives it to nobody, ourselves included, as long as the old one is open; that is no other program."""
    number = free_ports(1)[0]
    service = Service(no_room(Protocol.IMAP, Stopping()), ConnectionCap())
    ports = Ports(
        lambda host, port, what: bind(host, port, what=what), lambda listener, certificate: service, no_certificate
    )
    before, after = (
        ConfiguredListener(Protocol.IMAP, ListenAddress(address=f"{host}:{number}"))
        for host in ("127.0.0.1", "localhost")
    )
    (listener,) = ports.change((), (before,))
    try:
        with pytest.raises(ConfigError, match=rf"still has 127\.0\.0\.1:{number}: restart mail-bridge"):
            ports.change((before,), (after,))
        assert ports.listeners == [listener]
    finally:
        ports.close()


def test_a_port_that_cannot_be_opened_anew_for_want_of_descriptors_stays_as_it_is() -> None:
    """A reload that the system has no room for changes nothing, and says why; it used to end the bridge."""
    bound = [socket.create_server(("127.0.0.1", 0)), Last(fileno=socket.create_server(("127.0.0.1", 0)).detach())]
    service = Service(no_room(Protocol.IMAP, Stopping()), ConnectionCap())
    ports = Ports(lambda host, port, what: bound, lambda listener, certificate: service, no_certificate)
    before, after = (
        ConfiguredListener(Protocol.IMAP, ListenAddress(address="localhost:1143", proxy_protocol_from=balancers))
        for balancers in ((), ("192.0.2.1",))
    )
    (listener,) = ports.change((), (before,))
    try:
        with pytest.raises(ConfigError, match=r'^localhost:1143 cannot be listened on: "Too many open files"$'):
            ports.change((before,), (after,))
        assert ports.listeners == [listener]
    finally:
        ports.close()
