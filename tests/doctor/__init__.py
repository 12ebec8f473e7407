"""Tests of bridge/doctor."""
