"""Tests of bridge/ui/tray."""
