"""Cores are what the container gives, not what the machine has."""

from __future__ import annotations

import os

import pytest

from rerank_server.cores import available_cores

ALL = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("limit", "want"),
    [
        ("100000 100000", 1),
        ("50000 100000", 1),
        ("max 100000", ALL),
        ("100000000 100000", ALL),
        ("nonsense", ALL),
        ("100000 0", ALL),
    ],
)
def test_a_cgroup_v2_quota_counts(tmp_path, limit, want):
    (tmp_path / "cpu.max").write_text(limit + "\n")
    assert available_cores(tmp_path) == want


@pytest.mark.parametrize(("quota", "want"), [("100000", 1), ("-1", ALL)])
def test_a_cgroup_v1_quota_counts(tmp_path, quota, want):
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(quota + "\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert available_cores(tmp_path) == want


def test_without_a_cgroup_the_affinity_counts(tmp_path):
    assert available_cores(tmp_path) == ALL
