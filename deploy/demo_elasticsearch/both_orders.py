"""Single searches in both orders, as the page shows them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from elasticsearch import Elasticsearch

from deploy.demo.titles import product_title
from deploy.demo_elasticsearch.loop_demo import TIMEOUT_MS
from deploy.loop.click_model import ClickModel
from deploy.loop.gateway_traffic import GatewayPlan, GatewayTraffic
from deploy.loop.shop_tables import ShopTables, read_shop_tables
from deploy.loop.shoppers import Shoppers
from rerank_server.access_log import read_shopper_key

SHOWN = 10
EXAMPLES = 4
_TRIED = 40


@dataclass(slots=True)
class OpenTraffic:
    """The shop with its gateway, to look up single searches.

    Attributes:
        tables: The shop.
        shoppers: Who they are.
        traffic: How they search.
    """

    tables: ShopTables
    shoppers: Shoppers
    traffic: GatewayTraffic
    _client: Elasticsearch

    def close(self) -> None:
        """End the connection to the gateway."""
        self._client.close()


def open_traffic(shop: Path, gateway: str, key_file: Path, seed: int) -> OpenTraffic:
    """Open the shop's folder and a client of the gateway.

    Raises:
        ShopTablesError: The folder is none.
    """
    tables = read_shop_tables(shop)
    shoppers = Shoppers(tables, seed)
    client = Elasticsearch(gateway, request_timeout=30, max_retries=0)
    plan = GatewayPlan(timeout_ms=TIMEOUT_MS, shopper_key=read_shopper_key(key_file), seed=seed)
    traffic = GatewayTraffic(shoppers, ClickModel(), client, plan)
    return OpenTraffic(tables, shoppers, traffic, client)


def search_both(opened: OpenTraffic, shopper: int, words: str) -> dict[str, Any]:
    """Search once without and once with reranking.

    Returns:
        Plain JSON values: who, what, milliseconds, and the first `SHOWN` of both orders.

    Raises:
        GatewayTrafficError: The gateway does not answer.
    """
    began = time.perf_counter()
    found, reranked = opened.traffic.both_orders(shopper, words)
    took_ms = 1_000 * (time.perf_counter() - began)
    bought = opened.traffic.bought(shopper)
    ranks = {product: rank for rank, product in enumerate(found, start=1)}
    rows = {product: row for row, product in enumerate(opened.tables.product_ids)}

    def shown(ids: Sequence[str]) -> list[dict[str, Any]]:
        return [
            {
                "id": product,
                "title": product_title(opened.tables.leaves[rows[product]]),
                "text": opened.tables.titles[rows[product]],
                "category": opened.tables.categories[rows[product]],
                "was": ranks.get(product),
                "bought": bought.get(product, 0),
            }
            for product in ids[:SHOWN]
        ]

    return {
        "shopper": shopper,
        "words": words,
        "purchases": sum(bought.values()),
        "took_ms": round(took_ms, 1),
        "retrieval": shown(found),
        "reranked": shown(reranked),
    }


def example_searches(opened: OpenTraffic) -> list[dict[str, Any]]:
    """Return searches of shoppers with a long past, each for what it buys most of.

    Raises:
        GatewayTrafficError: The gateway does not answer.
    """
    counts = Counter(opened.tables.buyers.tolist())
    examples: list[dict[str, Any]] = []
    seen: set[str] = set()
    for shopper, _ in counts.most_common(_TRIED):
        leaves, shares = opened.shoppers.leaves_of(shopper)
        order = np.argsort(-shares, kind="stable").tolist()
        words = next((leaves[row] for row in order if leaves[row] not in seen), None)
        if words is None:
            continue
        found = search_both(opened, shopper, words)
        if found["retrieval"] and found["retrieval"] != found["reranked"]:
            seen.add(words)
            examples.append(found)
        if len(examples) == EXAMPLES:
            break
    return examples
