"""Notifies a service manager: systemd's notification protocol (sd_notify(3), systemd.service(5) `Type=notify`)."""

from __future__ import annotations

import os
import socket
import time
import weakref
from collections.abc import MutableMapping

from bridge.clock import Clock
from bridge.observe.logs import detail

MARGIN = 60.0
"""Seconds that are requested in addition to the time that is expected to pass."""


class ServiceManager:
    """The service manager that started us and wants to be notified; without one, nothing happens."""

    def __init__(self, environment: MutableMapping[str, str]) -> None:
        """Takes its variables out of `environment`, because programs that we start must not notify the manager."""
        names = "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"
        self._address, microseconds, process = (environment.pop(name, "") for name in names)
        self._patience: float | None = None
        if self._address and microseconds.isdigit() and process in {"", str(os.getpid())}:
            self._patience = int(microseconds) / 1e6 or None
        self._socket: socket.socket | None = None
        """Kept open from the first message on: if it had to be opened when no descriptor is left, a bridge that still
        serves its sessions would be silent, and the watchdog would end it."""

    def ready(self) -> None:
        """Mail clients are served; also said after a reload."""
        self._tell("READY=1")

    def reloading(self) -> None:
        """The configuration is being read again; ready() follows."""
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def waits(self, seconds: float) -> None:
        """The start takes this many seconds longer, because somebody must do something first."""
        self._tell(f"EXTEND_TIMEOUT_USEC={int((seconds + MARGIN) * 1e6)}")

    def stopping(self) -> None:
        """Sessions get a moment to end."""
        self._tell("STOPPING=1")

    async def watched(self, clock: Clock) -> None:
        """Say twice in each `WatchdogSec=` that we are alive, until cancelled: a bridge that hangs is restarted."""
        while self._patience is not None:
            self._tell("WATCHDOG=1")
            await clock.pause(self._patience / 2)

    def _tell(self, *assignments: str) -> None:
        """Send a message if possible; a service manager that does not listen is no reason to stop."""
        family = getattr(socket, "AF_UNIX", None)
        if not self._address or family is None:
            return
        name = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            if self._socket is None:
                self._socket = socket.socket(family, socket.SOCK_DGRAM)
                self._socket.setblocking(False)
                weakref.finalize(self, self._socket.close)
            self._socket.sendto("\n".join(assignments).encode(), name)
        except OSError as problem:
            detail("service_manager.not_told", error=type(problem).__name__)


service_manager = ServiceManager(os.environ)
"""The one of this process."""
