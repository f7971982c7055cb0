"""Training: datasets, models, the training loop, cross-validation and runs."""
