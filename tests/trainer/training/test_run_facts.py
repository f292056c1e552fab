from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest

from trainer.training.run_facts import (
    CURVES,
    FACTS,
    PACKAGES,
    RunData,
    RunFolderError,
    begin_run,
    read_run,
)

DATA = RunData("c0ffee", "encoded-1", {"search": {"train": 3, "validation": 2, "test": 1}})
OUTCOME = {
    "steps": 7,
    "best": 0.5,
    "best_step": 4,
    "parameters": 11,
    "objective_weights": {"search": {"purchase": 1.0}},
}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / CURVES).write_text('{"step": 1, "loss": 2.0}\n')
    (tmp_path / "best.pdparams").write_bytes(b"weights")
    return tmp_path


def begun(folder):
    record = begin_run(folder, "shop", {"rank": 2}, {"weights": 1}, DATA)
    assert record is not None
    return record


def test_a_run_that_began_tells_what_it_is_made_from(folder):
    begun(folder)
    facts = read_run(folder)
    assert (facts.name, facts.config, facts.seeds, facts.data) == (
        "shop", {"rank": 2}, {"weights": 1}, DATA,
    )  # fmt: skip
    assert facts.result is None
    (call,) = facts.calls
    assert call.environment["Python"].startswith("3.")
    assert len(call.code) == 64
    assert call.commit
    packages = (folder / PACKAGES).read_text().splitlines()
    assert f"numpy=={np.__version__}" in packages
    assert packages == sorted(packages, key=str.lower)


def test_a_finished_run_tells_how_it_ended_and_hashes_what_it_left(folder):
    begun(folder).finish(**OUTCOME)
    result = read_run(folder).result
    assert result is not None
    assert (result.steps, result.best, result.best_step, result.parameters) == (7, 0.5, 4, 11)
    assert result.files["best.pdparams"] == hashlib.sha256(b"weights").hexdigest()
    assert result.peak_mib > 1
    assert begin_run(folder, "shop", {"rank": 2}, {"weights": 1}, DATA) is None


def test_a_run_that_is_gone_on_with_has_a_call_more_and_the_seconds_of_both(folder):
    begun(folder).tick()
    kept = json.loads((folder / FACTS).read_text())
    kept["calls"][0]["seconds"] = 40.0
    (folder / FACTS).write_text(json.dumps(kept))
    begun(folder).finish(**OUTCOME)
    facts = read_run(folder)
    assert len(facts.calls) == 2
    assert 40.0 <= facts.seconds < 50.0


@pytest.mark.parametrize("name", [CURVES, "best.pdparams"])
def test_other_files_than_the_run_left_are_refused(folder, name):
    begun(folder).finish(**OUTCOME)
    (folder / name).write_text("changed")
    with pytest.raises(RunFolderError, match=rf"{name}: got SHA-256 .*, want SHA-256"):
        read_run(folder)
    (folder / name).unlink()
    with pytest.raises(RunFolderError, match=f"{name}: got no such file"):
        read_run(folder)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{cut", "want the facts of a run"),
        ("[]", r"got format_version \[\], want 1"),
        ('{"format_version": 2}', "got format_version 2, want 1"),
        ('{"format_version": 1, "name": "a"}', "KeyError"),
    ],
)
def test_damaged_facts_are_named(tmp_path, text, said):
    (tmp_path / FACTS).write_text(text)
    with pytest.raises(RunFolderError, match=said):
        read_run(tmp_path)


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(RunFolderError, match=r"got no run\.json there, want a folder that `train`"):
        read_run(tmp_path)
