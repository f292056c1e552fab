"""A catalogue that is kept in an Elasticsearch index already, read at one point in time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import quote

from elasticsearch import Elasticsearch

from es_plugin_config.catalogue import CatalogueError, FieldNames, Product, product_from_row
from es_plugin_config.cluster import ConfigurationClusterError, call

PAGE = 1_000
KEEP_ALIVE = "5m"


class IndexCatalogue:
    """The documents of an index or alias as a `Catalogue`."""

    def __init__(self, client: Elasticsearch, index: str) -> None:
        """Look the index up.

        Raises:
            CatalogueError: There is none of that name.
            ConfigurationClusterError: The cluster cannot be reached or refuses.
        """
        self._client = client
        self._index = quote(index, safe="*,")
        answer = call(client, "GET", f"/{self._index}/_count")
        if answer is None:
            raise CatalogueError(f"index {index!r}: got none of that name, want one to read")
        self._count = int(answer["count"])

    @property
    def identity(self) -> str:
        """Empty, for an index may change while it is read."""
        return ""

    @property
    def count(self) -> int | None:
        """Documents when it was opened."""
        return self._count

    def products(self, names: FieldNames, start: int) -> Iterator[Product]:
        """Yield the products from row `start` on, as they are when the first is read.

        Raises:
            CatalogueError: At a document that is no product.
            ConfigurationClusterError: The cluster cannot be reached or refuses.
        """
        opened = call(self._client, "POST", f"/{self._index}/_pit?keep_alive={KEEP_ALIVE}")
        point = opened["id"]
        try:
            for row, found in enumerate(self._pages(point)):
                if row < start:
                    continue
                value = {"_id": found["_id"], **found.get("_source", {})}
                where = f"document {found['_id']!r} of {found['_index']}"
                yield product_from_row(row, value, names, where)
        finally:
            with suppress(ConfigurationClusterError):  # it ends by itself after KEEP_ALIVE
                call(self._client, "DELETE", "/_pit", {"id": point})

    def _pages(self, point: str) -> Iterator[dict[str, Any]]:
        after: list[Any] | None = None
        while True:
            body: dict[str, Any] = {
                "size": PAGE,
                "pit": {"id": point, "keep_alive": KEEP_ALIVE},
                "sort": [{"_shard_doc": "asc"}],
                "track_total_hits": False,
            }
            if after is not None:
                body["search_after"] = after
            answer = call(self._client, "POST", "/_search", body)
            point = answer.get("pit_id", point)
            found = answer["hits"]["hits"]
            yield from found
            if len(found) < PAGE:
                return
            after = found[-1]["sort"]
