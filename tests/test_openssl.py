"""OpenSSL's error queue, read with ctypes because Python gives no access to it."""

from __future__ import annotations

import _ssl
import ctypes
import ssl

import pytest

from bridge.openssl import forget_errors

OPENSSL = ctypes.CDLL(getattr(_ssl, "__file__", None))
"""The OpenSSL that Python's own connections use: it is found through the `_ssl` module, which is linked with it."""

pytestmark = pytest.mark.skipif(not hasattr(OPENSSL, "ERR_set_error"), reason="OpenSSL 3, where it can be found")


def first_error() -> int:
    OPENSSL.ERR_peek_error.restype = ctypes.c_ulong
    return int(OPENSSL.ERR_peek_error())


@pytest.mark.parametrize("kind", [ssl.PROTOCOL_TLS_SERVER, ssl.PROTOCOL_TLS_CLIENT], ids=["server", "client"])
def test_what_a_connection_has_left_there_is_gone(kind: int) -> None:
    context = ssl.SSLContext(kind)
    OPENSSL.ERR_new()
    OPENSSL.ERR_set_error(2, 32, None)  # a system error (ERR_LIB_SYS): broken pipe
    assert first_error() != 0
    forget_errors(context)
    assert first_error() == 0


def test_nothing_is_left_there_by_the_emptying_itself() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    for _ in range(3):
        forget_errors(context)
        assert first_error() == 0
