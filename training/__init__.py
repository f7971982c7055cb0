"""Training of recipes: datasets, models, the training loop, and runs over the folds of a manifest."""
