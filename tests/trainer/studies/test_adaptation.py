"""Transfer end to end on the tiny log: sources, a target with none and few pages, and the table."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from tests.trainer.conftest import TINY_CONFIG
from trainer.__main__ import main
from trainer.baselines.gbdt import GbdtBudget
from trainer.encoding.page_draws import few_pages, pages_with_positive
from trainer.errors import TransferError
from trainer.journal import LOG
from trainer.reports.sheet import sheet_text
from trainer.studies.adaptation import (
    ADAPTERS_ONLY_PAGES,
    Setting,
    adapt,
    adaptation_config,
    affinity_pages,
    check_target,
    chosen_sources,
    pretrain,
    shared_scores,
    target_scores,
    with_sources,
)
from trainer.studies.adaptation_sheet import adaptation_sheet
from trainer.studies.few_shot import (
    BEGIN,
    END,
    FewShotBudget,
    few_shot_evaluation,
    few_shot_sheet,
    scores_by_page,
    targets_with,
    write_few_shot,
    write_few_shot_section,
)
from trainer.studies.transfer_comparison import (
    ALONE,
    ALONE_TREES,
    TRANSFER,
    ZERO_SHOT,
    compare_transfer,
    target_page_set,
)
from trainer.training.checkpoint import CHECKPOINT
from trainer.training.source_affinity import AFFINITY, read_affinities


@pytest.fixture(scope="module")
def targets(tiny_log):
    """The two categories of most training pages."""
    pages = tiny_log.pages_of("train", "search")
    rows, counts = np.unique(tiny_log.categories[tiny_log.offsets[pages]], return_counts=True)
    return tuple(tiny_log.schema.categories[rows[place]] for place in np.argsort(-counts)[:2])


@pytest.fixture(scope="module")
def setting(tiny_config, tiny_log, targets, tmp_path_factory):
    config = replace(tiny_config, held_out=targets, epochs=1, affinity_pages=2)
    return Setting.of(config, tiny_log, tmp_path_factory.mktemp("transfer"), progress=False)


@pytest.fixture(scope="module")
def source(setting):
    return pretrain(setting)


def test_the_sources_are_all_categories_but_the_targets(setting, targets, tiny_log):
    assert set(setting.sources) == set(tiny_log.schema.categories[1:]) - set(targets)
    assert setting.config.surfaces == ("search",)


def test_gradients_are_compared_at_every_evaluation_and_by_the_pages_that_are_granted(
    setting, source, targets
):
    affinities = read_affinities(source[0])
    assert affinities.steps[-1] == source[1].progress.step
    assert set(targets) <= set(affinities.names)
    granted = few_pages(setting.log, targets[0], 2, "search", "random", setting.config.seed)
    np.testing.assert_array_equal(
        affinity_pages(setting)[targets[0]], granted.pages_of("train", "search")
    )


def test_a_finished_source_is_read_back_and_measured_where_that_was_cut_off(setting, source):
    folder, _ = source
    before, lines = (folder / CHECKPOINT).read_bytes(), (folder / AFFINITY).read_text()
    cut = "".join(f"{line}\n" for line in lines.splitlines()[:-1])
    (folder / AFFINITY).write_text(cut)
    pretrain(setting)
    assert (folder / CHECKPOINT).read_bytes() == before
    again = read_affinities(folder)
    first = [json.loads(line) for line in lines.splitlines()]
    assert again.steps == tuple(line["step"] for line in first)
    np.testing.assert_allclose(again.values[-1], first[-1]["affinity"], rtol=1e-4, atol=1e-7)


def test_no_page_gives_what_the_shared_network_gives(setting, source, targets):
    folder, result = source
    shared = target_scores(setting, result.ranker, targets[0])
    np.testing.assert_array_equal(shared_scores(setting, folder, targets[0]), shared)
    compared = compare_transfer(
        setting, folder, targets[0], 0, "random", changes={}, trees=GbdtBudget(threads=1)
    )
    assert ALONE not in compared.evaluation.tasks[targets[0]].rankings
    assert compared.lines == []


def test_what_is_trained_goes_by_the_number_of_pages(setting, source, targets):
    few = adaptation_config(setting.config, source[0], targets[0], ADAPTERS_ONLY_PAGES)
    many = adaptation_config(setting.config, source[0], targets[0], ADAPTERS_ONLY_PAGES + 1)
    assert (few.train_only, few.frozen_share) == ("adapters", 0.0)
    assert (many.train_only, many.frozen_share) == ("all", 0.5)
    assert few.start_from == many.start_from == source[0].name


@pytest.fixture(scope="module")
def compared(setting, source, targets):
    return compare_transfer(
        setting,
        source[0],
        targets[0],
        4,
        "latest",
        changes={"l2_sp": 0.0},
        trees=GbdtBudget(threads=1, rounds=5),
    )


def test_an_adaptation_is_compared_with_the_same_pages_learned_alone(compared, targets):
    result = compared.evaluation.tasks[targets[0]]
    assert {TRANSFER, ZERO_SHOT, ALONE, ALONE_TREES, "retrieval order"} <= set(result.rankings)
    assert set(result.category_pages) == {targets[0]}
    for name in (ZERO_SHOT, ALONE, ALONE_TREES):
        assert result.differences[name].all.low <= result.differences[name].all.high


def test_source_and_target_are_followed_through_fine_tuning(compared):
    lines = [line for line in compared.lines if "target_cross_entropy" in line]
    assert lines[0]["step"] == 0
    assert len(lines) >= 2
    for name in ("source", "target"):
        assert all(line[f"{name}_cross_entropy"] > 0 for line in lines)
    assert json.loads((compared.folder / "config.json").read_text())["l2_sp"] == 0.0
    assert (compared.folder / LOG).exists()


def test_the_sheet_shows_figures_losses_and_who_teaches(compared, source, targets):
    sheet = adaptation_sheet(compared, read_affinities(source[0]), ("a note",))
    text = sheet_text(sheet)
    assert f"{targets[0]} from 4 of its pages" in text
    assert f"teaches {targets[0]}" in text
    assert "The sources' NDCG@10 went from" in text
    assert [len(section.plots) for section in sheet.sections] == [0, 1, 1]
    assert all(plot.startswith("<svg") for s in sheet.sections for plot in s.plots)


@pytest.mark.parametrize(
    ("held_out", "message"),
    [
        ((), "held_out: got no target"),
        (("nonsense",), "target: got 'nonsense', want one of"),
    ],
)
def test_targets_that_cannot_be_are_refused(held_out, message, tiny_config, tiny_log, tmp_path):
    with pytest.raises(TransferError, match=message):
        Setting.of(replace(tiny_config, held_out=held_out), tiny_log, tmp_path, progress=False)


def test_every_category_held_out_is_refused(tiny_config, tiny_log, tmp_path):
    config = replace(tiny_config, held_out=tiny_log.schema.categories[1:])
    with pytest.raises(TransferError, match="held_out: got every category"):
        Setting.of(config, tiny_log, tmp_path, progress=False)


def test_a_source_is_no_target_and_a_target_no_source(setting, source, targets):
    with pytest.raises(TransferError, match="which the sources hold, want one of the targets"):
        adapt(setting, source[0], setting.sources[0], 1, "random")
    with pytest.raises(TransferError, match="which is held out as a target"):
        with_sources(setting, [targets[0]])
    with pytest.raises(TransferError, match="sources: got none"):
        with_sources(setting, [])


def test_sources_chosen_by_gradients_look_at_no_more_pages_than_are_given(setting, source, targets):
    with pytest.raises(TransferError, match="sources: got auto with 1 pages and affinity_pages 2"):
        chosen_sources(setting, targets[0], 1)
    affinities = read_affinities(source[0])
    chosen = chosen_sources(setting, targets[0], 2)
    taught = affinities.mean()[:, affinities.names.index(targets[0])]
    for name in setting.sources:
        if name in affinities.names:
            assert (name in chosen.sources) == (taught[affinities.names.index(name)] > 0)
    assert set(targets) <= set(chosen.config.held_out)


def test_the_few_shot_table_is_kept_part_by_part(setting, source, targets, tmp_path):
    budget = FewShotBudget(counts=(0, 2), draws=1, trials=1)
    evaluation = few_shot_evaluation(setting, budget)
    assert list(evaluation.tasks) == ["0 pages", "2 pages"]
    task = evaluation.tasks["2 pages"]
    assert set(task.category_pages) == set(targets)
    assert {TRANSFER, ZERO_SHOT, ALONE, ALONE_TREES} <= set(task.rankings)
    kept = {path: path.stat().st_mtime_ns for path in (setting.work / "few-shot").iterdir()}
    again = few_shot_evaluation(setting, budget)
    assert {path: path.stat().st_mtime_ns for path in (setting.work / "few-shot").iterdir()} == kept
    assert again == evaluation
    # without a page, the macro mean is over the two targets' own means
    zero = evaluation.tasks["0 pages"].rankings[TRANSFER]
    own = [zero.by_category[name].mean for name in targets]
    assert zero.macro.mean == pytest.approx(np.mean(own))
    sheet = write_few_shot(tmp_path / "few-shot.json", setting, budget, evaluation)
    told = json.loads((tmp_path / "few-shot.json").read_text())
    assert told["targets"] == list(targets)
    assert told["source_pages"]["learned"] > 0
    assert (tmp_path / "few-shot.html").read_text().count("<svg") == 3
    assert "macro over targets" in sheet_text(sheet)
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    write_few_shot_section(readme, sheet)
    lines = readme.read_text().splitlines()
    assert lines[2] == "| pages | ranking | NDCG@10 | CrossRank, transfer minus it |"
    assert lines[4].startswith("| 0 | CrossRank, transfer | ")
    check_a_target_of_few_pages(setting, evaluation, targets)


def check_a_target_of_few_pages(setting, evaluation, targets):
    """A target without so many pages has no row for them, and no other's figures stand there."""
    task = evaluation.tasks["2 pages"]
    kept = {
        name: replace(result, by_category={targets[0]: result.by_category[targets[0]]})
        for name, result in task.rankings.items()
    }
    tasks = {**evaluation.tasks, "2 pages": replace(task, rankings=kept)}
    sheet = few_shot_sheet(setting, replace(evaluation, tasks=tasks), ())
    counts = {part.heading: [row[0] for row in part.tables[0].rows] for part in sheet.sections}
    assert set(counts[targets[1]]) == {"0"}
    assert set(counts[targets[0]]) == {"0", "2"}
    assert set(counts["macro over targets"]) == {"0", "2 (1 of 2)"}


def test_several_draws_stand_side_by_side(setting, targets):
    pages = target_page_set(setting, targets)
    sizes = {t: target_page_set(setting, [t]).candidates for t in targets}
    by_target = {
        targets[0]: [np.full(sizes[targets[0]], draw) for draw in (1.0, 2.0)],
        targets[1]: [np.full(sizes[targets[1]], 5.0)],  # the same in every draw
    }
    got = scores_by_page(setting, pages, by_target)
    own = pages.categories == setting.log.schema.categories.index(targets[0])
    assert got.shape == (2, pages.candidates)
    assert (got[0, own] == 1.0).all()
    assert (got[1, own] == 2.0).all()
    assert (got[:, ~own] == 5.0).all()


def test_a_number_of_pages_that_no_target_has_is_refused(setting, targets):
    most = max(
        pages_with_positive(
            setting.log, setting.log.schema.categories.index(name), "train", "search"
        ).size
        for name in targets
    )
    assert targets_with(setting, most + 1) == []
    with pytest.raises(TransferError, match=f"pages: got {most + 1}, which no target has"):
        few_shot_evaluation(setting, FewShotBudget(counts=(most + 1,)))


def test_the_commands_pretrain_and_adapt(tiny_work, tiny_log, targets, tmp_path, capsys):
    """`tiny_log` has prepared and encoded what the commands read back."""
    text = (
        TINY_CONFIG.read_text()
        .replace("../../tests/", f"{TINY_CONFIG.parents[2]}/tests/")
        .replace("epochs = 2", "epochs = 1")
    )
    config = tmp_path / "transfer.toml"
    config.write_text(f"{text}\nheld_out = {json.dumps(list(targets))}\naffinity_pages = 2\n")
    shared = ["--config", str(config), "--work", str(tiny_work)]
    assert main(["pretrain", *shared]) == 0
    told = capsys.readouterr().out
    assert f"teaches {targets[0]}" in told
    assert main(["adapt", *shared, "--target", targets[1], "--pages", "2"]) == 0
    told = capsys.readouterr().out
    assert TRANSFER in told
    assert (tiny_work / "runs").is_dir()
    assert main(["adapt", *shared, "--target", "nonsense", "--pages", "3"]) == 1
    assert "target: got 'nonsense', want one of" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("count", "message"), [(-1, "pages: got -1, want 0 or more"), (99_999, "pages: got 99999 of")]
)
def test_a_number_of_pages_that_cannot_be_is_refused_before_anything_is_trained(
    count, message, setting, targets
):
    with pytest.raises(TransferError, match=message):
        check_target(setting, targets[0], count)
