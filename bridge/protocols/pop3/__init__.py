"""POP3 until login: machines for both sides."""
