"""The one YAML file: models, loading with line numbers, and what a change to it means."""
