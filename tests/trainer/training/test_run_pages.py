"""Which pages a run learns from and is evaluated on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from trainer.encoding.batches import rows_of
from trainer.errors import TrainingError
from trainer.training.run_pages import check_pages, evaluated_pages


def test_evaluated_pages_are_spread_evenly_over_time(tiny_config, tiny_log):
    every = evaluated_pages(replace(tiny_config, validation_pages=10**6), tiny_log, "search")
    some = evaluated_pages(replace(tiny_config, validation_pages=5), tiny_log, "search")
    assert some.tolist() == [int(every[place * every.size // 5]) for place in range(5)]


def test_a_sample_without_a_positive_is_refused_before_training(tiny_config, tiny_log):
    config = replace(tiny_config, validation_pages=1, surfaces=("search",))
    first = evaluated_pages(config, tiny_log, "search")
    labels = np.array(tiny_log.labels)
    labels[rows_of(tiny_log, first)] = 0
    with pytest.raises(TrainingError, match="got 1 validation pages of search, none"):
        check_pages(config, replace(tiny_log, labels=labels))
    check_pages(replace(config, validation_pages=10**6), replace(tiny_log, labels=labels))
