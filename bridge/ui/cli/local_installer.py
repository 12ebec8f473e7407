"""What the first set-up does on this machine: finds places for secrets, tries, writes, and orders the start."""

from __future__ import annotations

import asyncio
import os
import socket
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from bridge.advice.said import said
from bridge.advice.system import system_reason
from bridge.clock import Clock
from bridge.config.console import USUAL_CONSOLE
from bridge.config.importers.providers import SECRETS
from bridge.control.contract import Finding
from bridge.doctor.rehearsal import rehearse
from bridge.errors import BridgeError
from bridge.files.existing import exists
from bridge.host.machine import this_machine
from bridge.host.paths import config_candidates, is_for_service
from bridge.observe import logs
from bridge.secret import Secret
from bridge.stores.named_secrets import read_named_secret, write_named_secret
from bridge.threads import in_thread
from bridge.ui.cli.starting import bind_or_stop
from bridge.ui.setup.draft import Draft, reference_to
from bridge.ui.setup.installer import AlreadyConfigured, secret_text
from bridge.ui.setup.writing import write_configuration

FORGET_SECONDS: Final = 8 * 3600.0
"""Answers that nobody has touched for this long are dropped: as long as an administrator's session."""


@dataclass(frozen=True, slots=True)
class FirstRunOptions:
    """What the command line says."""

    output: Path
    port: int = USUAL_CONSOLE
    open_browser: bool = True


class LocalInstaller:
    """The Installer of this machine. Whoever takes an order from `start_order` carries it out: see first_run.Start."""

    def __init__(self, options: FirstRunOptions, port: int, has_keyring: bool, clock: Clock) -> None:
        self.output = options.output
        self.start_order: asyncio.Queue[asyncio.Future[None]] = asyncio.Queue()
        self._is_over = False
        self._problem: BridgeError | None = None
        """Why it was not started in the end."""
        self._waiting: set[asyncio.Future[None]] = set()
        self._port = port
        self._has_keyring = has_keyring
        self._clock = clock
        self._draft = self._new_draft()
        self._touched = clock.monotonic()
        self._own_entries: set[str] = set()

    def _new_draft(self) -> Draft:
        other_port = None if self._port == USUAL_CONSOLE else self._port
        return Draft(self.output.parent, self._has_keyring, is_for_service(self.output), other_port)

    @property
    def draft(self) -> Draft:
        """See Installer."""
        now = self._clock.monotonic()
        if now - self._touched > FORGET_SECONDS:
            self._draft = self._new_draft()
        self._touched = now
        return self._draft

    async def place(self, scheme: str, name: str) -> str:
        """See Installer."""
        promised = {section.reference for section in self._draft.sections.values()}
        return await in_thread(partial(self._free_place, scheme, name, promised))

    def _free_place(self, scheme: str, name: str, promised: set[str]) -> str:
        number, free = 1, name
        while self._is_taken(scheme, free) or reference_to(scheme, free) in promised:
            number += 1
            free = f"{name}-{number}"
        return reference_to(scheme, free)

    def _is_taken(self, scheme: str, name: str) -> bool:
        if scheme == "file":
            file = self.output.parent / SECRETS / f"{name}.txt"
            try:
                return exists(file)
            except OSError as problem:
                sentence = said("{file} cannot be written: {reason}", file=file, reason=system_reason(problem))
                raise BridgeError(sentence) from problem
        return name not in self._own_entries and read_named_secret(name) is not None

    async def rehearse(self, draft: Draft) -> tuple[Finding, ...]:
        """See Installer."""

        def bind(host: str, port: int, what: str) -> list[socket.socket]:
            return [] if port == self._port else bind_or_stop(host, port, what)

        return await rehearse(draft.loaded(), this_machine(), bind)

    async def install(self, draft: Draft) -> None:
        """See Installer."""
        draft.loaded()  # what `run` would refuse is not written
        await in_thread(partial(self._write, draft.text, draft.files, draft.entries))
        logs.event("setup.written", file=str(self.output))

    def _write(self, text: str, files: dict[Path, Secret[str]], entries: dict[str, Secret[str]]) -> None:
        if found_config(self.output) is not None:
            raise AlreadyConfigured(said("{file} already exists, and is left as it is.", file=self.output))
        for name, secret in entries.items():
            if self._is_taken("keyring", name):
                raise BridgeError(
                    said("the keyring already has an entry mail-bridge/{name}, which is left as it is", name=name)
                )
            self._own_entries.add(name)  # before: a keyring that is unlocked after we gave up still takes the entry
            write_named_secret(name, secret)
        texts = {path: secret_text(secret) for path, secret in files.items()}
        try:
            write_configuration({**texts, self.output: text})
        except BridgeError:
            if os.path.exists(self.output):  # of two who wrote at the same time, we were the second
                raise AlreadyConfigured(
                    said("{file} already exists, and is left as it is.", file=self.output)
                ) from None
            raise

    async def start(self) -> None:
        """See Installer."""
        if self._is_over:
            if self._problem is not None:
                raise self._problem
            return
        order: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(order)
        try:
            await self.start_order.put(order)
            await order
        finally:
            self._waiting.discard(order)

    def answer_all(self, problem: BridgeError | None = None) -> None:
        """Answer all orders, also those that came while it started by itself, since no order is carried out any
        more."""
        self._is_over, self._problem = True, problem
        for order in self._waiting:
            settle(order, problem)


def settle(order: asyncio.Future[None], problem: BridgeError | None = None) -> None:
    """Answer whoever waits for this order, unless they have an answer or have given up."""
    if order.done():
        return
    if problem is None:
        order.set_result(None)
    else:
        order.set_exception(problem)


def found_config(output: Path) -> Path | None:
    """The configuration that is there by now: the one that was to be written, or one where `run` looks."""
    # Not Path.exists(), which raises where we may not look.
    return next(filter(os.path.exists, (output, *config_candidates())), None)
