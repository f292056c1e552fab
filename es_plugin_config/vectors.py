"""Product vectors of a catalogue, by the bundle's `product.onnx`: those that the server scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from es_plugin_config.catalogue import CatalogueError, Product, reach
from rerank_server.contract.bundle import Bundle
from rerank_server.contract.graph_inputs import ProductBatch, product_inputs
from rerank_server.contract.page import Floats
from rerank_server.onnx_graph import open_graph


class ProductVectors:
    """Encodes products with one bundle."""

    def __init__(self, bundle: Bundle, *, threads: int) -> None:
        """Open the bundle's `product.onnx`.

        Raises:
            BundleError: It cannot be loaded.
        """
        self._bundle = bundle
        self._graph = open_graph(bundle, "product.onnx", threads=threads)
        self._category_rows = {name: row for row, name in enumerate(bundle.schema.categories)}

    @property
    def bundle_id(self) -> str:
        """Of the bundle."""
        return self._bundle.manifest.bundle_id

    @property
    def dims(self) -> int:
        """Numbers in a vector."""
        return self._bundle.manifest.widths.product

    def encode(self, products: Sequence[Product]) -> Floats:
        """Return the vector of each product, shape (products, dims), float32.

        Raises:
            CatalogueError: Factors or vectors of another width, or a vector that is not finite.
        """
        schema, vocabulary = self._bundle.schema, self._bundle.vocabulary
        batch = ProductBatch(
            texts=[product.text for product in products],
            categories=np.array(
                [self._category_rows.get(product.category, 0) for product in products], np.int32
            ),
            levels=np.array(
                [vocabulary.level_rows(product.category_path) for product in products], np.int32
            ),
            attributes=np.array(
                [
                    vocabulary.attribute_rows([_text(product, name) for name in schema.attributes])
                    for product in products
                ],
                np.int32,
            ),
            identities=np.array(
                [vocabulary.identity_row(product.id) for product in products], np.int32
            ),
            factors=self._factors(products),
            vectors=self._named(products),
        )
        inputs = product_inputs(batch, self._bundle.text_encoder, schema.vectors)
        vectors: Floats = self._graph(inputs)["vectors"]
        wrong = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
        if wrong.size:
            raise CatalogueError(
                f"vector of product {products[int(wrong[0])].id!r}: got a number that is not "
                "finite, want finite ones"
            )
        return vectors

    def _named(self, products: Sequence[Product]) -> dict[str, Floats]:
        named = {}
        for spec in self._bundle.schema.vectors:
            rows = np.zeros((len(products), spec.width), np.float32)
            for row, product in enumerate(products):
                vector = product.vectors.get(spec.name)
                if vector is not None and vector.shape != (spec.width,):
                    raise CatalogueError(
                        f"vector {spec.name!r} of product {product.id!r}: got {vector.shape}, "
                        f"want ({spec.width},) as in the bundle"
                    )
                rows[row] = 0.0 if vector is None else vector
            named[spec.name] = rows
        return named

    def _factors(self, products: Sequence[Product]) -> Floats:
        width = self._bundle.manifest.widths.factors
        factors = np.zeros((len(products), width), np.float32)
        for row, product in enumerate(products):
            if product.factors is None:
                continue
            if product.factors.shape != (width,):
                raise CatalogueError(
                    f"factors of product {product.id!r}: got {product.factors.shape}, "
                    f"want ({width},) as in the bundle"
                )
            factors[row] = product.factors
        return factors


def _text(product: Product, attribute: str) -> str | None:
    if attribute == "brand" and product.brand:
        return product.brand
    value = reach(product.source, attribute)
    return None if value is None else str(value)
