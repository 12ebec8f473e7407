"""The configured ports when the configuration changes."""

from __future__ import annotations

import asyncio
import errno
import gc
import io
import os
import socket
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import pytest
import trustme

from bridge.config.addresses import ListenAddress
from bridge.config.diff import ConfiguredListener
from bridge.errors import BridgeError, ConfigError
from bridge.host.sockets import bind
from bridge.model import Protocol, TlsMode
from bridge.relay.limits import ConnectionCap
from bridge.relay.listener import socket_name
from bridge.relay.ports import LOOK_SECONDS, Ports
from bridge.relay.session import no_room
from bridge.relay.stopping import Stopping
from bridge.relay.tls import ListenerCertificate
from bridge.relay.welcome import Service, Welcome
from tests.servers.daemons import free_ports
from tests.silent import fall_silent, release
from tests.surroundings import no_certificate
from tests.turns import until


class Last(socket.socket):
    """A socket of a process that has no descriptor left."""

    def dup(self) -> Self:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


async def assert_refused(ports: Ports, before: ConfiguredListener, after: ConfiguredListener, words: str) -> None:
    """Checks that the change from one to the other is refused in these words and leaves everything as it was."""
    ports.open([before])
    (listener,) = ports.listeners
    try:
        with pytest.raises(ConfigError, match=words):
            await ports.change((before,), (after,))
        assert ports.listeners == [listener]
    finally:
        ports.close()


async def test_a_port_that_is_to_be_had_at_another_address_of_the_machine_needs_a_restart() -> None:
    """While the old port is open the kernel gives it to nobody, us included; no other program is to blame."""
    number = free_ports(1)[0]
    service = Service(no_room(Protocol.IMAP, Stopping()), ConnectionCap())
    ports = Ports(
        lambda host, port, what: bind(host, port, what=what), lambda listener, certificate: service, no_certificate
    )
    before, after = (
        ConfiguredListener(Protocol.IMAP, ListenAddress(address=f"{host}:{number}"))
        for host in ("127.0.0.1", "localhost")
    )
    await assert_refused(ports, before, after, rf"still has 127\.0\.0\.1:{number}: restart mail-bridge")


async def test_a_port_that_cannot_be_opened_anew_for_want_of_descriptors_stays_as_it_is() -> None:
    """When descriptors run out, a reload changes nothing and says why; it used to end the bridge."""
    bound = [socket.create_server(("127.0.0.1", 0)), Last(fileno=socket.create_server(("127.0.0.1", 0)).detach())]
    service = Service(no_room(Protocol.IMAP, Stopping()), ConnectionCap())
    ports = Ports(lambda host, port, what: bound, lambda listener, certificate: service, no_certificate)
    before, after = (
        ConfiguredListener(Protocol.IMAP, ListenAddress(address="localhost:1143", proxy_protocol_from=balancers))
        for balancers in ((), ("192.0.2.1",))
    )
    await assert_refused(ports, before, after, r'^mail-bridge cannot listen on localhost:1143: "Too many open files"$')


class System:
    """Creates sockets, and can have one port that another program holds."""

    def __init__(self) -> None:
        self.bound: dict[int, socket.socket] = {}
        self.taken = 0

    def bind(self, host: str, port: int, what: str) -> list[socket.socket]:
        if port == self.taken:
            raise BridgeError(f"{what}: {port} is taken")
        self.bound[port] = socket.create_server(("127.0.0.1", 0))
        self.bound[port].setblocking(False)
        return [self.bound[port]]


@pytest.fixture
def system() -> Iterator[System]:
    system = System()
    yield system
    for sock in system.bound.values():
        sock.close()


def ports_of(system: System) -> Ports:
    service = Service(no_room(Protocol.IMAP, Stopping()), ConnectionCap())
    return Ports(system.bind, lambda listener, certificate: service, no_certificate)


def configured(port: int, *balancers: str) -> ConfiguredListener:
    return ConfiguredListener(Protocol.IMAP, ListenAddress(address=f"localhost:{port}", proxy_protocol_from=balancers))


async def test_of_a_change_only_a_port_in_the_same_place_keeps_its_socket(system: System) -> None:
    """So no mail program finds it closed meanwhile. A port elsewhere is opened, and an unchanged one is left alone."""
    ports = ports_of(system)
    stays, moves, changes = (configured(port) for port in (1143, 1144, 1145))
    await ports.change((), (stays, moves, changes))
    old = {port: sock.getsockname() for port, sock in system.bound.items()}
    changed, moved = configured(1145, "192.0.2.1"), configured(1146)
    new = await ports.change((moves, changes), (changed, moved))
    names = [socket_name(system.bound[port]) for port in (1143, 1145, 1146)]
    assert [listener.address for listener in ports.listeners] == names
    assert [listener.address for listener in new] == names[1:]
    assert system.bound[1145].getsockname() == old[1145]
    assert list(system.bound) == [1143, 1144, 1145, 1146]
    ports.close()
    assert ports.listeners == []


async def test_sessions_of_a_closed_port_go_on_and_a_stop_ends_them_too(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.relay.listener.DRAIN_SECONDS", 0.0)
    loop = asyncio.get_running_loop()

    async def welcome(conn: str, client: socket.socket, peer: str) -> None:
        with client:
            while said := await loop.sock_recv(client, 100):
                await loop.sock_sendall(client, said)

    ports = Ports(system.bind, lambda listener, certificate: welcome, no_certificate)
    (old,) = await ports.change((), (configured(1143),))
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(ports.run())
        with ExitStack() as clients:
            client = clients.enter_context(socket.create_connection(system.bound[1143].getsockname()))
            client.setblocking(False)
            await until(lambda: old.sessions == 1)
            (new,) = await ports.change((configured(1143),), (configured(1144),))
            clients.enter_context(socket.create_connection(system.bound[1144].getsockname()))
            await until(lambda: new.sessions == 1)
            await ports.settled()
            assert system.bound[1143].fileno() < 0, "whoever comes from now on meets the new port alone"
            for _ in range(10):
                await loop.sock_sendall(client, b"still")
                assert await loop.sock_recv(client, 100) == b"still"
            assert old.sessions == 1
            assert ports.sessions == {"imap": 2}, "also for whoever watches the bridge"
            ports.stop()
            await until(lambda: old.sessions == new.sessions == 0)


async def test_a_closed_port_is_forgotten_with_its_last_session(system: System) -> None:
    """A bridge that runs for a year with a new configuration each day must not grow."""
    told, is_over = list[Welcome](), asyncio.Event()

    async def welcome(conn: str, client: socket.socket, peer: str) -> None:
        with client:
            await is_over.wait()

    ports = Ports(system.bind, lambda listener, certificate: welcome, no_certificate, on_closed=told.append)
    old = [weakref.ref(listener) for listener in await ports.change((), (configured(1143),))]
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(ports.run())
        with socket.create_connection(system.bound[1143].getsockname()):
            await until(lambda: [listener.sessions for listener in ports.listeners] == [1])
            await ports.change((configured(1143),), (configured(1144),))
            await ports.settled()
            assert system.bound[1143].fileno() < 0, "whoever comes from now on meets the new port alone"
            assert told == []
            is_over.set()
            await until(lambda: told == [welcome])
        for _ in range(3):  # the task that has served it ends within the next turns of the loop
            await asyncio.sleep(0)
        gc.collect()
        assert [listener() for listener in old] == [None]
        ports.stop()


async def test_a_port_that_was_not_kept_is_told_of_as_closed(system: System) -> None:
    told, given = list[Welcome](), list[Welcome]()

    def serving(listener: ConfiguredListener, certificate: ListenerCertificate | None) -> Welcome:
        given.append(Service(no_room(Protocol.IMAP, Stopping()), ConnectionCap()))
        return given[-1]

    ports = Ports(system.bind, serving, no_certificate, on_closed=told.append)
    system.taken = 1145
    with pytest.raises(BridgeError, match="1145 is taken"):
        await ports.change((), (configured(1144), configured(1145)))
    assert len(told) == 1
    assert told == given


async def test_a_port_that_is_taken_closes_what_was_opened_before_it_and_changes_nothing(system: System) -> None:
    ports = ports_of(system)
    first = configured(1143)
    (listener,) = await ports.change((), (first,))
    system.taken = 1145
    with pytest.raises(BridgeError, match=r"listeners\.imap: 1145 is taken"):
        await ports.change((first,), (configured(1144), configured(1145)))
    assert ports.listeners == [listener]
    assert [sock.fileno() >= 0 for sock in system.bound.values()] == [True, False]
    ports.close()
    assert [sock.fileno() >= 0 for sock in system.bound.values()] == [False, False]


async def test_a_look_at_the_certificates_tells_of_new_ones_only_also_while_none_can_be_made(
    system: System, tmp_path: Path, log: io.StringIO
) -> None:
    authority, file = trustme.CA(), tmp_path / "made.pem"
    is_full, renewed = False, []

    def ensure(names: Iterable[str]) -> str:
        assert set(names) == {"crm.example.com", "mail.example.com"}
        if is_full:
            raise BridgeError("the disk is full")
        return str(file)

    def issue(file: Path = file) -> None:
        authority.issue_cert("crm.example.com").private_key_and_cert_chain_pem.write_to_path(str(file))

    issue()
    issue(given := tmp_path / "given.pem")
    service = Service(no_room(Protocol.IMAP, Stopping()), ConnectionCap())
    ports = Ports(system.bind, lambda listener, certificate: service, ensure, lambda: renewed.append(1))
    names = {1143: ("crm.example.com",), 1144: ("mail.example.com",)}
    addresses = [ListenAddress(address=f"localhost:{port}", tls=TlsMode.STARTTLS, names=names[port]) for port in names]
    addresses.append(
        ListenAddress(address="localhost:1145", tls=TlsMode.STARTTLS, certificate=str(given), key=str(given))
    )
    await ports.change((), [ConfiguredListener(Protocol.IMAP, address) for address in addresses])
    await ports.look()
    assert renewed == []
    issue()
    await ports.look()
    assert renewed == [1]
    is_full = True
    issue()
    await ports.look()
    assert renewed == [1, 1]
    issue(given)
    await ports.look()
    assert renewed == [1, 1, 1]
    assert "the disk is full" in log.getvalue()
    ports.close()


async def test_the_certificate_that_is_made_has_the_names_of_all_ports_that_are_open_by_then(
    system: System, tmp_path: Path
) -> None:
    """Also of ports that the change leaves alone, because their programs look for their names in the same file."""
    file, asked = tmp_path / "made.pem", []
    trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(file))

    def ensure(names: Iterable[str]) -> str:
        asked.append(set(names))
        return str(file)

    def named(port: int, name: str) -> ConfiguredListener:
        address = ListenAddress(address=f"localhost:{port}", tls=TlsMode.IMPLICIT, names=(name,))
        return ConfiguredListener(Protocol.IMAP, address)

    service = Service(no_room(Protocol.IMAP, Stopping()), ConnectionCap())
    ports = Ports(system.bind, lambda listener, certificate: service, ensure)
    first, second = named(1143, "crm.example.com"), named(1144, "mail.example.com")
    await ports.change((), [configured(1145)])
    assert asked == [], "nobody needs one"
    (opened,) = await ports.change((), [first])
    assert opened.tls is TlsMode.IMPLICIT
    await ports.change((), [second])
    await ports.change([first], [])
    assert asked == [{"crm.example.com"}, {"crm.example.com", "mail.example.com"}], "nobody needs another one"
    await ports.look()
    assert asked == [{"crm.example.com"}, {"crm.example.com", "mail.example.com"}, {"mail.example.com"}]
    ports.close()


async def test_the_certificates_are_looked_at_after_each_pause(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[object] = []

    async def pause(seconds: float) -> None:
        done.append(seconds)
        if len(done) == 5:
            raise asyncio.CancelledError

    async def look() -> None:
        done.append("look")

    ports = ports_of(system)
    monkeypatch.setattr(ports, "look", look)
    with pytest.raises(asyncio.CancelledError):
        await ports.follow_certificates(pause)
    assert done == [LOOK_SECONDS, "look", LOOK_SECONDS, "look", LOOK_SECONDS]


async def test_nobody_stands_still_for_a_certificate_that_does_not_answer(system: System, tmp_path: Path) -> None:
    """The file is on a network drive whose server is gone; once the drive is back, the renewed file is loaded."""
    file, threads, looks = tmp_path / "server.pem", list[object](), 0
    renewed = asyncio.Event()

    def issue() -> None:
        trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(file))

    async def pause(seconds: float) -> None:
        nonlocal looks
        looks += 1
        await asyncio.sleep(0.01)

    def tell() -> None:
        threads.append(threading.current_thread())
        renewed.set()

    issue()
    service = Service(no_room(Protocol.IMAP, Stopping()), ConnectionCap())
    ports = Ports(system.bind, lambda listener, certificate: service, no_certificate, tell)
    address = ListenAddress(address="localhost:1143", tls=TlsMode.IMPLICIT, certificate=str(file), key=str(file))
    await ports.change((), [ConfiguredListener(Protocol.IMAP, address)])
    async with asyncio.TaskGroup() as group:
        following = group.create_task(ports.follow_certificates(pause))
        fall_silent(file)
        await asyncio.sleep(0.1)
        assert not renewed.is_set()
        before = looks
        await asyncio.sleep(0.1)
        assert looks == before  # a single look, which has not ended
        release(file)
        issue()
        await renewed.wait()
        following.cancel()
    assert set(threads) == {threading.current_thread()}
    ports.close()


async def test_nobody_stands_still_for_the_certificate_of_a_port_that_is_to_be_opened(
    system: System, tmp_path: Path
) -> None:
    """A reload names a certificate on a network drive whose server is gone."""
    file = fall_silent(tmp_path / "server.pem")
    ports = ports_of(system)
    address = ListenAddress(address="localhost:1143", tls=TlsMode.IMPLICIT, certificate=str(file), key=str(file))

    async def change() -> None:
        with pytest.raises(ConfigError, match=r"server\.pem or its key cannot be used"):
            await ports.change((), [ConfiguredListener(Protocol.IMAP, address)])

    async with asyncio.TaskGroup() as group:
        changing = group.create_task(change())
        await asyncio.sleep(0.05)
        assert not changing.done()
        release(file)
    assert ports.listeners == []


class Workshop:
    """Makes certificates, and waits for `goes_on` each time."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / "made.pem"
        self.issue()
        self.has_begun, self.goes_on = threading.Event(), threading.Event()
        self.at_work = self.most_at_work = 0

    def ensure(self, names: Iterable[str]) -> str:
        self.at_work += 1
        self.most_at_work = max(self.most_at_work, self.at_work)
        self.has_begun.set()
        self.goes_on.wait(30)
        self.at_work -= 1
        return str(self._file)

    def issue(self) -> None:
        trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(self._file))

    def ports(self, system: System, on_renewed: Callable[[], None] = lambda: None) -> Ports:
        service = Service(no_room(Protocol.IMAP, Stopping()), ConnectionCap())
        return Ports(system.bind, lambda listener, certificate: service, self.ensure, on_renewed)


def with_made_certificate(port: int) -> ConfiguredListener:
    return ConfiguredListener(Protocol.IMAP, ListenAddress(address=f"localhost:{port}", tls=TlsMode.IMPLICIT))


async def test_for_a_port_that_is_taken_no_certificate_is_made(system: System, tmp_path: Path) -> None:
    """For other names it would come from a new CA, and then no program would trust the ports that stay."""
    workshop = Workshop(tmp_path)
    workshop.goes_on.set()
    ports = workshop.ports(system)
    ports.open([with_made_certificate(1143)])
    workshop.has_begun.clear()
    system.taken = 1145
    with pytest.raises(BridgeError, match=r"listeners\.imap: 1145 is taken"):
        await ports.change((), [with_made_certificate(1144), with_made_certificate(1145)])
    assert not workshop.has_begun.is_set()
    assert [port for port, sock in system.bound.items() if sock.fileno() >= 0] == [1143]
    ports.close()


async def test_the_certificate_is_never_made_by_two_at_once(system: System, tmp_path: Path) -> None:
    """Each would make its own CA, and the files would be a mixture of both."""
    workshop = Workshop(tmp_path)
    ports = workshop.ports(system)
    workshop.goes_on.set()
    ports.open([with_made_certificate(1142)])
    workshop.has_begun.clear()
    workshop.goes_on.clear()
    async with asyncio.TaskGroup() as group:
        group.create_task(ports.change((), [with_made_certificate(1143)]))
        await until(workshop.has_begun.is_set)
        looking = group.create_task(ports.look())
        changing = group.create_task(ports.change((), [with_made_certificate(1144)]))
        await asyncio.sleep(0.1)
        assert not looking.done()
        assert not changing.done()
        workshop.goes_on.set()
    assert workshop.most_at_work == 1
    assert len(ports.listeners) == 3
    ports.close()


class Turn:
    """A lock that sets an event when somebody has to wait for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.is_awaited = threading.Event()

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            self.is_awaited.set()
            self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


async def test_a_look_beside_a_change_of_names_makes_no_authority_of_its_own(
    system: System, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise it would go by the names of the ports still open, and its CA would replace the one people import."""
    workshop, turn, made = Workshop(tmp_path), Turn(), [set[str]()]

    def ensure(names: Iterable[str]) -> str:
        if not (wanted := set(names)) <= made[-1]:  # as bridge.host.local_tls does
            made.append(wanted)
        return workshop.ensure(wanted)

    def named(name: str) -> ConfiguredListener:
        address = ListenAddress(address="localhost:1143", tls=TlsMode.IMPLICIT, names=(name,))
        return ConfiguredListener(Protocol.IMAP, address)

    service = Service(no_room(Protocol.IMAP, Stopping()), ConnectionCap())
    ports = Ports(system.bind, lambda listener, certificate: service, ensure)
    monkeypatch.setattr(ports, "_making", turn)
    workshop.goes_on.set()
    ports.open([named("old.example.com")])
    workshop.has_begun.clear()
    workshop.goes_on.clear()
    async with asyncio.TaskGroup() as group:
        group.create_task(ports.change([named("old.example.com")], [named("new.example.com")]))
        await until(workshop.has_begun.is_set)
        group.create_task(ports.look())
        await until(turn.is_awaited.is_set)
        workshop.goes_on.set()
    await ports.look()
    assert len(made) == 3, "none, that of the start, and that of the change"
    assert "new.example.com" in made[-1]
    ports.close()


async def test_a_change_with_a_certificate_that_cannot_be_used_makes_none_beside_it(
    system: System, tmp_path: Path
) -> None:
    """It would come from a new CA, and the next look would give it to the ports that have stayed."""
    workshop, asked, missing = Workshop(tmp_path), list[set[str]](), str(tmp_path / "missing.pem")

    def ensure(names: Iterable[str]) -> str:
        asked.append(set(names))
        return workshop.ensure(names)

    service = Service(no_room(Protocol.IMAP, Stopping()), ConnectionCap())
    ports = Ports(system.bind, lambda listener, certificate: service, ensure)
    workshop.goes_on.set()
    old, new, given = (
        ConfiguredListener(Protocol.IMAP, ListenAddress(address=f"localhost:{port}", tls=TlsMode.IMPLICIT, **more))
        for port, more in (
            (1143, {"names": ("old.example.com",)}),
            (1143, {"names": ("new.example.com",)}),
            (1144, {"certificate": missing, "key": missing}),
        )
    )
    ports.open([old])
    with pytest.raises(ConfigError, match="cannot be used"):
        await ports.change([old], [new, given])
    await ports.look()
    assert asked == [{"old.example.com"}] * 2, "at the start, and by the look"
    ports.close()


async def test_what_has_nothing_to_read_waits_for_no_look(system: System, tmp_path: Path) -> None:
    workshop = Workshop(tmp_path)
    ports = workshop.ports(system)
    workshop.goes_on.set()
    ports.open([with_made_certificate(1143)])
    workshop.has_begun.clear()
    workshop.goes_on.clear()
    async with asyncio.TaskGroup() as group:
        group.create_task(ports.look())
        await until(workshop.has_begun.is_set)
        closing = group.create_task(ports.change([with_made_certificate(1143)], [configured(1144)]))
        await until(closing.done)
        assert workshop.at_work == 1
        workshop.goes_on.set()
    ports.close()


async def test_a_certificate_that_is_taken_up_for_nobody_is_told_of_by_the_next_look(
    system: System, tmp_path: Path
) -> None:
    """Whoever began the first look, such as a reload, has given up waiting; workers have to be told all the same."""
    told = list[str]()
    workshop = Workshop(tmp_path)
    ports = workshop.ports(system, lambda: told.append("renewed"))
    workshop.goes_on.set()
    ports.open([with_made_certificate(1143)])
    workshop.has_begun.clear()
    workshop.goes_on.clear()
    workshop.issue()
    async with asyncio.TaskGroup() as group:
        looking = group.create_task(ports.look())
        await until(workshop.has_begun.is_set)
        looking.cancel()
    workshop.goes_on.set()
    assert told == []
    for _ in range(2):
        await ports.look()
        assert told == ["renewed"]
    ports.close()


async def test_a_port_whose_certificate_is_there_after_the_stop_is_not_opened(system: System, tmp_path: Path) -> None:
    workshop = Workshop(tmp_path)
    ports = workshop.ports(system)
    async with asyncio.TaskGroup() as group:
        changing = group.create_task(ports.change((), [with_made_certificate(1143)]))
        await until(workshop.has_begun.is_set)
        ports.stop()
        workshop.goes_on.set()
    assert changing.result() == []
    assert system.bound == {}
