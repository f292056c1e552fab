"""The benchmark on Complete Journey and the documents made of it."""
