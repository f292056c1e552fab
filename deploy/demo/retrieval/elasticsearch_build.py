"""Puts a catalogue into Elasticsearch: one index per catalogue version behind one alias."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

from elasticsearch import Elasticsearch
from elasticsearch.helpers import streaming_bulk
from tqdm import tqdm

from deploy.demo.errors import ElasticsearchRefusedError, IndexBuildError
from deploy.demo.retrieval.catalogue import Catalogue
from deploy.demo.retrieval.elasticsearch_answers import named_errors
from deploy.demo.retrieval.words import words
from es_plugin_config.apply import apply
from es_plugin_config.resources import read_resources, with_components

BUILD_TIMEOUT_S = 60.0
CHUNK_PRODUCTS = 1000
HASH_DIGITS = 16
PRODUCTS_TEMPLATE = "crossrank-products"


def ensure_index(
    client: Elasticsearch, alias: str, catalogue: Catalogue, *, show_progress: bool
) -> str:
    """Let `alias` name an index of exactly this catalogue; return the index.

    An index of this catalogue is reused; one that an earlier call left half-built is built again.
    The alias moves only when the new index is whole, then the old index is removed.

    Raises:
        ElasticsearchError: One of its children, as in `named_errors`.
        IndexBuildError: Not all products arrived.
    """
    client = client.options(request_timeout=BUILD_TIMEOUT_S)
    name = f"{alias}-{catalogue.content_hash[:HASH_DIGITS]}"
    with named_errors(alias, BUILD_TIMEOUT_S):
        current = list(client.indices.get(index=alias, ignore_unavailable=True))
        if alias in current:
            raise ElasticsearchRefusedError(
                f"alias {alias!r}: got an index of that name, want the name free for an alias"
            )
        apply(client, with_components(read_resources(), PRODUCTS_TEMPLATE))
        if current == [name] and _count(client, name) == len(catalogue.products):
            return name
        _fill(client, name, catalogue, show_progress=show_progress)
        _check_count(client, name, catalogue)
        removals = [{"remove": {"index": old, "alias": alias}} for old in current if old != name]
        client.indices.update_aliases(actions=[*removals, {"add": {"index": name, "alias": alias}}])
        built = re.compile(rf"{re.escape(alias)}-[0-9a-f]{{{HASH_DIGITS}}}")
        found = client.indices.get(index=f"{alias}-*")
        outdated = [old for old in found if built.fullmatch(old) and old != name]
        if outdated:
            client.indices.delete(index=outdated)
    return name


def _count(client: Elasticsearch, name: str) -> int:
    return int(client.count(index=name)["count"])


def _check_count(client: Elasticsearch, name: str, catalogue: Catalogue) -> None:
    count = _count(client, name)
    if count != len(catalogue.products):
        raise IndexBuildError(
            f"index {name!r}: got {count} products, want {len(catalogue.products)}"
        )


def _fill(client: Elasticsearch, name: str, catalogue: Catalogue, *, show_progress: bool) -> None:
    client.indices.delete(index=name, ignore_unavailable=True)
    mappings: dict[str, Any] = {"_meta": {"catalogue_hash": catalogue.content_hash}}
    if catalogue.dims is not None:
        mappings["properties"] = {"vector": _vector_mapping(catalogue.dims)}
    client.indices.create(
        index=name, mappings=mappings, settings={"index": {"refresh_interval": "-1"}}
    )
    taken = streaming_bulk(
        client, _documents(name, catalogue), chunk_size=CHUNK_PRODUCTS, max_retries=3
    )
    for _ in tqdm(
        taken,
        desc="index",
        unit=" products",
        total=len(catalogue.products),
        disable=not show_progress,
    ):
        pass
    client.indices.put_settings(index=name, settings={"index": {"refresh_interval": None}})
    client.indices.refresh(index=name)


def _vector_mapping(dims: int) -> dict[str, Any]:
    """The template's mapping with the bundle's width."""
    return {
        "type": "dense_vector",
        "dims": dims,
        "index": True,
        "similarity": "cosine",
        "index_options": {"type": "int8_hnsw"},
    }


def _documents(name: str, catalogue: Catalogue) -> Iterator[dict[str, Any]]:
    places = _places_by_row(catalogue)
    for row, product in enumerate(catalogue.products):
        document: dict[str, Any] = {
            "_index": name,
            "_id": product.id,
            "id": product.id,
            "row": row,
            "text": " ".join(words(product.text)),
            "category": product.category,
            "category_path": list(product.category_path),
            "leaf": product.category_path[-1] if product.category_path else None,
            "brand": product.brand,
            "price": product.price,
            "sales_28d": product.sales_28d,
            "sales_56d": product.sales_56d,
            "sales_91d": product.sales_91d,
            "places": places.get(row, []),
        }
        if product.vector is not None:
            document["vector"] = product.vector.tolist()
        yield document


def _places_by_row(catalogue: Catalogue) -> dict[int, list[dict[str, Any]]]:
    """What every place says of a row, as nested documents; unknown numbers are left out."""
    places: dict[int, list[dict[str, Any]]] = {}
    for place, listed in catalogue.places.by_place.items():
        for row, sales_28d, sales_91d, display, mailer in zip(
            listed.rows.tolist(),
            listed.sales_28d.tolist(),
            listed.sales_91d.tolist(),
            listed.promotion_display.tolist(),
            listed.promotion_mailer.tolist(),
            strict=True,
        ):
            entry = {
                "place": place,
                "sales_28d": sales_28d,
                "sales_91d": sales_91d,
                "promotion_display": display,
                "promotion_mailer": mailer,
            }
            known = {
                key: value
                for key, value in entry.items()
                if not (isinstance(value, float) and math.isnan(value))
            }
            places.setdefault(row, []).append(known)
    return places
