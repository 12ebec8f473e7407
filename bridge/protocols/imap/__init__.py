"""IMAP until login: machines for both sides."""
