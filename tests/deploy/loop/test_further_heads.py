from __future__ import annotations

import json
from typing import Any

import numpy as np
import paddle
import pytest

from deploy.loop.errors import LearningError
from deploy.loop.further_heads import with_further_heads
from trainer.training.checkpoint import read_weights


def write_run(folder):
    folder.mkdir()
    weights: dict[str, Any] = {
        "scorer._heads.weight": np.array([[1.0, 2.0], [3.0, 4.0]], np.float32),
        "scorer._heads.bias": np.array([5.0, 6.0], np.float32),
        "scorer._affine._scale.weight": np.array([[0.1, 0.2]], np.float32),
        "scorer._surface.weight": np.array([[7.0, 8.0]], np.float32),
    }
    paddle.save(weights, str(folder / "best.pdparams"))
    (folder / "checkpoint.pdparams").write_bytes(b"constants")
    names = {"schema": {"objectives": ["purchase", "trial"]}, "vocabulary": {}}
    (folder / "names.json").write_text(json.dumps(names))
    return folder


def test_a_new_objective_starts_as_a_copy_of_the_first(tmp_path):
    run = write_run(tmp_path / "run")
    given = with_further_heads(run, ["click", "cart", "purchase"], tmp_path / "start")
    names = json.loads((given / "names.json").read_text())["schema"]["objectives"]
    assert names == ["purchase", "trial", "click", "cart"]
    weights = read_weights(given / "best.pdparams")
    assert weights["scorer._heads.weight"].tolist() == [[1, 2, 1, 1], [3, 4, 3, 3]]
    assert weights["scorer._heads.bias"].tolist() == [5, 6, 5, 5]
    assert weights["scorer._affine._scale.weight"] == pytest.approx(
        np.array([[0.1, 0.2, 0.1, 0.1]])
    )
    assert weights["scorer._surface.weight"].tolist() == [[7, 8]]
    assert (given / "checkpoint.pdparams").read_bytes() == b"constants"


def test_a_run_that_has_all_heads_is_started_from_itself(tmp_path):
    run = write_run(tmp_path / "run")
    assert with_further_heads(run, ["trial"], tmp_path / "start") == run
    assert not (tmp_path / "start").exists()


def test_a_folder_that_is_no_run_is_named(tmp_path):
    with pytest.raises(LearningError, match="want a run that wrote down its names"):
        with_further_heads(tmp_path, ["click"], tmp_path / "start")
