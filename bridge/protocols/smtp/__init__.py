"""SMTP until login: the machine towards the upstream; the side of mail clients is relay.smtp_frontend."""
