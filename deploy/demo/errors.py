"""What can go wrong in the demo, each cause with a name of its own."""

from __future__ import annotations

from rerank_server.contract.errors import RerankError


class CatalogueError(RerankError):
    """A catalogue or place table that cannot be searched."""


class RetrievalRequestError(RerankError):
    """A request for candidates that breaks a rule: the query, a name, a limit."""


class EmptyQueryError(RetrievalRequestError):
    """A query with nothing in it; a page without a query is a slot."""


class IndexBuildError(RerankError):
    """An index that could not be built from the catalogue."""


class ElasticsearchError(RerankError):
    """Elasticsearch did not do what was asked; the children say why."""


class ElasticsearchUrlError(ElasticsearchError):
    """An address that is none."""


class ElasticsearchDownError(ElasticsearchError):
    """Nothing listens at the address, or the connection broke."""


class ElasticsearchRedError(ElasticsearchError):
    """The cluster answers, but shards of the index are missing."""


class ElasticsearchIndexMissingError(ElasticsearchError):
    """The index, or the alias that names it, does not exist."""


class ElasticsearchStaleIndexError(ElasticsearchError):
    """The index holds another catalogue than the caller."""


class ElasticsearchLateError(ElasticsearchError):
    """The answer came after the deadline, or not at all."""


class ElasticsearchRefusedError(ElasticsearchError):
    """Elasticsearch, or what listens in its place, refused the request."""


class ShopError(RerankError):
    """The shop does not know what was asked of it."""


class UnknownShopperError(ShopError):
    """A shopper that the log does not hold."""


class PageNotFoundError(RerankError):
    """A page with nothing on it, or a file that is not there."""


class DemoSettingsError(RerankError):
    """A command line that the demo cannot follow."""


class WorkFolderError(RerankError):
    """A work folder that cannot be written, or that another demo is using."""


class PortError(RerankError):
    """A port that the page cannot be served on."""


class RerankServerError(RerankError):
    """The rerank server that the demo started does not serve."""


class ReplayError(RerankError):
    """A log without a search that could be replayed."""
