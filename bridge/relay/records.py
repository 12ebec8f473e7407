"""TLS with a mail client, fed record by record.

OpenSSL reads from a socket until it has data to hand over. A client, even before any login, can keep sending records
without data: a key update takes 27 octets on the wire and some ten microseconds here, so that 8 MB of them, prepared
beforehand, kept one call busy for 4.6 seconds, in which nobody else was served. A hello in pieces of one octet took 0.2
seconds.

So the socket is read here, one record at a time, and OpenSSL gets what was read. This costs a fifth more CPU for each
octet on ports with TLS, nothing for a login, and 22 KiB for each direction of a session in which a long record has
passed. Towards a mail server, whose certificate has been verified, an SSLSocket does the reading.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import ssl

from bridge.relay.channel import RECORD_SIZE

SILENT_RECORDS = 32
"""The most records in a row without data for us. A handshake has five or six, or some more from clients that cut their
hello into pieces; a key update is due after millions of records (RFC 8446 section 5.5)."""
HANDSHAKE_OCTETS = RECORD_SIZE
"""The most octets of a client's handshake: it needs some hundred, or two thousand with post-quantum keys. In a longer
hello OpenSSL 3.0 compares each key with each group: 104 ms for 64 KiB."""
UNSENT_ANSWERS = 1024
"""Octets of answers to key updates (RFC 8446 section 4.6.3), some forty, that may wait for a client that reads none."""

_HEADER = 5
"""Type, version (two), length (two): RFC 8446 section 5.1."""
_LONGEST = RECORD_SIZE + 2048
"""RFC 5246 section 6.2.3: OpenSSL refuses a longer record by its header."""
_TYPES = range(20, 25)
_NOTHING = memoryview(b"")
"""Shared; an empty slice of a sent piece would keep the piece in memory."""


class RecordTls:
    """The server's side of TLS on a non-blocking socket; read(), write() and do_handshake() as an SSLSocket's in C.

    Between two calls, at most a part of one record that was read is kept, so that the selector reports everything that
    can be read. Of what was written, only the one record that the kernel has no room for is kept.
    """

    __slots__ = (
        "_handshake",
        "_has_ended",
        "_header",
        "_incoming",
        "_is_first",
        "_left",
        "_outgoing",
        "_owed",
        "_silent",
        "_socket",
        "_unsent",
        "tls",
    )

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        self._socket = sock
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._header = b""
        self._left = 0
        """Octets of the current record that have not come yet."""
        self._is_first = True
        self._handshake: int | None = 0
        """Octets of the handshake so far; None once it is done."""
        self._silent = 0
        self._has_ended = False
        """True once close_notify has been read: no selector would report it again, so read() goes on returning 0."""
        self._owed = 0
        """Octets of the caller that are encrypted already, but not sent: the caller has to offer them again."""
        self._unsent = _NOTHING
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)

    @property
    def has_begun_handshake(self) -> bool:
        """See Channel."""
        return self._handshake != 0

    def do_handshake(self) -> None:
        """Go on with the handshake. Raises: SSLWantReadError, SSLWantWriteError, to call again then; SSLError,
        OSError."""
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                self._feed()
            except ssl.SSLError:
                with contextlib.suppress(OSError):  # send the alert, which says why
                    self._flush()
                raise
            else:
                self._silent = 0
                self._handshake = None
                return self._flush()

    def read(self, size: int, place: memoryview) -> int:
        """Read one record's content into `place`, of RECORD_SIZE at least; 0 at close_notify.

        Raises: SSLWantReadError; SSLEOFError at an end without close_notify; SSLError; ConnectionAbortedError for a
        client that sends too many records without data; OSError.
        """
        while not self._has_ended:
            self._feed()
            try:
                count: int = self.tls.read(size, place)  # type: ignore[assignment]  # octets only without a place
            except ssl.SSLWantReadError:
                self._answer()
            else:
                self._silent = 0
                self._has_ended = not count
                return count
        return 0

    def write(self, view: memoryview) -> int:
        """Send as many whole records as the kernel takes; returns their octets. After a 0 the same octets have to be
        offered again. Raises: SSLError, OSError."""
        taken = 0
        with contextlib.suppress(ssl.SSLWantWriteError):
            while taken < len(view):
                if not self._owed:
                    self._owed = self.tls.write(view[taken : taken + RECORD_SIZE])
                self._flush()
                taken += self._owed
                self._owed = 0
        return taken

    def unwrap(self) -> None:
        """Send close_notify, if the kernel takes it. Raises: OSError, ValueError."""
        try:
            with contextlib.suppress(ssl.SSLWantReadError):  # we do not wait for the client's close_notify
                self.tls.unwrap()
        finally:
            self._flush()

    def _feed(self) -> None:
        """Hand OpenSSL the next record, or the end. Raises: SSLWantReadError if it is not there yet; OSError.

        The next record's header is read along with it if it has come, too, which saves a system call for each record.
        """
        if self._silent > SILENT_RECORDS:
            raise ConnectionAbortedError(errno.ECONNABORTED, f"{SILENT_RECORDS} TLS records with nothing in them")
        if self._handshake is not None and self._handshake > HANDSHAKE_OCTETS:
            raise ConnectionAbortedError(errno.ECONNABORTED, f"more than {HANDSHAKE_OCTETS} octets before TLS is on")
        try:
            while data := self._socket.recv(self._left + _HEADER - len(self._header)):
                self._incoming.write(data)
                is_content = self._left > 0
                if len(data) < self._left:
                    self._left -= len(data)
                    continue
                self._begin(self._header + data[self._left :])
                if is_content or not (self._left or self._header):
                    return
        except BlockingIOError:
            raise ssl.SSLWantReadError from None
        self._incoming.write_eof()

    def _begin(self, header: bytes) -> None:
        """Note how much follows this header; nothing if it is invalid, since OpenSSL refuses it without the rest."""
        self._left = 0
        if len(header) < _HEADER:
            self._header = header
            return
        self._header = b""
        self._silent += 1
        length = int.from_bytes(header[3:], "big")
        if header[0] in _TYPES and header[1] == 3 and length <= _LONGEST:
            self._left = length
        elif self._is_first and header[0] & 0x80 and header[2] == 1:  # a hello of SSL 2 (RFC 5246 appendix E.2)
            self._left = max(int.from_bytes(header[:2], "big") - 0x8000 - (_HEADER - 2), 0)
        self._is_first = False
        if self._handshake is not None:
            self._handshake += self._left

    def _answer(self) -> None:
        """Send the answer to a key update as soon as the kernel takes it, or before the next data."""
        if not self._outgoing.pending:
            return
        with contextlib.suppress(ssl.SSLWantWriteError):
            self._flush()
        if self._outgoing.pending > UNSENT_ANSWERS:
            raise ConnectionAbortedError(errno.ECONNABORTED, "the client wants new keys, and does not read")

    def _flush(self) -> None:
        """Send what OpenSSL has to say. Raises: SSLWantWriteError if the kernel does not take all of it; OSError."""
        try:
            while self._unsent or self._outgoing.pending:
                if not self._unsent:
                    self._unsent = memoryview(self._outgoing.read())
                self._unsent = self._unsent[self._socket.send(self._unsent) :] or _NOTHING
        except BlockingIOError:
            raise ssl.SSLWantWriteError from None
