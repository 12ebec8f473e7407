"""Hostile input: guided by coverage into each part that reads it, and by the thousand into the running program."""
