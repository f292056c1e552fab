"""What can be wrong with streams, tables and rounds."""

from __future__ import annotations

from rerank_server.contract.errors import RerankError


class LoopError(RerankError):
    """Any error of the loop."""


class ShopTablesError(LoopError):
    """Catalogue and past of a shop that cannot be used."""


class StreamError(LoopError):
    """A stream that cannot be read or written."""


class GatewayTrafficError(LoopError):
    """A gateway that simulated shoppers cannot search through."""


class ExperimentError(LoopError):
    """Figures from which nothing can be concluded."""


class LearningError(LoopError):
    """A round that cannot be started."""
