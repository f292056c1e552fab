"""The demo's tables of the evaluation."""

from __future__ import annotations

import numpy as np

from deploy.demo.tables import FEWEST_PAGES, format_evaluation
from tests.trainer.synthetic_pages import synthetic_pages
from trainer.baselines.baselines import random_order, retrieval_order
from trainer.evaluation.evaluate import evaluate


def test_a_category_of_few_pages_gets_no_verdict():
    """Of two categories with the same clear gain, the one with few pages is not judged."""
    pages = synthetic_pages(120, categories=2)
    # nine tenths of the pages are of category 1
    category = np.where(np.arange(pages.pages) % 10 == 0, 2, 1)
    pages.categories[:] = category[pages.page_of_row]
    scores = {
        "retrieval order": {"Search": retrieval_order(pages)},
        "LightGBM": {"Search": random_order(pages)},
        "network": {"Search": pages.objective("purchase")},
    }
    evaluation = evaluate(
        {"Search": pages}, scores, category_names=("any", "dairy_eggs", "baby"), draws=200
    )
    table = format_evaluation(evaluation)
    few = next(line for line in table.splitlines() if line.startswith("Baby"))
    many = next(line for line in table.splitlines() if line.startswith("Dairy"))
    assert few.count("few pages") == 2
    assert "better" not in few
    assert many.count("better") == 2
    assert f"the category has {FEWEST_PAGES} pages or more" in table
