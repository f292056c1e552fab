"""The ordered feature list and every name that encoder, graphs and bundle share."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import numpy as np

from rerank_server.contract.errors import SchemaError, nearest
from rerank_server.contract.page import Floats

Transform = Literal["identity", "log1p"]
CLIP = 5.0


@dataclass(frozen=True, slots=True)
class FeatureSpec:
    """One dense feature.

    Attributes:
        name: Unique, snake case, with its unit or window.
        group: The feature group an explanation names.
        transform: Applied before standardising; `log1p` takes values >= 0.
        mean: Mean after the transform over the training candidates that have the feature.
        scale: Standard deviation of the same, > 0.
    """

    name: str
    group: str
    transform: Transform = "identity"
    mean: float = 0.0
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class ProductColumn:
    """One statistic of a product.

    Attributes:
        name: Unique, with its window.
        window_days: Purchases of this many days before `as_of_day` are counted in it, so
            the shopper's own are subtracted; 0 when it is not such a count.
    """

    name: str
    window_days: int = 0


@dataclass(frozen=True, slots=True)
class SignalSpec:
    """One number per candidate that only the caller knows when the page is shown.

    Attributes:
        name: The name on the wire.
        window_days: As in `ProductColumn`, counted at the page's place only.
    """

    name: str
    window_days: int = 0


@dataclass(frozen=True, slots=True)
class VectorSpec:
    """A vector of each product that something else made: of its image, sound or reviews.

    Attributes:
        name: Unique, snake case.
        width: Numbers in it. One of zeros alone is none: the product does not have it.
    """

    name: str
    width: int


@dataclass(frozen=True, slots=True)
class Schema:
    """Names, orders and constants that the encoder needs.

    Attributes:
        features: The dense features in the order of their columns.
        product_columns: Columns of `ProductTable.stats`.
        signals: Columns of `Page.signals`.
        levels: Names of the columns of `ProductTable.levels`, leaf first.
        attributes: Names of the columns of `ProductTable.attributes`.
        surfaces: Where pages are shown; a page of an unknown surface takes the first.
        event_kinds: What a shopper did.
        objectives: What the heads predict, in output order.
        categories: Category names by row; row 0 is neutral, for categories never seen.
        sequence_length: Events that the sequence encoder sees.
        history_limit: Events that features are computed from; older ones are left out.
        half_life_days: Half-life of the recency weight of co-purchase and ALS scores.
        als_regularisation: Lambda of the ALS fold-in.
        als_confidence: Alpha of the ALS fold-in.
        vectors: Named vectors of products that the product graph reads, in its order.
    """

    features: tuple[FeatureSpec, ...]
    product_columns: tuple[ProductColumn, ...]
    signals: tuple[SignalSpec, ...]
    levels: tuple[str, ...]
    attributes: tuple[str, ...]
    surfaces: tuple[str, ...]
    event_kinds: tuple[str, ...]
    objectives: tuple[str, ...]
    categories: tuple[str, ...]
    sequence_length: int = 32
    history_limit: int = 1024
    half_life_days: float = 90.0
    als_regularisation: float = 10.0
    als_confidence: float = 8.0
    vectors: tuple[VectorSpec, ...] = ()

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The names of the dense features in column order."""
        return tuple(spec.name for spec in self.features)

    @property
    def groups(self) -> tuple[str, ...]:
        """The feature groups in order of first appearance."""
        return tuple(dict.fromkeys(spec.group for spec in self.features))


def normalise(schema: Schema, dense: Floats) -> Floats:
    """Return what the network sees: transformed, standardised, clipped; missing becomes 0.

    Args:
        schema: Holds transform, mean and scale of each column.
        dense: Raw features, shape (..., features); NaN is missing.

    Returns:
        float32, the same shape, within [-5, 5]; 0 is the training mean.
    """
    return Normaliser(schema)(dense)


class Normaliser:
    """`normalise` of one schema, its constants prepared once."""

    def __init__(self, schema: Schema) -> None:
        self._log_columns = np.flatnonzero([spec.transform == "log1p" for spec in schema.features])
        self._mean = np.array([spec.mean for spec in schema.features], np.float32)
        self._scale = np.array([spec.scale for spec in schema.features], np.float32)

    def __call__(self, dense: Floats) -> Floats:
        """Return what the network sees; see `normalise`."""
        values = np.array(dense, np.float32)
        logs = values[..., self._log_columns]
        with np.errstate(invalid="ignore"):
            values[..., self._log_columns] = np.log1p(np.maximum(logs, 0))
            values -= self._mean
            values /= self._scale
            np.clip(values, -CLIP, CLIP, out=values)
        values[np.isnan(values)] = 0.0
        return values


def schema_to_json(schema: Schema) -> dict[str, Any]:
    """Return the schema as plain JSON values."""
    value: dict[str, Any] = json.loads(json.dumps(asdict(schema)))
    return value


def schema_from_json(value: dict[str, Any]) -> Schema:
    """Read a schema written by `schema_to_json`.

    Raises:
        SchemaError: On an unknown or missing key.
    """
    known = {item.name for item in fields(Schema)}
    for key in value:
        if key not in known:
            raise SchemaError(f"schema: got unknown key {key!r}, want one of {sorted(known)}")
    rest: dict[str, Any] = {
        key: tuple(item) if isinstance(item, list) else item
        for key, item in value.items()
        if key not in {"features", "product_columns", "signals", "vectors"}
    }
    try:
        return Schema(
            features=tuple(FeatureSpec(**item) for item in value["features"]),
            product_columns=tuple(ProductColumn(**item) for item in value["product_columns"]),
            signals=tuple(SignalSpec(**item) for item in value["signals"]),
            vectors=tuple(VectorSpec(**item) for item in value.get("vectors", ())),
            **rest,
        )
    except (KeyError, TypeError) as error:
        raise SchemaError(f"schema: got {error}, want the keys {sorted(known)}") from error


def index_of(name: str, names: tuple[str, ...], what: str) -> int:
    """Return the position of `name`, or raise with the nearest known name.

    Raises:
        SchemaError: When `name` is not among `names`.
    """
    if name not in names:
        raise SchemaError(
            f"{what}: got {name!r}, want one of {', '.join(names)}{nearest(name, names)}"
        )
    return names.index(name)
