from __future__ import annotations

import json
from pathlib import Path

import pytest

from deploy.loop.errors import LearningError
from deploy.loop.publishing import BundlePublisher, Serving
from deploy.loop.rankers import RetrievalOrder
from deploy.loop.training import CandidateBundle, settings_of_run, signals_of_run


def test_before_the_first_publication_serves_what_was_said_to(tmp_path):
    assert isinstance(BundlePublisher(tmp_path).serving(1), RetrievalOrder)
    assert BundlePublisher(tmp_path).run() is None
    first = Serving(tmp_path / "demo", tmp_path / "demo" / "runs" / "one")
    assert BundlePublisher(tmp_path, first=first).run() == first.run


def test_what_was_published_last_says_which_run_it_is_of(tmp_path):
    publisher = BundlePublisher(tmp_path, first=Serving(tmp_path / "demo", tmp_path / "old"))
    publisher.publish(CandidateBundle("b" * 64, tmp_path / "new", 10, 0.5, tmp_path / "run"))
    assert publisher.run() == tmp_path / "run"
    publisher.publish(CandidateBundle("c" * 64, tmp_path / "newer", 10, 0.5))
    assert publisher.run() is None


def test_a_network_to_start_from_gives_the_shape_of_the_next(tmp_path):
    values = {"width": 24, "hidden": [32, 16], "rank": 1, "heads": 2, "page_layers": 1}
    values |= {"number_bins": 3, "name": "a", "gate": "mmoe", "shopper_sequence": False}
    (tmp_path / "config.json").write_text(json.dumps(values))
    settings = settings_of_run(tmp_path)
    assert "width = 24\nhidden = [32, 16]\nrank = 1\n" in settings
    assert 'name = "loop"\n' in settings
    assert 'gate = "mmoe"\nshopper_sequence = false\n' in settings
    with pytest.raises(LearningError, match="want the folder of a training run"):
        settings_of_run(Path("nowhere"))


def test_signals_that_no_log_of_the_loop_has_are_named(tmp_path):
    signals = [{"name": name} for name in ("store_sales_28d", "store_sales_91d", "stock")]
    (tmp_path / "names.json").write_text(json.dumps({"schema": {"signals": signals}}))
    assert signals_of_run(tmp_path) == ("stock",)
    with pytest.raises(LearningError, match="want a run that wrote down its names"):
        signals_of_run(tmp_path / "other")
