"""What keeps a mail program that is set up wrongly from its login: for the log, where somebody looks for the reason.

No word of the client's is in it. What stands where a mechanism should may be a password.
"""

from __future__ import annotations

from typing import Final

BEFORE_TLS: Final = "is STARTTLS switched on in the mail program? (it wants to log in without)"
WANTS_TLS: Final = "is encryption switched off in the mail program? (it asks for STARTTLS, and there is none here)"
MISTRUST: Final = "does the mail program trust the certificate? (it left without a word when it had seen it)"
OTHER_WAY: Final = "is a normal password set in the mail program? (it asks for another way in than PLAIN and LOGIN)"
UNQUOTED: Final = "is there a space in the user name or the password? (the mail program does not quote what has one)"
ANOTHER: Final = "is another name set beside the user name in the mail program? (it logs in for somebody else)"
NO_LOGIN: Final = "is authentication switched on in the mail program? (it sends without)"
