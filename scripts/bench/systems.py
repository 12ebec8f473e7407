"""What is measured: each system starts with its own configuration, in front of the same mail servers."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path

from bench.client import Closed, Identity, Session
from tests.servers.daemons import free_ports
from tests.servers.dovecot import version

START_SECONDS = 30.0
STOP_SECONDS = 20.0
ADDRESS = "user@example.com"
PROTOCOLS = ("imap", "pop3", "smtp")

SERVICES = {"imap": "imap", "pop3": "pop3", "submission": "smtp"}
"""Dovecot's names."""

Ports = Mapping[str, int]


class System(ABC):
    """A program between mail programs and mail servers."""

    name: str
    most_sessions = 9800
    """What it is asked to hold at most; two descriptors each, of the usual 20,000."""
    is_slow_to_log_in = False
    """True for one whose login takes a hundred times as long: it gets fewer, and one round."""
    descriptors = 1024
    """The soft limit with which it starts, as from a login shell or a service; it may raise that itself."""

    def __init__(self, directory: Path, upstream: Ports, ca_file: Path) -> None:
        self.directory = directory / self.name
        self.upstream = upstream
        self.ca_file = ca_file
        self.ports: Ports = {}
        self.other_port = 0
        """For whatever else it listens on."""
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self) -> list[str]:
        """Write the configuration for `self.ports`. Returns: what to run."""

    def environment(self) -> dict[str, str]:
        return {}

    def identity(self) -> Identity:
        """Who logs in."""
        return Identity(ADDRESS, "a-local-password")

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it, and wait for a login by each protocol: then tokens are in memory, and TLS sessions can be
        resumed."""
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir(parents=True)
        self.directory.chmod(0o755)
        *ports, self.other_port = free_ports(4)
        self.ports = dict(zip(PROTOCOLS, ports, strict=True))
        self.launch()
        self.wait_until_up()
        for protocol in PROTOCOLS:
            self.opened(protocol).log_out()

    def launch(self) -> None:
        log = (self.directory / "log").open("wb")
        with log:
            self._process = subprocess.Popen(
                ["sh", "-c", f'ulimit -Sn {self.descriptors}; exec "$0" "$@"', *self.command()],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                env={"PATH": os.environ["PATH"], "HOME": str(self.directory), **self.environment()},
                cwd=self.directory,
            )

    def wait_until_up(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                Session("imap", self.ports["imap"]).close()
            except OSError:
                if time.monotonic() > deadline or self._process is None or self._process.poll() is not None:
                    raise SystemExit(f"{self.name} does not start:\n{self.log}") from None
                time.sleep(0.02)
            else:
                return

    def stop(self) -> None:
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._process = None

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        self.start()
        try:
            yield
        finally:
            self.stop()

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text(errors="replace")[-4000:]

    def opened(self, protocol: str, who: Identity | None = None) -> Session:
        """A session that has logged in. Raises: SystemExit with the system's log."""
        session = Session(protocol, self.ports[protocol])
        try:
            session.log_in(who or self.identity())
        except (Closed, OSError) as problem:
            session.close()
            raise SystemExit(f"{self.name}: no {protocol} login: {problem}\n{self.log}") from problem
        return session


class HAProxy(System):
    """Only a relay: the mail program speaks XOAUTH2 itself. Debian's defaults, one thread."""

    name = "HAProxy"

    def command(self) -> list[str]:
        lines = ["global", "  nbthread 1", "  maxconn 9900", "defaults", "  mode tcp"]
        lines += ["  timeout connect 10s", "  timeout client 30m", "  timeout server 30m"]
        for protocol in PROTOCOLS:
            lines += [f"listen {protocol}", f"  bind 127.0.0.1:{self.ports[protocol]} backlog 4096"]
            trust = f"ssl verify required ca-file {self.ca_file} sni str(localhost) verifyhost localhost"
            lines.append(f"  server upstream 127.0.0.1:{self.upstream[protocol]} {trust}")
        configuration = self.directory / "haproxy.cfg"
        configuration.write_text("\n".join(lines) + "\n")
        return ["/usr/sbin/haproxy", "-db", "-f", str(configuration)]

    def identity(self) -> Identity:
        return Identity(ADDRESS, "", token="a-token-that-was-fetched-before")


DOVECOT_2_3 = """protocols = imap pop3 submission
ssl_ca = <{ca_file}
ssl_require_crl = no
disable_plaintext_auth = no
passdb {{
  driver = passwd-file
  args = {directory}/users-%s
}}"""
DOVECOT_2_4 = """dovecot_config_version = 2.4.0
dovecot_storage_version = 2.4.0
protocols = imap pop3 submission
ssl_client_ca_file = {ca_file}
auth_allow_cleartext = yes
passdb passwd-file {{
  passwd_file_path = {directory}/users-%{{protocol}}
}}"""


class Dovecot(System):
    """Dovecot as a proxy: checks the local password, logs in with the token of its passdb."""

    name = "Dovecot"
    descriptors = 20_000
    """By its unit's LimitNOFILE; it does not raise the soft limit itself."""

    def command(self) -> list[str]:
        owner = pwd.getpwuid(os.geteuid())
        user = "dovecot" if os.geteuid() == 0 else owner.pw_name
        login_user = "dovenull" if os.geteuid() == 0 else owner.pw_name
        fields = (
            "proxy=y host=localhost hostip=127.0.0.1 ssl=yes proxy_mech=XOAUTH2 pass=a-token-that-was-fetched-before"
        )
        for name, protocol in SERVICES.items():
            users = f"{ADDRESS}:{{PLAIN}}a-local-password::::::{fields} port={self.upstream[protocol]}\n"
            (self.directory / f"users-{name}").write_text(users)
        is_old = version() < (2, 4)
        services = [
            f"""service {name}-login {{
  {"service_count = 0" if is_old else "restart_request_count = unlimited"}
  process_min_avail = 1
  process_limit = 1
  client_limit = 20000
  chroot =
  inet_listener {name}s {{
    port = 0
  }}
  inet_listener {name} {{
    port = {self.ports[protocol]}
  }}
}}"""
            for name, protocol in SERVICES.items()
        ]
        dialect = DOVECOT_2_3 if is_old else DOVECOT_2_4
        settings = f"""{dialect.format(directory=self.directory, ca_file=self.ca_file)}
base_dir = {self.directory}/run
state_dir = {self.directory}/state
log_path = {self.directory}/log
listen = 127.0.0.1
hostname = localhost
submission_relay_host = localhost
ssl = no
auth_mechanisms = plain login
default_internal_user = {user}
default_login_user = {login_user}
default_client_limit = 20000
default_vsz_limit = 4 G
service anvil {{
  client_limit = 20000
}}"""
        configuration = self.directory / "dovecot.conf"
        configuration.write_text("\n".join([settings, *services, ""]))
        return ["/usr/sbin/dovecot", "-F", "-c", str(configuration)]


class EmailProxy(System):
    """email-oauth2-proxy, without its tray icon; client credentials, since nobody signs in during a benchmark."""

    name = "emailproxy"
    most_sessions = 250
    """Beyond about 500 its select() fails."""
    is_slow_to_log_in = True

    def __init__(self, directory: Path, upstream: Ports, ca_file: Path, program: Path, token_url: str) -> None:
        super().__init__(directory, upstream, ca_file)
        self._program = program
        self._token_url = token_url

    def command(self) -> list[str]:
        lines = []
        for protocol in PROTOCOLS:
            lines += [f"[{protocol.upper().rstrip('3')}-{self.ports[protocol]}]", "local_address = 127.0.0.1"]
            lines += ["server_address = localhost", f"server_port = {self.upstream[protocol]}"]
        lines += [f"[{ADDRESS}]", f"token_url = {self._token_url}", "oauth2_scope = mail"]
        lines += ["oauth2_flow = client_credentials", "client_id = bench", "client_secret = a-client-secret"]
        configuration = self.directory / "emailproxy.config"
        configuration.write_text("\n".join(lines) + "\n")
        return [str(self._program), "--no-gui", "--config-file", str(configuration)]

    def environment(self) -> dict[str, str]:
        return {"SSL_CERT_FILE": str(self.ca_file)}
