"""Hostile dialogues with a running bridge: `python -m tests.fuzz.attack IMAP POP3 SMTP CONSOLE FIRST COUNT`.

There are four port numbers; 0 leaves out the dialogues of that port.
It runs as a process of its own, so that its load does not slow down the mail client that is observed meanwhile.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import sys

from tests.fuzz.dialogues import COMMANDS, Dialogue, Ending, dialogue

AT_ONCE = 40
PATIENCE = 90.0
"""Seconds. The answers to five wrong passwords are delayed by fifty; a dialogue that takes longer was forgotten."""


async def hold(ports: dict[str, int], what: Dialogue) -> None:
    """Hold one dialogue. Whatever the bridge does is right, as long as it is done within a client's patience."""
    if not ports[what.port]:
        return
    async with asyncio.timeout(PATIENCE):
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", ports[what.port])
        except ConnectionError:
            return
        try:
            for piece in what.pieces:
                writer.write(piece)
                await writer.drain()
            if what.ending is Ending.POLITE:
                writer.write_eof()
                while await reader.read(65536):
                    pass
            elif what.ending is Ending.RUDE:
                linger = struct.pack("ii", 1, 0)
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        except (ConnectionError, OSError):
            pass
        finally:
            writer.close()


async def attack(ports: dict[str, int], numbers: range) -> None:
    """Hold all of these dialogues, AT_ONCE at a time."""
    waiting = iter(numbers)

    async def work() -> None:
        for number in waiting:
            try:
                await hold(ports, dialogue(number))
            except TimeoutError:
                raise AssertionError(f"dialogue({number}) was not over after {PATIENCE:.0f} s") from None

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(work())


if __name__ == "__main__":
    *numbers, first, count = map(int, sys.argv[1:])
    asyncio.run(attack(dict(zip(COMMANDS, numbers, strict=True)), range(first, first + count)))
