"""The demo's product index at the tests' size, and what stands beside it in a real cluster."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from elasticsearch import Elasticsearch, helpers

from deploy.demo.retrieval.elasticsearch_build import ensure_index
from tests.deploy.demo.retrieval.small_catalogue import random_catalogue

PRODUCTS = "crossrank-products-shop"
NARROW = "crossrank-narrow"
BARE = "crossrank-bare"
BOTH = "crossrank-both"
UNICODE = "crossrank-größe-ü"
PRODUCT_COUNT = 240


@contextlib.contextmanager
def shop(url: str) -> Iterator[str]:
    """Fill the indices for the length of a `with` block; gives the address.

    `PRODUCTS` is the demo's index; `NARROW` has an `index.max_result_window` of 20; `BARE` holds
    documents without the field `sku` beside some with it; `BOTH` is an alias of both.
    """
    with Elasticsearch(url, request_timeout=60) as client:
        _remove(client)
        name = ensure_index(
            client, PRODUCTS, random_catalogue(7, PRODUCT_COUNT), show_progress=False
        )
        for index, settings in (
            (NARROW, {"index.max_result_window": 20}),
            (BARE, {}),
            (UNICODE, {}),
        ):
            client.indices.create(
                index=index,
                settings={"number_of_replicas": 0, **settings},
                mappings={
                    "properties": {
                        "sku": {"type": "keyword"},
                        "stock": {"type": "integer"},
                        "text": {"type": "text"},
                    }
                },
            )
        helpers.bulk(client, _documents(), refresh=True)
        client.indices.update_aliases(
            actions=[{"add": {"index": index, "alias": BOTH}} for index in (name, BARE)]
        )
        yield url
        _remove(client)


def _documents() -> Iterator[dict[str, object]]:
    for number in range(40):
        source = {"text": "milk " * (number % 7 + 1) + "bread", "stock": number}
        yield {"_index": NARROW, "_id": f"p{number}", "sku": f"sku-{number}", **source}
        yield {"_index": UNICODE, "_id": f"ü{number}", "sku": f"sku-ü{number}", **source}
        if number < 10:
            # ids that PRODUCTS has too, every other one with a product id of its own
            own = {"sku": f"sku-{number}"} if number % 2 else {}
            yield {"_index": BARE, "_id": f"p{number}", **own, **source}


def _remove(client: Elasticsearch) -> None:
    found = list(client.indices.get(index="crossrank-*"))
    if found:
        client.indices.delete(index=found)
