"""The whole bridge: real mail programs on one side, Dovecot and Postfix on the other."""
