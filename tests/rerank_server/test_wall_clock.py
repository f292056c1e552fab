"""The time of day when the machine's clock jumps."""

from __future__ import annotations

from rerank_server.wall_clock import WallClock


def test_time_goes_on_when_the_clock_is_set_back_and_follows_it_ahead():
    wall, steady = [1_000_000.0], [50.0]
    clock = WallClock(lambda: wall[0], lambda: steady[0])
    assert clock.now() == 1_000_000
    wall[0], steady[0] = 1_000_010, 60
    assert clock.now() == 1_000_010
    wall[0], steady[0] = 900_000, 65  # set back
    assert clock.now() == 1_000_015
    wall[0], steady[0] = 1_000_500, 70  # set ahead
    assert clock.now() == 1_000_500
