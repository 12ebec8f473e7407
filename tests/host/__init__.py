"""Tests of bridge.host."""
