"""Tests of bridge/hooks."""
