from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.deploy.sizing import DOCUMENT, Measured, read_measured, size_of, with_table


def run(loads: dict[str, tuple[float, float]], cores: int = 1) -> dict[str, object]:
    return {
        "candidates": 100,
        "deadline_ms": 100,
        "server_cores": cores,
        "cores": 2,
        "load_average": [1.0, 1.0, 1.0],
        "loads": {
            name: {"offered": offered, "outcomes": {"good": good}}
            for name, (offered, good) in loads.items()
        },
    }


@pytest.fixture
def results(tmp_path: Path) -> Path:
    fast = run({"open, 0.5x": (100, 100), "open, 0.9x": (200, 199), "open, 2x": (400, 220)}, 2)
    slow = run({"open, 0.5x": (60, 60), "open, 0.9x": (90, 88), "closed, 16 callers": (500, 500)})
    files = {
        "overload": {"runs": [fast, slow]},
        "server": {"memory_mib": {"crossrank": [{"own": 300}]}},
        "gateway": {"requests": {"search": {"cpu_ms_per_request": {"gateway": 0.7}}}},
    }
    for name, content in files.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    return tmp_path


def test_the_slowest_run_counts_by_its_heaviest_load_that_was_nearly_all_good(
    results: Path,
) -> None:
    # fast: 199 of 200 is 99.5 %, on 2 cores: 99.5; slow: 88 of 90 is 97.8 %, so 60 of 60 counts
    assert read_measured(results).pages_per_core_s == 60.0


def test_a_run_that_was_never_good_counts_by_the_good_pages_of_its_lightest_load(
    results: Path,
) -> None:
    bad = run({"open, 0.5x": (60, 40), "open, 0.9x": (90, 50)})
    (results / "overload.json").write_text(json.dumps({"runs": [bad]}))
    assert read_measured(results).pages_per_core_s == 40.0


def test_sizes_are_those_worked_out_by_hand() -> None:
    measured = Measured(100.0, 100, 100, 300.0, 0.7, 1.0, 2)
    small, large = size_of(1, measured), size_of(2_000, measured)
    assert (small.servers, small.gateways) == (2, 2)
    # 2,000 / (100 x 0.6) = 33.3 cores, 17 machines of 2, and one more
    assert large.servers == 18
    # 2,000 x 4 ms / 0.6 = 13.3 cores
    assert large.gateways == 15
    assert large.candidates_in_flight == 120
    # 2,000 x 3,600 x 3,000 bytes
    assert large.spool_gib == pytest.approx(20.1, abs=0.1)


def test_the_document_holds_the_table_of_the_recorded_results() -> None:
    document = DOCUMENT.read_text(encoding="utf-8")
    assert with_table(document) == document, "run `python -m tests.deploy.sizing`"
