"""A bundle and an image in, an assessment out. No torch."""
