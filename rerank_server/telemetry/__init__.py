"""Every reranked search as one document in Elasticsearch, written beside the request path."""
