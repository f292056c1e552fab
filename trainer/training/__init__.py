"""A training run and what it is made of."""
