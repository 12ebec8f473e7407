"""Clears OpenSSL's error queue, which all connections of a thread share, of an error that CPython leaves in it.

From 3.4 on, OpenSSL queues the system's error for a failed write; CPython raises it as OSError (gh-127257), but does
not remove it from the queue (gh-148594). The next connection that has nothing to read yet gets that error: each mail
program that disconnects abruptly would end another client's session.
"""

from __future__ import annotations

import ssl


def forget_errors(context: ssl.SSLContext) -> None:
    """Call if a TLS connection of this context has failed with an error other than SSLError, in the same thread. Takes
    some microseconds, and three times as many for a client context."""
    # Python has no function that clears the queue, but making a connection clears it; this one is never used.
    name = "localhost" if context.protocol is ssl.PROTOCOL_TLS_CLIENT else None
    context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_side=name is None, server_hostname=name)
