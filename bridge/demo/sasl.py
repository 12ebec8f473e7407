"""The server side of XOAUTH2 for the demo's mail servers."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable

from bridge.demo.mailboxes import Mail, Mailbox

FAILURE = base64.b64encode(b'{"status":"400","schemes":"Bearer","scope":"mail"}')
"""The challenge after a bad token, shaped like Gmail's; the client answers it with an empty line."""

_BLOB = re.compile(rb"user=([^\x01]+)\x01auth=Bearer ([^\x01]+)\x01\x01")


def authenticated(blob: bytes, owner: Callable[[str], str | None], mail: Mail) -> Mailbox | None:
    """The mailbox that this XOAUTH2 response opens, or None."""
    try:
        match = _BLOB.fullmatch(base64.b64decode(blob, validate=True))
    except binascii.Error:
        return None
    if match is None:
        return None
    address = match[1].decode("utf-8", "replace").lower()
    return mail.box(address) if owner(match[2].decode("ascii", "replace")) == address else None
