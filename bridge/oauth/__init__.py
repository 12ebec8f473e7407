"""Who issues tokens: one adapter a provider; knows nothing of mail."""
