"""What the product tower is told of every product of a log."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rerank_server.contract.page import SECONDS_PER_DAY, Floats, Rows
from rerank_server.contract.schema import VectorSpec
from rerank_server.contract.vocabulary import Vocabulary
from trainer.encoding.collaborative import fit_collaborative
from trainer.encoding.counts import purchases_in_time
from trainer.encoding.dataset import Prepared
from trainer.encoding.encoded import SPLITS
from trainer.encoding.sentence_encoder import SentenceEncoder
from trainer.encoding.text_files import read_text_vectors
from trainer.errors import PreparedError
from trainer.logs.named_vectors import NamedVector, read_vectors
from trainer.model.products import ProductSizes


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Inputs of the product tower by product row; the last row is the unknown product.

    Attributes:
        records: One per product, as in the catalogue file.
        vocabulary: Rows of names.
        text: Text vectors, shape (products + 1, width).
        categories: Shape (products + 1,).
        levels: Shape (products + 1, levels), leaf first.
        attributes: Shape (products + 1, attributes).
        identities: Shape (products + 1,); 0 for products not bought before validation starts.
        factors: ALS factors of the start of training, shape (products + 1, width).
        factors_present: 1 where a product was bought by then, shape (products + 1,).
        query_text: Text vectors of the queries; the last row is the empty query.
        category_text: Text vectors of the categories; row 0 is their mean.
        vectors: Named vectors, in the order in which the product tower reads them.
        sentences: What makes the text vectors; None for the static word vectors.
    """

    records: list[dict[str, Any]]
    vocabulary: Vocabulary
    text: Floats
    categories: Rows
    levels: Rows
    attributes: Rows
    identities: Rows
    factors: Floats
    factors_present: Floats
    query_text: Floats
    category_text: Floats
    vectors: tuple[NamedVector, ...] = ()
    sentences: SentenceEncoder | None = None

    def sizes(self) -> ProductSizes:
        """Return the table sizes of the product tower."""
        return ProductSizes(
            categories=self.category_text.shape[0],
            levels=tuple(len(names) + 1 for names in self.vocabulary.levels),
            attributes=tuple(len(names) + 1 for names in self.vocabulary.attributes),
            identities=len(self.vocabulary.identities) + 1,
            factors=self.factors.shape[1],
            text=self.text.shape[1],
            vectors=self.vector_specs(),
        )

    def vector_specs(self) -> tuple[VectorSpec, ...]:
        """Return names and widths of the named vectors."""
        return tuple(vector.spec for vector in self.vectors)


def read_catalogue(prepared: Prepared) -> Catalogue:
    """Gather the inputs of the product tower; nothing in them is later than training.

    Category levels are named by their whole path, so that `cheese > sliced` and
    `ham > sliced` stay two nodes.

    Raises:
        PreparedError: When the log has no training pages, or none but training pages.
    """
    records = prepared.products()
    training = prepared.page_times[prepared.page_splits == SPLITS.index("train")]
    evaluated = prepared.page_times[prepared.page_splits != SPLITS.index("train")]
    for what, times in (("training", training), ("validation or test", evaluated)):
        if times.size == 0:
            raise PreparedError(f"pages: got no {what} pages, want at least one")
    bought = np.zeros(prepared.size, np.bool_)
    bought[prepared.interaction_rows[prepared.interaction_times < evaluated.min()]] = True
    known = np.flatnonzero(bought)
    identities = np.zeros(prepared.size + 1, np.int32)
    identities[known] = np.arange(1, known.size + 1)
    vocabulary = Vocabulary(
        levels=(prepared.names("leaves"), prepared.names("middles")),
        attributes=(prepared.names("brands"), prepared.names("sizes")),
        identities=tuple(records[row]["id"] for row in known),
    )
    purchases = purchases_in_time(
        prepared.shopper_offsets,
        prepared.interaction_rows,
        prepared.interaction_times,
        prepared.interaction_prices,
        prepared.interaction_discounts,
    )
    fit = fit_collaborative(purchases, prepared.size, int(training.min()) // SECONDS_PER_DAY)
    texts = read_text_vectors(prepared, [record["text"] for record in records])
    return Catalogue(
        records=records,
        vocabulary=vocabulary,
        text=texts.products,
        categories=_with_unknown(prepared.product_categories),
        levels=np.stack(
            [_with_unknown(prepared.product_leaves), _with_unknown(prepared.product_middles)], 1
        ),
        attributes=np.stack(
            [_with_unknown(prepared.product_brands), _with_unknown(prepared.product_sizes)], 1
        ),
        identities=identities,
        factors=fit.factors,
        factors_present=(fit.factors != 0).any(axis=1).astype(np.float32),
        query_text=texts.queries,
        category_text=np.vstack([texts.categories.mean(axis=0), texts.categories]),
        vectors=read_vectors(prepared),
        sentences=texts.sentences,
    )


def with_factors(catalogue: Catalogue, factors: Floats) -> Catalogue:
    """Return the catalogue with ALS factors of another day, shape (products + 1, width)."""
    present = (factors != 0).any(axis=1).astype(np.float32)
    return replace(catalogue, factors=factors, factors_present=present)


def with_vectors_at(catalogue: Catalogue, prepared: Prepared, time: int) -> Catalogue:
    """Return the catalogue with named vectors of what was known at `time`, unix seconds."""
    return replace(catalogue, vectors=read_vectors(prepared, time))


def _with_unknown(rows: np.ndarray) -> Rows:
    return np.append(np.asarray(rows, np.int32), np.int32(0))
