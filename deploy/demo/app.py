"""The page to look at: retrieval order beside the reranked order, served with Starlette."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter_ns
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deploy.demo.errors import (
    ElasticsearchError,
    PageNotFoundError,
    RetrievalRequestError,
    UnknownShopperError,
)
from deploy.demo.page_view import PageFacts, page_json
from deploy.demo.rerank_client import PageRanker, RankedCandidates, search_page
from deploy.demo.retrieval.retriever import CANDIDATES_LIMIT, Retrieved, Retriever
from deploy.demo.shop import Shop, Shopper
from deploy.demo.suggestions import Suggestions
from deploy.demo.titles import category_title
from rerank_server.contract.errors import RerankError, nearest

STATIC = Path(__file__).parent / "static"
SURFACES = ("search", "discovery", "home", "category", "promotion")
CANDIDATES = 100
SHOPPERS_LISTED = 150
SUGGESTIONS = 8
# What the page may load: itself only. The report is one file with its styles and plots inside.
PAGE_POLICY = "default-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'"
REPORT_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "img-src data:; font-src data:; base-uri 'none'; form-action 'none'"
)
_STATUS: tuple[tuple[type[RerankError], int], ...] = (
    (UnknownShopperError, 404),
    (PageNotFoundError, 404),
    (ElasticsearchError, 503),
    (RerankError, 400),
)

Handler = Callable[[Request], Awaitable[Response]]


def create_app(
    shop: Shop, retriever: Retriever, rerank_client: PageRanker, *, report_path: Path | None
) -> Starlette:
    """The web application of one shop.

    Args:
        shop: What is shown.
        retriever: First-stage retrieval over the same catalogue and places.
        rerank_client: Puts a page in its new order.
        report_path: The trainer's HTML report; None where there is none.
    """
    has_report = report_path is not None and report_path.is_file()
    api = _Api(shop, retriever, rerank_client, has_report=has_report)
    return Starlette(
        routes=[
            Route("/", _file(STATIC / "index.html", PAGE_POLICY)),
            Route("/report", _file(report_path, REPORT_POLICY)),
            Route("/healthz", api.health),
            Route("/api/shoppers", api.shoppers),
            Route("/api/suggest", api.suggest),
            Route("/api/surprise", api.surprise),
            Route("/api/page", api.page),
            Mount("/static", StaticFiles(directory=STATIC)),
        ],
        middleware=[Middleware(_SafeHeaders)],
        exception_handlers={RerankError: _refused, HTTPException: _http_error, Exception: _broken},
    )


@dataclass(frozen=True, slots=True)
class _Asked:
    """A page as the browser asks for it.

    Attributes:
        surface: One of `SURFACES`.
        shopper: Who sees it.
        place: Where; the shopper's usual place unless given.
        q: What was typed; empty on a slot.
        category: Only on a slot.
    """

    surface: str
    shopper: Shopper
    place: str | None
    q: str
    category: str | None


def _asked(request: Request, shop: Shop) -> _Asked:
    given = _parameters(request, ("shopper", "place", "q", "surface", "category"))
    surface = _surface(given.get("surface", "search"))
    shopper = shop.shopper(given.get("shopper", ""))
    searches = surface in ("search", "discovery")
    return _Asked(
        surface=surface,
        shopper=shopper,
        place=given.get("place") or shopper.place,
        q=given.get("q", "") if searches else "",
        category=(given.get("category") or None) if surface != "search" else None,
    )


class _Api:
    """The JSON side; every method is one route."""

    def __init__(
        self, shop: Shop, retriever: Retriever, ranker: PageRanker, *, has_report: bool
    ) -> None:
        self._has_report = has_report
        self._shop = shop
        self._retriever = retriever
        self._ranker = ranker
        self._suggestions = Suggestions(shop.prepared)
        everyone = shop.shoppers()
        everyone.sort(key=lambda shopper: (-shopper.next_requests, -shopper.events))
        self._listed = everyone[:SHOPPERS_LISTED]
        self._random = random.Random()

    async def health(self, _: Request) -> Response:
        return JSONResponse(
            {"status": "ok", "products": len(self._shop.records), "now": self._shop.now}
        )

    async def shoppers(self, request: Request) -> Response:
        _parameters(request, ())
        return JSONResponse(
            {
                "now": self._shop.now,
                "shoppers": [_shopper_json(shopper) for shopper in self._listed],
                "categories": [
                    {"id": name, "title": category_title(name), "colour": index}
                    for index, name in enumerate(self._shop.prepared.categories)
                ],
                "has_report": self._has_report,
            }
        )

    async def suggest(self, request: Request) -> Response:
        """Queries that begin like what is typed; the shopper's usual ones for nothing typed."""
        given = _parameters(request, ("q", "shopper"))
        text = given.get("q", "")
        if text.strip():
            found = self._suggestions.matching(text, SUGGESTIONS)
        elif given.get("shopper"):
            found = self._suggestions.described(
                self._shop.usual_queries(given["shopper"], SUGGESTIONS)
            )
        else:
            found = self._suggestions.per_category()
        return JSONResponse({"suggestions": found})

    async def surprise(self, request: Request) -> Response:
        """A search that really comes next: the shopper's, or anyone's when they have none."""
        shopper = _parameters(request, ("shopper",)).get("shopper")
        requests = self._shop.next_requests(shopper) if shopper else ()
        if not requests:
            able = [one.id for one in self._listed if one.next_requests]
            if not able:
                raise PageNotFoundError("surprise: got a log without searches after now, want one")
            requests = self._shop.next_requests(self._random.choice(able))
        chosen = self._random.choice(requests)
        return JSONResponse(
            {"shopper": chosen.shopper, "place": chosen.place, "q": chosen.query, "at": chosen.time}
        )

    async def page(self, request: Request) -> Response:
        """One page in both orders; without candidates, the words that say so."""
        asked = _asked(request, self._shop)
        past = self._shop.past_products(asked.shopper.id)
        own = self._shop.own_products(asked.shopper.id)
        began = perf_counter_ns()
        retrieved = await run_in_threadpool(self._retrieve, asked, past, own)
        retrieval_us = (perf_counter_ns() - began) // 1_000
        shown: dict[str, Any] = {"candidates": [], "nothing": _nothing_found(asked)}
        if retrieved.ids:
            ranked = await self._rerank(retrieved, asked)
            bought_next = self._shop.bought_next(asked.shopper.id)
            shown = page_json(
                self._shop, retrieved, ranked, PageFacts(past, bought_next, retrieval_us)
            )
        shown["page"] = asdict(asked) | {"shopper": _shopper_json(asked.shopper)}
        return JSONResponse(shown)

    def _retrieve(self, asked: _Asked, past: Collection[str], own: Sequence[str]) -> Retrieved:
        place = asked.place
        if asked.surface == "discovery":
            # More than are shown, since those bought before go.
            if asked.q:
                found = self._retriever.search(asked.q, place=place, limit=CANDIDATES_LIMIT, own=())
            else:
                found = self._retriever.slot(
                    "home", category=asked.category, place=place, limit=CANDIDATES_LIMIT, own=()
                )
            return _without(found, past, CANDIDATES)
        if asked.surface == "search":
            return self._retriever.search(asked.q, place=place, limit=CANDIDATES, own=own)
        return self._retriever.slot(
            asked.surface, category=asked.category, place=place, limit=CANDIDATES, own=own
        )

    async def _rerank(self, retrieved: Retrieved, asked: _Asked) -> RankedCandidates:
        return await self._ranker.rerank(
            search_page(
                retrieved,
                query=asked.q,
                surface=asked.surface,
                category=asked.category,
                place=asked.place,
                time=self._shop.now,
                history=self._shop.history(asked.shopper.id),
                explain=True,
            )
        )


class _SafeHeaders:
    """Tells browsers to take every answer for what it says it is, and to keep none."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message["headers"],
                    (b"x-content-type-options", b"nosniff"),
                    (b"referrer-policy", b"no-referrer"),
                    (b"cache-control", b"no-cache"),
                ]
            await send(message)

        await self._app(scope, receive, send_safely)


def _file(path: Path | None, policy: str) -> Handler:
    async def answer(_: Request) -> Response:
        if path is None or not path.is_file():
            raise PageNotFoundError(f"report: got no file {path}, want the trainer's report")
        return FileResponse(
            path, media_type="text/html", headers={"content-security-policy": policy}
        )

    return answer


def _parameters(request: Request, known: Collection[str]) -> Mapping[str, str]:
    for name in request.query_params:
        if name not in known:
            raise RetrievalRequestError(
                f"parameter: got {name[:40]!r}, want one of {', '.join(known) or 'none'}"
                f"{nearest(name, known)}"
            )
    return request.query_params


def _surface(name: str) -> str:
    if name not in SURFACES:
        raise RetrievalRequestError(
            f"surface: got {name[:40]!r}, want one of {', '.join(SURFACES)}"
            f"{nearest(name, SURFACES)}"
        )
    return name


def _without(retrieved: Retrieved, ids: Collection[str], limit: int) -> Retrieved:
    """The first `limit` candidates that are not among `ids`."""
    kept = [rank for rank, id_ in enumerate(retrieved.ids) if id_ not in ids][:limit]
    return Retrieved(
        ids=tuple(retrieved.ids[rank] for rank in kept),
        scores=retrieved.scores[kept],
        signals={name: values[kept] for name, values in retrieved.signals.items()},
        approximate=retrieved.approximate,
    )


def _nothing_found(asked: _Asked) -> str:
    if asked.q:
        return f"search: got no products for {asked.q[:60]!r}, want other words"
    return f"{asked.surface}: got no products here this week, want another slot or shopper"


def _shopper_json(shopper: Shopper) -> dict[str, Any]:
    described = asdict(shopper)
    described["top_categories"] = [
        {"title": category_title(name), "share": share} for name, share in shopper.top_categories
    ]
    return described


async def _refused(_: Request, error: Exception) -> Response:
    status = next(code for kind, code in _STATUS if isinstance(error, kind))
    return JSONResponse({"error": str(error)}, status_code=status)


async def _http_error(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    return JSONResponse({"error": str(getattr(error, "detail", error))}, status_code=status)


async def _broken(_: Request, __: Exception) -> Response:
    """A defect; Starlette raises it again after this answer, so that the log has it."""
    return JSONResponse({"error": "a defect of the demo; its log has the details"}, 500)
