"""The HTTP gateway before Elasticsearch: passes everything on, reranks the searches that ask."""
