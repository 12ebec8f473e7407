"""More than one core: processes that serve mail clients, around the one that knows the secrets."""
