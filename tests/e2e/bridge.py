"""The program itself in a separate process, with its own configuration, store and ports."""

from __future__ import annotations

import contextlib
import json
import locale
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import yaml

from bridge.control import rendezvous
from tests.conftest import COVERAGE
from tests.e2e import asking
from tests.e2e.clients import Login
from tests.forms import form_of
from tests.servers.authorization import AuthorizationServer
from tests.servers.daemons import free_ports

START_SECONDS = 60
STOP_SECONDS = 15
CANARY = "CANARY"
PYTHON = os.environ.get("MAIL_BRIDGE_TESTS_PYTHON", sys.executable)
"""The Python that runs the program; scripts/wine.py sets it to Windows' Python under wine."""

Section = dict[str, Any]


@dataclass
class Bridge:
    """A directory with config.yaml and everything that the program writes; started and stopped at will."""

    directory: Path
    config: Section
    environment: dict[str, str] = field(default_factory=dict)
    launcher: list[str] = field(default_factory=list)
    """A prefix of the command that starts `run`, which sets up what it needs around it."""
    creationflags: int = 0
    """For Windows: OWN_TERMINAL if the program is to be interrupted."""
    process: subprocess.Popen[bytes] | subprocess.Popen[str] | None = None
    _passwords: dict[str, str] = field(default_factory=dict)
    """The local passwords, each asked only once."""
    _said_before: str = ""
    """The log of earlier processes."""
    _errors: Path | None = None
    """Standard error of the running process: a file has everything at once, but the reader of a pipe may be late."""

    # --- life ---------------------------------------------------------------------------------------------------

    def write_config(self) -> Path:
        """Write the file only if it has changed: a running bridge waits until its file has stopped changing."""
        path, text = self.directory / "config.yaml", yaml.safe_dump(self.config, sort_keys=False)
        if not path.exists() or path.read_bytes() != text.encode():
            path.write_text(text)
            path.chmod(0o600)
        return path

    def start(self, *options: str) -> None:
        self.write_config()
        handle, name = tempfile.mkstemp(prefix="bridge-")  # removed once the process has stopped
        self._errors = Path(name)
        command = [*self.launcher, *self.command("run", *options)]
        try:
            process = subprocess.Popen(
                command, stderr=handle, env=self.environ, cwd=self.directory, creationflags=self.creationflags
            )
        finally:
            os.close(handle)
        self.process = process
        deadline = time.monotonic() + START_SECONDS
        while "bridge.up" not in self._said_now():
            if process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise AssertionError(f"the bridge did not start:\n{self.log}")
            time.sleep(0.01)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Returns: the exit code."""
        if self.process is None:
            return 0
        workers = self.workers
        self.process.send_signal(number)
        try:
            code = self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"the bridge did not stop:\n{self.log}") from None
        finally:
            self._is_over(workers)
        return code

    def stop_hard(self) -> None:
        """SIGKILL: the bridge cannot finish anything."""
        assert self.process is not None
        workers = self.workers
        self.process.kill()
        self.process.wait()
        self._is_over(workers)

    def _is_over(self, workers: Sequence[int]) -> None:
        """Keep the log, once the workers have ended too: a killed bridge does not wait for them."""
        deadline = time.monotonic() + STOP_SECONDS
        while any(Path(f"/proc/{number}").exists() for number in workers):
            assert time.monotonic() < deadline, f"a worker has outlived its bridge:\n{self.log}"
            time.sleep(0.01)
        said, errors = self.log, self._errors
        self.process = self._errors = None
        self._said_before = said
        if errors is not None:
            errors.unlink()

    @property
    def workers(self) -> list[int]:
        """Process ids of its running workers."""
        found = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError, ValueError):
                number = int(entry.name)
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                if parent == self.pid and b"worker" in (entry / "cmdline").read_bytes().split(b"\0"):
                    found.append(number)
        return found

    @property
    def log(self) -> str:
        """Everything that the program has written to standard error so far."""
        return self._said_before + self._said_now()

    def wait_for_log(self, words: str, seconds: float = 60) -> None:
        """Wait until the program has logged this."""
        self.wait_until(lambda: words in self.log, words, seconds)

    def wait_until(self, holds: Callable[[], bool], what: str, seconds: float = 60) -> None:
        """Wait until `holds` is true; for what a program does by itself."""
        deadline = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < deadline, f"{what!r} is not in\n{self.log}"
            time.sleep(0.02)

    def wait_until_refused(self, port: int) -> None:
        """Wait for the end of a listener. A connection that the kernel had completed but the listener had not accepted
        gets a reset."""

        def refused() -> bool:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=5).close()
            except ConnectionRefusedError:
                return True
            except ConnectionResetError:
                pass
            return False

        self.wait_until(refused, f"port {port} is closed")

    def _said_now(self) -> str:
        """The log of the running process, without an unfinished last line."""
        if self._errors is None:
            return ""
        said = self._errors.read_bytes()
        return said[: said.rfind(b"\n") + 1].decode()

    # --- commands -----------------------------------------------------------------------------------------------

    def run(self, *arguments: str, stdin: str = "", code: int | None = 0) -> str:
        """Run one command of the program. Returns: what it printed, standard output first, then standard error."""
        self.write_config()
        if arguments[0] == "accounts" and len(arguments) > 3:  # --rotate, --set-from-stdin, forget
            self._passwords.clear()
        done = subprocess.run(
            self.command(*arguments),
            input=stdin.encode(),  # as bytes: in text mode Windows would change its encoding and its line ends
            capture_output=True,
            env=self.environ,
            cwd=self.directory,
            timeout=60,
            check=False,
        )
        printed = (done.stdout + done.stderr).decode(locale.getpreferredencoding(False)).replace("\r\n", "\n")
        assert code is None or done.returncode == code, f"{arguments}: {done.returncode}\n{printed}"
        return printed

    def json(self, *arguments: str) -> Any:
        return json.loads(self.run(*arguments, "--json"))

    def json_of(self, *arguments: str, code: int = 0) -> Any:
        """What a command prints with --json if it may exit with another code; its log, which follows, is ignored."""
        value, _ = json.JSONDecoder().raw_decode(self.run(*arguments, "--json", code=code))
        return value

    def password(self, address: str) -> str:
        self.write_config()
        if (shown := asking.asked(self.meeting_places(), lambda it: asking.local_password(it, address))) is not None:
            return shown
        return self.run("accounts", "password", address).strip()

    def meeting_places(self) -> list[Path]:
        """The directories in which a bridge running in this environment publishes its address."""
        return [found.parent for found in (self.directory / "data").glob(f"mail-bridge/run/*/{rendezvous.NAME}")]

    def login(self, address: str, password: str | None = None) -> Login:
        where = {
            name: one[0]["address"] if isinstance(one, list) else one for name, one in self.config["listeners"].items()
        }
        ports = {name: int(str(address).rsplit(":", 1)[1]) for name, address in where.items()}
        if password is None:
            password = self._passwords.get(address) or self.password(address)
            self._passwords[address] = password
        return Login(ports["imap"], ports["pop3"], ports["smtp"], address, password)

    def sign_in(self, server: AuthorizationServer, address: str) -> None:
        """Sign in with the person whose address it is; with the command if no bridge of this user runs."""
        self.write_config()

        def consent(url: str) -> None:
            self.redirect(server.consent(url, address))

        if asking.asked(self.meeting_places(), lambda it: asking.sign_in(it, address, consent)) is None:
            self.authorize(server, address)

    def authorize(self, server: AuthorizationServer, address: str, person: str | None = None, code: int = 0) -> str:
        """Run `authorize`, with a person who signs in. Returns: what it printed."""

        def act(line: str, command: subprocess.Popen[str]) -> None:
            if (match := re.match(r"\s+(https://\S+)", line)) is not None:
                self.redirect(server.consent(match[1], person or address))

        return self.dialogue("authorize", address, "--no-browser", act=act, code=code)

    def dialogue(self, *arguments: str, act: Callable[[str, subprocess.Popen[str]], None], code: int = 0) -> str:
        """Run a command that waits for a person: `act` gets each line that it prints. Returns: all lines."""
        self.write_config()
        command = subprocess.Popen(
            self.command(*arguments),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self.environ,
            cwd=self.directory,
        )
        assert command.stdout is not None
        printed = ""
        with command:
            for line in command.stdout:
                printed += line
                act(line, command)
            assert command.wait(30) == code, printed + self.log
        return printed

    def redirect(self, parameters: dict[str, str]) -> tuple[int, str]:
        """The provider sends the browser back. Returns: status and page, after redirects."""
        return self.get(f"/?{urlencode(parameters)}")

    def get(self, path: str) -> tuple[int, str]:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(f"http://localhost:{self.console_port}{path}", timeout=30) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as problem:
            with problem:
                return problem.code, problem.read().decode()

    def browser(self) -> Visitor:
        """A visitor of the console whose browser keeps cookies."""
        return Visitor(f"http://localhost:{self.console_port}")

    @property
    def console_port(self) -> int:
        return int(str(self.config["console"]).rsplit(":", 1)[1])

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    # --- figures ------------------------------------------------------------------------------------------------

    def reset_peak(self) -> int:
        """Reset the peak of memory use. Returns: bytes in use now."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")
        return self._memory("VmRSS")

    def peak(self) -> int:
        """The most bytes in use since reset_peak()."""
        return self._memory("VmHWM")

    def _memory(self, name: str) -> int:
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1]) * 1024
        raise AssertionError(name)

    # --- how it is called ---------------------------------------------------------------------------------------

    def command(self, *arguments: str) -> list[str]:
        return [PYTHON, "-m", "bridge", "--config", str(self.directory / "config.yaml"), *arguments]

    @property
    def environ(self) -> dict[str, str]:
        kept = {
            name: os.environ[name]
            for name in ("PATH", "LC_ALL", "REQUESTS_CA_BUNDLE", "SYSTEMROOT")
            if name in os.environ
        }
        home = {"HOME": str(self.directory), "XDG_DATA_HOME": str(self.directory / "data")}
        return {**COVERAGE, **kept, **home, "PYTHONPATH": str(Path(__file__).parents[2]), **self.environment}


class Visitor:
    """A browser without JavaScript: keeps cookies, follows redirects, presses the first button of a page."""

    def __init__(self, base: str) -> None:
        self._base = base
        jar = urllib.request.HTTPCookieProcessor(CookieJar())
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), jar)
        self.at = base

    def press(self, path: str) -> str:
        """Open a page with a form of the console, and send the form."""
        url = f"{self._base}{path}"
        return self._ask(url, urlencode({"form": form_of(self._ask(url))}).encode())

    def open(self, path: str) -> str:
        """Open a page."""
        return self._ask(f"{self._base}{path}")

    def send(self, fields: dict[str, str]) -> str:
        """Send the form of the current page."""
        return self._ask(self.at, urlencode({"form": form_of(self._ask(self.at)), **fields}).encode())

    def reload(self) -> str:
        """Load the current page again."""
        return self._ask(self.at)

    def _ask(self, url: str, body: bytes | None = None) -> str:
        request = urllib.request.Request(url, body, {"Origin": "null"} if body else {})
        with self._opener.open(request, timeout=30) as answer:
            self.at = answer.url
            return str(answer.read().decode())


def configuration(directory: Path, providers: Section, accounts: Sequence[Section], **more: Any) -> Section:
    """A complete configuration, on ports that are free now."""
    imap, pop3, smtp, console = free_ports(4)
    for provider in providers.values():
        provider["redirect_uri"] = f"http://localhost:{console}/"
    return {
        "providers": providers,
        "accounts": list(accounts),
        "listeners": {"imap": f"127.0.0.1:{imap}", "pop3": f"127.0.0.1:{pop3}", "smtp": f"127.0.0.1:{smtp}"},
        "console": f"127.0.0.1:{console}",
        "store": {"path": str(directory / "store.sqlite"), "key_file": str(directory / "key")},
        "log": {"level": "debug"},
        **more,
    }


@contextmanager
def running(bridge: Bridge) -> Iterator[Bridge]:
    bridge.start()
    try:
        yield bridge
    finally:
        bridge.stop()
