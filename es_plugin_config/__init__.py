"""Search configuration as data, and the command that applies it."""
