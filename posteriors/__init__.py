"""What is compared, combined, calibrated and scored: posteriors, whoever made them."""
