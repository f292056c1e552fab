"""SIGKILL at random moments: what was acknowledged is there, and nothing is half done."""

from __future__ import annotations

import pytest

from tests.rerank_server.killed_server import kill_again_and_again


@pytest.mark.slow
def test_every_acknowledged_change_survives_being_killed(tmp_path):
    """The script with --kills 200 is the long form; its result is among the benchmarks'"""
    seen = kill_again_and_again(tmp_path, kills=3, seed=7)
    assert seen.kills == 3
    assert seen.acknowledged > 0
    assert seen.left_behind <= 1  # a compaction that was cut; the next one removes it
