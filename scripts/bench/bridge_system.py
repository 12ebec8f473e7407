"""mail-bridge as it is installed: `mail-bridge run`, log at info, accounts that were signed in before."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from bench.client import Identity
from bench.systems import ADDRESS, PROTOCOLS, START_SECONDS, Ports, System
from bridge.control.contract import Control
from bridge.control.remote import connect
from bridge.secret import Secret
from tests.servers.authorization import AuthorizationServer

OTHER_ADDRESS = "other@example.com"
"""At the Google-shaped provider; ADDRESS is at the Microsoft-shaped one."""


class MailBridge(System):
    """One Microsoft and one Google account, unless told otherwise."""

    name = "mail-bridge"

    def __init__(
        self, directory: Path, upstream: Ports, ca_file: Path, provider: AuthorizationServer, python: Path
    ) -> None:
        """`python` runs it."""
        super().__init__(directory, upstream, ca_file)
        self.accounts = [ADDRESS]
        """At the Microsoft-shaped provider."""
        self.passwords: dict[str, str] = {}
        self._provider = provider
        self.python = python

    def command(self) -> list[str]:
        servers: dict[str, Any] = {
            protocol: {"host": "localhost", "port": self.upstream[protocol], "tls": "implicit"}
            for protocol in PROTOCOLS
        }
        sections = {"office365": self._provider.microsoft_config(), "gmail": self._provider.google_config()}
        for section in sections.values():
            section |= servers | {"redirect_uri": f"http://localhost:{self.other_port}/"}
        configuration = {
            "providers": sections,
            "accounts": [{"address": address, "provider": "office365"} for address in self.accounts]
            + [{"address": OTHER_ADDRESS, "provider": "gmail"}],
            "listeners": {protocol: f"127.0.0.1:{port}" for protocol, port in self.ports.items()},
            "console": f"127.0.0.1:{self.other_port}",
            "store": {"path": str(self.directory / "store.sqlite"), "key_file": str(self.directory / "key")},
        }
        path = self.directory / "config.yaml"
        path.write_text(yaml.safe_dump(configuration))
        path.chmod(0o600)
        return [str(self.python), "-m", "bridge", "--config", str(path), "run"]

    def environment(self) -> dict[str, str]:
        root = Path(__file__).resolve().parents[2]
        return {"PYTHONPATH": str(root), "XDG_DATA_HOME": str(self.directory / "data")}

    def identity(self) -> Identity:
        return self.identity_of(ADDRESS)

    def identity_of(self, address: str) -> Identity:
        return Identity(address, self.passwords[address])

    def other_identity(self) -> Identity:
        return self.identity_of(OTHER_ADDRESS)

    @contextmanager
    def with_ended_tokens(self) -> Iterator[None]:
        """The bridge, running again after a restart; everybody has signed in before, and needs a new access token."""
        lifetime, self._provider.lifetime = self._provider.lifetime, 0
        with self.running():
            pass
        self._provider.lifetime = lifetime
        self.launch()
        try:
            self.wait_until_listening()
            yield
        finally:
            self.stop()

    @contextmanager
    def slow_tokens(self, seconds: float) -> Iterator[None]:
        """Meanwhile the provider takes this long for each of its answers."""
        self._provider.token_seconds = seconds
        try:
            yield
        finally:
            self._provider.token_seconds = 0.0

    def token_requests(self) -> Callable[[], list[str]]:
        """The accounts whose token is requested from now on, once for each request."""
        owners = {token: grant.address for token, grant in self._provider.refresh.items()}
        seen = len(self._provider.presented)
        return lambda: [owners.get(token, "a new grant") for token in self._provider.presented[seen:]]

    def wait_until_up(self) -> None:
        """Also signs everybody in, as somebody would who comes from another program."""
        self.wait_until_listening()
        asyncio.run(self._sign_in())

    def wait_until_listening(self) -> None:
        """Wait without connecting to a port, because the cost of a start is measured."""
        deadline = time.monotonic() + START_SECONDS
        while "bridge.up" not in self.log:
            if time.monotonic() > deadline or self._process is None or self._process.poll() is not None:
                raise SystemExit(f"{self.name} does not start:\n{self.log}")
            time.sleep(0.01)

    async def _sign_in(self) -> None:
        place = next((self.directory / "data" / "mail-bridge" / "run").iterdir())
        async with connect(place) as control:
            assert control is not None
            for address in (*self.accounts, OTHER_ADDRESS):
                await self._sign_in_one(control, address)

    async def _sign_in_one(self, control: Control, address: str) -> None:
        self._provider.people.add(address)
        await control.adopt(address, Secret(self._provider.issue_refresh_token(address)))
        self.passwords[address] = (await control.local_password(address)).reveal()
