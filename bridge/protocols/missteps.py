"""Why a wrongly configured mail program does not get as far as a login: sentences for the log.

They quote nothing that the client sent: where a mechanism name is expected, it may have sent a password.
"""

from __future__ import annotations

from typing import Final

BEFORE_TLS: Final = "is STARTTLS switched on in the mail program? (it wants to log in without)"
WANTS_TLS: Final = "is encryption switched off in the mail program? (it asks for STARTTLS, and there is none here)"
MISTRUST: Final = "does the mail program trust the certificate? (it left without a word when it had seen it)"
OTHER_WAY: Final = "is a normal password set in the mail program? (it asks for another way in than PLAIN and LOGIN)"
UNQUOTED: Final = "is there a space in the user name or the password? (the mail program does not quote what has one)"
UNESCAPED: Final = (
    "is there a quotation mark or a backslash in the user name or the password? "
    "(the mail program does not write it as IMAP wants)"
)
ANOTHER: Final = "is another name set beside the user name in the mail program? (it logs in for somebody else)"
NO_LOGIN: Final = "is authentication switched on in the mail program? (it sends without)"
