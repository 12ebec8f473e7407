"""Fixtures of the relay's tests, and the event loops that they run on."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping

import pytest
import trustme

from bridge.host.loop import new_event_loop
from bridge.relay.tls import listener_context
from tests.relay.scripted import Trust


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The program's own loop; tests of channels run on asyncio's as well, which is what the program uses on macOS."""
    if item.path.stem in {"test_channel", "test_splice"}:
        return {"program": new_event_loop, "asyncio": asyncio.new_event_loop}
    return {"program": new_event_loop}


@pytest.fixture(scope="module")
def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    ca = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("localhost").configure_cert(server)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    ca.configure_trust(client)
    return server, client


@pytest.fixture(scope="module")
def port_contexts(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """The context of a local TLS port, as the bridge makes it, and that of a mail client."""
    ca, file = trustme.CA(), str(tmp_path_factory.mktemp("port") / "both.pem")
    ca.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(file)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    ca.configure_trust(client)
    return listener_context(file, file), client


@pytest.fixture(scope="module")
def trust(tmp_path_factory: pytest.TempPathFactory) -> Trust:
    """The CA and the certificate of the scripted servers."""
    return Trust(tmp_path_factory.mktemp("trust"))
