"""What learns: recipe, model, loop, run."""
