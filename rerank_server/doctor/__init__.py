"""What is wrong with an installation, found before a server starts, and what to do about it."""
