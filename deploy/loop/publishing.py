"""Which bundle serves, and how a new one gets its first share of the shoppers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from deploy.loop.errors import LearningError
from deploy.loop.rankers import BundleOrder, PageOrder, RetrievalOrder
from deploy.loop.training import BUNDLE, PRODUCTS, CandidateBundle
from rerank_server.client.bundle_admin import BundleAdmin
from rerank_server.client.rerank_client import RerankClient
from rerank_server.reranker import Reranker
from trainer.atomic_text import write_text

SERVING = "serving.json"


@dataclass(frozen=True, slots=True)
class Canary:
    """A running server that takes the bundle as its challenger.

    Attributes:
        admin: Of the server.
        client: Of the same server; says which bundle answers there.
        percent: Share of the shoppers that the challenger answers, 0 to 100.
    """

    admin: BundleAdmin
    client: RerankClient
    percent: float


@dataclass(frozen=True, slots=True)
class Serving:
    """A bundle that may serve.

    Attributes:
        folder: Holds `bundle` and `products`.
        run: Folder of the training run; None where it is not known.
    """

    folder: Path
    run: Path | None = None


@dataclass(frozen=True, slots=True)
class Served:
    """What serves while a round begins.

    Attributes:
        order: Orders pages as it does; what the next bundle is compared with.
        run: Folder of its training run; None where it is not known.
        canary_id: The server's challenger beside it, with or without shoppers; empty without one.
    """

    order: PageOrder
    run: Path | None = None
    canary_id: str = ""


class BundlePublisher:
    """Notes in the learning folder what was published, and tells a server of it."""

    def __init__(
        self, folder: Path, canary: Canary | None = None, first: Serving | None = None
    ) -> None:
        """Publish into `folder`, and to the server of `canary`.

        Args:
            folder: The learning folder.
            canary: A running server, which is asked what serves; None tells none, and takes what
                was published last to serve.
            first: What serves before anything was published; None is retrieval order.
        """
        self._path = folder / SERVING
        self._canary = canary
        self._first = first

    def publish(self, candidate: CandidateBundle) -> None:
        """Make the bundle the server's challenger, then note it.

        Raises:
            CallError: When the server refuses; nothing is noted then.
            LearningError: When the note of earlier ones cannot be read.
        """
        published = self._published()
        if self._canary is not None:
            self._canary.admin.load(candidate.bundle.absolute(), candidate.products.absolute())
            self._canary.admin.divert(canary_percent=self._canary.percent)
        published.pop(candidate.bundle_id, None)  # once more is the newest again
        published[candidate.bundle_id] = Serving(
            candidate.folder.absolute(), candidate.run.absolute() if candidate.run else None
        )
        notes = [
            {"bundle_id": bundle_id, "folder": str(each.folder)}
            | ({"run": str(each.run)} if each.run else {})
            for bundle_id, each in published.items()
        ]
        write_text(self._path, json.dumps(notes.pop() | {"earlier": notes}, indent=1))

    def served(self, threads: int) -> Served:
        """Return what serves: by the server's own word, or without one the last one published.

        A challenger that was rolled back, or was not promoted yet, does not serve.

        Raises:
            CallError: When the server does not say.
            LearningError: When the note cannot be read, or does not know what serves.
            BundleError: When the bundle is broken.
            ProductStoreError: When its store is, or is of another bundle.
        """
        published = self._published()
        if self._canary is None:
            last = next(reversed(published.values()), self._first)
            return Served(RetrievalOrder()) if last is None else _served(last, threads)
        status = self._canary.client.status()
        current = status.bundle_id
        canary_id = str((status.challenger or {}).get("bundle_id", ""))
        if current in published:
            return _served(published[current], threads, canary_id)
        found = None if self._first is None else _served(self._first, threads, canary_id)
        if found is None or found.order.bundle_id != current:
            got = "no --serving" if found is None else f"--serving {found.order.bundle_id[:12]}"
            raise LearningError(
                f"server: got bundle {current[:12]}, which was not published from here, and {got},"
                " want --serving to be the folder of what serves"
            )
        return found

    def _published(self) -> dict[str, Serving]:
        """Return what was published by bundle id, the newest last."""
        if not self._path.exists():
            return {}
        try:
            last = json.loads(self._path.read_text(encoding="utf-8"))
            return {
                str(note["bundle_id"]): Serving(
                    Path(note["folder"]), Path(note["run"]) if "run" in note else None
                )
                for note in [*last.get("earlier", []), last]
            }
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise LearningError(
                f"{self._path}: got {error!r}, want a note of what was published"
            ) from error


def _served(serving: Serving, threads: int, canary_id: str = "") -> Served:
    order = open_order(serving.folder / BUNDLE, serving.folder / PRODUCTS, threads=threads)
    return Served(order, serving.run, canary_id)


def open_order(bundle: Path, products: Path, *, threads: int) -> BundleOrder:
    """Open a bundle with its product store as one arm of the traffic.

    Raises:
        BundleError: When the bundle is broken.
        ProductStoreError: When the store is, or is of another bundle.
    """
    return BundleOrder(Reranker.open(bundle, products, threads=threads, device="cpu"))
