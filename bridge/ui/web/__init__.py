"""The console and the redirect target on http://localhost:3017/."""
