"""First set-up, whoever asks the questions: answers in, config.yaml out."""
