from __future__ import annotations

import numpy as np
import pytest

from rerank_server.contract.schema import normalise
from trainer.explanations.attribution import GroupGame, leave_one_out
from trainer.explanations.pages import (
    evenly_spread,
    neutral_of,
    read_pages,
    served_score,
)
from trainer.tasks import served_scores
from trainer.training.network import score_pages


def test_pages_score_as_the_evaluation_scores_them(tiny_run):
    log = tiny_run.log
    numbers = log.pages_of("test", "search")[:12][::-1]
    pages = read_pages(tiny_run, numbers)
    assert [page.number for page in pages] == numbers.tolist()
    got = np.concatenate(served_score(tiny_run)([page.scored for page in pages]))
    logits = score_pages(tiny_run.ranker, tiny_run.catalogue, log, numbers)
    categories = np.concatenate([page.scored.categories for page in pages])
    want = served_scores(
        logits, categories, tiny_run.calibration, tiny_run.objective_weights["search"]
    )
    np.testing.assert_allclose(got, want, atol=2e-6)
    for page in pages:
        np.testing.assert_array_equal(page.scored.dense, normalise(log.schema, page.dense))


def test_pages_are_spread_evenly():
    assert evenly_spread(np.arange(10), 4).tolist() == [0, 3, 6, 9]
    assert evenly_spread(np.arange(3), 4).tolist() == [0, 1, 2]


def test_the_server_explains_as_the_trainer_does(tiny_run, tiny_export):
    from rerank_server.page import SearchPage, ShopperHistory  # noqa: PLC0415
    from rerank_server.reranker import Reranker  # noqa: PLC0415

    reranker = Reranker.open(tiny_export.bundle, tiny_export.products, threads=1, device="cpu")
    records = tiny_run.catalogue.records
    time = (tiny_export.day + 1) * 86_400
    page = SearchPage(
        [record["id"] for record in records[:15]],
        retrieval_scores=[float(rank) for rank in range(15, 0, -1)],
        query=tiny_run.log.prepared.queries[0],
        time=time,
        history=ShopperHistory([records[3]["id"], records[5]["id"]], [time - 900_000, time - 60]),
        explain=True,
    )
    seen = []

    class Recorder:
        provider, threads = reranker.scorer.provider, reranker.scorer.threads
        inner = reranker.scorer

        def score(self, pages):
            seen.append(pages)
            return self.inner.score(pages)

    reranker.scorer = Recorder()
    ranked = reranker.rerank(page)
    game = GroupGame(seen[0][0], tiny_run.log.schema, neutral_of(tiny_run), served_score(tiny_run))
    want = leave_one_out(game)
    assert set(want.groups) >= {"retrieval", "product", "sequence", "query", "category"}
    back = np.asarray(ranked.retrieval_ranks)
    for group, values in zip(want.groups, want.values, strict=True):
        np.testing.assert_allclose(ranked.explanations[group], values[back], atol=2e-5)
    for group in set(ranked.explanations) - set(want.groups):
        assert not np.any(ranked.explanations[group])
    assert max(np.abs(values).max() for values in ranked.explanations.values()) > 1e-3


@pytest.mark.parametrize("surface", ["search", "promotion"])
def test_neutral_vectors_are_those_of_no_product_and_no_query(tiny_run, surface):
    pages = read_pages(tiny_run, tiny_run.log.pages_of("test", surface)[:1])
    neutral = neutral_of(tiny_run)
    assert neutral.unknown_product.shape == pages[0].scored.candidate_vectors.shape[1:]
    without_query = surface == "promotion"
    assert np.array_equal(pages[0].scored.query_vector, neutral.empty_query) == without_query
