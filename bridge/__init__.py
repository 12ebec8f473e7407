"""mail-bridge: plain IMAP, POP3 and SMTP logins on localhost, XOAUTH2 upstream."""

__version__ = "0.1.0"
