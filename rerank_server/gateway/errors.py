"""Errors of the gateway, each named for its cause."""

from __future__ import annotations

from rerank_server.contract.errors import RerankError


class GatewaySettingsError(RerankError):
    """A setting of the gateway that is missing, unknown or out of range."""


class OptionsError(RerankError):
    """Options of a search (`ext.rerank`, header or rule) that break a rule."""


class BodyError(RerankError):
    """A request's body that the gateway cannot read; Elasticsearch judges it."""


class AnswerError(RerankError):
    """An answer of Elasticsearch that has no hits to rerank."""


class RankingError(RerankError):
    """A page that could not be reranked.

    Attributes:
        reason: One word for logs, metrics and dashboards.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class EventsError(RerankError):
    """Events of a shopper that cannot be read."""


class UpstreamError(RerankError):
    """Elasticsearch gave no answer.

    Attributes:
        status: What the caller is told: 502 when it cannot be reached or broke off, 504 when it
            took too long.
    """

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
