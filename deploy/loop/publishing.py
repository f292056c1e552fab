"""Which bundle serves, and how a new one gets its first share of the shoppers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from deploy.loop.errors import LearningError
from deploy.loop.rankers import BundleOrder, PageOrder, RetrievalOrder
from deploy.loop.training import BUNDLE, PRODUCTS, CandidateBundle
from rerank_server.client.bundle_admin import BundleAdmin
from rerank_server.reranker import Reranker
from trainer.atomic_text import write_text

SERVING = "serving.json"


@dataclass(frozen=True, slots=True)
class Canary:
    """A running server that takes the bundle as its challenger.

    Attributes:
        admin: Of the server.
        percent: Share of the shoppers that the challenger answers, 0 to 100.
    """

    admin: BundleAdmin
    percent: float


@dataclass(frozen=True, slots=True)
class Serving:
    """What serves.

    Attributes:
        folder: Holds `bundle` and `products`.
        run: Folder of the training run; None where it is not known.
    """

    folder: Path
    run: Path | None = None


class BundlePublisher:
    """Notes in the learning folder what was published last, and tells a server of it."""

    def __init__(
        self, folder: Path, canary: Canary | None = None, first: Serving | None = None
    ) -> None:
        """Publish into `folder`, and to the server of `canary`.

        Args:
            folder: The learning folder.
            canary: A running server; None tells none.
            first: What serves before anything was published; None is retrieval order.
        """
        self._path = folder / SERVING
        self._canary = canary
        self._first = first

    def publish(self, candidate: CandidateBundle) -> None:
        """Make the bundle the server's challenger, then note it.

        Raises:
            CallError: When the server refuses; nothing is noted then.
        """
        if self._canary is not None:
            self._canary.admin.load(candidate.bundle.absolute(), candidate.products.absolute())
            self._canary.admin.divert(canary_percent=self._canary.percent)
        note = {"bundle_id": candidate.bundle_id, "folder": str(candidate.folder.absolute())}
        if candidate.run is not None:
            note["run"] = str(candidate.run.absolute())
        write_text(self._path, json.dumps(note, indent=1))

    def serving(self, threads: int) -> PageOrder:
        """Return what the next bundle is compared with: the last one published, or retrieval.

        Raises:
            LearningError: When the note cannot be read.
        """
        last = self._last()
        if last is None:
            return RetrievalOrder()
        return open_order(last.folder / BUNDLE, last.folder / PRODUCTS, threads=threads)

    def run(self) -> Path | None:
        """Return the training run of what serves; None where it is not known.

        Raises:
            LearningError: When the note cannot be read.
        """
        last = self._last()
        return None if last is None else last.run

    def _last(self) -> Serving | None:
        if not self._path.exists():
            return self._first
        try:
            note = json.loads(self._path.read_text(encoding="utf-8"))
            return Serving(Path(note["folder"]), Path(note["run"]) if "run" in note else None)
        except (ValueError, KeyError, TypeError) as error:
            raise LearningError(f"{self._path}: got {error}, want a note of a bundle") from error


def open_order(bundle: Path, products: Path, *, threads: int) -> BundleOrder:
    """Open a bundle with its product store as one arm of the traffic.

    Raises:
        BundleError: When the bundle is broken.
        ProductStoreError: When the store is, or is of another bundle.
    """
    return BundleOrder(Reranker.open(bundle, products, threads=threads, device="cpu"))
