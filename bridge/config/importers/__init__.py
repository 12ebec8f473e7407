"""Other bridges' files to our YAML."""
