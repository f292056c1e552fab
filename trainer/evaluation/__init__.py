"""Figures of rankings, with their intervals."""
