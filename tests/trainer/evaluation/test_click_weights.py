from __future__ import annotations

from collections import Counter

import numpy as np
import polars as pl
import pytest

from tests.trainer.log_files_for_tests import DAY, START
from tests.trainer.logs.test_query_log import CONFIG, PRODUCTS
from trainer.encoding.dataset import read_prepared
from trainer.errors import LogConfigError
from trainer.evaluation.click_weights import with_click_weights
from trainer.logs.log_config import read_log_config
from trainer.logs.log_tables import read_tables
from trainer.logs.prepare import prepare

NAMES = [str(product["id"]) for product in PRODUCTS]


def write_searches(folder, config):
    """Write 600 searches over 30 days, in shuffled order, clicked at place k with chance 1 / k."""
    random = np.random.default_rng(7)
    searches, events = [], []
    for number in range(600):
        candidates = random.permutation(NAMES).tolist()
        time = START + number * DAY // 20
        name = f"q{number}"
        searches.append(
            {"query_id": name, "text": "toys", "shopper": f"s{number % 9}", "time": time,
             "candidates": candidates, "scores": [3.0, 2.0, 1.0]}
        )  # fmt: skip
        for place, product in enumerate(candidates):
            if random.random() < 0.8 / (place + 1):
                events.append(
                    {"query_id": name, "shopper": f"s{number % 9}", "product": product,
                     "time": time + 5, "kind": "click"}
                )  # fmt: skip
    folder.mkdir()
    pl.DataFrame(PRODUCTS).write_ndjson(folder / "products.jsonl")
    pl.DataFrame(searches).write_ndjson(folder / "searches.jsonl")
    pl.DataFrame(events).write_ndjson(folder / "events.jsonl")
    path = folder / "log.toml"
    path.write_text(CONFIG + config)
    return path


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    root = tmp_path_factory.mktemp("click-weights")
    path = write_searches(root / "weighted", 'position_bias = "em"\nposition_bias_places = 3\n')
    plain = write_searches(root / "plain", "")
    return [read_prepared(prepare(each, root, progress=False)) for each in (path, plain)]


def test_the_curve_and_the_effective_clicks_are_in_the_manifest(prepared):
    weighted, plain = prepared
    told = weighted.manifest["position_bias"]
    # of some 200 showings: 4 standard errors of a ratio of rates .8 and .4
    np.testing.assert_allclose(told["examination"], [1, 1 / 2, 1 / 3], atol=0.25)
    assert 0 < told["effective_clicks"] < told["clicks"]
    assert told["pages"][1] == pytest.approx(told["clicks"], rel=0.1)
    assert "position_bias" not in plain.manifest


def test_training_pages_have_one_click_each_and_others_are_untouched(prepared):
    weighted = prepared[0]
    for log in prepared:
        starts = log.page_offsets[:-1]
        log_clicks = np.add.reduceat(log.candidate_labels[:, 0].astype(int), starts)
        training = log.page_splits == 0
        if log is weighted:
            assert log_clicks[training].max() == 1
        else:
            assert log_clicks[training].max() > 1
    for split in (1, 2):
        first, second = ((log.page_splits == split).sum() for log in prepared)
        assert first == second > 0


def test_what_was_put_into_the_cart_is_no_negative_of_another_click(tmp_path):
    path = write_searches(tmp_path / "carts", 'position_bias = "em"\nposition_bias_places = 3\n')
    events = path.parent / "events.jsonl"
    searches = pl.read_ndjson(path.parent / "searches.jsonl").rows(named=True)
    clicks = pl.read_ndjson(events)
    carts = [
        {**row, "product": next(each for each in search["candidates"] if each != row["product"]),
         "kind": "cart"}
        for search in searches
        for row in clicks.filter(pl.col("query_id") == search["query_id"]).rows(named=True)[:1]
    ]  # fmt: skip
    outside = {**clicks.row(0, named=True), "query_id": "q1", "product": "never-shown"}
    kept = clicks.filter(pl.col("query_id") != "q1")
    pl.concat([kept, pl.DataFrame([*carts, outside], schema=clicks.schema)]).write_ndjson(events)

    config = read_log_config(path)
    log, told = with_click_weights(read_tables(config, path.parent, now=START + 400 * DAY), config)
    assert told is not None
    assert log.searches is not None
    put = {(row["query_id"], row["product"]) for row in carts}
    copies = [row for row in log.searches.rows(named=True) if "#" in row["query_id"]]
    assert copies
    for row in copies:
        name, product, _ = row["query_id"].split("#")
        assert all((name, each) not in put or each == product for each in row["candidates"])
    # a page whose only click is on nothing that it showed stays as it was
    assert "q1" in log.searches["query_id"].to_list()


def test_clicks_at_the_bottom_count_for_more(tmp_path):
    path = write_searches(tmp_path / "log", 'position_bias = "em"\nposition_bias_places = 3\n')
    config = read_log_config(path)
    log = read_tables(config, path.parent, now=START + 400 * DAY)
    weighted, told = with_click_weights(log, config)
    assert log.searches is not None
    assert log.events is not None
    assert weighted.searches is not None
    assert told is not None
    names, candidates = (log.searches[each].to_list() for each in ("query_id", "candidates"))
    shown = dict(zip(names, candidates, strict=True))
    first, second, _ = config.split_times
    times = dict(zip(names, log.searches["time"].to_list(), strict=True))
    clicks: Counter[int] = Counter()
    copies: Counter[int] = Counter()
    for query, product in zip(log.events["query_id"], log.events["product"], strict=True):
        if first <= times[query] < second:
            clicks[shown[query].index(product)] += 1
    for name in weighted.searches["query_id"].to_list():
        query, _, rest = name.partition("#")
        if rest:
            copies[shown[query].index(rest.partition("#")[0])] += 1
    inverse = 1 / np.array(told.examination)
    mean = sum(clicks[place] * inverse[place] for place in range(3)) / sum(clicks.values())
    for place in range(3):
        # each click is repeated its weight's share of times, the rest by a coin
        want = clicks[place] * inverse[place] / mean
        assert copies[place] == pytest.approx(want, abs=4 * np.sqrt(clicks[place]) / 2)
    assert copies[2] > 1.5 * clicks[2]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('position_bias = "ips"', "position_bias: got 'ips', want one of none, em"),
        ('position_bias = "em"\nposition_bias_clip = 0.5', "position_bias_clip: got 0.5"),
        ('position_bias = "em"\nposition_bias_places = 0', "position_bias_places: got 0"),
    ],
)
def test_settings_that_cannot_be_met_are_refused(tmp_path, line, said):
    path = tmp_path / "log.toml"
    path.write_text(CONFIG + line)
    with pytest.raises(LogConfigError, match=said):
        read_log_config(path)


def test_position_bias_without_a_search_log_is_refused(tmp_path):
    path = tmp_path / "log.toml"
    lines = [line for line in CONFIG.splitlines() if not line.startswith(("searches", "events"))]
    text = "\n".join([*lines, 'interactions_file = "i.tsv"', 'position_bias = "em"'])
    path.write_text(text)
    with pytest.raises(LogConfigError, match="position_bias: got 'em' without a search log"):
        read_log_config(path)
