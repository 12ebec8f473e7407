"""The benchmark: mail-bridge beside HAProxy, Dovecot and email-oauth2-proxy; see scripts/bench.py."""
