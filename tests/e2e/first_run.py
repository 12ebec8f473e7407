"""The program without a configuration: `mail-bridge init --browser` as a process, and requests to its pages."""

from __future__ import annotations

import http.client
import os
import re
import subprocess
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.conftest import COVERAGE
from tests.e2e.bridge import STOP_SECONDS
from tests.e2e.conftest import World
from tests.servers.daemons import free_ports

LINK_SECONDS = 60


@dataclass
class FirstRun:
    """A home directory without a configuration, and the process that asks for one."""

    home: Path
    port: int = field(default_factory=lambda: free_ports(1)[0])
    options: tuple[str, ...] = ()
    language: str = "C.UTF-8"
    browser: Path | None = None
    """The program that is started with the page's link; None for no browser."""
    starter: tuple[str, ...] = ()
    """A command that executes ours, such as `nohup`."""
    process: subprocess.Popen[str] | None = None
    link: str = ""
    _lines: list[str] = field(default_factory=list)
    _has_link: threading.Event = field(default_factory=threading.Event)
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _readers: list[threading.Thread] = field(default_factory=list)

    @property
    def config(self) -> Path:
        return self.home / "settings" / "config.yaml"

    @property
    def base(self) -> str:
        return f"http://localhost:{self.port}"

    @property
    def said(self) -> str:
        """Standard output and the log."""
        return "".join(self._lines)

    @property
    def environ(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "REQUESTS_CA_BUNDLE") if name in os.environ}
        home = {"HOME": str(self.home), "XDG_DATA_HOME": str(self.home / "data"), "LC_ALL": self.language}
        keyring = {"PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring"}
        browser = {"BROWSER": f"{self.browser} %s"} if self.browser is not None else {}
        return {**COVERAGE, **kept, **home, **keyring, **browser, "PYTHONPATH": str(Path(__file__).parents[2])}

    def command(self, *arguments: str) -> list[str]:
        return [*self.starter, sys.executable, "-m", "bridge", "--config", str(self.config), *arguments]

    def start(self) -> None:
        self._lines.clear()
        self._has_link.clear()
        opening = ["--no-open"] if self.browser is None else []
        self.process = subprocess.Popen(
            self.command("init", "--browser", *opening, "--port", str(self.port), *self.options),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environ,
            cwd=self.home,
        )
        self._readers = [
            threading.Thread(target=self._read, args=(stream,), daemon=True)
            for stream in (self.process.stdout, self.process.stderr)
        ]
        for reader in self._readers:
            reader.start()
        if not self._has_link.wait(LINK_SECONDS):
            self.stop()
            raise AssertionError(f"no link was printed:\n{self.said}")
        self.wait_for("setup.waiting")

    def stop(self) -> int:
        """Returns: the exit code."""
        assert self.process is not None
        self.process.terminate()
        code = self.process.wait(STOP_SECONDS)
        for reader in self._readers:
            reader.join()
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()
        return code

    def wait_for(self, words: str, seconds: float = 60) -> None:
        """Wait until the program has printed or logged this."""
        with self._changed:
            assert self._changed.wait_for(lambda: words in self.said, seconds), f"{words!r} is not in\n{self.said}"

    def ask(self, path: str, **headers: str) -> tuple[int, str]:
        """Request a page without a cookie. Returns: status and page."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(urllib.request.Request(self.base + path, headers=headers), timeout=30) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as problem:
            with problem:
                return problem.code, problem.read().decode()

    def post(self, path: str, cookies: Iterable[Mapping[str, Any]], **fields: str) -> http.client.HTTPConnection:
        """Send a form as a browser with these cookies would. Returns: the connection, to read the answer from."""
        headers = {
            "Content-Type": "application/x-www-form-urlencoded",
            "Cookie": "; ".join(f"{cookie['name']}={cookie['value']}" for cookie in cookies),
            "Origin": self.base,
        }
        connection = http.client.HTTPConnection("localhost", self.port, timeout=30)
        connection.request("POST", path, urllib.parse.urlencode(fields), headers)
        return connection

    def _read(self, stream: object) -> None:
        for line in stream:  # type: ignore[attr-defined]  # a text stream
            with self._changed:
                self._lines.append(line)
                self._changed.notify_all()
            if (found := re.search(r"http://localhost:\d+/admin/[\w-]{43}(?!\S)", line)) is not None:
                self.link = found[0]
                self._has_link.set()


@contextmanager
def first_run(
    home: Path, *options: str, browser: Path | None = None, starter: tuple[str, ...] = ()
) -> Iterator[FirstRun]:
    run = FirstRun(home, options=options, browser=browser, starter=starter)
    run.start()
    try:
        yield run
    finally:
        code = run.stop()
        print(run.said)  # pytest shows it if the test has failed
        assert code == 0


def answers(world: World) -> dict[str, str]:
    """What a person enters for the tests' provider, as for any OAuth 2.0 provider; without the secret."""
    section = world.provider.generic_config()
    return {
        "client_id": section["client_id"],
        "authorization_url": section["authorization_url"],
        "token_url": section["token_url"],
        "scopes": " ".join(section["scopes"]),
        "imap": f"localhost:{world.dovecot.imap_tls}",
        "pop3": f"localhost:{world.dovecot.pop3_starttls} starttls",
        "smtp": f"localhost:{world.postfix.smtps} implicit",
        "ca_file": section["ca_file"],
    }


def secret(world: World) -> str:
    return str(world.provider.generic_config()["client_secret"])
