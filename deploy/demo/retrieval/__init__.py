"""First-stage retrieval: the candidates of a page, in retrieval order."""
