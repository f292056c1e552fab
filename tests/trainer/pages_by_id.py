"""Pages of an encoded log as a shop asks for them: by product ids and names."""

from __future__ import annotations

import numpy as np

from rerank_server.page import SearchPage, ShopperHistory
from rerank_server.pb import rerank_pb2 as pb
from trainer.encoding.encoded import EncodedLog
from trainer.encoding.features import past_of


def search_page(log: EncodedLog, index: int, ids: list[str]) -> SearchPage:
    """Return encoded page `index` as a shop would ask for it: by ids and names."""
    prepared, page = log.prepared, int(log.selection.pages[index])
    part = past_of(prepared, page)
    rows = slice(int(log.offsets[index]), int(log.offsets[index + 1]))
    candidates = log.selection.candidates[rows]
    place, query = int(prepared.page_places[page]), int(prepared.page_queries[page])
    signals = np.asarray(prepared.candidate_signals[candidates])
    return SearchPage(
        candidate_ids=[ids[row] for row in prepared.candidate_rows[candidates]],
        retrieval_scores=np.asarray(prepared.candidate_scores[candidates]),
        signals={name: signals[:, column] for column, name in enumerate(prepared.signals)},
        query=prepared.queries[query] if query >= 0 else "",
        surface=log.schema.surfaces[log.selection.surfaces[index]],
        time=int(prepared.page_times[page]),
        place=prepared.places[place] if place >= 0 else None,
        history=ShopperHistory(
            product_ids=[ids[row] for row in prepared.interaction_rows[part]],
            times=np.asarray(prepared.interaction_times[part]),
            places=[
                prepared.places[place] if place >= 0 else ""
                for place in prepared.interaction_places[part]
            ],
            discounted=(prepared.interaction_discounts[part] > 0).tolist(),
        ),
    )


def request_of(page: SearchPage) -> pb.RerankRequest:
    """Return the same page as a message."""
    return pb.RerankRequest(
        candidate_ids=page.candidate_ids,
        retrieval_scores=page.retrieval_scores,
        signals=[pb.Signal(name=name, values=values) for name, values in page.signals.items()],
        query=page.query,
        surface=page.surface,
        time=page.time,
        place=page.place,
        history=pb.History(
            product_ids=page.history.product_ids,
            times=page.history.times,
            places=page.history.places,
            discounted=page.history.discounted,
        ),
    )
