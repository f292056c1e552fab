"""Scores as probabilities, per surface and category."""
