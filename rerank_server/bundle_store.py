"""The bundles of a running server: the current one, the one before, and the challenger.

A bundle and its product store change together, between two requests: each request takes what it
needs once and keeps it to its end.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from rerank_server.canary import ChallengerFigures, ChallengerReport, in_canary
from rerank_server.contract.bundle import Bundle
from rerank_server.contract.errors import RerankError
from rerank_server.page import MAX_CANDIDATES, RankedPage, SearchPage
from rerank_server.product_store import ProductStore

_LOG = logging.getLogger(__name__)
_WARM_UP_SIZES = (1, 100, MAX_CANDIDATES)


class BundleChangeError(RerankError):
    """A change of bundles that cannot be made; what was served is served on."""


class Served(Protocol):
    """A bundle opened with its product store."""

    bundle: Bundle
    products: ProductStore

    def rerank(self, page: SearchPage) -> RankedPage:
        """Rerank one page."""
        ...


ServedT = TypeVar("ServedT", bound=Served)


@dataclass(frozen=True, slots=True)
class Challenger(Generic[ServedT]):
    """A bundle that is tried out beside the current one.

    Attributes:
        served: The bundle with its product store.
        canary_percent: Share of the shoppers whose pages it answers.
        shadow: Whether it reranks the other pages as well, for comparison only.
        report: What was seen of it.
    """

    served: ServedT
    canary_percent: float = 0.0
    shadow: bool = False
    report: ChallengerReport = field(default_factory=ChallengerReport)

    @property
    def bundle_id(self) -> str:
        """Its bundle."""
        return self.served.bundle.manifest.bundle_id

    def figures(self) -> ChallengerFigures:
        """Return what was seen of it."""
        return self.report.figures()


@dataclass(frozen=True, slots=True)
class Bundles(Generic[ServedT]):
    """What a server holds at one moment; never changed, only replaced.

    Attributes:
        current: Answers every page that no canary takes.
        previous: What `roll_back` brings back; None before the first change.
        challenger: Tried out beside it; None when nothing is.
    """

    current: ServedT
    previous: ServedT | None = None
    challenger: Challenger[ServedT] | None = None

    def choose(self, shopper_id: str | None) -> ServedT:
        """Return what answers the pages of a shopper."""
        tried = self.challenger
        if tried and in_canary(shopper_id, tried.canary_percent, tried.bundle_id):
            return tried.served
        return self.current


class BundleStore(Generic[ServedT]):
    """Changes bundles while serving; may be shared by threads."""

    def __init__(self, current: ServedT, open_bundle: Callable[[Path, Path], ServedT]) -> None:
        """Serve `current` first.

        Args:
            current: A bundle with its product store.
            open_bundle: Opens another from the folders of bundle and product store: verifies its
                hashes and replays its golden pages, or raises.
        """
        self._open = open_bundle
        self._bundles: Bundles[ServedT] = Bundles(current)
        self._lock = threading.Lock()
        self._loading = threading.Lock()
        self._shadow_worker: ThreadPoolExecutor | None = None
        self._shadow_busy = threading.Lock()

    @property
    def bundles(self) -> Bundles[ServedT]:
        """What is held now."""
        return self._bundles

    def load(self, bundle_path: Path, products_path: Path) -> Bundles[ServedT]:
        """Open, verify and warm up a bundle and make it the challenger, without any page yet.

        It takes the place of another challenger.

        Raises:
            BundleChangeError: When it is broken, out of tolerance or cannot score a page, or
                another is being loaded; says why.
        """
        if not self._loading.acquire(blocking=False):
            raise BundleChangeError("load: got a second load, want the first to end before")
        try:
            served = self._open(bundle_path, products_path)
            warm_up(served)
        except RerankError as error:
            raise BundleChangeError(str(error)) from error
        except Exception as error:  # whatever fails, the old bundle keeps serving
            _LOG.exception("loading failed")
            raise BundleChangeError(
                f"{bundle_path}: got {type(error).__name__}, want a bundle that can be served;"
                " the server's log has the details"
            ) from error
        finally:
            self._loading.release()
        return self._change("loaded", lambda now: replace(now, challenger=Challenger(served)))

    def divert(self, *, canary_percent: float, shadow: bool) -> Bundles[ServedT]:
        """Give the challenger a share of the shoppers, or all other pages in the shadow.

        Raises:
            BundleChangeError: When there is no challenger, or the share is not 0 to 100.
        """
        if not 0 <= canary_percent <= 100:  # noqa: PLR2004 - percent
            raise BundleChangeError(f"canary_percent: got {canary_percent}, want 0 to 100")

        def divert(now: Bundles[ServedT]) -> Bundles[ServedT]:
            tried = replace(_challenger(now), canary_percent=canary_percent, shadow=shadow)
            return replace(now, challenger=tried)

        return self._change("diverted", divert)

    def promote(self) -> Bundles[ServedT]:
        """Let the challenger answer every page; the current one becomes the previous.

        Raises:
            BundleChangeError: When there is no challenger.
        """
        return self._change(
            "promoted", lambda now: Bundles(_challenger(now).served, previous=now.current)
        )

    def roll_back(self) -> Bundles[ServedT]:
        """Undo the last step: drop the challenger, or without one bring the previous bundle back.

        Raises:
            BundleChangeError: When there is neither.
        """
        return self._change("rolled back", _rolled_back)

    def exchange(self, held: ServedT, other: ServedT) -> bool:
        """Put `other` wherever `held` is, between two requests; return whether it is anywhere.

        Both are of one bundle: only its product store differs.
        """

        def exchanged(served: ServedT) -> ServedT:
            return other if served is held else served

        with self._lock:
            now = self._bundles
            previous, tried = now.previous, now.challenger
            self._bundles = Bundles(
                exchanged(now.current),
                previous=None if previous is None else exchanged(previous),
                challenger=tried and replace(tried, served=exchanged(tried.served)),
            )
            places = (now.current, previous, tried.served if tried else None)
        return any(place is held for place in places)

    def shadow(self, page: SearchPage, ranked: RankedPage, bundles: Bundles[ServedT]) -> None:
        """Rerank a page that is answered already with the challenger, and compare.

        One page at a time, in a thread of its own; a page that comes meanwhile is skipped.
        """
        tried = bundles.challenger
        if tried is None or not tried.shadow or ranked.degraded or not ranked.candidate_ids:
            return
        if not self._shadow_busy.acquire(blocking=False):
            tried.report.count_shadow_skipped()
            return
        if self._shadow_worker is None:
            self._shadow_worker = ThreadPoolExecutor(1, thread_name_prefix="shadow")
        self._shadow_worker.submit(self._compare, page, ranked, tried)

    def close(self) -> None:
        """Stop comparing."""
        if self._shadow_worker is not None:
            self._shadow_worker.shutdown(wait=False, cancel_futures=True)

    def _compare(self, page: SearchPage, ranked: RankedPage, tried: Challenger[ServedT]) -> None:
        try:
            other = tried.served.rerank(page)
            if other.degraded or not other.candidate_ids:
                tried.report.count_shadow_failed()
            else:
                tried.report.compare(ranked, other)
        except Exception:  # noqa: BLE001 - the page may name what only the current bundle knows
            _LOG.exception("the challenger failed")
            tried.report.count_shadow_failed()
        finally:
            self._shadow_busy.release()

    def _change(
        self, what: str, change: Callable[[Bundles[ServedT]], Bundles[ServedT]]
    ) -> Bundles[ServedT]:
        with self._lock:
            bundles = change(self._bundles)
            self._bundles = bundles
        fields = {
            "bundle_id": bundles.current.bundle.manifest.bundle_id,
            "challenger_id": bundles.challenger.bundle_id if bundles.challenger else None,
        }
        _LOG.info("bundle %s", what, extra={"fields": fields})
        return bundles


def warm_up(served: Served) -> None:
    """Rerank pages of several sizes, so that no shopper's page is the first of its size.

    Raises:
        BundleChangeError: When one has no scores.
    """
    for size in _WARM_UP_SIZES:
        ids = [f"warm-up-{number}" for number in range(size)]
        ranked = served.rerank(SearchPage(ids, query="warm up"))
        if ranked.degraded:
            raise BundleChangeError(
                f"warm-up: got {ranked.degraded_detail} for {size} candidates, want scores"
            )


def _challenger(bundles: Bundles[ServedT]) -> Challenger[ServedT]:
    if bundles.challenger is None:
        raise BundleChangeError("challenger: got none, want a bundle loaded first")
    return bundles.challenger


def _rolled_back(bundles: Bundles[ServedT]) -> Bundles[ServedT]:
    if bundles.challenger is not None:
        return replace(bundles, challenger=None)
    if bundles.previous is None:
        raise BundleChangeError("roll back: got no change yet, want one to undo")
    return Bundles(bundles.previous, previous=bundles.current)
