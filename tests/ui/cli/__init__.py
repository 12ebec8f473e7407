"""Mirrors bridge/ui/cli."""
