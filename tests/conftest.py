"""Fixtures that every test may use."""

from __future__ import annotations

from tests.elasticsearch_fixtures import elasticsearch_client, elasticsearch_url

__all__ = ["elasticsearch_client", "elasticsearch_url"]
