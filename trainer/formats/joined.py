"""Pages of one data set with those of another to learn from beside them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from trainer.formats.errors import DataError
from trainer.formats.labelled_pages import TRAIN, LabelledPages


def joined(target: LabelledPages, source: LabelledPages, names: tuple[str, str]) -> LabelledPages:
    """Return the target's pages, and after them the source's, which are trained on in every fold.

    Categories and brands of the same name are one. A feature that the source lacks is missing on
    its pages; one that the target lacks is left out.

    Args:
        target: What is validated and tested.
        source: What is only learned from.
        names: Of both; the target's names its category where it has but one.

    Raises:
        DataError: When one has queries and the other has not.
    """
    if target.surface != source.surface:
        raise DataError(
            f"source: got {names[1]} with {source.surface} pages, want {target.surface} pages as "
            f"{names[0]} has"
        )
    if len(target.categories) == 1:
        target = replace(target, categories=(names[0],))
    products, queries = len(target.product_texts), len(target.queries)
    categories, own, others = _merged(target.categories, source.categories)
    brands, own_brands, other_brands = _merged(target.brands, source.brands)
    folds = tuple(
        np.concatenate([fold, np.full(source.count, TRAIN, np.int8)]) for fold in target.folds
    )
    return replace(
        target,
        protocol=f"{target.protocol}; learned from beside them: {names[1]}",
        product_texts=[*target.product_texts, *source.product_texts],
        product_categories=np.concatenate(
            [own[target.product_categories], others[source.product_categories]]
        ),
        product_brands=np.concatenate(
            [own_brands[target.product_brands], other_brands[source.product_brands]]
        ),
        categories=categories,
        brands=brands,
        queries=[*target.queries, *source.queries],
        offsets=np.concatenate([target.offsets, source.offsets[1:] + target.rows.size]),
        rows=np.concatenate([target.rows, source.rows + np.int32(products)]),
        grades=np.concatenate([target.grades, source.grades]),
        dense=np.concatenate([target.dense, _columns(source, target.feature_names)]),
        clusters=np.concatenate([target.clusters, source.clusters + target.clusters.max() + 1]),
        page_queries=np.concatenate(
            [target.page_queries, _shifted(source.page_queries, queries)]
        ).astype(np.int32),
        positives_total=np.concatenate([target.positives_total, source.positives_total]),
        history=_histories(target.history, _shifted(source.history, products)),
        folds=folds,
        facts={**target.facts, f"pages of {names[1]}": source.count},
    )


def _merged(
    own: tuple[str, ...], others: tuple[str, ...]
) -> tuple[tuple[str, ...], npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Return all names, and the new code of each code of both, 0 staying 0."""
    names = tuple(sorted({*own, *others}))
    code = {name: number for number, name in enumerate(names, start=1)}
    first, second = ([0, *(code[name] for name in part)] for part in (own, others))
    return names, np.array(first, np.int32), np.array(second, np.int32)


def _columns(pages: LabelledPages, names: tuple[str, ...]) -> npt.NDArray[np.float32]:
    dense = np.full((pages.rows.size, len(names)), np.nan, np.float32)
    for column, name in enumerate(names):
        if name in pages.feature_names:
            dense[:, column] = pages.dense[:, pages.feature_names.index(name)]
    return dense


def _shifted(values: npt.NDArray[np.int32], by: int) -> npt.NDArray[np.int32]:
    return np.where(values >= 0, values + by, -1).astype(np.int32)


def _histories(
    first: npt.NDArray[np.int32], second: npt.NDArray[np.int32]
) -> npt.NDArray[np.int32]:
    width = max(first.shape[1], second.shape[1])
    parts = [
        np.pad(part, ((0, 0), (0, width - part.shape[1])), constant_values=-1)
        for part in (first, second)
    ]
    return np.concatenate(parts)
