"""The demo: train, export, serve, retrieve and rerank, with one command."""
