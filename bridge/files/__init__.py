"""What the standard library lacks for files: drafts, private directories, files that others hold open."""
