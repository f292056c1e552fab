from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.trainer.log_files_for_tests import CONFIG, DAY, START, ratings, write_log
from trainer.encoding.dataset import read_prepared
from trainer.encoding.features import past_of
from trainer.errors import EmptyTableError, LogConfigError, LogFileError, SingleCategoryError
from trainer.logs.prepare import prepare

TINY = Path(__file__).parents[1] / "data" / "complete_journey_tiny"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    out = tmp_path_factory.mktemp("prepared")
    return read_prepared(prepare(TINY / "log.toml", out, progress=False))


def page_key(prepared, page: int) -> tuple[str, int, str, str]:
    """Name a page by what stays when other pages change."""
    query = int(prepared.page_queries[page])
    return (
        prepared.shoppers[prepared.page_shoppers[page]],
        int(prepared.page_times[page]),
        prepared.surfaces[prepared.page_surfaces[page]],
        prepared.queries[query] if query >= 0 else "",
    )


def page_content(prepared, page: int, ids: list[str]):
    where = prepared.page(page)
    return (
        [ids[row] for row in prepared.candidate_rows[where]],
        prepared.candidate_scores[where].tolist(),
        prepared.candidate_signals[where].tolist(),
    )


def test_pages_are_sorted_by_time_and_fill_their_candidates(tiny):
    assert (np.diff(tiny.page_times) >= 0).all()
    assert tiny.page_offsets[0] == 0
    assert tiny.page_offsets[-1] == len(tiny.candidate_rows)
    assert tiny.candidate_signals.shape == (len(tiny.candidate_rows), len(tiny.signals))
    assert tiny.candidate_labels.shape == (len(tiny.candidate_rows), len(tiny.objectives))
    assert tiny.objectives == ("purchase", "trial", "discount")


def test_a_page_holds_a_product_once(tiny):
    for page in range(tiny.page_count):
        rows = tiny.candidate_rows[tiny.page(page)]
        assert len(np.unique(rows)) == len(rows)


def test_pages_lie_in_the_weeks_of_their_split(tiny):
    starts = np.array([1_498_449_600, 1_508_126_400, 1_510_549_200])
    expected = np.searchsorted(starts, tiny.page_times, side="right") - 1
    assert tiny.page_splits.tolist() == expected.tolist()


def test_all_pages_of_a_basket_are_in_one_split(tiny):
    keys = tiny.page_shoppers.astype(np.int64) * 10**10 + tiny.page_times
    for key in np.unique(keys):
        assert len(np.unique(tiny.page_splits[keys == key])) == 1


def test_training_pages_hold_a_positive_and_others_may_not(tiny):
    reached = np.add.reduceat(tiny.candidate_labels[:, 0], tiny.page_offsets[:-1])
    assert (reached[tiny.page_splits == 0] > 0).all()
    assert (reached[tiny.page_splits > 0] == 0).any()
    assert (reached <= tiny.page_positives_total).all()


def test_labels_are_what_the_basket_holds(tiny):
    for page in range(tiny.page_count):
        start, end = tiny.shopper_offsets[tiny.page_shoppers[page] :][:2]
        times = tiny.interaction_times[start:end]
        basket = tiny.interaction_rows[start:end][times == tiny.page_times[page]]
        before = tiny.interaction_rows[past_of(tiny, page)]
        rows = tiny.candidate_rows[tiny.page(page)]
        labels = tiny.candidate_labels[tiny.page(page)]
        bought = np.isin(rows, basket)
        if tiny.surfaces[tiny.page_surfaces[page]] == "search":
            assert labels[:, 0].tolist() == bought.astype(int).tolist()
        assert not labels[~bought].any()
        trial = labels[:, 0].astype(bool) & ~np.isin(rows, before)
        assert labels[:, 1].tolist() == trial.astype(int).tolist()


def test_a_search_page_holds_its_category_only_and_matches_its_query(tiny):
    products = tiny.products()
    for page in tiny.pages_of("test", "search"):
        query = tiny.queries[tiny.page_queries[page]]
        for row in tiny.candidate_rows[tiny.page(page)]:
            assert tiny.product_categories[row] == tiny.page_categories[page]
            assert query in products[row]["category_path"][1:]


def test_promotion_flags_follow_their_codes(tiny):
    names = tiny.signals
    signals = tiny.candidate_signals
    for flag, code in (
        ("promotion_display", "display_location"),
        ("promotion_mailer", "mailer_location"),
    ):
        codes = signals[:, names.index(code)]
        assert (signals[:, names.index(flag)] == (codes > 0)).all()


def test_every_promotion_candidate_is_promoted(tiny):
    for page in tiny.pages_of("test", "promotion"):
        signals = tiny.candidate_signals[tiny.page(page)]
        assert (signals[:, [2, 3]].max(axis=1) == 1).all()


def test_the_manifest_counts_what_was_left_out(tiny):
    figures = tiny.manifest["pages"]["search"]["train"]
    kept = figures["pages_retrieved"] - figures["pages_too_small"]
    assert figures["pages_kept"] == kept - figures["pages_without_reached_positive"]
    assert figures["pages_kept"] == len(tiny.pages_of("train", "search"))
    assert 0 < figures["recall"] < 1


def test_nothing_at_or_after_a_page_changes_it_but_its_labels(tiny, tmp_path):
    """Swap the products of every basket line from some moment on; older pages must not move."""
    page = int(tiny.pages_of("test", "search")[20])
    moment = int(tiny.page_times[page])
    folder = Path(shutil.copytree(TINY, tmp_path / "altered"))
    path = folder / "transactions.parquet"
    frame = pl.read_parquet(path)
    late = pl.col("transaction_timestamp").dt.epoch("s") >= moment
    altered = frame.with_columns(
        product_id=pl.when(late)
        .then(pl.col("product_id").reverse())
        .otherwise(pl.col("product_id")),
        retail_disc=pl.when(late).then(pl.col("retail_disc") + 1).otherwise("retail_disc"),
    )
    # one last line per product keeps the catalogue (which is not part of the page) as it was
    last = frame.unique("product_id", keep="first", maintain_order=True).with_columns(
        transaction_timestamp=frame["transaction_timestamp"].max(), week=frame["week"].max()
    )
    pl.concat([altered, last]).write_parquet(path)
    changed = read_prepared(prepare(folder / "log.toml", tmp_path / "out", progress=False))
    ids = [[p["id"] for p in prepared.products()] for prepared in (tiny, changed)]
    assert ids[0] == ids[1]
    pages = {page_key(changed, index): index for index in range(changed.page_count)}
    compared = 0
    for index in range(tiny.page_count):
        other = pages.get(page_key(tiny, index))
        if tiny.page_times[index] > moment:
            break
        if other is None:
            # its own basket changed, hence its query; or it holds no positive any more
            assert tiny.page_times[index] == moment
            continue
        compared += 1
        assert page_content(tiny, index, ids[0]) == page_content(changed, other, ids[1])
    assert compared > 500


def test_altering_a_page_s_own_basket_keeps_its_promotion_candidates(tiny, tmp_path):
    page = int(tiny.pages_of("test", "promotion")[0])
    folder = Path(shutil.copytree(TINY, tmp_path / "altered"))
    path = folder / "transactions.parquet"
    frame = pl.read_parquet(path)
    own = (pl.col("household_id") == tiny.shoppers[tiny.page_shoppers[page]]) & (
        pl.col("transaction_timestamp").dt.epoch("s") == int(tiny.page_times[page])
    )
    frame.with_columns(
        quantity=pl.when(own).then(9.0).otherwise("quantity"),
        retail_disc=pl.when(own).then(pl.col("retail_disc") + 2).otherwise("retail_disc"),
    ).write_parquet(path)
    changed = read_prepared(prepare(folder / "log.toml", tmp_path / "out", progress=False))
    ids = [p["id"] for p in tiny.products()]
    pages = {page_key(changed, index): index for index in range(changed.page_count)}
    other = pages[page_key(tiny, page)]
    assert page_content(tiny, page, ids) == page_content(changed, other, ids)
    discount = tiny.objectives.index("discount")
    labels = changed.candidate_labels[changed.page(other)]
    assert (labels[:, discount] == labels[:, 0]).all()


def test_signals_count_the_place_s_lines_of_the_days_before(tiny):
    names = tiny.signals
    times, places = tiny.interaction_times, tiny.interaction_places
    for page in tiny.pages_of("test")[:40]:
        day = int(tiny.page_times[page]) // DAY
        where = tiny.page(page)
        for days in (28, 91):
            inside = (times // DAY >= day - days) & (times // DAY < day)
            inside &= places == tiny.page_places[page]
            counts = np.bincount(tiny.interaction_rows[inside], minlength=tiny.size)
            got = tiny.candidate_signals[where, names.index(f"store_sales_{days}d")]
            assert got.tolist() == counts[tiny.candidate_rows[where]].tolist()


def test_a_second_call_reuses_the_folder(tmp_path):
    config = write_log(tmp_path)
    first = prepare(config, tmp_path / "out", progress=False)
    written = (first / "manifest.json").stat().st_mtime_ns
    assert prepare(config, tmp_path / "out", progress=False) == first
    assert (first / "manifest.json").stat().st_mtime_ns == written


def test_another_setting_or_other_content_gives_another_folder(tmp_path):
    config = write_log(tmp_path)
    first = prepare(config, tmp_path / "out", progress=False)
    config.write_text(CONFIG + "seed = 8\n", encoding="utf-8")
    second = prepare(config, tmp_path / "out", progress=False)
    write_log(tmp_path, ratings(29))
    third = prepare(config, tmp_path / "out", progress=False)
    assert len({first, second, third}) == 3


def test_equal_input_gives_equal_bytes(tmp_path):
    folders = [prepare(TINY / "log.toml", tmp_path / name, progress=False) for name in ("a", "b")]
    for path in sorted(folders[0].iterdir()):
        assert path.read_bytes() == (folders[1] / path.name).read_bytes(), path.name


def test_a_kill_while_writing_leaves_nothing_half_done_and_the_next_call_repairs(tmp_path):
    config = write_log(tmp_path)
    program = textwrap.dedent(
        """
        import os, sys
        from pathlib import Path
        from trainer.logs import prepare
        def die(*_): os._exit(9)
        prepare.write_pages = die
        prepare.prepare(Path(sys.argv[1]), Path(sys.argv[2]), progress=False)
        """
    )
    out = tmp_path / "out"
    root = Path(__file__).parents[3]
    killed = subprocess.run(
        [sys.executable, "-c", program, str(config), str(out)],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root)},
        check=False,
    )
    assert killed.returncode == 9
    assert [path.name for path in out.iterdir() if not path.name.startswith(".")] == []
    folder = prepare(config, out, progress=False)
    assert list(out.iterdir()) == [folder]
    assert read_prepared(folder).page_count > 0


def test_an_error_while_writing_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    config = write_log(tmp_path)
    monkeypatch.setattr("trainer.logs.prepare.write_pages", full)
    with pytest.raises(OSError, match="No space left"):
        prepare(config, tmp_path / "out", progress=False)
    assert list((tmp_path / "out").iterdir()) == []


def test_the_unfinished_folder_of_a_running_process_is_left_alone(tmp_path):
    config = write_log(tmp_path)
    folder = prepare(config, tmp_path / "out", progress=False)
    shutil.rmtree(folder)
    running = folder.parent / f".{folder.name}.{os.getppid()}.partial"
    running.mkdir()
    prepare(config, tmp_path / "out", progress=False)
    assert running.is_dir()


def test_home_pages_hold_the_day_s_products_as_positives(tmp_path):
    prepared = read_prepared(prepare(write_log(tmp_path), tmp_path / "out", progress=False))
    assert prepared.manifest["objectives"] == ["purchase", "trial"]
    assert {prepared.surfaces[s] for s in prepared.page_surfaces} == {"home"}
    # 4 shoppers; 10 training days, 5 of validation, 5 of test; all six products were seen
    assert np.bincount(prepared.page_splits).tolist() == [40, 20, 20]
    assert (prepared.page_positives_total == 1).all()
    # after ten days each shopper took each of the six products at least once
    assert not prepared.candidate_labels[:, 1].any()
    labels = prepared.candidate_labels[prepared.page(0), 0]
    ids = [p["id"] for p in prepared.products()]
    shopper = prepared.shoppers[prepared.page_shoppers[0]]
    day = (int(prepared.page_times[0]) - START) // DAY
    wanted = f"p{(int(shopper[1:]) + day) % 6}"
    assert [ids[r] for r in prepared.candidate_rows[prepared.page(0)][labels == 1]] == [wanted]


def test_home_pages_by_category_hold_one_category(tmp_path):
    config = write_log(tmp_path, config=CONFIG + "home_by_category = true\n")
    prepared = read_prepared(prepare(config, tmp_path / "out", progress=False))
    for page in range(prepared.page_count):
        rows = prepared.candidate_rows[prepared.page(page)]
        assert set(prepared.product_categories[rows]) == {prepared.page_categories[page]}


def test_pages_are_limited_by_split(tmp_path):
    config = write_log(tmp_path, config=CONFIG + "home_pages = [12, 3, 0]\n")
    prepared = read_prepared(prepare(config, tmp_path / "out", progress=False))
    assert np.bincount(prepared.page_splits, minlength=3).tolist() == [12, 3, 0]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda f: f.with_columns(category=pl.lit("toys")), SingleCategoryError, "toys"),
        (lambda f: f.filter(pl.col("time") < START + DAY), EmptyTableError, "pages"),
        (lambda f: f.head(0), EmptyTableError, "interactions"),
    ],
)
def test_a_log_that_cannot_be_prepared_leaves_no_folder(tmp_path, change, error, message):
    config = write_log(tmp_path, change(ratings()))
    with pytest.raises(error, match=message):
        prepare(config, tmp_path / "out", progress=False)
    assert not list((tmp_path / "out").glob("*"))


def test_a_missing_table_and_an_unknown_key_are_refused_before_any_work(tmp_path):
    config = write_log(tmp_path)
    (tmp_path / "interactions.tsv").unlink()
    with pytest.raises(LogFileError, match="interactions: got no file"):
        prepare(config, tmp_path / "out", progress=False)
    config.write_text(CONFIG + "sede = 1\n", encoding="utf-8")
    with pytest.raises(LogConfigError, match="nearest: seed"):
        prepare(config, tmp_path / "out", progress=False)


def test_the_manifest_names_settings_sources_and_cleaning(tmp_path):
    folder = prepare(write_log(tmp_path), tmp_path / "out", progress=False)
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["sources"].keys() == {"interactions.tsv"}
    assert manifest["config"]["train_from"] == "2017-01-11T00:00:00+00:00"
    assert manifest["cleaning"]["interactions"] == {
        "rows_in": 120,
        "rows_out": 120,
        "dropped": {},
    }
    assert folder.name == f"prepared-{manifest['fingerprint'][:16]}"
