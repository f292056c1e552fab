"""What a user asks of an explanation, checked."""

from __future__ import annotations

import argparse

import numpy as np

from rerank_server.contract.errors import nearest
from trainer.encoding.encoded import SPLITS
from trainer.explanations.pages import ExplanationError
from trainer.pipeline import Run


def check_options(options: argparse.Namespace) -> None:
    """Refuse options that contradict each other or cannot be met, before anything is computed.

    Raises:
        ExplanationError: With the first one that is wrong.
    """
    if options.pages < 1:
        raise ExplanationError(f"--pages: got {options.pages}, want at least 1")
    if options.top < 1:
        raise ExplanationError(f"--top: got {options.top}, want at least 1")
    if options.page is not None and options.query is not None:
        raise ExplanationError("--page and --query: got both, want one of them")
    if options.page is None and options.query is None:
        for name in ("product", "change"):
            if getattr(options, name):
                raise ExplanationError(f"--{name}: got it without a page, want --page or --query")


def page_number(run: Run, page: int | None, query: str | None) -> int:
    """Return the page of the encoded log that a user means.

    Raises:
        ExplanationError: When the log has no such page, or no test page with the query.
    """
    log = run.log
    if page is not None:
        if not 0 <= page < log.splits.size:
            raise ExplanationError(f"--page: got {page}, want 0 to {log.splits.size - 1}")
        return page
    queries = list(log.prepared.queries)
    if query not in queries:
        raise ExplanationError(
            f"--query: got {query!r}, want a query of the log{nearest(str(query), queries)}"
        )
    asked = log.prepared.page_queries[log.selection.pages] == queries.index(query)
    found = np.flatnonzero(asked & (log.splits == SPLITS.index("test")))
    if not found.size:
        raise ExplanationError(f"--query: got {query!r}, which no test page has, want another")
    return int(found[0])
