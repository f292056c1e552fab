"""The Python client of a rerank server: one call, always an answer, in retrieval order at worst."""
