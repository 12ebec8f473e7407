"""Everything a person sees: console, tray, command line."""
