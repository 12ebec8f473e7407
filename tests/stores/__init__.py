"""Tests of bridge.stores, beside the suite of tests/contract/test_stores.py."""
