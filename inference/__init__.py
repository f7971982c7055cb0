"""What is done with a trained run: prediction on recordings, robustness, export, publication."""
