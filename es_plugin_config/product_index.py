"""The product index: one index per catalogue version behind an alias that moves when it is whole.

A build that was stopped goes on where it was, for the same catalogue, bundle and options give the
same index, and the index's own `_meta` says how far it came.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from elasticsearch import Elasticsearch

from es_plugin_config.apply import apply
from es_plugin_config.bulk import BulkWriter, Written, in_batches
from es_plugin_config.catalogue import Catalogue, CatalogueError, FieldNames, Product
from es_plugin_config.cluster import ConfigurationClusterError, call, read_features
from es_plugin_config.resources import read_resources, with_components
from es_plugin_config.vectors import ProductVectors
from rerank_server.contract.errors import RerankError, nearest
from rerank_server.contract.page import Floats

TEMPLATE = "crossrank-products"
META = "crossrank"
BATCH = 500
SAVE_EVERY = 10  # batches between two notes of how far the build came
HASH_DIGITS = 16
FORMAT_VERSION = 1
# Type of the vector field's index, with the first version of Elasticsearch and the fewest
# numbers in a vector that it takes.
QUANTISATIONS = {
    "none": ("hnsw", (8, 0), 1),
    "int8": ("int8_hnsw", (8, 12), 1),
    "int4": ("int4_hnsw", (8, 15), 2),
    "bbq": ("bbq_hnsw", (8, 18), 64),
}

Progress = Callable[[int, int | None], None]


class AliasError(RerankError):
    """An alias that cannot move: it names several indices, is an index's, or has no template."""


@dataclass(frozen=True, slots=True)
class IndexOptions:
    """How a product index is built.

    Attributes:
        alias: Names the index in force; indices are called `<alias>-<hash>`.
        names: How the catalogue's columns are called.
        quantisation: One of `QUANTISATIONS`.
        keep_source: Keep each product's columns under `source`, to be given back by searches.
        batch: Documents of one request at most.
        keep: Older indices to keep, for going back.
    """

    alias: str = TEMPLATE
    names: FieldNames = field(default_factory=FieldNames)
    quantisation: str = "int8"
    keep_source: bool = True
    batch: int = BATCH
    keep: int = 1


@dataclass(frozen=True, slots=True)
class BuiltIndex:
    """What a build came to.

    Attributes:
        name: The index that the alias names now.
        products: How many it holds.
        rows: Rows of the catalogue; more than `products` when ids repeat.
        resumed_from: The row at which an earlier build was taken up; 0 for none.
        reused: Whether it was there already and whole.
        pauses: How often Elasticsearch asked to wait.
        removed: Older indices that were deleted.
    """

    name: str
    products: int
    rows: int
    resumed_from: int = 0
    reused: bool = False
    pauses: int = 0
    removed: tuple[str, ...] = ()


def build_index(
    client: Elasticsearch,
    catalogue: Catalogue,
    options: IndexOptions,
    vectors: ProductVectors | None = None,
    progress: Progress | None = None,
) -> BuiltIndex:
    """Fill an index with a catalogue and move the alias to it once it is whole.

    Args:
        client: Of the cluster.
        catalogue: What to index.
        options: How.
        vectors: Encodes the products; without it they have no vector, and kNN finds nothing.
        progress: Called with the products done and those in all, None when not known.

    Raises:
        AliasError: The alias names several indices, or an index has its name.
        CatalogueError: A row is no product.
        DocumentRefusedError: The mapping does not take a product.
        ConfigurationClusterError: The cluster cannot be reached or refuses; children name why.
    """
    current = _index_in_force(client, options.alias)
    vector = None if vectors is None else _vector_field(client, vectors.dims, options.quantisation)
    name, meta = _name_and_meta(catalogue, options, vectors)
    state = _read_meta(client, name)
    if state.get("whole"):
        rows = int(state["rows"])
        return _put_in_force(client, options, current, name, BuiltIndex(name, 0, rows, reused=True))
    resumed_from = int(state.get("rows", 0))
    if not state:
        apply(client, with_components(read_resources(), TEMPLATE))
        _create(client, name, vector, meta)
    try:
        rows, written = _fill(
            client, name, meta, catalogue, options, vectors, resumed_from, progress
        )
    except BaseException:
        if not catalogue.identity:  # nothing could take it up again
            with suppress(ConfigurationClusterError):  # what failed first is told
                call(client, "DELETE", f"/{name}")
        raise
    _finish(client, name, {**meta, "rows": rows, "whole": True})
    built = BuiltIndex(name, 0, rows, resumed_from, pauses=written.pauses)
    return _put_in_force(client, options, current, name, built)


def _fill(
    client: Elasticsearch,
    name: str,
    meta: Mapping[str, Any],
    catalogue: Catalogue,
    options: IndexOptions,
    vectors: ProductVectors | None,
    start: int,
    progress: Progress | None,
) -> tuple[int, Written]:
    """Write the products from row `start` on; rows in all, and what the writing came to."""
    rows, written = start, Written()
    writer = BulkWriter(client, name, options.batch)
    products = catalogue.products(options.names, start)
    for number, batch in enumerate(in_batches(products, options.batch), start=1):
        encoded = None if vectors is None else vectors.encode(batch)
        written += writer.write(_documents(batch, encoded, keep_source=options.keep_source))
        rows += len(batch)
        if progress is not None:
            progress(rows, catalogue.count)
        if number % SAVE_EVERY == 0 and catalogue.identity:
            with suppress(ConfigurationClusterError):  # a note missed costs rows sent twice
                _write_meta(client, name, {**meta, "rows": rows})
    if not rows:
        raise CatalogueError("catalogue: got 0 products, want at least 1")
    return rows, written


def vector_field(dims: int, quantisation: str) -> dict[str, Any]:
    """The mapping of `vector` for vectors of `dims` numbers."""
    kind, _, _ = QUANTISATIONS[quantisation]
    return {
        "type": "dense_vector",
        "dims": dims,
        "index": True,
        "similarity": "cosine",
        "index_options": {"type": kind},
    }


def _vector_field(client: Elasticsearch, dims: int, quantisation: str) -> dict[str, Any]:
    if quantisation not in QUANTISATIONS:
        raise CatalogueError(
            f"quantisation: got {quantisation!r}, want one of {', '.join(QUANTISATIONS)}"
            f"{nearest(quantisation, QUANTISATIONS)}"
        )
    kind, first, fewest = QUANTISATIONS[quantisation]
    version = read_features(client).version
    if version and tuple(map(int, version.split(".")[:2])) < first:
        raise CatalogueError(
            f"quantisation {quantisation}: got Elasticsearch {version}, "
            f"want {first[0]}.{first[1]} or newer"
        )
    if dims < fewest or (kind == "int4_hnsw" and dims % 2):
        raise CatalogueError(
            f"quantisation {quantisation}: got vectors of {dims} numbers, want {fewest} or more"
        )
    return vector_field(dims, quantisation)


def _index_in_force(client: Elasticsearch, alias: str) -> str | None:
    """The index that the alias names; None where the alias is new."""
    answer = call(client, "GET", f"/{quote(alias)}/_alias") or {}
    if alias in answer:
        raise AliasError(
            f"alias {alias!r}: got an index of that name, want the name free for an alias"
        )
    if len(answer) > 1:
        raise AliasError(
            f"alias {alias!r}: got {len(answer)} indices ({', '.join(sorted(answer))}), "
            "want it to name one; take it off the others first"
        )
    if not f"{alias}-".startswith(f"{TEMPLATE}-"):
        raise AliasError(
            f"alias: got {alias!r}, want {TEMPLATE} or a name that starts with {TEMPLATE}-, "
            "for these the mapping is"
        )
    return next(iter(answer), None)


def _name_and_meta(
    catalogue: Catalogue, options: IndexOptions, vectors: ProductVectors | None
) -> tuple[str, dict[str, Any]]:
    """The index's name, equal for equal content, and what its `_meta` starts with."""
    meta = {
        "bundle_id": "" if vectors is None else vectors.bundle_id,
        "catalogue": catalogue.identity,
        "format_version": FORMAT_VERSION,
        "keep_source": options.keep_source,
        "names": asdict(options.names),
        "quantisation": options.quantisation,
    }
    if not catalogue.identity:  # it may have changed since the last time
        meta["started"] = datetime.now(UTC).isoformat()
    digest = hashlib.sha256(json.dumps(meta, sort_keys=True).encode()).hexdigest()
    return f"{options.alias}-{digest[:HASH_DIGITS]}", meta


def _create(
    client: Elasticsearch, name: str, vector: Mapping[str, Any] | None, meta: Mapping[str, Any]
) -> None:
    mappings: dict[str, Any] = {"_meta": {META: {**meta, "rows": 0}}}
    if vector is not None:
        mappings["properties"] = {"vector": vector}
    body = {"mappings": mappings, "settings": {"index": {"refresh_interval": "-1"}}}
    call(client, "PUT", f"/{name}", body)


def _read_meta(client: Elasticsearch, name: str) -> dict[str, Any]:
    """What an index of that name says of itself; empty when there is none."""
    answer = call(client, "GET", f"/{name}/_mapping")
    if answer is None:
        return {}
    meta = answer[name]["mappings"].get("_meta", {}).get(META)
    if not isinstance(meta, dict):
        raise AliasError(
            f"index {name!r}: got one that this command did not make, want the name free"
        )
    return meta


def _write_meta(client: Elasticsearch, name: str, meta: Mapping[str, Any]) -> None:
    call(client, "PUT", f"/{name}/_mapping", {"_meta": {META: meta}})


def _finish(client: Elasticsearch, name: str, meta: Mapping[str, Any]) -> None:
    call(client, "PUT", f"/{name}/_settings", {"index": {"refresh_interval": None}})
    call(client, "POST", f"/{name}/_refresh")
    _write_meta(client, name, meta)


def _put_in_force(
    client: Elasticsearch,
    options: IndexOptions,
    current: str | None,
    name: str,
    built: BuiltIndex,
) -> BuiltIndex:
    """Let the alias name the index, in one step with taking it off the old one."""
    products = int(call(client, "GET", f"/{name}/_count")["count"])
    if products > built.rows or not products:
        raise ConfigurationClusterError(
            f"index {name!r}: got {products} products of {built.rows} rows, want as many or "
            "fewer; delete it and start again"
        )
    if current != name:
        actions: list[dict[str, Any]] = [{"add": {"index": name, "alias": options.alias}}]
        if current is not None:
            actions.insert(0, {"remove": {"index": current, "alias": options.alias}})
        call(client, "POST", "/_aliases", {"actions": actions})
    removed = _remove_older(client, options, name)
    return BuiltIndex(
        name, products, built.rows, built.resumed_from, built.reused, built.pauses, removed
    )


def _remove_older(client: Elasticsearch, options: IndexOptions, name: str) -> tuple[str, ...]:
    """Delete the whole indices of this command but the one in force and `keep` others."""
    path = f"/{options.alias}-*?filter_path=*.mappings._meta,*.settings.index.creation_date"
    answer = call(client, "GET", path) or {}
    older = sorted(
        (int(each["settings"]["index"]["creation_date"]), index)
        for index, each in answer.items()
        if index != name
        and _is_of_alias(index, options.alias)
        and each.get("mappings", {}).get("_meta", {}).get(META, {}).get("whole")
    )
    removed = tuple(index for _, index in older[: max(0, len(older) - options.keep)])
    for index in removed:
        call(client, "DELETE", f"/{index}")
    return removed


def _is_of_alias(index: str, alias: str) -> bool:
    """Whether an index was built for this alias, not for a longer one such as `<alias>-shoes`."""
    return re.fullmatch(f"[0-9a-f]{{{HASH_DIGITS}}}", index.removeprefix(f"{alias}-")) is not None


def _documents(
    batch: list[Product], vectors: Floats | None, *, keep_source: bool
) -> list[tuple[str, dict[str, Any]]]:
    documents = []
    for place, product in enumerate(batch):
        document: dict[str, Any] = {"id": product.id, "row": product.row, "text": product.text}
        if product.category:
            document["category"] = product.category
        if product.category_path:
            document["category_path"] = list(product.category_path)
            document["leaf"] = product.category_path[-1]
        if product.brand:
            document["brand"] = product.brand
        document.update(product.numbers)
        if keep_source:
            document["source"] = _plain(product.source)
        if vectors is not None and vectors[place].any():  # a cosine needs a length
            document["vector"] = vectors[place].tolist()
        documents.append((product.id, document))
    return documents


def _plain(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """A row's columns without what JSON has no word for: numbers that are not finite."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items() if key != "_id"}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
