"""Reranks one page: look up, encode, score, order; the same code with and without a wire."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path
from time import perf_counter_ns

import numpy as np

from rerank_server.contract.ablation import Neutral
from rerank_server.contract.bundle import Bundle, read_bundle
from rerank_server.contract.features import EncodedPage, FeatureEncoder
from rerank_server.contract.golden import Graphs
from rerank_server.contract.graph_inputs import Graph, ScorerPage
from rerank_server.contract.page import Floats, Page
from rerank_server.contract.schema import Normaliser
from rerank_server.cores import available_cores
from rerank_server.device_products import DeviceProducts
from rerank_server.device_scorer import open_device
from rerank_server.explanation import group_contributions
from rerank_server.lookup import check_objectives, locate_page, surface_index
from rerank_server.onnx_graph import check_golden, open_graph
from rerank_server.page import (
    DegradedReason,
    RankedPage,
    SearchPage,
    Timings,
    retrieval_order,
)
from rerank_server.policy import (
    Policy,
    Ruling,
    combine_objectives,
    objective_weights,
    order_by_score,
)
from rerank_server.policy_match import PolicyPage
from rerank_server.policy_rules import PolicyRules
from rerank_server.product_store import ProductStore
from rerank_server.query_vectors import QueryVectors
from rerank_server.scorer import OnnxScorer, Scorer, ScorerError
from rerank_server.text_products import TextProducts

_LOG = logging.getLogger(__name__)


class Reranker:
    """Reranks pages with one bundle and its product store; may be shared by threads."""

    def __init__(
        self, bundle: Bundle, products: ProductStore, query_graph: Graph, scorer: Scorer
    ) -> None:
        """Wire up what `open` reads; another scorer than the bundle's may take its place."""
        self.bundle = bundle
        self.products = products
        self.scorer = scorer
        self.policy: Policy | None = None  # replaced as a whole, between two pages
        self._queries = QueryVectors(query_graph, bundle.text_encoder)
        self._texts = TextProducts(bundle, threads=scorer.threads)
        self._held: DeviceProducts | None = None  # vectors in a device's memory
        self._per_thread = threading.local()  # an encoder holds scratch memory
        self._normalise = Normaliser(bundle.schema)
        self._category_rows = {name: row for row, name in enumerate(bundle.schema.categories)}

    @classmethod
    def open(
        cls,
        bundle_path: Path | str,
        products_path: Path | str,
        *,
        threads: int | None = None,
        device: str = "auto",
    ) -> Reranker:
        """Read and verify a bundle, open its product store, and warm up on the golden pages.

        Args:
            bundle_path: The bundle's folder.
            products_path: The product store's folder, built with the same bundle.
            threads: Threads of one scorer call; None means the cores there are.
            device: What scores, one of `device_scorer.DEVICES`.

        Raises:
            DeviceError: When the device is not there.
            BundleError: When the bundle is broken or out of tolerance.
            ProductStoreError: When the store is broken or of another bundle.
        """
        bundle = read_bundle(Path(bundle_path))
        products = ProductStore.open(Path(products_path), bundle)
        count = threads or available_cores()
        query = open_graph(bundle, "query.onnx", threads=count)
        scorer = open_graph(bundle, "scorer.onnx", threads=count)
        product = open_graph(bundle, "product.onnx", threads=count)
        graphs = Graphs(product=product, query=query, scorer=scorer)
        check_golden(bundle, graphs)
        bound = open_device(bundle, graphs, products, device, threads=count)
        if bound is None:
            plain = OnnxScorer(scorer, provider=scorer.provider, threads=count)
            return cls(bundle, products, query, plain)
        reranker = cls(bundle, products, query, bound)
        reranker._held = DeviceProducts(products.vectors, products.overlay, bound.device)
        return reranker

    @property
    def product_graph(self) -> Graph:
        """The graph that encodes products, opened when it is first asked for."""
        return self._texts.graph()

    def with_products(self, products: ProductStore) -> Reranker:
        """Return a reranker with the same bundle, scorer and policy, and another store of it."""
        other = copy(self)
        other._per_thread = threading.local()
        other.take_products(products)
        return other

    def take_products(self, products: ProductStore) -> None:
        """Rerank with another store of the same bundle from now on; not while pages are under way.

        Where vectors are held on a device, those of the store go there.
        """
        self.products = products
        if self._held is not None:
            self._held = DeviceProducts(products.vectors, products.overlay, self._held.device)

    def rerank(self, page: SearchPage) -> RankedPage:
        """Return the page in the order of its scores; ties keep retrieval order.

        A page that cannot be scored comes back in retrieval order, degraded.

        Raises:
            PageError: When the page names a signal or objective that the bundle does not know,
                or an event is later than the page.
        """
        clock = _StageClock()
        check_objectives(page, self.bundle.schema)
        located = locate_page(page, self.bundle.schema, self.products)
        clock.lap("lookup_us")
        try:
            return self._rank(page, located, clock)
        except _NotFiniteError as error:
            reason, detail = DegradedReason.SCORES_NOT_FINITE, str(error)
        except ScorerError:
            _LOG.exception("scoring failed")
            reason, detail = DegradedReason.SCORER_FAILED, "the scorer failed, see the log"
        return self.in_retrieval_order(page, reason, detail, clock.timings())

    def in_retrieval_order(
        self, page: SearchPage, reason: DegradedReason, detail: str, timings: Timings
    ) -> RankedPage:
        """Return `page` as it came but for what the policy hides, marked degraded."""
        bundle_id, policy = self.bundle.manifest.bundle_id, self.policy
        if policy is None or not policy.rules.hides:
            return retrieval_order(page, bundle_id, reason, detail, timings)
        rows = self.products.rows(page.candidate_ids)
        hidden = policy.hidden(
            PolicyPage(
                candidate_ids=page.candidate_ids,
                rows=rows,
                categories=self.products.table.categories[rows],
                vectors=np.empty((0, 0), np.float32),  # no rule that hides looks at it
                table=self.products.table,
                surface=surface_index(page.surface, self.bundle.schema),
                time=page.time or int(time.time()),
                query=page.query,
            )
        )
        ranks = np.flatnonzero(~hidden)[: page.top_k].astype(np.int32)
        return RankedPage(
            candidate_ids=[page.candidate_ids[rank] for rank in ranks.tolist()],
            retrieval_ranks=ranks,
            bundle_id=bundle_id,
            degraded_reason=reason,
            degraded_detail=detail,
            timings=timings,
        )

    @property
    def hides_nothing(self) -> bool:
        """Whether no rule of the policy leaves candidates out."""
        return self.policy is None or not self.policy.rules.hides

    def compile_policy(self, rules: PolicyRules) -> Policy:
        """Return the policy that `rules` are for this bundle, to become `policy`.

        Raises:
            PolicyError: When a rule names what the bundle does not know.
        """
        return Policy(rules, self.bundle.schema, self.bundle.vocabulary)

    def encode(self, page: SearchPage) -> EncodedPage:
        """Return the arrays of a page before normalisation, as the trainer computes them.

        Raises:
            PageError: As `rerank`.
        """
        return self._encode(page, locate_page(page, self.bundle.schema, self.products))

    def _rank(self, page: SearchPage, located: Page, clock: _StageClock) -> RankedPage:
        schema, bundle_id = self.bundle.schema, self.bundle.manifest.bundle_id
        query_vector = self._queries.vector(page.query)
        clock.lap("query_us")
        encoded = self._encode(page, located)
        scorer_page = self._gather(located, encoded, query_vector)
        if page.texts:
            scorer_page = replace(scorer_page, held_in=None)
            self._read_texts(page, encoded, scorer_page.candidate_vectors)
        clock.lap("encode_us")
        weights = self._weights(page, located)
        probabilities = self.scorer.score([scorer_page])[0]
        scores = combine_objectives(probabilities, weights)
        _refuse_not_finite(scores)
        explanations = self._explain(scorer_page, scores, weights) if page.explain else {}
        clock.lap("score_us")
        ruling = self._rule(page, located, scorer_page, scores, probabilities)
        ranks = ruling.ranks
        ranked_ids = [page.candidate_ids[rank] for rank in ranks.tolist()]
        clock.lap("policy_us")
        return RankedPage(
            candidate_ids=ranked_ids,
            retrieval_ranks=ranks,
            bundle_id=bundle_id,
            scores=ruling.scores[ranks],
            objectives=schema.objectives,
            probabilities=probabilities[ranks],
            explanations={group: values[ranks] for group, values in explanations.items()},
            timings=clock.timings(),
            policy_trace=ruling.trace,
            unknown_candidates=int(
                np.count_nonzero(encoded.rows == self.products.table.unknown_row)
            ),
        )

    def _rule(
        self,
        page: SearchPage,
        located: Page,
        scored: ScorerPage,
        scores: Floats,
        probabilities: Floats,
    ) -> Ruling:
        policy = self.policy
        if policy is None:
            return Ruling(order_by_score(scores, page.top_k), scores)
        seen = PolicyPage(
            candidate_ids=page.candidate_ids,
            rows=located.rows,
            categories=scored.categories,
            vectors=scored.candidate_vectors,
            table=self.products.table,
            surface=located.surface,
            time=located.time,
            query=page.query,
        )
        return policy.apply(seen, scores, probabilities, top_k=page.top_k, trace=page.policy_trace)

    def _encode(self, page: SearchPage, located: Page) -> EncodedPage:
        encoder = getattr(self._per_thread, "encoder", None)
        if encoder is None:
            rows = self.products.table.unknown_row + 1
            encoder = FeatureEncoder(self.bundle.schema, rows)
            self._per_thread.encoder = encoder
        encoded: EncodedPage = encoder.encode(located, self.products.table)
        category = self._category_rows.get(page.category or "", 0)
        if category:
            unknown = encoded.rows == self.products.table.unknown_row
            encoded.categories[unknown] = category
        return encoded

    def _gather(self, located: Page, encoded: EncodedPage, query_vector: Floats) -> ScorerPage:
        vectors, held = self.products.vectors, self._held
        rows = sequence_rows = None
        if held is not None:
            rows, sequence_rows = held.rows(encoded.rows), held.rows(encoded.sequence_rows)
        return ScorerPage(
            query_vector=query_vector,
            surface=located.surface,
            candidate_vectors=vectors[encoded.rows],
            categories=encoded.categories,
            dense=self._normalise(encoded.dense),
            sequence_vectors=vectors[encoded.sequence_rows],
            sequence_features=encoded.sequence_features,
            held_in=None if rows is None or sequence_rows is None else held,
            candidate_rows=rows,
            sequence_rows=sequence_rows,
        )

    def _read_texts(self, page: SearchPage, encoded: EncodedPage, vectors: Floats) -> None:
        """Put vectors of their words in place of those of unknown candidates."""
        known = encoded.rows != self.products.table.unknown_row
        told = [at for at in np.flatnonzero(~known).tolist() if page.texts[at]]
        vectors[told] = self._texts.vectors([page.texts[at] for at in told])

    def _weights(self, page: SearchPage, located: Page) -> Floats:
        schema = self.bundle.schema
        surface = schema.surfaces[located.surface]
        weights = page.objective_weights or self.bundle.manifest.objective_weights[surface]
        return objective_weights(schema.objectives, weights)

    def _explain(self, page: ScorerPage, scores: Floats, weights: Floats) -> dict[str, Floats]:
        def score(pages: Sequence[ScorerPage]) -> list[Floats]:
            return [combine_objectives(each, weights) for each in self.scorer.score(pages)]

        neutral = Neutral(self.products.vectors[-1], self._queries.vector(""))
        sent = replace(page, held_in=None)  # some of the vectors are not the store's
        return group_contributions(sent, scores, self.bundle.schema, neutral, score)


class _NotFiniteError(ScorerError):
    """Scores that are not finite numbers."""


def _refuse_not_finite(scores: Floats) -> None:
    wrong = np.flatnonzero(~np.isfinite(scores))
    if wrong.shape[0]:
        raise _NotFiniteError(
            f"scores: got {scores[wrong[0]]} for candidate {wrong[0]} and {wrong.shape[0]} of"
            f" {scores.shape[0]} in all, want finite numbers"
        )


class _StageClock:
    """Measures the stages of one page."""

    def __init__(self) -> None:
        self._laps: dict[str, int] = {}
        self._last = perf_counter_ns()

    def lap(self, stage: str) -> None:
        """End `stage`, which began where the one before it ended."""
        now = perf_counter_ns()
        self._laps[stage] = (now - self._last) // 1_000
        self._last = now

    def timings(self) -> Timings:
        """Return the stages measured so far."""
        return Timings(**self._laps)
