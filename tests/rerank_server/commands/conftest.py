"""What the tests of the command line share."""

from __future__ import annotations

import logging

import pytest


@pytest.fixture(autouse=True)
def keep_logging():
    """Commands configure the root logger; give it back as it was."""
    root, ours = logging.getLogger(), logging.getLogger("rerank_server")
    before = root.handlers[:], root.level, ours.level
    yield
    root.handlers[:], ours.level = before[0], before[2]
    root.setLevel(before[1])


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch):
    """Help is wrapped to the terminal's width."""
    monkeypatch.setenv("COLUMNS", "200")
