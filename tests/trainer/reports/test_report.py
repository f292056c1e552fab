from __future__ import annotations

import json
import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from tests.trainer.synthetic_pages import synthetic_pages
from trainer.baselines.baselines import own_repeat, popularity, retrieval_order
from trainer.calibration.calibration import CalibrationTrial, compare_calibration, fit_calibration
from trainer.evaluation.bootstrap import Interval
from trainer.evaluation.evaluate import evaluate
from trainer.guard.guard import DEFAULT, OWN_TREES, GuardChoice, Rival
from trainer.guard.report import GuardEffect, GuardFigures, Promise
from trainer.reports.report import ReportError, read_training_log, write_report

NAMES = ("neutral", "dairy", "pet & fish", "baby")
VOID = {"meta", "br", "link", "img", "use", "path"}


class Balance(HTMLParser):
    """Checks that every element is closed, and collects ids and text."""

    def __init__(self):
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.ids += [value for name, value in attrs if name == "id" and value]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def evaluation():
    search, promotion = synthetic_pages(250, seed=1), synthetic_pages(150, seed=2, mixed=True)
    page_sets = {"Search": search, "Discovery": search.discovery(), "Promotion": promotion}
    rankings = {
        "retrieval order": retrieval_order,
        "popularity": popularity,
        "network": own_repeat,
    }
    scores = {
        name: {task: order(pages) for task, pages in page_sets.items()}
        for name, order in rankings.items()
    }
    return evaluate(page_sets, scores, category_names=NAMES, draws=100)


@pytest.fixture(scope="module")
def calibration():
    random = np.random.default_rng(0)
    logits = random.normal(-2, 1, (3000, 2))
    labels = (random.random((3000, 2)) < 1 / (1 + np.exp(-logits - 1))).astype(np.uint8)
    categories = random.integers(1, 4, 3000).astype(np.int32)
    fitted = fit_calibration(labels, logits, categories, 4)
    return compare_calibration(
        labels,
        logits,
        categories,
        fitted,
        np.ones(labels.shape, np.bool_),
        category_names=NAMES,
        objectives=("purchase", "trial"),
    )


def write(path, evaluation, **more):
    write_report(
        path,
        evaluation,
        title="Network <1> on a shop",
        command="python -m trainer evaluate && echo done",
        **more,
    )
    return path.read_text(encoding="utf-8")


def test_the_report_is_one_whole_file_without_links_out(evaluation, calibration, tmp_path):
    lines = [{"step": step, "loss": 3 - step / 50} for step in range(1, 60)]
    lines += [
        {"step": 30, "validation_ndcg_at_10": 0.4},
        {"step": 59, "validation_ndcg_at_10": 0.5},
    ]
    log = tmp_path / "training.jsonl"
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    by_task = {"Search": calibration, "Promotion": calibration[:1]}
    text = write(tmp_path / "a" / "report.html", evaluation, calibration=by_task, training_log=log)
    assert "Table of calibration on Search" in text
    assert "Table of calibration on Promotion" in text
    page = Balance()
    page.feed(text)
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    for reference in re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', text):
        assert next(filter(None, reference)) in page.ids
    assert not re.findall(r'(?:src|href)="(?!#)[^"]*"', text)
    words = " ".join(page.text)
    assert "Network <1> on a shop" in words
    assert "python -m trainer evaluate && echo done" in words
    assert "pet & fish" in words
    assert [entry.name for entry in (tmp_path / "a").iterdir()] == ["report.html"]


def test_losses_are_listed_like_wins(evaluation, tmp_path):
    text = write(tmp_path / "report.html", evaluation)
    assert text.count("Where network loses") == text.count("Where network wins") == 3
    losses = text[text.index("Where network loses") : text.index("Where network wins")]
    assert "slice: never bought" in losses
    assert 'id="calibration"' not in text
    assert 'id="training"' not in text


def test_the_same_figures_give_the_same_file(evaluation, calibration, tmp_path):
    first = write(tmp_path / "a.html", evaluation, calibration={"Search": calibration})
    assert write(tmp_path / "b.html", evaluation, calibration={"Search": calibration}) == first


def test_a_training_log_of_a_killed_run_is_read(tmp_path):
    path = tmp_path / "training.jsonl"
    path.write_text(json.dumps({"step": 1, "loss": 2.5, "note": "x"}) + '\n{"step": 2, "lo')
    assert read_training_log(path) == [{"step": 1.0, "loss": 2.5}]
    path.write_text('{"step": 1, "lo\n{"step": 2}')
    with pytest.raises(ReportError, match=r"training.jsonl:1: got .*want a JSON object"):
        read_training_log(path)
    path.write_text('{"loss": 1}')
    with pytest.raises(ReportError, match="want an object with `step`"):
        read_training_log(path)
    with pytest.raises(ReportError, match="want JSON lines"):
        read_training_log(tmp_path / "missing.jsonl")


def test_choices_of_the_guard_and_trials_of_calibration_are_shown(
    evaluation, calibration, tmp_path
):
    nothing = Interval(0.01, -0.01, 0.03)
    guard = GuardFigures(
        choices=(
            GuardChoice(
                "search", "dairy", 300, 80, 0.5,
                (Rival(OWN_TREES, 0.6, Interval(0.1, 0.05, 0.15)),), OWN_TREES, "own trees ahead",
            ),
            GuardChoice("search", "baby", 3, 2, math.nan, (), DEFAULT, "3 validation pages"),
        ),
        effects=(GuardEffect("Search", "dairy", 500, 0.55, 0.5, Interval(0.05, 0.01, 0.09)),),
        promises=(Promise("Search", "baby", 90, 0.5, "trees", 0.52, nothing),),
    )  # fmt: skip
    trials = [
        CalibrationTrial("line", 4.0, 0.3444, 0.001, 0.0021, chosen=True),
        CalibrationTrial("curve", math.inf, 0.3433, 0.002, 0.0042),
    ]
    text = write(
        tmp_path / "report.html",
        evaluation,
        calibration={"Search": calibration},
        calibration_trials=trials,
        guard=guard,
    )
    page = Balance()
    page.feed(text)
    assert page.open == []
    words = " ".join(" ".join(page.text).split())
    assert "1 of 2 surfaces and categories are served by another ranking" in words
    assert "own trees ahead" in words
    assert "3 validation pages" in words
    assert "kept" in words
    assert "0.3444" in words
    assert "chosen" in words
    assert 'id="guard"' not in write(tmp_path / "none.html", evaluation)
