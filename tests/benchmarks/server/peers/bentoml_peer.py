"""BentoML over HTTP, a page's bytes as base64 in JSON; CROSSRANK_SCORER names the scorer."""

from __future__ import annotations

import base64
import os

import bentoml  # type: ignore[import-not-found]
from tensors import PeerScorer  # type: ignore[import-not-found]


@bentoml.service(workers=1, traffic={"timeout": 10})
class Scorer:
    """Scores packed pages."""

    def __init__(self) -> None:
        self.peer = PeerScorer(os.environ["CROSSRANK_SCORER"])

    @bentoml.api
    def score(self, page: str) -> str:
        """Return probabilities, base64 of float32."""
        return base64.b64encode(self.peer.score(base64.b64decode(page)).tobytes()).decode()
