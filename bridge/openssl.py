"""OpenSSL's queue of errors, which all connections of a thread share; and CPython, which leaves one in it.

OpenSSL puts into it, from 3.4 on, what the system has said to a write; CPython raises that as OSError (gh-127257), and
does not take it out (gh-148594). The next connection that has nothing to read just now is told of it: with every mail
program that goes away in the middle, somebody else's session would end.
"""

from __future__ import annotations

import contextlib
import functools
import ssl


def forget_errors() -> None:
    """Call where a TLS connection has failed otherwise than by an SSLError, in the thread in which it has. 12 µs."""
    # Nothing empties the queue by name. A handshake does before it begins; this one hears nothing, and that is its end.
    with contextlib.suppress(ssl.SSLWantReadError):
        _context().wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_side=True).do_handshake()


@functools.cache
def _context() -> ssl.SSLContext:
    return ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
