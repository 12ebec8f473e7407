"""One system call fails, as it may on a bad day: no descriptor left, no memory, a disk or a network home in trouble.

strace makes it fail in the running program. A test names the call and, where it can, the file, because a count of
earlier calls would change with everything else that the program does.
"""

from __future__ import annotations

import dataclasses
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from bridge.control.rendezvous import NAME
from tests.addresses import needs_ipv6
from tests.e2e.bridge import PYTHON, Bridge, running
from tests.e2e.clients import PROTOCOLS, Login
from tests.e2e.conftest import ALICE, BOB, World
from tests.e2e.logins import LATER, YES, answer
from tests.e2e.settled import Settled, observed
from tests.servers.packages import needs

pytestmark = pytest.mark.servers

PARTS = Path(__file__).parents[2] / "bridge"

OTHER_BRIDGES = """\
[Server setup]
[IMAP-1993]
server_address = imap.gmail.com
server_port = 993
[Account setup]
[alice@example.com]
permission_url = https://accounts.google.com/o/oauth2/auth
token_url = https://oauth2.googleapis.com/token
oauth2_scope = https://mail.google.com/
redirect_uri = http://localhost
client_id = CANARY.apps.googleusercontent.com
client_secret = CANARY-secret
"""


@dataclass(frozen=True, slots=True)
class Failing:
    """System calls that fail."""

    calls: tuple[str, ...]
    """`connect EPERM 1..3`: the first three calls in each thread fail with EPERM."""
    file: str = ""
    """If set, only calls on this file in the bridge's directory fail."""
    in_all_threads: bool = False
    """Calls fail in all threads, even without `file`."""

    def __str__(self) -> str:
        return ", ".join([*self.calls, self.file]).removesuffix(", ")

    def strace(self, directory: Path) -> list[str]:
        """The strace command: for all threads with a file or `in_all_threads`, otherwise only for the event loop's. It
        writes the traced calls to the file `trace` in that directory."""
        words = ["-f", "-P", str(directory / self.file)] if self.file else ["-f"] * self.in_all_threads
        parts = [call.split() for call in self.calls]
        words += ["-e", "trace=" + ",".join(call for call, *_ in parts)]
        for call, error, times in parts:
            words += ["-e", f"inject={call}:error={error}:when={times}"]
        return ["strace", *words, "-o", str(directory / "trace")]

    def have_failed(self, directory: Path) -> bool:
        """True if at least one of the calls has failed by now."""
        return "(INJECTED)" in (directory / "trace").read_text()

    @contextmanager
    def inside(self, bridge: Bridge) -> Iterator[None]:
        """Attach to the running program; its calls fail while the context is open."""
        command = [*self.strace(bridge.directory), "-p", str(bridge.pid)]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as strace:
            assert strace.stderr is not None
            assert "attached" in strace.stderr.readline()
            try:
                yield
            finally:
                strace.send_signal(signal.SIGINT)
        assert self.have_failed(bridge.directory), self


def told(login: Login, protocol: str) -> str:
    """The answer to a login, within 20 seconds; empty if the connection was ended."""
    try:
        return answer(login, protocol, 20)
    except ConnectionError:
        return ""


def signed_in_at(world: World, directory: Path) -> Bridge:
    """A bridge in which Alice has signed in, stopped again; its directory has the providers' CA file."""
    needs("strace")
    bridge = world.bridge(directory)
    ca_file = directory / "ca.pem"
    ca_file.write_bytes(world.authority.ca_file.read_bytes())
    for provider in bridge.config["providers"].values():
        provider["ca_file"] = str(ca_file)
    with running(bridge):
        bridge.sign_in(world.provider, ALICE)
        bridge.login(ALICE)
    return bridge


@pytest.fixture(scope="module")
def settled(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settled]:
    """A running bridge whose console is already loaded, so that the first test does not seem to leave that behind."""
    bridge = signed_in_at(world, tmp_path_factory.mktemp("running"))
    with observed(bridge), running(bridge):
        bridge.get("/")
        yield Settled.of(bridge, bridge.login(ALICE))


@pytest.fixture(scope="module")
def signed_in(world: World, tmp_path_factory: pytest.TempPathFactory) -> Bridge:
    """A bridge that tests start again and again."""
    return signed_in_at(world, tmp_path_factory.mktemp("starting"))


@pytest.mark.parametrize(
    "failing",
    [
        Failing(("accept4 EMFILE 1",)),
        Failing(("accept4 ECONNABORTED 1",)),
        Failing(("accept4 EMFILE 1", "epoll_ctl ENOMEM 2..3")),  # when a port starts to accept clients again
        Failing(("epoll_ctl ENOSPC 3",)),
        Failing(("epoll_ctl ENOSPC 4",)),
        Failing(("epoll_ctl ENOSPC 1..9",)),
        Failing(("socket EMFILE 1",)),
        Failing(("connect EPERM 1..3",)),
    ],
    ids=str,
)
def test_a_login_is_answered_and_nothing_is_left(settled: Settled, failing: Failing) -> None:
    """The answer is yes, later, or the end of the connection; the next login works as always."""
    (login,) = settled.logins
    with failing.inside(settled.bridge):
        said = {protocol: told(login, protocol) for protocol in PROTOCOLS}
    for protocol, text in said.items():
        assert not text or text.startswith((YES[protocol], LATER[protocol])), said
    settled.check()


def test_a_visitor_of_the_console_whom_the_kernel_does_not_watch_is_sent_away(settled: Settled) -> None:
    """At the limit fs.epoll.max_user_watches nothing that the visitor sends would ever be read."""
    bridge = settled.bridge
    before = len(bridge.log)
    with Failing(("epoll_ctl ENOSPC 1+",)).inside(bridge), pytest.raises(ConnectionError):
        bridge.get("/")
    assert bridge.get("/")[0] == 200
    settled.check()
    assert "No space left on device" in bridge.log[before:]
    assert "Traceback" not in bridge.log[before:]


@pytest.mark.parametrize(
    "failing",
    [
        Failing(("openat EMFILE 1",), "key"),
        Failing(("openat EMFILE 2",), "store.sqlite"),  # SQLite's own call, after which it goes on reading
        Failing(("openat EIO 1",), "store.sqlite-wal"),
        Failing(("newfstatat ESTALE 1",), "store.sqlite"),
        Failing(("newfstatat EHOSTDOWN 1",), "store.sqlite"),
        Failing(("openat ENOTCONN 1",), "key"),
        Failing(("openat ETIMEDOUT 1",), "key"),
        Failing(("pread64 EIO 4",), "store.sqlite"),  # after the file's header, where an error looks like damage
        Failing(("pread64 EIO 4..5", "read EIO 1..3"), "store.sqlite"),
        Failing(("fcntl ENOLCK 1",), "store.sqlite"),
    ],
    ids=str,
)
def test_a_start_outlives_what_may_pass(signed_in: Bridge, failing: Failing) -> None:
    """A service manager takes exit code 2 for something that must be changed first, and an administrator who reads
    "damaged" would start with a new store."""
    before = len(signed_in.log)
    signed_in.launcher = [*failing.strace(signed_in.directory), "-D", "--seccomp-bpf"]
    with running(signed_in):
        assert failing.have_failed(signed_in.directory)
        signed_in.wait_until(lambda: answer(signed_in.login(ALICE), "imap").startswith(YES["imap"]), "a login", 20)
        signed_in.run("accounts", "password", ALICE, "--rotate")
    assert "damaged" not in signed_in.log[before:]
    assert "Traceback" not in signed_in.log[before:]


@pytest.mark.parametrize("error", ["ENOLCK", "EOPNOTSUPP", "EPERM"])
def test_a_disk_that_takes_no_locks_is_not_called_locked_by_another_program(signed_in: Bridge, error: str) -> None:
    """Such as NFS whose lock service does not run. Nobody finds the other program, and none has to be stopped."""
    failing, before = Failing((f"fcntl {error} 1+",), "store.sqlite"), len(signed_in.log)
    signed_in.launcher = [*failing.strace(signed_in.directory), "-D", "--seccomp-bpf"]
    with running(signed_in):
        assert failing.have_failed(signed_in.directory)
        assert "store.sqlite cannot be locked; keep it on a local disk, not on a network drive" in signed_in.run(
            "status"
        )
    assert "another program" not in signed_in.log[before:]
    assert "Traceback" not in signed_in.log[before:]


def test_what_a_sandbox_refuses_and_nobody_needs_keeps_no_bridge_from_its_start(signed_in: Bridge) -> None:
    """Calls about limits, core dumps and the number of processors."""
    failing = Failing(("prlimit64 EPERM 1+", "prctl EPERM 1+", "sched_getaffinity EPERM 1+"))
    before = len(signed_in.log)
    signed_in.launcher = [*failing.strace(signed_in.directory), "-D"]
    with running(signed_in):
        said = {protocol: told(signed_in.login(ALICE), protocol) for protocol in PROTOCOLS}
    assert all(text.startswith(YES[protocol]) for protocol, text in said.items()), said
    injected = [line for line in (signed_in.directory / "trace").read_text().splitlines() if "(INJECTED)" in line]
    assert {"prlimit64", "prctl"} <= {line.partition("(")[0] for line in injected}  # our own calls, with any Python
    assert "Traceback" not in signed_in.log[before:]


def test_a_configuration_that_is_not_read_just_now_is_nobodys_mistake(signed_in: Bridge) -> None:
    """The exit code is 1, on which a service manager tries again."""
    failing = Failing(("openat EMFILE 1+",), "config.yaml")
    command = [*failing.strace(signed_in.directory), "-D", "--seccomp-bpf", *signed_in.command("run")]
    done = subprocess.run(command, capture_output=True, text=True, env=signed_in.environ, timeout=60, check=False)
    assert failing.have_failed(signed_in.directory)
    sentence = f'{signed_in.directory / "config.yaml"}: this file cannot be read: "Too many open files"\n'
    assert (done.returncode, done.stderr) == (1, sentence)


@pytest.mark.parametrize(
    ("command", "error"), [("run", "ESTALE"), ("status", "EIO"), (f"accounts password {ALICE}", "EIO")]
)
def test_a_usual_configuration_that_is_not_looked_at_just_now_is_not_none(
    signed_in: Bridge, tmp_path: Path, command: str, error: str
) -> None:
    """Exit code 2, "there is no configuration yet", would keep a service manager from starting the bridge again."""
    usual = tmp_path / "mail-bridge" / "config.yaml"
    usual.parent.mkdir()
    usual.write_bytes((signed_in.directory / "config.yaml").read_bytes())
    failing = Failing((f"newfstatat {error} 1+",), str(usual))
    asked = [*failing.strace(signed_in.directory), "-D", "--seccomp-bpf", PYTHON, "-m", "bridge", *command.split()]
    environ = signed_in.environ | {"XDG_CONFIG_HOME": str(tmp_path)}
    done = subprocess.run(asked, capture_output=True, text=True, env=environ, timeout=60, check=False, cwd=tmp_path)
    assert failing.have_failed(signed_in.directory)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f'{usual}: this file cannot be read: "')


@pytest.mark.parametrize(
    "failing",
    [
        Failing(("socketpair EMFILE 1",)),  # the event loop's own pair
        Failing(("epoll_ctl ENOSPC 1",)),
        Failing(("epoll_ctl ENOSPC 2",)),  # the console's
        Failing(("clone3 EAGAIN 1+", "clone EAGAIN 1+")),
    ],
    ids=str,
)
def test_a_start_that_lacks_what_the_system_may_have_again_ends_in_a_sentence(
    signed_in: Bridge, failing: Failing
) -> None:
    """The exit code is 1, on which a service manager tries again."""
    command = [*failing.strace(signed_in.directory), "-D", "-f", "--seccomp-bpf", *signed_in.command("run")]
    done = subprocess.run(command, capture_output=True, text=True, env=signed_in.environ, timeout=60, check=False)
    assert failing.have_failed(signed_in.directory)
    assert done.returncode == 1
    (sentence,) = done.stderr.splitlines()
    assert sentence.startswith("mail-bridge")


@pytest.mark.parametrize(
    ("failing", "sentence"),
    [
        (
            Failing(("clone3 EAGAIN 1+", "clone EAGAIN 1+")),
            'the system has no more threads for mail-bridge just now: "can\'t start new thread"',
        ),
        (
            Failing(("epoll_ctl ENOSPC 2+",)),
            "mail-bridge cannot listen on 127.0.0.1:{port} (console): No space left on device",
        ),
    ],
    ids=["no thread", "no room to watch a socket"],
)
def test_the_first_set_up_that_lacks_something_ends_in_a_sentence(
    signed_in: Bridge, failing: Failing, sentence: str
) -> None:
    port = signed_in.config["console"].partition(":")[2]
    options = ["--browser", "--no-open", "--port", port, "--output", str(signed_in.directory / "first.yaml")]
    command = [*failing.strace(signed_in.directory), "-D", "--seccomp-bpf", "-f", *signed_in.command("init", *options)]
    done = subprocess.run(command, capture_output=True, text=True, env=signed_in.environ, timeout=60, check=False)
    assert failing.have_failed(signed_in.directory)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"mail-bridge: {sentence.format(port=port)}\n")


@pytest.mark.parametrize("command", ["check", f"accounts password {ALICE}"])
def test_what_a_configuration_names_and_is_not_read_just_now_is_nobodys_mistake_either(
    signed_in: Bridge, command: str
) -> None:
    """The exit code is 1, because nothing has to be corrected, although the message names the file and the line."""
    failing, where = Failing(("openat EMFILE 1+",), "ca.pem"), signed_in.directory
    asked = [*failing.strace(where), "-D", "--seccomp-bpf", *signed_in.command(*command.split())]
    done = subprocess.run(asked, capture_output=True, text=True, env=signed_in.environ, timeout=60, check=False)
    assert failing.have_failed(where)
    assert f'the file {where / "ca.pem"} cannot be read ("Too many open files")' in done.stdout + done.stderr
    assert done.returncode == 1


@pytest.mark.parametrize("written", ["first.yaml", "secrets/gmail.txt"])
def test_a_first_configuration_that_is_not_read_just_now_is_told_as_written(
    signed_in: Bridge, tmp_path: Path, written: str
) -> None:
    """A person who read only about the missing descriptor would answer all questions again."""
    failing = Failing(("openat EMFILE 2",), str(tmp_path / written))  # the first one reserves its name
    answers = ["1", "1234.apps.googleusercontent.com", "CANARY-secret", "no", "1", ALICE, "", "", "yes"]
    output = tmp_path / "first.yaml"
    command = [*failing.strace(signed_in.directory), "-D", *signed_in.command("init", "--output", str(output))]
    environ = signed_in.environ | {"PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring"}
    done = subprocess.run(
        command, input="\n".join(answers), capture_output=True, text=True, env=environ, timeout=60, check=False
    )
    assert failing.have_failed(signed_in.directory)
    assert (done.returncode, f"{output} is written\n" in done.stdout) == (1, True), done
    assert "Too many open files" in done.stderr


@pytest.mark.parametrize(
    "failing", [Failing(("read EIO 1",), "list.csv"), Failing(("openat EMFILE 2",), "list.csv")], ids=str
)
def test_a_list_of_mailboxes_that_is_not_read_just_now_is_asked_for_again(
    signed_in: Bridge, tmp_path: Path, failing: Failing
) -> None:
    """It comes after all the other answers, one of them a secret, which must not be lost."""
    where = signed_in.directory
    (where / "list.csv").write_text("address\nalice@example.com\n")
    provider = ["1", "1234.apps.googleusercontent.com", "CANARY-secret", "no"]
    answers = [*provider, "2", str(where / "list.csv"), str(where / "list.csv"), "yes"]
    command = [*failing.strace(where), "-D", *signed_in.command("init", "--output", str(tmp_path / "first.yaml"))]
    done = subprocess.run(
        command,
        input="\n".join(answers),
        capture_output=True,
        text=True,
        env=signed_in.environ,
        timeout=60,
        check=False,
    )
    assert failing.have_failed(where)
    assert (done.returncode, done.stdout.count("This cannot be used: this file cannot be read: ")) == (0, 1), done
    assert "Mailboxes found: 1" in done.stdout


@pytest.mark.parametrize(
    "failing",
    [
        Failing(("mkdir ENOSPC 1+",)),
        Failing(("socket EMFILE 6+",)),
        pytest.param(Failing(("socket EMFILE 9+",)), marks=needs_ipv6),  # each of its four ports is two sockets there
    ],
    ids=str,
)
def test_a_demo_that_lacks_something_ends_in_a_sentence(signed_in: Bridge, failing: Failing) -> None:
    """The disk has no room for its certificates, or there is no descriptor for its ports or servers."""
    command = [*failing.strace(signed_in.directory), "-D", "-f", "--seccomp-bpf", *signed_in.command("run", "--demo")]
    done = subprocess.run(command, capture_output=True, text=True, env=signed_in.environ, timeout=60, check=False)
    assert failing.have_failed(signed_in.directory)
    (sentence,) = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (1, "")
    assert sentence.startswith("mail-bridge: the demo cannot start: ")


def test_without_a_thread_a_reload_is_refused_in_words_and_a_stop_is_a_stop(signed_in: Bridge) -> None:
    """At the thread limit of the service (TasksMax) or of the machine."""
    failing, before = Failing(("clone3 EAGAIN 1+", "clone EAGAIN 1+")), len(signed_in.log)
    signed_in.launcher = []
    with running(signed_in), failing.inside(signed_in):
        assert signed_in.process is not None
        signed_in.process.send_signal(signal.SIGHUP)
        signed_in.wait_until(lambda: "configuration.refused" in signed_in.log[before:], "a word of the reload")
        assert signed_in.stop() == 0
    assert "Traceback" not in signed_in.log[before:]


def test_who_must_sign_in_is_told_so_without_a_descriptor(signed_in: Bridge) -> None:
    """Normally the log and the page name the program that asks; without a descriptor they do without its name."""
    before = len(signed_in.log)
    signed_in.launcher = []
    with running(signed_in):
        login = signed_in.login(BOB)
        with Failing(("openat EMFILE 1+",), in_all_threads=True).inside(signed_in):
            assert told(login, "imap").startswith(LATER["imap"])
    assert "sign_in.needed" in signed_in.log[before:]
    assert "Traceback" not in signed_in.log[before:]


def test_a_disk_that_fails_and_is_read_only_then_is_a_sentence(signed_in: Bridge) -> None:
    """Like ext4 with errors=remount-ro: the message is about the write, not about the draft that cannot be removed
    either."""
    failing = Failing(("fsync EIO 1", "unlink EROFS 1+"))
    (signed_in.directory / "emailproxy.config").write_text(OTHER_BRIDGES)
    command = signed_in.command("import", "emailproxy.config", "--output", "imported.yaml")
    command = [*failing.strace(signed_in.directory), "-D", "--seccomp-bpf", "-f", *command]
    where = signed_in.directory
    done = subprocess.run(
        command, capture_output=True, text=True, env=signed_in.environ, cwd=where, timeout=60, check=False
    )
    assert failing.have_failed(where)
    (sentence,) = done.stderr.splitlines()
    assert (done.returncode, sentence.endswith('cannot be written: "Input/output error"')) == (1, True), sentence


def test_a_bridge_that_can_leave_no_word_on_such_a_disk_serves_mail_all_the_same(signed_in: Bridge) -> None:
    """The draft cannot be removed either, and that error would end the start, because a read-only disk does not recover
    by itself."""
    failing = Failing(("fsync EIO 1", "unlink EROFS 1"))
    before = len(signed_in.log)
    signed_in.launcher = [*failing.strace(signed_in.directory), "-D", "--seccomp-bpf"]
    with running(signed_in):
        assert failing.have_failed(signed_in.directory)
        signed_in.wait_until(lambda: answer(signed_in.login(ALICE), "imap").startswith(YES["imap"]), "a login", 20)
    (line,) = (line for line in signed_in.log[before:].splitlines() if "control.not_published" in line)
    assert "Input/output error" in line


def test_a_place_that_could_not_be_taken_is_free_the_next_time(signed_in: Bridge) -> None:
    """A network home may report an error only when a file is closed."""
    failing, where = Failing(("close EIO 1",), "taken.yaml"), signed_in.directory
    (where / "emailproxy.config").write_text(OTHER_BRIDGES)
    arguments = ("import", "emailproxy.config", "--output", "taken.yaml")
    command = [*failing.strace(where), "-D", "--seccomp-bpf", "-f", *signed_in.command(*arguments)]
    done = subprocess.run(
        command, capture_output=True, text=True, env=signed_in.environ, cwd=where, timeout=60, check=False
    )
    assert done.returncode == 1
    assert done.stderr.endswith('taken.yaml cannot be written: "Input/output error"\n')
    assert not (where / "taken.yaml").exists()
    signed_in.run(*arguments)


@pytest.mark.parametrize(
    "failing",
    [
        Failing(("newfstatat EIO 3",), "replaced.yaml"),
        # Python 3.14 calls stat once less on a file that it opens.
        Failing((f"newfstatat EIO {3 if sys.version_info < (3, 14) else 2}",), "emailproxy.config"),
    ],
    ids=str,
)
def test_an_import_that_cannot_say_whether_it_would_replace_its_own_source_is_told(
    signed_in: Bridge, failing: Failing
) -> None:
    where = signed_in.directory
    source, output = where / "emailproxy.config", where / "replaced.yaml"
    source.write_text(OTHER_BRIDGES)
    output.write_text("mine")
    command = signed_in.command("import", str(source), "--output", str(output), "--force")
    command = [*failing.strace(where), "-D", "--seccomp-bpf", *command]
    done = subprocess.run(command, capture_output=True, text=True, env=signed_in.environ, timeout=60, check=False)
    assert failing.have_failed(where)
    assert (done.returncode, done.stderr) == (
        1,
        f'{where / failing.file}: this file cannot be read: "Input/output error"\n',
    )
    assert output.read_text() == "mine"


def test_a_command_that_finds_no_descriptor_for_a_part_of_its_own_says_so(signed_in: Bridge) -> None:
    """Python searches for the module in a directory that it cannot open."""
    failing = Failing(("openat EMFILE 1",), str(PARTS / "control"))
    command = [*failing.strace(signed_in.directory), "-D", "--seccomp-bpf", *signed_in.command("status")]
    done = subprocess.run(command, capture_output=True, text=True, env=signed_in.environ, timeout=60, check=False)
    assert failing.have_failed(signed_in.directory)
    sentence = 'mail-bridge: the system does not have enough resources left for mail-bridge: "Too many open files"\n'
    assert (done.returncode, done.stderr) == (1, sentence)


@pytest.mark.parametrize("failing", [Failing(("socket EMFILE 1+",)), Failing(("openat EMFILE 1+",), NAME)], ids=str)
def test_who_has_no_descriptor_to_ask_a_bridge_with_does_not_call_it_dead(settled: Settled, failing: Failing) -> None:
    """The command does not open the store beside the running bridge either."""
    bridge = settled.bridge
    (word, *_) = (bridge.directory / "data").rglob(NAME)
    failing = dataclasses.replace(failing, file=failing.file and str(word))
    command = [*failing.strace(bridge.directory), "-D", "-f", "--seccomp-bpf", *bridge.command("status")]
    done = subprocess.run(command, capture_output=True, text=True, env=bridge.environ, timeout=60, check=False)
    assert failing.have_failed(bridge.directory)
    sentence = 'mail-bridge: the system does not have enough resources left for mail-bridge: "Too many open files"\n'
    assert (done.returncode, done.stdout, done.stderr) == (1, "", sentence)


def test_what_is_loaded_with_the_first_who_wants_it_is_wanted_again(world: World, tmp_path: Path) -> None:
    """Without a descriptor to load a provider's library, the mail program is told `later`, and `status` still answers,
    without warnings."""
    bridge = world.bridge(tmp_path)
    with running(bridge):
        world.provider.lifetime = 0  # so that the next process asks for a token
        try:
            bridge.sign_in(world.provider, BOB)
        finally:
            world.provider.lifetime = 3600
        login = bridge.login(BOB)
    before = len(bridge.log)
    with running(bridge):
        bridge.get("/")
        with Failing(("openat EMFILE 1+",), in_all_threads=True).inside(bridge):
            assert told(login, "imap").startswith(LATER["imap"])
            assert BOB in bridge.run("status")
        bridge.wait_until(lambda: answer(login, "imap").startswith(YES["imap"]), "a login", 20)
    assert "Traceback" not in bridge.log[before:]
