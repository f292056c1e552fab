"""One product as a line of a catalogue: read, checked, and encoded with a bundle."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rerank_server.contract.bundle import Bundle
from rerank_server.contract.errors import ProductStoreError, nearest
from rerank_server.contract.graph_inputs import Graph, ProductBatch, product_inputs
from rerank_server.contract.page import Floats, Rows
from rerank_server.contract.schema import VectorSpec
from rerank_server.page import MAX_ID_BYTES

_LOG = logging.getLogger(__name__)
_FLOAT32_MAX = float(np.finfo(np.float32).max)
_KEYS = {"id", "text", "category", "category_path", "columns"}


class ProductError(ProductStoreError):
    """A product whose description breaks a rule."""


@dataclass(frozen=True, slots=True)
class ProductRecord:
    """A product by the rows of a bundle's vocabulary.

    Attributes:
        product_id: Its id.
        text: What `product.onnx` reads.
        category: Category row; 0 is neutral.
        levels: Level rows, leaf first.
        attributes: Attribute rows.
        identity: Identity row.
        stats: One number for each product column of the schema; NaN is missing.
        vectors: Its named vectors, float32; a name that is absent is one it does not have.
    """

    product_id: str
    text: str
    category: int
    levels: list[int]
    attributes: list[int]
    identity: int
    stats: list[float]
    vectors: Mapping[str, Floats] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EncodedProducts:
    """Products as rows of a product store.

    Attributes:
        categories: Shape (products,).
        levels: Shape (products, levels).
        attributes: Shape (products, attributes).
        stats: Shape (products, columns).
        vectors: Shape (products, width), finite.
    """

    categories: Rows
    levels: Rows
    attributes: Rows
    stats: Floats
    vectors: Floats

    def columns(self) -> dict[str, np.ndarray]:
        """Return the columns other than the vectors, by name."""
        names = ("categories", "levels", "attributes", "stats")
        return {name: getattr(self, name) for name in names}


class RecordReader:
    """Reads products by the names of one bundle; may be shared by threads."""

    def __init__(self, bundle: Bundle) -> None:
        self._schema = bundle.schema
        self._vocabulary = bundle.vocabulary
        self._category_rows = {name: row for row, name in enumerate(bundle.schema.categories)}
        self._required = _KEYS | set(bundle.schema.attributes)

    def read_line(self, line: bytes | str, where: str) -> ProductRecord:
        """Return the product of a JSON line; `where` is what an error calls it.

        Raises:
            ProductError: When a key or column is missing or holds something else.
        """
        return self.read(parse_line(line, where), where)

    def read(self, value: Mapping[str, Any], where: str, *, lenient: bool = False) -> ProductRecord:
        """Return the product of JSON values; when `lenient`, what is missing counts as null.

        Raises:
            ProductError: When a key or column is missing or holds something else.
        """
        schema = self._schema
        missing = self._required - value.keys()
        if missing and not lenient:
            raise ProductError(f"{where}: got no {sorted(missing)}, want it in each line")
        product_id, path = check_id(value.get("id"), where), value.get("category_path")
        if not isinstance(path, list | None) or not all(
            isinstance(node, str) for node in path or ()
        ):
            raise ProductError(
                f"{where}: got category_path {str(path)[:80]}, want a list of texts, leaf last"
            )
        columns = value.get("columns")
        if not isinstance(columns, dict | None):
            raise ProductError(f"{where}: got columns {str(columns)[:80]}, want numbers by name")
        return ProductRecord(
            product_id=product_id,
            text=_text(value.get("text"), where, "text"),
            category=self._category_rows.get(_text(value.get("category"), where, "category"), 0),
            levels=self._vocabulary.level_rows(path or ()),
            attributes=self._vocabulary.attribute_rows(
                [_text(value.get(name), where, name) or None for name in schema.attributes]
            ),
            identity=self._vocabulary.identity_row(product_id),
            stats=self._stats(columns or {}, where, lenient=lenient),
            vectors=self._vectors(value.get("vectors"), where, lenient=lenient),
        )

    def _stats(self, given: Mapping[str, Any], where: str, *, lenient: bool) -> list[float]:
        stats = []
        for column in self._schema.product_columns:
            if column.name not in given and not lenient:
                raise ProductError(
                    f"{where}: got no column {column.name!r}{nearest(column.name, given)},"
                    " want it in each line, null where unknown"
                )
            stats.append(_number(given.get(column.name), where, column.name))
        return stats

    def _vectors(self, given: object, where: str, *, lenient: bool) -> dict[str, Floats]:
        """Return named vectors; when `lenient`, what this bundle cannot read is left out."""
        if given is None:
            return {}
        if not isinstance(given, dict):
            raise ProductError(f"{where}: got vectors {str(given)[:80]}, want lists by name")
        widths = {spec.name: spec.width for spec in self._schema.vectors}
        vectors: dict[str, Floats] = {}
        for name, numbers in given.items():
            if name in widths and isinstance(numbers, list) and len(numbers) == widths[name]:
                vectors[name] = _vector(numbers, where, name)
            elif numbers is not None and not lenient:
                raise ProductError(_wrong_vector(name, numbers, widths, where))
        return vectors

    def unknown(self) -> ProductRecord:
        """Return what stands for every product that a store does not hold."""
        schema = self._schema
        return ProductRecord(
            product_id="",
            text="",
            category=0,
            levels=[0] * len(schema.levels),
            attributes=[0] * len(schema.attributes),
            identity=0,
            stats=[math.nan] * len(schema.product_columns),
        )


class ProductEncoder:
    """Encodes products with `product.onnx`; may be shared by threads."""

    def __init__(self, bundle: Bundle, graph: Graph) -> None:
        self._bundle = bundle
        self._graph = graph

    def encode(
        self, records: Sequence[ProductRecord], factors: Floats, *, lenient: bool = False
    ) -> EncodedProducts:
        """Return products as rows of a store.

        Args:
            records: The products, at least one.
            factors: Their ALS factors, shape (products, factor width); zeros where there are
                none.
            lenient: Give a product without a finite vector one of zeros, and name it in the log;
                for changes that were acknowledged and would stop all that follow them.

        Raises:
            ProductError: When `product.onnx` gives no finite vector.
        """
        schema, count = self._bundle.schema, len(records)
        categories = np.array([record.category for record in records], np.int32)
        levels = np.array([record.levels for record in records], np.int32)
        attributes = np.array([record.attributes for record in records], np.int32)
        stats = np.array([record.stats for record in records], np.float32)
        batch = ProductBatch(
            texts=[record.text for record in records],
            categories=categories,
            levels=levels.reshape(count, len(schema.levels)),
            attributes=attributes.reshape(count, len(schema.attributes)),
            identities=np.array([record.identity for record in records], np.int32),
            factors=factors,
            vectors=_stacked(records, schema.vectors),
        )
        inputs = product_inputs(batch, self._bundle.text_encoder, schema.vectors)
        vectors = self._graph(inputs)["vectors"]
        want = (count, self._bundle.manifest.widths.product)
        finite = np.isfinite(vectors)
        if vectors.shape != want or not (finite.all() or lenient):
            raise ProductError(
                f"product.onnx: got vectors {vectors.shape}, finite: {bool(finite.all())},"
                f" want finite ones of {want}"
            )
        if not finite.all():
            wrong = np.flatnonzero(np.logical_not(finite).any(axis=1))
            named = ", ".join(records[row].product_id for row in wrong.tolist())
            reason = f"got no finite vector of {named}, want one; zeros take its place"
            _LOG.error("product.onnx", extra={"fields": {"reason": reason}})
            vectors = vectors.copy()
            vectors[wrong] = 0
        return EncodedProducts(
            categories=categories,
            levels=batch.levels,
            attributes=batch.attributes,
            stats=stats.reshape(count, len(schema.product_columns)),
            vectors=vectors,
        )


def parse_line(line: bytes | str, where: str) -> dict[str, Any]:
    """Return the JSON object of a line.

    Raises:
        ProductError: When it is none.
    """
    try:
        value = json.loads(line if isinstance(line, str) else line.decode())
    except ValueError as error:
        raise ProductError(f"{where}: got {error}, want a JSON object") from error
    if not isinstance(value, dict):
        raise ProductError(f"{where}: got a {type(value).__name__}, want a JSON object")
    return value


def dump_record(value: Mapping[str, Any]) -> str:
    """Return a product as one line of JSON.

    Raises:
        ProductError: When a value is none of JSON.
    """
    try:
        return json.dumps(value, separators=(",", ":"), sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ProductError(f"product: got {error}, want JSON values") from error


def check_id(product_id: object, where: str) -> str:
    """Return a product id.

    Raises:
        ProductError: When it is none.
    """
    if isinstance(product_id, str) and 1 <= len(product_id) <= MAX_ID_BYTES // 4:
        return product_id  # whatever its characters, they take four bytes at most
    if not isinstance(product_id, str) or not 1 <= _size(product_id) <= MAX_ID_BYTES:
        raise ProductError(
            f"{where}: got id {str(product_id)[:40]!r}, want a text of 1 to {MAX_ID_BYTES} bytes"
        )
    return product_id


def _size(text: str) -> int:
    return len(text.encode(errors="surrogatepass"))


def _text(value: object, where: str, name: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ProductError(f"{where}: {name}: got {str(value)[:40]!r}, want a text or null")
    return value


def _stacked(records: Sequence[ProductRecord], vectors: Sequence[VectorSpec]) -> dict[str, Floats]:
    """Return each named vector of all products, zeros where a product has none."""
    stacked = {}
    for spec in vectors:
        rows = np.zeros((len(records), spec.width), np.float32)
        for row, record in enumerate(records):
            if spec.name in record.vectors:
                rows[row] = record.vectors[spec.name]
        stacked[spec.name] = rows
    return stacked


def _vector(numbers: list[Any], where: str, name: str) -> Floats:
    for number in numbers:
        if not _is_number(number):
            raise ProductError(
                f"{where}: vectors.{name}: got {str(number)[:40]!r}, want finite numbers (float32)"
            )
    return np.array(numbers, np.float32)


def _wrong_vector(name: str, numbers: object, widths: Mapping[str, int], where: str) -> str:
    if name not in widths:
        return (
            f"{where}: vectors: got {name!r}, want some of {', '.join(widths) or 'none'}"
            f"{nearest(name, widths)}"
        )
    got = f"{len(numbers)} numbers" if isinstance(numbers, list) else str(numbers)[:40]
    return f"{where}: vectors.{name}: got {got}, want a list of {widths[name]}, or null for none"


def _is_number(value: object) -> bool:
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and abs(value) <= _FLOAT32_MAX
    )


def _number(value: object, where: str, name: str) -> float:
    if value is None:
        return math.nan
    if not isinstance(value, int | float) or not abs(value) <= _FLOAT32_MAX:
        raise ProductError(
            f"{where}: {name}: got {value!r}, want a finite number (float32) or null"
        )
    return float(value)
