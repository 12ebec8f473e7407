"""What a user interface may ask of a running bridge."""
