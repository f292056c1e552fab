from __future__ import annotations

import json

import pytest

from tests.trainer.conftest import TINY_CONFIG
from trainer.__main__ import main


@pytest.fixture(scope="module")
def explain(tiny_run, tiny_work):
    def run(*arguments: str) -> int:
        return main(["explain", "--config", str(TINY_CONFIG), "--work", str(tiny_work), *arguments])

    assert tiny_run.folder.exists()
    return run


def test_the_whole_network_is_explained_as_figures_and_as_a_page(
    explain, tiny_run, tmp_path, capsys
):
    out = tmp_path / "explanations.json"
    assert explain("--pages", "3", "--out", str(out)) == 0
    told = capsys.readouterr().out
    assert "search: what moves scores, 3 pages" in told
    assert "shapley minus random" in told
    found = json.loads(out.read_text())
    assert set(found["surfaces"]) == set(tiny_run.config.surfaces)
    search = found["surfaces"]["search"]
    assert set(search) == {"importance", "fidelity", "adapters", "counterfactuals"}
    assert search["fidelity"]["against_random"]["shapley"]["mean"] > 0
    assert found["similarity"]
    assert "NaN" not in out.read_text()
    page = (tiny_run.folder / "explanations.html").read_text()
    assert page.count("<svg") >= 5
    assert page.count("<section") == page.count("</section>") == 5

    explain("--pages", "3")  # finished parts are read back
    assert "search: what moves scores, 3 pages" in capsys.readouterr().out


def test_one_page_is_explained_in_words(explain, tiny_run, capsys):
    number = int(tiny_run.log.pages_of("test", "search")[0])
    assert explain("--page", str(number), "--top", "1") == 0
    told = capsys.readouterr().out
    assert f"page {number}, search, query " in told
    assert "1. " in told
    assert "shapley" in told
    assert "leave one out" in told
    assert "would bring it to place" in told or "nothing within the bounds" in told


def test_a_product_of_a_page_is_asked_for_by_its_id(explain, tiny_run, capsys):
    log = tiny_run.log
    number = int(log.pages_of("test", "search")[0])
    product = tiny_run.catalogue.records[log.rows[log.offsets[number] + 1]]["id"]
    assert explain("--page", str(number), "--product", product, "--change", "price=0.9x:1x") == 0
    assert f"1. {product} (" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--pages", "0"], "--pages: got 0, want at least 1"),
        (["--top", "0"], "--top: got 0, want at least 1"),
        (["--product", "x"], "--product: got it without a page"),
        (["--page", "0", "--query", "milk"], "--page and --query: got both"),
        (["--page", "999999"], "--page: got 999999, want 0 to"),
        (["--query", "no such words"], "--query: got 'no such words', want a query of the log"),
        (["--page", "0", "--product", "x"], "--product: got 'x', want one of the"),
        (["--page", "0", "--change", "colour=0:1"], "action: got 'colour', want one of"),
    ],
)
def test_what_cannot_be_explained_is_told_in_one_line(explain, capsys, arguments, said):
    assert explain(*arguments) == 1
    assert said in capsys.readouterr().err
