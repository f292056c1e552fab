"""The errors of CrossRank; they know no transport."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class RerankError(Exception):
    """Every error that CrossRank raises on purpose."""


class SchemaError(RerankError):
    """A feature schema that cannot be read or does not fit its bundle."""


class BundleError(RerankError):
    """A bundle that is incomplete, changed, of another format, or out of tolerance."""


class ProductStoreError(RerankError):
    """A product store or catalogue that cannot be read or does not fit its bundle."""


class PageError(RerankError):
    """A page that breaks a rule of the contract."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ` (nearest: X)` for the known name most like `name`, or an empty string."""
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" (nearest: {matches[0]})" if matches else ""
