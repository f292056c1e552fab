"""The demo of the whole loop on a real Elasticsearch: search, clicks, learning, figures."""
