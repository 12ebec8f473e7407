"""Whose program is at the other end of a connection: from this machine's kernel, and from other systems' tables."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from bridge.host import callers, callers_linux, callers_macos, callers_windows, users
from bridge.host.callers import ELSEWHERE, GONE, NAME_SECONDS, NO_WAY, NOT_TOLD, Callers, NotAtOnce, Owner
from bridge.host.callers_linux import Linux
from bridge.host.sock_diag import Kernel, Unknown
from bridge.model import Caller, Ends
from bridge.relay.channel import ends_of
from bridge.threads import NotDone
from tests.host.limits import out_of_descriptors
from tests.servers.needed import absent
from tests.servers.os_user import OsUser, network_address

PERSON = OsUser("", 2_000_100_000, 2_000_100_000)
ENDS = Ends(("127.0.0.1", 40001), ("127.0.0.1", 1143))


class Loopback:
    """A listener, and connections to it."""

    def __init__(self, stack: ExitStack, family: socket.AddressFamily, host: str) -> None:
        self.stack = stack
        self.family = family
        self.server = stack.enter_context(socket.create_server((host, 0), family=family))
        self.host = host
        self.port: int = self.server.getsockname()[1]

    def accept(self) -> tuple[socket.socket, Ends]:
        accepted = self.stack.enter_context(self.server.accept()[0])
        return accepted, Ends(accepted.getpeername()[:2], accepted.getsockname()[:2])

    def connect(self, address: str | None = None, family: socket.AddressFamily | None = None) -> socket.socket:
        client = self.stack.enter_context(socket.socket(family or self.family))
        client.connect((address or self.server.getsockname()[0], self.port))
        return client


@pytest.fixture(params=[(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")], ids=["ipv4", "ipv6"])
def loopback(request: pytest.FixtureRequest) -> Iterator[Loopback]:
    with ExitStack() as stack:
        yield Loopback(stack, *request.param)


WAYS: list[Callable[[Ends], Owner | None]] = [Kernel().owner, Linux().owner]
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="asks Linux itself")


def by_both_ways(test: Callable[..., None]) -> Callable[..., None]:
    for mark in (pytest.mark.parametrize("owner_of", WAYS, ids=["netlink", "proc"]), on_linux):
        test = mark(test)
    return test


@by_both_ways
def test_the_owner_of_our_own_socket(loopback: Loopback, owner_of: Callable[[Ends], Owner | None]) -> None:
    client = loopback.connect()
    _, ends = loopback.accept()
    assert owner_of(ends) == Owner(str(os.getuid()), os.fstat(client.fileno()).st_ino)


@by_both_ways
def test_the_owner_of_a_colleagues_socket(
    loopback: Loopback, owner_of: Callable[[Ends], Owner | None], colleague: OsUser
) -> None:
    with colleague.connect(loopback.port, loopback.server.getsockname()[0]):
        _, ends = loopback.accept()
        found = owner_of(ends)
        assert found is not None
        assert found.user_id == str(colleague.uid)


@by_both_ways
def test_a_socket_that_was_closed_is_nobodys(
    loopback: Loopback, owner_of: Callable[[Ends], Owner | None], colleague: OsUser
) -> None:
    """Otherwise it would be root's, as the kernel says of a closed socket."""
    sock = colleague.connect(loopback.port, loopback.server.getsockname()[0])
    accepted, ends = loopback.accept()
    sock.sendall(b"a1 LOGIN alice CANARY\r\n")
    sock.close()
    assert accepted.recv(100)
    assert owner_of(ends) is None


@by_both_ways
def test_half_closed_it_is_still_theirs(loopback: Loopback, owner_of: Callable[[Ends], Owner | None]) -> None:
    client = loopback.connect()
    _, ends = loopback.accept()
    client.shutdown(socket.SHUT_WR)
    assert owner_of(ends) is not None


@by_both_ways
def test_a_listener_at_the_clients_port_is_not_the_client(owner_of: Callable[[Ends], Owner | None]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other, socket.create_server(("127.0.0.1", 0)) as ours:
        assert owner_of(Ends(other.getsockname(), ours.getsockname())) is None


@by_both_ways
def test_ipv4_by_an_ipv6_socket(owner_of: Callable[[Ends], Owner | None]) -> None:
    with ExitStack() as stack:
        loopback = Loopback(stack, socket.AF_INET, "127.0.0.1")
        client = loopback.connect("::ffff:127.0.0.1", socket.AF_INET6)
        _, ends = loopback.accept()
        assert owner_of(ends) == Owner(str(os.getuid()), os.fstat(client.fileno()).st_ino)


@on_linux
def test_the_program_that_holds_a_socket(loopback: Loopback) -> None:
    loopback.connect()
    _, ends = loopback.accept()
    owner = Kernel().owner(ends)
    assert owner is not None
    name = Path("/proc/self/comm").read_text().strip()
    assert Linux().program(owner) == name
    assert Linux().program(Owner(owner.user_id, 1)) == ""


@on_linux
def test_without_a_descriptor_a_program_has_no_name(loopback: Loopback) -> None:
    """The name is only used in a message, which works without it."""
    loopback.connect()
    _, ends = loopback.accept()
    owner = Kernel().owner(ends)
    assert owner is not None
    with out_of_descriptors():
        assert Linux().program(owner) == ""


@on_linux
async def test_a_program_that_calls_itself_something_odd_does_not_turn_the_sentence_around(loopback: Loopback) -> None:
    """The program's user chooses its name, possibly with line breaks or characters that turn text right to left."""
    ends, own = (loopback.connect(), loopback.accept()[1])[1], Path("/proc/self/comm")
    before = own.read_text().strip()
    own.write_text("CRM\u202e\u2066\x1b\n(me)")
    try:
        name = await Callers(Linux()).program(ends)
    finally:
        own.write_text(before)
    assert name == "CRM(me)"


# --- Callers --------------------------------------------------------------------------------------------------------


class Told:
    """A system that gives the answers that a test sets."""

    def __init__(self) -> None:
        self.now: Owner | None = None
        self.slow: Owner | None = None
        self.names = {"1000": "alice"}
        self.asked: list[str] = []

    def owner_now(self, ends: Ends) -> Owner | None:
        if self.now is None:
            raise NotAtOnce
        return self.now

    def owner(self, ends: Ends) -> Owner | None:
        self.asked.append("owner")
        return self.slow

    def user_name(self, user_id: str) -> str:
        self.asked.append(user_id)
        return self.names.get(user_id, "")

    def main_user(self, user_id: str) -> str:
        return user_id

    def program(self, owner: Owner) -> str:
        return "crm"


async def test_the_cheap_way_first_and_names_are_remembered() -> None:
    system, seconds = Told(), [0.0]
    system.now = Owner("1000", 7)
    callers = Callers(system, lambda: seconds[0])
    for _ in range(3):
        caller = await callers.of(ENDS)
        assert (caller.user, caller.user_id, caller.key, caller.unknown) == ("alice", "1000", "user 1000", "")
    assert system.asked == ["1000"]
    seconds[0] = NAME_SECONDS
    system.names["1000"] = "alice.new"
    assert (await callers.of(ENDS)).user == "alice.new"
    seconds[0] = 2 * NAME_SECONDS
    del system.names["1000"]
    assert (await callers.of(ENDS)).user == "alice.new", "a directory that does not answer takes nobody's name away"
    assert await callers.program(ENDS) == "crm"


async def test_whose_it_is_at_once_or_not_at_all() -> None:
    system, seconds = Told(), [0.0]
    callers = Callers(system, lambda: seconds[0])
    assert callers.at_once(ENDS) is None, "the cheap way does not tell"
    system.now = Owner("1000", 7)
    assert callers.at_once(ENDS) is None, "nobody has asked for the name yet"
    known = await callers.of(ENDS)
    assert callers.at_once(ENDS) == known
    assert system.asked == ["1000"]
    seconds[0] = NAME_SECONDS
    assert callers.at_once(ENDS) is None, "names are asked for again"
    assert callers.at_once(None) is None
    elsewhere = Ends(("192.0.2.1", 50000), ("192.0.2.2", 1143))
    assert callers.at_once(elsewhere) == await callers.of(elsewhere)
    assert Callers(None).at_once(ENDS) is None


async def test_a_name_that_the_directory_is_too_slow_to_tell_is_unknown_for_now(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(callers, "ASK_SECONDS", 0.01)
    answers = threading.Event()

    class Hanging(Told):
        def user_name(self, user_id: str) -> str:
            answers.wait()
            return super().user_name(user_id)

    system = Hanging()
    system.now = Owner("1000", 7)
    asked = callers.Callers(system)
    caller = await asked.of(ENDS)
    assert (caller.user, caller.user_id, caller.is_for_now) == ("", "1000", True)
    assert "no answer" in caller.unknown
    answers.set()
    monkeypatch.setattr(callers, "ASK_SECONDS", 60)
    assert await callers.Callers(system).of(ENDS) == Caller("alice", "1000")


async def test_who_cannot_be_asked_about_just_now_may_be_known_the_next_time() -> None:
    class Short(Told):
        def owner(self, ends: Ends) -> Owner | None:
            raise NotDone("no descriptor is left")

    caller = await Callers(Short()).of(ENDS)
    assert (caller.unknown, caller.is_for_now, caller.key) == ("no descriptor is left", True, "")
    assert not (await Callers(Told()).of(ENDS)).is_for_now


@on_linux
def test_without_a_descriptor_the_kernel_cannot_be_asked_just_now(loopback: Loopback) -> None:
    """Neither way gives an answer: it would say that nobody is there."""
    loopback.connect()
    _, ends = loopback.accept()
    system = Linux()
    with out_of_descriptors():
        with pytest.raises(NotAtOnce):
            system.owner_now(ends)
        with pytest.raises(NotDone):
            system.owner(ends)
    assert system.owner_now(ends) is not None, "and netlink is not given up"


@on_linux
async def test_without_a_descriptor_a_name_cannot_be_asked_for_just_now(loopback: Loopback, colleague: OsUser) -> None:
    """Not even if the kernel can be asked: the user directory would say that nobody has this number, as if it had
    looked. The test does not ask for root, because nss-systemd, once loaded, knows root without a file."""
    with colleague.connect(loopback.port, loopback.server.getsockname()[0]):
        _, ends = loopback.accept()
        system = Linux()
        assert system.owner_now(ends) is not None
        number, asked = str(colleague.uid), Callers(system)
        assert users.name_of(str(users.NOBODYS_NUMBER)) == "", "all of the directory has been asked, and is in memory"
        with out_of_descriptors():
            caller = await asked.of(ends)
        assert (caller.user, caller.user_id, caller.is_for_now) == ("", number, True)
        assert caller.unknown == os.strerror(errno.EMFILE)
        assert await asked.of(ends) == Caller(colleague.name, number)


@on_linux
async def test_a_connection_that_nobody_holds_is_nobodys_at_once_too() -> None:
    class Closed(Told):
        def owner_now(self, ends: Ends) -> Owner | None:
            return None

    callers = Callers(Closed())
    assert callers.at_once(ENDS) is None
    assert (await callers.of(ENDS)).unknown == NOT_TOLD
    assert await callers.program(ENDS) == ""


async def test_the_program_of_another_machine_is_not_asked_for() -> None:
    system = Told()
    system.now = Owner("1000", 7)
    assert await Callers(system).program(Ends(("192.0.2.1", 50000), ("192.0.2.2", 1143))) == ""
    assert await Callers(None).program(ENDS) == ""


async def test_so_many_names_are_remembered_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's containers may have 65,536 uids."""
    monkeypatch.setattr(callers, "NAMES", 2)
    system, seconds = Told(), [0.0]
    system.names = {"1000": "alice", "1001": "bob", "1002": "carol"}
    asked = Callers(system, lambda: seconds[0])

    async def ask(user_id: str) -> None:
        system.now = Owner(user_id)
        await asked.of(ENDS)

    await ask("1000")
    await ask("1001")
    seconds[0] = NAME_SECONDS
    for user_id in ("1000", "1002", "1000", "1002", "1001"):
        await ask(user_id)
    assert system.asked == ["1000", "1001", "1000", "1002", "1001"]
    assert len(asked._names) == 2


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["ipv4", "ipv6"])
async def test_without_a_descriptor_another_address_of_this_machine_is_not_another_machines(
    family: socket.AddressFamily,
) -> None:
    """Otherwise the right password would be refused as another machine's, instead of being told to come again."""
    host = "192.0.2.1" if family == socket.AF_INET else "2001:db8::1"
    ends = Ends((network_address(family), 40001), (host, 1143))
    asked = Callers(Told())
    assert (await asked.of(ends)).unknown == NOT_TOLD, "it is ours, and the system is asked"
    with out_of_descriptors():
        caller, at_once, program = await asked.of(ends), asked.at_once(ends), await asked.program(ends)
    assert (caller.unknown, caller.is_for_now) == (os.strerror(errno.EMFILE), True)
    assert (at_once, program) == (None, "")


@on_linux
def test_a_kernel_that_knows_of_no_connection_is_not_asked_about_each(loopback: Loopback) -> None:
    """Such a kernel has no tcp_diag, and would search for the module on each question."""
    loopback.connect()
    _, ends = loopback.accept()
    system, questions = Linux(), list[Ends]()

    class Silent(Kernel):
        def owner(self, ends: Ends) -> Owner | None:
            questions.append(ends)
            raise Unknown

    system._kernel = Silent()
    nobodys = Ends(("127.0.0.1", 1), ends.ours)
    for _ in range(2):
        with pytest.raises(NotAtOnce):
            system.owner_now(nobodys)
        assert system.owner(nobodys) is None
    assert len(questions) == 2, "it may be right that there is none"
    for _ in range(2):
        with pytest.raises(NotAtOnce):
            system.owner_now(ends)
        assert system.owner(ends) is not None
    assert len(questions) == 3


def test_without_a_descriptor_whose_numbers_these_are_is_not_known_just_now() -> None:
    with out_of_descriptors(), pytest.raises(NotDone, match=os.strerror(errno.EMFILE)):
        Linux().main_user("100000")


@on_linux
def test_tables_that_this_kernel_does_not_have_are_no_want_of_anything(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Otherwise nobody could log in where IPv6 is off or no containers are set up: the answer would stay "later"."""
    monkeypatch.setattr(callers_linux, "PROC", tmp_path)
    monkeypatch.setattr(callers_linux, "SUBORDINATES", tmp_path / "subuid")
    assert Linux().owner(ENDS) is None
    assert Linux().main_user("100007") == "100007"


@pytest.mark.parametrize(("state", "owner"), [("01", Owner("1000", 4711)), ("08", Owner("1000", 4711)), ("02", None)])
def test_an_attempt_to_connect_is_not_the_connection(state: str, owner: Owner | None) -> None:
    """Another program may be trying to connect with the same ports."""
    line = (
        f"0: 0100007F:9C41 0100007F:0477 {state} 00000000:00000000 00:00000000 00000000  1000  0 4711 1 0 20 4 30 10 -1"
    )
    assert callers_linux.find_in_table(f"  sl  local_address\n   {line}\n".encode(), ENDS) == owner


async def test_who_is_not_known_says_why() -> None:
    system = Told()
    callers = Callers(system)
    assert (await callers.of(None)).unknown == GONE
    assert (await callers.of(ENDS)).unknown == NOT_TOLD
    assert system.asked == ["owner"]
    assert (await Callers(None).of(ENDS)).unknown == NO_WAY
    elsewhere = await callers.of(Ends(("192.0.2.7", 40001), ("192.0.2.1", 1143)))
    assert (elsewhere.host, elsewhere.user_id, elsewhere.key) == ("192.0.2.7", "", "host 192.0.2.7")
    assert await callers.program(None) == ""
    for unknown in (None, ENDS):
        assert (await callers.of(unknown)).key == "", "127.0.0.1 is everybody, and is counted for nobody"


async def test_a_machine_that_speaks_to_itself_by_its_own_address_is_local() -> None:
    system = Told()
    system.now = Owner("1000")
    assert (await Callers(system).of(Ends(("192.0.2.1", 40001), ("192.0.2.1", 1143)))).user == "alice"


@on_linux
async def test_whoever_comes_from_another_address_of_this_machine_is_the_same_user(
    loopback: Loopback, colleague: OsUser
) -> None:
    """Any user may bind each address of this machine. If these counted as other machines, one user would be as many
    callers."""
    source = network_address(loopback.family)
    with colleague.connect(loopback.port, loopback.server.getsockname()[0], source):
        _, ends = loopback.accept()
        assert ends.client[0] == source
        assert await Callers(Linux()).of(ends) == Caller(colleague.name, str(colleague.uid))
        assert await Callers(Told()).of(ends) == Caller(host=source, unknown=NOT_TOLD)
    named = Ends(ends.client, ("", 0))
    assert await Callers(Linux()).of(named) == Caller(host=source, unknown=ELSEWHERE), "who was named by a balancer"


def link_address() -> tuple[str, int]:
    """A link-local address of this machine and its interface's number; skips the calling test if there is none."""
    table = Path("/proc/net/if_inet6")
    for line in table.read_text().splitlines() if table.exists() else []:
        address, link, _, scope, *_ = line.split()
        if scope == "20":
            return socket.inet_ntop(socket.AF_INET6, bytes.fromhex(address)), int(link, 16)
    pytest.skip("this machine has no address on a link")


@on_linux
async def test_whoever_comes_by_a_links_address_is_that_user(colleague: OsUser) -> None:
    """The kernel finds such a socket only with its interface. If it were nobody's, one user could take all places of a
    mail port."""
    host, link = link_address()
    with ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("::", 0), family=socket.AF_INET6))
        for source in (host, ""):
            client = stack.enter_context(colleague.open_socket(socket.AF_INET6))
            if source:
                client.bind((source, 0, 0, link))
            client.connect((host, server.getsockname()[1], 0, link))
            ends = ends_of(stack.enter_context(server.accept()[0]))
            assert ends is not None
            assert ends.ours[0] == f"{host}%{link}"
            assert await Callers(Linux()).of(ends) == Caller(colleague.name, str(colleague.uid))
            owner = Linux().owner(ends)
            assert owner is not None
            assert owner.user_id == str(colleague.uid)


# --- a user's other numbers ------------------------------------------------------------------------------------------

ASKED_INSIDE = """
import sys
from bridge.host.callers_linux import Linux
from bridge.host.machine import tells_users
from bridge.model import Ends

linux, port = Linux(), int(sys.argv[1])
for client in sys.argv[2:]:
    ends = Ends(("127.0.0.1", int(client)), ("127.0.0.1", port))
    print(*(found and found.user_id for found in (linux.owner_now(ends), linux.owner(ends))))
print(tells_users().name)
"""


@on_linux
def test_in_a_user_namespace_all_others_are_not_one_user(colleague: OsUser) -> None:
    """There, as with systemd's PrivateUsers= or in a container, the kernel reports all other users by one number
    (user_namespaces(7)). That number has no name, and the colleague and the person have the same one."""
    inside = ["unshare", "--user", "--map-current-user"]
    if shutil.which("unshare") is None or subprocess.run([*inside, "true"], check=False).returncode != 0:
        absent("the right to a user namespace")
    with ExitStack() as stack:
        loopback = Loopback(stack, socket.AF_INET, "127.0.0.1")
        clients = (
            loopback.connect(),
            *(stack.enter_context(user.connect(loopback.port)) for user in (colleague, PERSON)),
        )
        ports = [str(client.getsockname()[1]) for client in clients]
        done = subprocess.run(
            [*inside, sys.executable, "-c", ASKED_INSIDE, str(loopback.port), *ports],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    own = str(os.getuid())
    assert done.stdout.splitlines() == [f"{own} {own}", "None None", "None None", "INSIDE"]


@on_linux
def test_for_a_moment_a_number_is_enough(colleague: OsUser) -> None:
    """Before the number's user name has been looked up: with a crowd of connections there is no time for that."""
    with ExitStack() as stack:
        loopback = Loopback(stack, socket.AF_INET, "127.0.0.1")
        asked = Callers(Linux())
        with colleague.connect(loopback.port) as theirs:
            _, ends = loopback.accept()
            assert asked.key_at_once(ends) == f"user {colleague.uid}"
            assert asked.at_once(ends) is None
            theirs.close()
            assert asked.key_at_once(ends) == ""
    elsewhere = Ends(("192.0.2.7", 40001), ("192.0.2.1", 993))
    assert (asked.key_at_once(elsewhere), asked.key_at_once(None)) == ("host 192.0.2.7", "")
    assert Callers(None).key_at_once(ENDS) == ""


@on_linux
def test_where_all_have_numbers_the_last_one_is_a_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside a user namespace, 65534 is the user nobody."""
    (tmp_path / "self").mkdir()
    (tmp_path / "sys/kernel").mkdir(parents=True)
    (tmp_path / "sys/kernel/overflowuid").write_text("65534\n")
    monkeypatch.setattr(callers_linux, "PROC", tmp_path)
    assert callers_linux.everybody_else() == ""  # a kernel without user namespaces
    for table, expected in (("0 0 4294967295", ""), ("0 1000 1", "65534"), ("0 1000 1\n1 100000 65536", "65534")):
        (tmp_path / "self/uid_map").write_text(f"{table}\n")
        assert callers_linux.everybody_else() == expected


@on_linux
async def test_the_numbers_in_a_users_containers_are_that_user(
    loopback: Loopback, colleague: OsUser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted separately, they would be 65,536 callers."""
    table = tmp_path / "subuid"
    table.write_text(f"root:1000:5\n{colleague.name}:2000000000:65536\n")
    monkeypatch.setattr(callers_linux, "SUBORDINATES", table)
    asked = Callers(Linux())
    for number in (2_000_000_000, 2_000_065_535):
        with OsUser("", number, number).connect(loopback.port, loopback.server.getsockname()[0]):
            _, ends = loopback.accept()
            for _ in range(2):
                assert await asked.of(ends) == Caller(colleague.name, str(colleague.uid))
    with OsUser("", 2_000_065_536, colleague.gid).connect(loopback.port, loopback.server.getsockname()[0]):
        _, ends = loopback.accept()
        assert await asked.of(ends) == Caller(user_id="2000065536")


@pytest.mark.skipif(sys.platform == "win32", reason="there is no such table")
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("4242:100000:65536", "4242"),
        ("4242:100000:7", "100007"),
        ("root:100000:65536", "100007"),
        ("0:100000:65536", "100007"),
        ("nobody-is-called-so:100000:65536", "100007"),
        ("4242:100000:65536\n4243:100000:65536", "100007"),
        ("4242:100000\n4242:x:9\n4242\n# 4242\n\n4242:100000:-1", "100007"),
    ],
)
def test_whose_number_it_is(line: str, expected: str) -> None:
    """Never root's, because root's containers may belong to other people. A number that two users may have stays its
    own."""
    assert callers_linux.main_user(line, "100007") == expected


# --- Windows' table -------------------------------------------------------------------------------------------------


def windows_port(number: int) -> int:
    return socket.htons(number)


def test_windows_table() -> None:
    row = struct.Struct("<I4sI4sII")
    loop = socket.inet_aton("127.0.0.1")
    ours = row.pack(5, loop, windows_port(1143), loop, windows_port(40001), 11)
    theirs = row.pack(5, loop, windows_port(40001), loop, windows_port(1143), 22)
    table = struct.pack("<I", 2) + ours + theirs + b"\xff" * 500
    assert callers_windows.find_in_table(table, ENDS) == 22
    assert callers_windows.find_in_table(struct.pack("<I", 1) + ours + theirs, ENDS) is None
    for cut in range(len(table)):
        assert callers_windows.find_in_table(table[:cut], ENDS) in {None, 22}
    for one, other_end in (("127.0.0.2", "127.0.0.1"), ("127.0.0.1", "127.0.0.2")):
        near, far = socket.inet_aton(one), socket.inet_aton(other_end)
        other = row.pack(5, near, windows_port(40001), far, windows_port(1143), 33)
        assert callers_windows.find_in_table(struct.pack("<I", 1) + other, ENDS) is None


def test_windows_table_of_ipv6() -> None:
    row = struct.Struct("<16sII16sIIII")
    loop = socket.inet_pton(socket.AF_INET6, "::1")
    theirs = row.pack(loop, 0, windows_port(40001), loop, 0, windows_port(1143), 5, 33)
    ends = Ends(("::1", 40001), ("::1", 1143))
    assert callers_windows.find_in_table(struct.pack("<I", 1) + theirs, ends) == 33
    assert callers_windows.find_in_table(struct.pack("<I", 1) + theirs, Ends(("::1", 40002), ("::1", 1143))) is None


def is_wine() -> bool:
    return sys.platform == "win32" and hasattr(ctypes.WinDLL("ntdll"), "wine_get_version")


@pytest.mark.skipif(sys.platform != "win32", reason="asks Windows itself")
@pytest.mark.parametrize("size", [4, 16], ids=["ipv4", "ipv6"])
def test_windows_tells_of_connections_users_and_programs(size: int) -> None:
    """Except for the owner of an IPv6 connection under wine 8, which reads the wrong field of /proc/net/tcp6 and says
    0."""
    family, host = (socket.AF_INET, "127.0.0.1") if size == 4 else (socket.AF_INET6, "::1")
    windows = callers_windows.Windows()
    pid = os.getpid()
    owner = Owner(callers_windows.user_id(pid), pid)
    assert owner.user_id.startswith("S-1-5-")
    with ExitStack() as stack:
        loopback = Loopback(stack, family, host)
        client = loopback.connect()
        accepted, ends = loopback.accept()
        client.sendall(b"a")  # under wine, a socket's owner is only known after the program's first read or write
        assert accepted.recv(1) == b"a"
        is_told = family == socket.AF_INET or not is_wine()
        assert callers_windows.find_in_table(callers_windows._table(family), ends) == (pid if is_told else 0)
        assert windows.owner(ends) == (owner if is_told else None)
    assert windows.user_name(owner.user_id).rpartition("\\")[2].lower() == os.environ["USERNAME"].lower()
    assert windows.program(owner).lower() == Path(sys.executable).name.lower()


# --- macOS' list ----------------------------------------------------------------------------------------------------


def macos_connection(client: str, ours: str, ends: Ends, uid: int, flag: int = 1) -> bytes:
    family = socket.AF_INET6 if ":" in client else socket.AF_INET
    near, far = (socket.inet_pton(family, host).rjust(16, b"\0") for host in (client, ours))
    addresses = bytearray(104)
    struct.pack_into("=II", addresses, 0, len(addresses), callers_macos.ADDRESSES)
    struct.pack_into("!HH", addresses, 16, ends.ours[1], ends.client[1])
    addresses[44] = flag
    addresses[48:64], addresses[64:80] = far, near
    sock = bytearray(100)  # not a multiple of eight: what follows is aligned
    struct.pack_into("=II", sock, 0, len(sock), callers_macos.SOCKET)
    struct.pack_into("=Ii", sock, 64, uid, 4711)
    other = struct.pack("=II", 16, 0x20) + b"\0" * 8
    return bytes(addresses) + bytes(sock) + b"\0" * 4 + other


def test_macos_list() -> None:
    head = struct.pack("=II", 24, 2) + b"\0" * 16
    mirrored = Ends(ENDS.ours, ENDS.client)
    listed = head + macos_connection("127.0.0.1", "127.0.0.1", mirrored, 0)
    assert callers_macos.find_in_list(listed, ENDS) is None
    listed += macos_connection("127.0.0.1", "127.0.0.1", ENDS, 501)
    assert callers_macos.find_in_list(listed, ENDS) == Owner("501", 4711)
    six = Ends(("::1", 40001), ("::1", 1143))
    assert callers_macos.find_in_list(listed, six) is None
    for client, ours in (("127.0.0.2", "127.0.0.1"), ("127.0.0.1", "127.0.0.2")):
        assert callers_macos.find_in_list(head + macos_connection(client, ours, ENDS, 503), ENDS) is None
    assert callers_macos.find_in_list(head + macos_connection("::1", "::1", six, 502, flag=2), six) == Owner(
        "502", 4711
    )
    for cut in range(len(listed)):
        assert callers_macos.find_in_list(listed[:cut], ENDS) in {None, Owner("501", 4711)}
    assert callers_macos.find_in_list(head + b"\0" * 64, ENDS) is None, "a list that makes no sense has an end"


@on_linux
def test_a_kernel_without_netlink_is_asked_once(monkeypatch: pytest.MonkeyPatch, loopback: Loopback) -> None:
    asked = []

    def refused(_: Kernel, ends: Ends) -> Owner | None:
        asked.append(ends)
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Kernel, "owner", refused)
    system = Linux()
    loopback.connect()
    _, ends = loopback.accept()
    for _ in range(3):
        with pytest.raises(NotAtOnce):
            system.owner_now(ends)
    assert len(asked) == 1
    assert system.owner(ends) is not None


@on_linux
def test_a_kernel_that_has_told_of_one_connection_is_believed_of_all(loopback: Loopback) -> None:
    """Its table in /proc would not know more, so it is not read for each client that has hung up."""
    system, nobody = Linux(), Ends((loopback.host, 1), (loopback.host, loopback.port))
    with pytest.raises(NotAtOnce):
        system.owner_now(nobody)  # it may not be able to tell at all
    loopback.connect()
    _, ends = loopback.accept()
    assert system.owner_now(ends) is not None
    assert system.owner_now(nobody) is None
