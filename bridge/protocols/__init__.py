"""IMAP, POP3, SMTP and SASL as pure machines: bytes in, events out; no sockets, no clocks."""
