"""Pages of an encoded log as the scorer sees them, and the score that would be served."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import paddle

from rerank_server.contract.ablation import Neutral
from rerank_server.contract.errors import RerankError
from rerank_server.contract.graph_inputs import ScorerPage, scorer_inputs
from rerank_server.contract.page import Floats
from rerank_server.contract.schema import Schema
from trainer.encoding.batches import batches_in_order, make_batch
from trainer.encoding.pageset import Doubles
from trainer.export.export import paddle_graphs
from trainer.pipeline import Run
from trainer.training.network import page_batch

# Scores several pages, each of shape (candidates,).
Score: TypeAlias = Callable[[Sequence[ScorerPage]], list[Doubles]]

# Padded candidates that share a call of the scorer.
ROWS = 8192


class ExplanationError(RerankError):
    """A page, product, feature or option that nothing can be explained of."""


@dataclass(frozen=True, slots=True)
class LoggedPage:
    """A page of the log with all that its explanation needs.

    Attributes:
        number: Page number of the encoded log.
        scored: What the scorer sees.
        dense: Raw features, shape (candidates, features); NaN is missing.
        rows: Product row of each candidate, shape (candidates,).
        gains: Whether the first objective happened, shape (candidates,).
        shopper: The shopper's number.
    """

    number: int
    scored: ScorerPage
    dense: Floats
    rows: np.ndarray
    gains: Doubles
    shopper: int


def evenly_spread(pages: np.ndarray, most: int) -> np.ndarray:
    """Return at most `most` of `pages`, evenly spread over them."""
    if pages.size <= most:
        return pages
    return pages[np.linspace(0, pages.size - 1, most).astype(np.int64)]


@paddle.no_grad()
def read_pages(run: Run, numbers: np.ndarray) -> list[LoggedPage]:
    """Return pages of the run's log, in the order of `numbers`."""
    log, ranker = run.log, run.ranker
    ranker.eval()
    found: dict[int, LoggedPage] = {}
    for chosen in batches_in_order(numbers, log, ROWS):
        batch = make_batch(log, chosen)
        tensors = page_batch(ranker, run.catalogue, batch)
        query, candidates = tensors.query.numpy(), tensors.candidates.numpy()
        sequence = tensors.sequence.numpy()
        for index, number in enumerate(chosen.tolist()):
            inside = slice(int(log.offsets[number]), int(log.offsets[number + 1]))
            size, past = inside.stop - inside.start, int(batch.sequence_mask[index].sum())
            found[number] = LoggedPage(
                number=number,
                scored=ScorerPage(
                    query_vector=query[index],
                    surface=int(batch.surface[index]),
                    candidate_vectors=candidates[index, :size],
                    categories=batch.categories[index, :size].astype(np.int32),
                    dense=batch.dense[index, :size],
                    sequence_vectors=sequence[index, :past],
                    sequence_features=batch.sequence_features[index, :past],
                ),
                dense=np.asarray(log.dense[inside]),
                rows=log.rows[inside],
                gains=log.labels[inside, 0].astype(np.float64),
                shopper=int(log.prepared.page_shoppers[log.selection.pages[number]]),
            )
    return [found[number] for number in numbers.tolist()]


@paddle.no_grad()
def neutral_of(run: Run) -> Neutral:
    """Return the vectors of the unknown product and of the empty query."""
    run.ranker.eval()
    any_page = make_batch(run.log, np.zeros(1, np.int64))
    nothing = replace(
        any_page,
        products=np.array([run.log.prepared.size]),  # the row behind the last product
        candidates=np.zeros_like(any_page.candidates),
        sequence=np.zeros_like(any_page.sequence),
        queries=np.full_like(any_page.queries, -1),
    )
    tensors = page_batch(run.ranker, run.catalogue, nothing)
    return Neutral(tensors.candidates.numpy()[0, 0], tensors.query.numpy()[0])


def served_score(run: Run) -> Score:
    """Return what scores pages as the server would: calibrated, weighted by their surface."""
    scorer = paddle_graphs(run.ranker).scorer
    schema: Schema = run.log.schema
    weights = np.zeros((len(schema.surfaces), len(schema.objectives)))
    for row, surface in enumerate(schema.surfaces):
        given = run.objective_weights[surface]
        weights[row] = [given.get(name, 0.0) for name in schema.objectives]

    def score(pages: Sequence[ScorerPage]) -> list[Doubles]:
        found: list[Doubles] = []
        for part in _calls(pages):
            probabilities = scorer(scorer_inputs(part))["probabilities"]
            found += [
                probabilities[index, : page.size].astype(np.float64) @ weights[page.surface]
                for index, page in enumerate(part)
            ]
        return found

    return score


def _calls(pages: Sequence[ScorerPage]) -> list[Sequence[ScorerPage]]:
    """Cut pages into runs of about `ROWS` padded candidates, at least one page each."""
    parts: list[Sequence[ScorerPage]] = []
    start, longest = 0, 0
    for index, page in enumerate(pages):
        longest = max(longest, page.size)
        if index > start and longest * (index - start + 1) > ROWS:
            parts.append(pages[start:index])
            start, longest = index, page.size
    if start < len(pages):
        parts.append(pages[start:])
    return parts
