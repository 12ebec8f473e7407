"""Hostile input: fuzzed with coverage into each part that parses input, and sent in bulk to the running program."""
