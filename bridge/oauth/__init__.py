"""Where tokens come from: one adapter for each provider; knows nothing of mail."""
