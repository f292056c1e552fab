from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from tests.trainer.small_runs import PAGES, write_small_config
from trainer.baselines.gbdt import GbdtBudget
from trainer.config import read_config
from trainer.encoding.log_share import PageLimits, share_of_log
from trainer.evaluation.comparison import compare_rankings
from trainer.evaluation.page_figures import read_figures, write_figures
from trainer.pipeline import run_training
from trainer.reports.run_comparison import RunComparisonError, compare_runs, comparison_sheet
from trainer.reports.run_report import FIGURES, REPORT, find_run, rebuild_report, write_comparison
from trainer.reports.sheet import sheet_text
from trainer.training.run_facts import FACTS, RunFolderError, read_run


@pytest.fixture(scope="module")
def runs(tiny_log, tmp_path_factory):
    """Two evaluated runs that differ in rank and learning rate."""
    work = tmp_path_factory.mktemp("runs")
    config = read_config(write_small_config(work))
    log = share_of_log(tiny_log, PageLimits(*PAGES))
    made = []
    for changed in (config, replace(config, rank=0, learning_rate=1e-4)):
        run = run_training(changed, log, work, progress=False)
        budget = GbdtBudget(rounds=5, threads=1)
        compared = compare_rankings(run, budget, progress=False)
        write_comparison(run.folder, changed.name, compared, "python -m trainer evaluate")
        made.append((run, compared))
    return work, made


@pytest.fixture
def copies(runs, tmp_path):
    """Copies of both folders, to be changed."""
    _, made = runs
    return [
        shutil.copytree(run.folder, tmp_path / name)
        for name, (run, _) in zip(("one", "two"), made, strict=True)
    ]


def test_a_run_tells_its_data_seeds_and_cost(runs, tiny_log):
    _, ((run, _), _) = runs
    facts = read_run(run.folder)
    assert facts.data.content_hash == tiny_log.prepared.content_hash
    assert facts.data.encoded == run.log.folder.name
    assert facts.data.pages["search"]["train"] == PAGES[0]
    assert set(facts.seeds.values()) == {1}
    assert facts.config["rank"] == 1
    assert facts.result is not None
    assert facts.result.best == run.result.progress.best
    assert facts.result.parameters == sum(
        int(np.prod(parameter.shape)) for parameter in run.ranker.parameters()
    )


def test_a_report_is_rebuilt_from_the_folder_alone(runs):
    _, ((run, compared), _) = runs
    (run.folder / REPORT).unlink()
    text = rebuild_report(run.folder)
    page = (run.folder / REPORT).read_text()
    mean = compared.evaluation.tasks["Search"].rankings["CrossRank"].metrics["ndcg_at_10"].mean
    shown = f"{mean:.3f}".replace("0.", ".", 1)
    assert shown in text
    assert shown in page
    assert read_run(run.folder).data.content_hash[:12] in page
    assert 'id="calibration"' in page
    assert 'id="training"' in page


def test_a_run_that_was_not_evaluated_gets_settings_and_curves(copies):
    (copies[0] / "evaluation.json").unlink()
    text = rebuild_report(copies[0])
    assert "`evaluate` does that" in text
    assert "learning_rate" in text
    assert (copies[0] / REPORT).read_text().count("<svg") == 1


def test_two_runs_are_compared_page_by_page(runs):
    _, made = runs
    (first, one), (second, two) = made
    compared = compare_runs(first.folder, second.folder)
    assert compared.settings == {"rank": ("1", "0"), "learning_rate": ("0.005", "0.0001")}
    figures = [c.figures["Search"].ndcg_at_10 for c in (one, two)]
    wanted = np.nanmean(figures[0]) - np.nanmean(figures[1])
    assert compared.tasks["Search"].all.mean == pytest.approx(wanted)
    mirrored = compare_runs(second.folder, first.folder).tasks["Search"]
    assert mirrored.all.mean == pytest.approx(-wanted)
    assert set(mirrored.by_category) == set(compared.tasks["Search"].by_category)


def test_the_comparison_shows_losses_next_to_wins_and_cost(runs):
    _, ((first, _), (second, _)) = runs
    sheet = comparison_sheet(compare_runs(first.folder, second.folder))
    text = sheet_text(sheet)
    assert "the first wins" in text
    assert ", loses " in text
    assert "undecided" in text
    for fact in (read_run(first.folder), read_run(second.folder)):
        assert fact.result is not None
        assert f"{fact.result.parameters:,}" in text
    assert sum(len(section.plots) for section in sheet.sections) == 4


def test_runs_of_other_data_are_refused(copies):
    facts = json.loads((copies[1] / FACTS).read_text())
    facts["data"]["content_hash"] = "f" * 64
    (copies[1] / FACTS).write_text(json.dumps(facts))
    with pytest.raises(RunComparisonError, match=r"data: got one of .* and two of ffffffffffff"):
        compare_runs(*copies)


def test_runs_of_other_test_pages_are_refused(copies):
    figures = read_figures(copies[1] / FIGURES)
    other = replace(figures["Search"], pages=figures["Search"].pages[::-1])
    write_figures(copies[1] / FIGURES, {**figures, "Search": other})
    with pytest.raises(RunComparisonError, match="test pages of Search"):
        compare_runs(*copies)
    fewer = replace(other, pages=other.pages[1:], ndcg_at_10=other.ndcg_at_10[1:],
                    shoppers=other.shoppers[1:])  # fmt: skip
    write_figures(copies[1] / FIGURES, {**figures, "Search": fewer})
    with pytest.raises(RunComparisonError, match="want runs of the same pages"):
        compare_runs(*copies)


def test_a_run_that_was_not_evaluated_is_refused(copies):
    (copies[1] / FIGURES).unlink()
    with pytest.raises(RunComparisonError, match=r"two: got no page_figures\.npz there"):
        compare_runs(*copies)
    with pytest.raises(RunComparisonError, match="twice, want two"):
        compare_runs(copies[0], copies[0])


def test_damaged_weights_are_refused(copies):
    (copies[0] / "best.pdparams").write_bytes(b"cut")
    with pytest.raises(RunFolderError, match=r"best\.pdparams: got SHA-256"):
        compare_runs(*copies)


def test_a_run_is_found_by_the_beginning_of_its_name(runs):
    work, ((run, _), _) = runs
    assert find_run(run.folder.name, work) == run.folder
    assert find_run(run.folder.name[:-2], work) == run.folder
    assert find_run(str(run.folder), work) == run.folder
    with pytest.raises(RunFolderError, match=r"got 2 \(small-"):
        find_run("small", work)
    with pytest.raises(RunFolderError, match="got none of that name"):
        find_run("big", work)
