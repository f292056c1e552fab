"""The errors of reading a data folder."""

from __future__ import annotations

from rerank_server.contract.errors import RerankError


class FormatError(RerankError):
    """A folder whose files are of no known format, or not of the one that was named."""


class DataError(RerankError):
    """A folder of a known format whose content cannot be ranked or learned from."""
