"""Errors name the nearest known name."""

from __future__ import annotations

from rerank_server.contract.errors import nearest


def test_the_nearest_name_is_offered():
    assert nearest("purchse", ["click", "purchase"]) == " (nearest: purchase)"


def test_nothing_is_offered_when_nothing_is_near():
    assert nearest("xyz", ["click", "purchase"]) == ""
