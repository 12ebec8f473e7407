"""OpenSSL's queue of errors, which all connections of a thread share; and CPython, which leaves one in it.

OpenSSL puts into it, from 3.4 on, what the system has said to a write; CPython raises that as OSError (gh-127257), and
does not take it out (gh-148594). The next connection that has nothing to read just now is told of it: with every mail
program that goes away in the middle, somebody else's session would end.
"""

from __future__ import annotations

import ssl


def forget_errors(context: ssl.SSLContext) -> None:
    """Call where a TLS connection of this context has failed otherwise than by an SSLError, in the thread in which it
    has. Takes some microseconds, and three times as many for a client's."""
    # Nothing empties the queue by name. A connection does when it is made; this one is never used.
    name = "localhost" if context.protocol is ssl.PROTOCOL_TLS_CLIENT else None
    context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_side=name is None, server_hostname=name)
