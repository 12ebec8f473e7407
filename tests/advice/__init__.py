"""Tests of bridge.advice."""
