"""SMTP until login: machines for both sides."""
