"""What operators see: named log events and counters."""
