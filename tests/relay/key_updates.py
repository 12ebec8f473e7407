"""A TLS 1.3 client that updates its keys at will. Python's `ssl` cannot do that, so it calls OpenSSL's library."""

from __future__ import annotations

import ctypes
import ctypes.util
import socket
from typing import Any, Final

NOT_REQUESTED: Final = 0
REQUESTED: Final = 1
"""See SSL_key_update(3): whether the other side must update its keys too."""

_POINTER: Final = ctypes.c_void_p
_INT: Final = ctypes.c_int
_FUNCTIONS: Final[dict[str, tuple[Any, list[Any]]]] = {
    "BIO_ctrl_pending": (ctypes.c_size_t, [_POINTER]),
    "BIO_new": (_POINTER, [_POINTER]),
    "BIO_read": (_INT, [_POINTER, ctypes.c_char_p, _INT]),
    "BIO_s_mem": (_POINTER, []),
    "SSL_CTX_free": (None, [_POINTER]),
    "SSL_CTX_new": (_POINTER, [_POINTER]),
    "SSL_connect": (_INT, [_POINTER]),
    "SSL_do_handshake": (_INT, [_POINTER]),
    "SSL_free": (None, [_POINTER]),
    "SSL_key_update": (_INT, [_POINTER, _INT]),
    "SSL_new": (_POINTER, [_POINTER]),
    "SSL_read": (_INT, [_POINTER, ctypes.c_char_p, _INT]),
    "SSL_set0_wbio": (None, [_POINTER, _POINTER]),
    "SSL_set_fd": (_INT, [_POINTER, _INT]),
    "SSL_write": (_INT, [_POINTER, ctypes.c_char_p, _INT]),
    "TLS_client_method": (_POINTER, []),
}


class KeyUpdater:
    """A client on a blocking socket that accepts any certificate. After the handshake, its output waits for take()."""

    def __init__(self, sock: socket.socket) -> None:
        self._library = _library()
        self._context = self._library.SSL_CTX_new(self._library.TLS_client_method())
        self._ssl = self._library.SSL_new(self._context)
        self._library.SSL_set_fd(self._ssl, sock.fileno())

    def shake_hands(self) -> None:
        """Blocks."""
        assert self._library.SSL_connect(self._ssl) == 1
        self._said = self._library.BIO_new(self._library.BIO_s_mem())
        self._library.SSL_set0_wbio(self._ssl, self._said)

    def update_keys(self, wish: int) -> None:
        assert self._library.SSL_key_update(self._ssl, wish) == 1
        assert self._library.SSL_do_handshake(self._ssl) == 1

    def write(self, data: bytes) -> None:
        assert self._library.SSL_write(self._ssl, data, len(data)) == len(data)

    def take(self) -> bytes:
        """The octets that update_keys() and write() have produced, to be sent."""
        place = ctypes.create_string_buffer(self._library.BIO_ctrl_pending(self._said))
        assert self._library.BIO_read(self._said, place, len(place)) == len(place)
        return place.raw

    def read(self, most: int) -> bytes:
        """Blocks. Returns b"" at the end of the connection and after an error."""
        place = ctypes.create_string_buffer(most)
        count = self._library.SSL_read(self._ssl, place, most)
        return place.raw[: max(count, 0)]

    def close(self) -> None:
        self._library.SSL_free(self._ssl)
        self._library.SSL_CTX_free(self._context)


def _library() -> Any:
    library = ctypes.CDLL(ctypes.util.find_library("ssl"))
    for name, (answer, arguments) in _FUNCTIONS.items():
        function = getattr(library, name)  # libcrypto's too: libssl loads it, and it is searched as well
        function.restype, function.argtypes = answer, arguments
    return library
