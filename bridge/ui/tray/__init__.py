"""The icon beside the clock: who must sign in, one click from the right page. Knows the control contract only."""
