"""Tests of bridge.oauth."""
