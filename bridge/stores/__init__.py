"""Sealed bytes by key, with versions and leases; knows nothing of tokens."""
