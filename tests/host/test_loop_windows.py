"""Our event loop on Windows: it survives what asyncio's own proactor does not."""

from __future__ import annotations

import asyncio
import gc
import socket
import sys
import threading

import pytest

if sys.platform != "win32":
    pytest.skip("Windows alone has it", allow_module_level=True)

from bridge.host.loop import new_event_loop
from tests.relay.sockets import close_with_reset
from tests.silent import no_thread


def test_a_server_outlives_a_client_that_has_gone_before_it_was_taken() -> None:
    """The console is such a server. CPython issue 93821."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        writer.close()

    async def ask() -> bytes:
        sock = socket.create_server(("127.0.0.1", 0))
        sock.setblocking(False)
        where = sock.getsockname()
        close_with_reset(socket.create_connection(where))
        async with await asyncio.start_server(serve, sock=sock):
            reader, writer = await asyncio.open_connection(*where)
            writer.write(b"hello\n")
            try:
                return await reader.readline()
            finally:
                writer.close()

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        assert runner.run(ask()) == b"hello\n"
    gc.collect()


def test_the_pools_end_needs_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal server out of memory the program still ends, without a traceback."""
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(asyncio.to_thread(threading.get_ident))
        monkeypatch.setattr(threading.Thread, "start", no_thread)
