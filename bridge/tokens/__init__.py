"""The life of a token: sign-in, vault, refresh, renewal."""
