"""Documents of the streams: their ids and times, and the event as UBI 1.3 has it.

UBI: https://github.com/o19s/ubi, `schema/1.3.0/event.schema.json`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rerank_server.telemetry.document import Document

APPLICATION = "crossrank-simulation"
SURFACE = "search"


@dataclass(frozen=True, slots=True)
class SeenPage:
    """What an event says of the page that it happened on.

    Attributes:
        query_id: The search.
        shopper: As the streams call the shopper.
        words: What was searched for.
        variant: The arm.
        bundle_id: The bundle that answered; empty when none did.
    """

    query_id: str
    shopper: str
    words: str
    variant: str
    bundle_id: str


@dataclass(frozen=True, slots=True)
class SeenProduct:
    """What an event says of its product.

    Attributes:
        product_id: The product.
        category: Its leaf category.
        brand: Its brand.
        place: On the page, from 0.
        retrieval_rank: In retrieval order, from 0; None where retrieval did not find it.
    """

    product_id: str
    category: str
    brand: str
    place: int
    retrieval_rank: int | None


def event_document(page: SeenPage, product: SeenProduct, action: str, moment: datetime) -> Document:
    """Return what a shopper did with a product of a page, as a document of `ubi_events`."""
    at = utc_text(moment)
    position = {"ordinal": product.place + 1}
    if product.retrieval_rank is not None:
        position["retrieval_ordinal"] = product.retrieval_rank + 1
    return document_of(
        {
            "@timestamp": at,
            "timestamp": at,
            "action_name": action,
            "application": APPLICATION,
            "query_id": page.query_id,
            "client_id": page.shopper,
            "user_query": page.words,
            "event_attributes": {
                "object": {
                    "object_id": product.product_id,
                    "object_id_field": "_id",
                    "category": product.category,
                    "brand": product.brand,
                },
                "position": position,
                "surface": SURFACE,
                "variant": page.variant,
                "bundle_id": page.bundle_id,
            },
        }
    )


def document_of(fields: Mapping[str, Any]) -> Document:
    """Return a document whose id is the hash of its body."""
    body = json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()
    return Document(hashlib.blake2b(body, digest_size=16).hexdigest(), body)


def utc_text(moment: datetime) -> str:
    """Return a moment as ISO 8601 in UTC, to the millisecond."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
