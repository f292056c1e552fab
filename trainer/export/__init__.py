"""A run as a bundle that the server reads."""
