"""`run --demo`: a small identity provider and mail servers of its own, in memory, for a first look without accounts."""
